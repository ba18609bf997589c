//! The conformance harness and the official .NET client against our server.
//!
//! Promise: every case of a suite that is run has passed, none skipped; one that is not run is announced loudly. The
//! server is the example `conformance` of `signalr-server`, a fresh process for each suite, ended after it.
//! Left out on purpose: the cases themselves. The harness in `tests/conformance` is never edited here, and those of the
//! .NET client come packed (see `dotnet_peers`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;
use crate::dotnet_peers;
use crate::relay;
use crate::servers::{SECRET, build_ours, serve, settings};
use crate::steps::{Steps, install_package, must_run, succeeds, target_directory};
use crate::suite;

/// Cases of the harness's JavaScript part.
const JAVASCRIPT_CASES: usize = 473;
/// Cases of its Python part.
const PYTHON_CASES: usize = 37;
/// Cases of the official .NET client.
const DOTNET_CASES: usize = 575;

/// Which suites a command runs.
#[derive(Debug, Clone, Copy)]
struct Chosen<'a>(&'a [String]);

impl Chosen<'_> {
    fn has(self, suite: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|word| word == suite)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    for word in arguments {
        if !["javascript", "python", "dotnet"].contains(&word.as_str()) {
            bail!("no suite is called `{word}`; there are javascript, python and dotnet");
        }
    }
    let mut steps = Steps::begin();
    run_chosen(&mut steps, Chosen(arguments))?;
    steps.finish();
    Ok(())
}

/// All suites, as part of a longer list.
pub(crate) fn run_steps(steps: &mut Steps) -> Result<()> {
    run_chosen(steps, Chosen(&[]))
}

fn run_chosen(steps: &mut Steps, chosen: Chosen<'_>) -> Result<()> {
    let mut ours = PathBuf::new();
    steps.step("conformance: build", || {
        ours = build_ours()?;
        Ok(())
    })?;
    if chosen.has("javascript") || chosen.has("python") {
        steps.step("tools: the harness's JavaScript clients", || {
            must_run(npm(["ci", "--no-audit", "--no-fund"]).arg("--loglevel=error"))
        })?;
    }
    if chosen.has("javascript") {
        steps.step("conformance: JavaScript", || {
            serve(&ours, |url| {
                suite::must_pass(
                    settings(&mut npm(["--silent", "test"]), url),
                    JAVASCRIPT_CASES,
                )
            })
        })?;
    }
    if chosen.has("python") {
        let mut python = PathBuf::new();
        steps.step("tools: the harness's Python clients", || {
            let requirements = harness().join("python/requirements.txt");
            python = python_with("conformance", &requirements)?;
            Ok(())
        })?;
        steps.step("conformance: Python", || {
            serve(&ours, |url| {
                relay::delayed(url, |url| python_suite(&python, url))
            })
        })?;
    }
    if chosen.has("dotnet") {
        dotnet(steps, &ours)?;
    }
    Ok(())
}

fn dotnet(steps: &mut Steps, ours: &Path) -> Result<()> {
    let mut peers = None;
    steps.step("tools: the official .NET client", || {
        peers = dotnet_peers::find()?;
        Ok(())
    })?;
    let Some(peers) = peers else {
        println!(
            "!! THE OFFICIAL .NET CLIENT NOT RUN: {}",
            dotnet_peers::MISSING
        );
        return Ok(());
    };
    steps.step("conformance: .NET client", || {
        serve(ours, |url| {
            let mut client = Command::new(peers.client());
            client.args(["--url", url, "--jwt-secret", SECRET]);
            suite::must_pass(&mut client, DOTNET_CASES)
        })
    })
}

/// The Python part takes a token; the JavaScript part knows how to make one.
///
/// It has to run behind [`relay::delayed`]: signalrcore 1.0.2 sends the invocation of a stream first and takes the callbacks
/// for its items afterwards. An answer that comes in between, as the whole of it may on loopback, it drops without a word.
fn python_suite(python: &Path, url: &str) -> Result<()> {
    let script = "import { mint } from './lib/jwt.mjs'; console.log(mint('alice'));";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", script])
        .current_dir(harness());
    let minted = settings(&mut node, url)
        .output()
        .context("node does not start")?;
    ensure!(
        minted.status.success(),
        "no token could be made: {minted:?}"
    );
    let token = String::from_utf8(minted.stdout).context("a token is ASCII")?;
    let mut command = Command::new(python);
    command
        .arg("python/conformance.py")
        .current_dir(harness())
        // What Python compiles stays out of the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SIGNALR_TOKEN", token.trim());
    suite::must_pass(settings(&mut command, url), PYTHON_CASES)
}

/// The Python of an environment called `name` below the target directory, with `requirements` installed.
pub(crate) fn python_with(name: &str, requirements: &Path) -> Result<PathBuf> {
    let environment = target_directory().join(format!("python-{name}"));
    let python = environment.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    // The last thing to come into an environment is pip: without it a creation was cut short.
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        if !succeeds(Command::new("python3").args(["-c", "import ensurepip"])) {
            install_package("python3-venv")?;
        }
        let mut create = Command::new("python3");
        create.args(["-m", "venv", "--clear"]);
        must_run(create.arg(&environment))?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet"]);
    install.args(["--disable-pip-version-check", "--requirement"]);
    must_run(install.arg(requirements))?;
    Ok(python)
}

fn harness() -> PathBuf {
    checkout::root().join("tests/conformance")
}

fn npm<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.args(arguments).current_dir(harness());
    command
}
