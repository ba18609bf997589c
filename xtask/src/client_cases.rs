//! Clients against servers with the conformance hub: our own case list, the official Java client, the Go client.
//!
//! Promise: each server is started for the run and ended after it, and a server that is left out is announced loudly. The
//! servers: the example `conformance` of `signalr-server`, and the original, ASP.NET Core, where `dotnet_peers` finds it.
//! Left out on purpose: the official JavaScript and .NET clients, which bring runs of their own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::checkout;
use crate::dotnet_peers;
use crate::servers::{build_example, build_ours, serve, settings};
use crate::steps::{Steps, install_package, must_run, succeeds};

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::begin();
    run_steps(&mut steps)?;
    steps.finish();
    Ok(())
}

/// The same as part of a longer list.
pub(crate) fn run_steps(steps: &mut Steps) -> Result<()> {
    steps.step("tools: Java and Go", install_tools)?;
    let mut case_list = Default::default();
    let mut ours = Default::default();
    let mut peers = None;
    steps.step("clients: build", || {
        case_list = build_example("signalr-client", "case_list")?;
        ours = build_ours()?;
        must_run(maven().arg("compile"))?;
        must_run(go().args(["build", "-o", "target/"]).arg("."))?;
        peers = dotnet_peers::find()?;
        Ok(())
    })?;
    match peers {
        Some(peers) => against(steps, &case_list, "the original", &peers.server())?,
        None => println!(
            "!! CLIENTS NOT RUN AGAINST THE ORIGINAL: {}",
            dotnet_peers::MISSING
        ),
    }
    against(steps, &case_list, "ours", &ours)
}

/// Runs every client against one server, each against a fresh process of it.
fn against(steps: &mut Steps, case_list: &Path, whose: &str, program: &Path) -> Result<()> {
    steps.step(&format!("case list against {whose}"), || {
        serve(program, |url| {
            must_run(settings(&mut Command::new(case_list), url))
        })
    })?;
    steps.step(&format!("Java client against {whose}"), || {
        serve(program, |url| {
            must_run(settings(maven().arg("exec:java"), url))
        })
    })?;
    steps.step(&format!("Go client against {whose}"), || {
        serve(program, |url| {
            must_run(settings(go().args(["run", "."]), url))
        })
    })
}

fn install_tools() -> Result<()> {
    for (program, version, package) in [
        ("mvn", "--version", "maven"),
        ("go", "version", "golang-go"),
    ] {
        if !succeeds(Command::new(program).arg(version)) {
            install_package(package)?;
        }
    }
    Ok(())
}

fn maven() -> Command {
    let mut command = Command::new("mvn");
    command
        .args(["--quiet", "--batch-mode"])
        .current_dir(checkout::root().join("tests/official/java"));
    command
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(checkout::root().join("tests/official/go"));
    command
}
