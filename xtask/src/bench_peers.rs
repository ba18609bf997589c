//! Our product and the floor side by side: the ratio of throughput and of latency, never a figure alone.
//!
//! Each round measures both at full speed (closed loop, `window` messages in flight), then both at the same
//! rate, half of what ours carried in that round (open loop, latency from the due time). The order changes
//! from round to round. The driver is `bench/peers`; it fails a run whose set of acknowledged messages is
//! not exactly the set of published ones.
//! Promise: the figures of one line were taken within the same minute on the same machine.
//! Left out on purpose: other peers; `bench/peers/README.md` says how they are started.

pub(crate) mod report;
mod servers;

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::checkout;
use crate::end_to_end::{self, Build};
use crate::steps::{cargo, must_run, target_directory};
use report::{Report, Round};
use servers::Server;

/// What can be chosen on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// Default 5: the fewest that give a median and a spread.
    rounds: u64,
    /// Seconds of each measurement, without its warm-up.
    secs: u64,
    /// Messages in flight at full speed.
    window: u64,
    consumers: u64,
    /// Bytes of each body.
    size: u64,
    /// Print one JSON document instead of text.
    json: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rounds: 5,
            secs: 5,
            window: 256,
            consumers: 10,
            size: 256,
            json: false,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64> {
                let text = words
                    .next()
                    .with_context(|| format!("{word} wants a number"))?;
                text.parse()
                    .with_context(|| format!("{word} wants a number, not `{text}`"))
            };
            match word.as_str() {
                "--rounds" => options.rounds = number()?,
                "--secs" => options.secs = number()?,
                "--window" => options.window = number()?,
                "--consumers" => options.consumers = number()?,
                "--size" => options.size = number()?,
                "--json" => options.json = true,
                other => bail!("unknown argument `{other}`"),
            }
        }
        ensure!(options.rounds > 0 && options.secs > 0, "nothing to measure");
        Ok(options)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let product = end_to_end::build_binary(Build::Release)?;
    let driver = build_driver()?;
    let folder = target_directory().join("bench-peers");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let ours = Server::countersign(&product, &folder, options.consumers)?;
    let floor = Server::floor(&driver, &folder)?;
    let bench = Bench {
        driver: Command::new(driver),
        options,
        ours,
        floor,
    };
    let report = bench.measure()?;
    if bench.options.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// Builds `bench/peers` and says where the program is.
pub(crate) fn build_driver() -> Result<std::path::PathBuf> {
    let manifest = "bench/peers/Cargo.toml";
    let target = target_directory().join("peers");
    let mut command = cargo([
        "build",
        "--release",
        "--locked",
        "--manifest-path",
        manifest,
    ]);
    must_run(command.arg("--target-dir").arg(&target))?;
    Ok(target
        .join("release")
        .join(format!("peers{}", std::env::consts::EXE_SUFFIX)))
}

struct Bench {
    driver: Command,
    options: Options,
    ours: Server,
    floor: Server,
}

/// How hard one run pushes.
#[derive(Debug, Clone, Copy)]
enum Load {
    Full,
    PerSecond(u64),
}

impl Bench {
    fn measure(&self) -> Result<Report> {
        let mut rounds = Vec::new();
        for number in 0..self.options.rounds {
            let full = self.both(number, Load::Full)?;
            let rate = (full.ours.messages_per_second / 2.0).max(1.0) as u64;
            let half = self.both(number + 1, Load::PerSecond(rate))?;
            let round = Round { full, half, rate };
            eprintln!(
                "round {} of {}: {}",
                number + 1,
                self.options.rounds,
                round.line()
            );
            rounds.push(round);
        }
        Ok(Report::new(rounds))
    }

    /// One after the other; who comes first alternates.
    fn both(&self, number: u64, load: Load) -> Result<report::Pair> {
        if number.is_multiple_of(2) {
            let floor = self.one(&self.floor, load)?;
            Ok(report::Pair {
                ours: self.one(&self.ours, load)?,
                floor,
            })
        } else {
            let ours = self.one(&self.ours, load)?;
            Ok(report::Pair {
                floor: self.one(&self.floor, load)?,
                ours,
            })
        }
    }

    fn one(&self, server: &Server, load: Load) -> Result<report::Run> {
        let options = &self.options;
        let mut command = Command::new(self.driver.get_program());
        command
            .current_dir(checkout::root())
            .arg("durable")
            .args(&server.driver_arguments);
        command.args(["--pid", &server.pid().to_string(), "--label", server.label]);
        for (name, value) in [
            ("--secs", options.secs),
            ("--consumers", options.consumers),
            ("--size", options.size),
            ("--window", options.window),
        ] {
            command.arg(name).arg(value.to_string());
        }
        match load {
            Load::Full => command.args(["--mode", "max"]),
            Load::PerSecond(rate) => command.args(["--mode", "rate", "--rate", &rate.to_string()]),
        };
        let output = command.output().context("the driver does not start")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let troubles = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} failed under the driver: {said}{troubles}",
            server.label
        );
        let line: Value = serde_json::from_str(said.trim())
            .with_context(|| format!("the driver printed no JSON line: {said}{troubles}"))?;
        report::Run::from_driver(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_defaults_are_those_of_the_stated_method() {
        let options = parse(&[]).unwrap();
        let chosen = (
            options.rounds,
            options.window,
            options.consumers,
            options.size,
        );
        assert_eq!(chosen, (5, 256, 10, 256));
    }

    #[test]
    fn an_unknown_word_and_a_missing_number_are_refused() {
        assert!(parse(&["--round", "3"]).is_err());
        assert!(parse(&["--rounds"]).is_err());
        assert!(parse(&["--rounds", "many"]).is_err());
        assert!(parse(&["--rounds", "0"]).is_err());
    }
}
