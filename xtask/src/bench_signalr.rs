//! `signalr-server` beside the original and the `ws` package: broadcasts, echoes, idle memory, a reconnect storm.
//!
//! Each round puts every load on every server, each time on a fresh process of it, one after the other; who comes first
//! changes from load to load and from round to round. Only ratios taken within a round are printed as results.
//! Promise: a run that lost a message, or left a client outside, fails.
//! Left out on purpose: TLS and MessagePack, which the driver does not speak.

mod loads;
mod report;
mod servers;

use anyhow::{Context, Result, bail, ensure};

use crate::bench_peers::build_driver;
use crate::checkout;
use crate::dotnet_peers;
use crate::steps::{cargo, must_run, target_directory};
use loads::{LOADS, Load, Measured};
use report::Report;
use servers::{Programs, Who};

/// Files that a process may have open: the connections of the largest load on either side, and what else it needs.
const OPEN_FILES: u64 = 11_000;

/// What can be chosen on the command line.
#[derive(Debug)]
struct Options {
    /// Default 5: the fewest that give a median and a spread.
    rounds: usize,
    /// Names of loads; none for all.
    only: Vec<String>,
    /// Print one JSON document instead of text.
    json: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rounds: 5,
            only: Vec::new(),
            json: false,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} wants a value"))
            };
            match word.as_str() {
                "--rounds" => {
                    options.rounds = value()?.parse().context("--rounds wants a number")?
                }
                "--only" => options.only.push(value()?.clone()),
                "--json" => options.json = true,
                other => bail!("unknown argument `{other}`"),
            }
        }
        ensure!(options.rounds > 0, "nothing to measure");
        for name in &options.only {
            let known = LOADS.map(|load| load.name);
            ensure!(
                known.contains(&&**name),
                "no load is called `{name}`; there are {known:?}"
            );
        }
        Ok(options)
    }

    fn loads(&self) -> impl Iterator<Item = &'static Load> {
        LOADS
            .iter()
            .filter(|load| self.only.is_empty() || self.only.iter().any(|name| name == load.name))
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    raise_open_files()?;
    let programs = programs()?;
    let mut report = Report::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (turn, load) in options.loads().enumerate() {
            let results = in_turn(&programs, load, round + turn)?;
            eprintln!("  {}: {}", load.name, report::line(load, &results));
            report.add(load, results);
        }
    }
    match options.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.text()),
    }
    Ok(())
}

/// One load on every server that can bear it, beginning with the one whose turn it is.
fn in_turn(programs: &Programs, load: &Load, turn: usize) -> Result<Vec<(Who, Measured)>> {
    let mut servers: Vec<Who> = programs.present().filter(|who| load.is_for(*who)).collect();
    let first = turn % servers.len();
    servers.rotate_left(first);
    let measure = |who: Who| {
        let measured = load.measure(programs, who);
        Ok((
            who,
            measured.with_context(|| format!("{} on {}", load.name, who.label()))?,
        ))
    };
    servers.into_iter().map(measure).collect()
}

fn programs() -> Result<Programs> {
    let driver = build_driver()?;
    must_run(&mut cargo([
        "build",
        "--release",
        "--locked",
        "--package",
        "signalr-server",
        "--example",
        "bench",
    ]))?;
    let ours = target_directory().join(format!(
        "release/examples/bench{}",
        std::env::consts::EXE_SUFFIX
    ));
    let original = dotnet_peers::find()?.map(|peers| peers.folder().to_owned());
    if original.is_none() {
        println!(
            "!! NOT MEASURED BESIDE THE ORIGINAL: {}",
            dotnet_peers::MISSING
        );
    }
    Ok(Programs {
        driver,
        ours,
        original,
        node_modules: servers::install_ws(&target_directory().join("bench-signalr"))?,
        sources: checkout::root().join("bench/peers"),
    })
}

/// A process has far fewer open files by default than the loads have connections. What we start has as many as we.
#[cfg(unix)]
fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= OPEN_FILES) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= OPEN_FILES),
        "this needs {OPEN_FILES} open files, and no more than {:?} are allowed here",
        limit.maximum
    );
    let raised = Rlimit {
        current: Some(OPEN_FILES),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("the number of open files cannot be raised")
}

#[cfg(not(unix))]
fn raise_open_files() -> Result<()> {
    bail!(
        "{OPEN_FILES} open files, and the memory and CPU time of processes, are asked for as on Linux"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn all_loads_are_measured_unless_some_are_named() {
        assert_eq!(parse(&[]).unwrap().loads().count(), LOADS.len());
        let some = parse(&["--only", "echo-1", "--only", "idle-10000"]).unwrap();
        let names: Vec<_> = some.loads().map(|load| load.name).collect();
        assert_eq!(names, ["echo-1", "idle-10000"]);
    }

    #[test]
    fn an_unknown_load_an_unknown_word_and_a_missing_number_are_refused() {
        for words in [
            &["--only", "everything"][..],
            &["--secs", "3"],
            &["--rounds"],
            &["--rounds", "0"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
