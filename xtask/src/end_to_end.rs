//! End-to-end tests: the real binary as real processes, then the official SignalR client.
//!
//! The Rust ones stand in `crates/countersign/tests` and also run with every `cargo test`, which
//! builds the binary for them; the official clients stand in `tests/official` and are given the
//! binary in `COUNTERSIGN_BIN`.
//! Promise: the binary that is tested is the one built from this checkout a moment before.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;
use crate::steps::{Steps, cargo, must_run, target_directory};

/// Which of the two builds is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// What `cargo test` builds anyway. The default: it checks arithmetic and assertions too.
    Debug,
    /// What users run.
    Release,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let build = match arguments {
        [] => Build::Debug,
        [only] if only == "--release" => Build::Release,
        other => bail!("unknown arguments {other:?}; only --release is known"),
    };
    let mut steps = Steps::begin();
    steps.step(
        "tools: the official SignalR client",
        install_official_client,
    )?;
    steps.step("end to end", || {
        let mut command = cargo([
            "test",
            "--locked",
            "--package",
            "countersign",
            "--test",
            "*",
        ]);
        must_run(in_build(&mut command, build))
    })?;
    steps.step("official client", || official_client(build))?;
    steps.finish();
    Ok(())
}

/// Installs the packages of `tests/official` exactly as its lock file names them.
pub(crate) fn install_official_client() -> Result<()> {
    must_run(npm(["ci", "--no-audit", "--no-fund"])?.arg("--loglevel=error"))
}

/// Runs the official client against a freshly built binary.
pub(crate) fn official_client(build: Build) -> Result<()> {
    let binary = build_binary(build)?;
    must_run(npm(["test"])?.env("COUNTERSIGN_BIN", binary))
}

/// Builds the `countersign` binary and says where it is.
pub(crate) fn build_binary(build: Build) -> Result<PathBuf> {
    let mut command = cargo(["build", "--locked", "--package", "countersign"]);
    must_run(in_build(&mut command, build))?;
    let folder = if build == Build::Release {
        "release"
    } else {
        "debug"
    };
    let name = format!("countersign{}", std::env::consts::EXE_SUFFIX);
    let binary = target_directory().join(folder).join(name);
    ensure!(binary.is_file(), "cargo built no {}", binary.display());
    Ok(binary)
}

fn in_build(command: &mut Command, build: Build) -> &mut Command {
    match build {
        Build::Debug => command,
        Build::Release => command.arg("--release"),
    }
}

fn npm<const N: usize>(arguments: [&str; N]) -> Result<Command> {
    let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    Command::new(program)
        .arg("--version")
        .output()
        .context("npm does not start: the official client needs Node.js 20 or later")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(checkout::root().join("tests/official"));
    Ok(command)
}
