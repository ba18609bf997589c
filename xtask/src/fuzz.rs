//! `cargo xtask fuzz`: coverage-guided fuzzing of everything that reads what others wrote.
//!
//! The targets stand in `fuzz/targets`; each states what must hold for any input. They are built by the compiler that
//! builds everything else, instrumented through LLVM's own passes, so that no other toolchain is needed.
//! Promise: an input that panics, breaks what the target states or holds more memory than it may is kept in a file, which
//! is named, and the command fails.
//! Left out on purpose: address sanitizing. It needs another toolchain, and these crates have no unsafe code.

mod corpus;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;
use crate::steps::{Steps, cargo, must_run, target_directory};

/// Every target, as its file is called.
const TARGETS: [&str; 8] = [
    "arguments",
    "frames",
    "handshake",
    "json",
    "messagepack",
    "negotiate",
    "payloads",
    "records",
];

/// Longer inputs find nothing more in these grammars, and run slower.
const INPUT_BYTES_MAX: usize = 1024;

/// What libFuzzer needs of the compiler: counters of edges, a table of places, and the operands of comparisons.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What can be chosen on the command line.
#[derive(Debug)]
struct Options {
    /// For each target. Default 60: enough to see that the targets work.
    seconds: u64,
    /// Write the smallest inputs with the same coverage back to `fuzz/corpus`.
    keep: bool,
    /// None for all.
    targets: Vec<&'static str>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            seconds: 60,
            keep: false,
            targets: Vec::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => {
                    let value = words.next().context("--seconds wants a value")?;
                    options.seconds = value.parse().context("--seconds wants a number")?;
                }
                "--keep" => options.keep = true,
                name => {
                    let known = TARGETS.into_iter().find(|target| *target == name);
                    let known = known.with_context(|| {
                        format!("no target is called `{name}`; there are {TARGETS:?}")
                    })?;
                    options.targets.push(known);
                }
            }
        }
        if options.targets.is_empty() {
            options.targets.extend(TARGETS);
        }
        Ok(options)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let mut steps = Steps::begin();
    let mut programs = PathBuf::new();
    steps.step("fuzz: build", || {
        programs = build()?;
        Ok(())
    })?;
    for target in options.targets {
        steps.step(&format!("fuzz: {target}"), || {
            let inputs = corpus::lay_out(target)?;
            fuzz(&programs, target, &inputs, options.seconds)?;
            if options.keep {
                keep(&programs, target, &inputs)?;
            }
            Ok(())
        })?;
    }
    steps.finish();
    Ok(())
}

/// Builds every target and says in which folder they are.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let folder = target_directory().join("fuzz");
    let manifest = checkout::root().join("fuzz/Cargo.toml");
    // Naming the target keeps the instrumentation away from build scripts, which have no libFuzzer to be linked with.
    let mut command = cargo([
        "build",
        "--release",
        "--locked",
        "--bins",
        "--target",
        &host,
    ]);
    command.arg("--manifest-path").arg(manifest);
    command.arg("--target-dir").arg(&folder);
    must_run(command.env("RUSTFLAGS", INSTRUMENTATION))?;
    Ok(folder.join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(output.stdout).context("rustc speaks UTF-8")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn fuzz(programs: &Path, target: &str, inputs: &Path, seconds: u64) -> Result<()> {
    let found = target_directory().join("fuzz-found");
    std::fs::create_dir_all(&found)?;
    let log = found.join(format!("{target}.log"));
    let status = Command::new(programs.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .args(["-timeout=10", "-print_final_stats=1", "-verbosity=1"])
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        .arg(inputs)
        .stderr(std::fs::File::create(&log)?)
        .status()?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    for line in said.lines().filter(|line| is_worth_showing(line)) {
        println!("     {line}");
    }
    if !status.success() {
        bail!(
            "`{target}` found an input that breaks it; see {}",
            log.display()
        );
    }
    ensure!(
        said.contains("stat::number_of_executed_units"),
        "it did not run"
    );
    Ok(())
}

fn is_worth_showing(line: &str) -> bool {
    [
        "stat::number_of",
        "panicked at",
        "assertion",
        "SUMMARY",
        "Test unit written",
    ]
    .iter()
    .any(|mark| line.contains(mark))
        || line.contains(" DONE ")
}

fn keep(programs: &Path, target: &str, inputs: &Path) -> Result<()> {
    let merged = inputs.with_extension("merged");
    if merged.exists() {
        std::fs::remove_dir_all(&merged)?;
    }
    std::fs::create_dir_all(&merged)?;
    let mut merge = Command::new(programs.join(target));
    merge
        .args(["-merge=1", "-verbosity=0"])
        .arg(&merged)
        .arg(inputs);
    must_run(merge.stderr(std::process::Stdio::null()))?;
    corpus::keep(target, &merged)
}
