//! The one test command: everything that is fast enough for every change.
//!
//! Promise: on a machine with Rust, Node.js 20 and git it needs nothing installed by hand; what it
//! needs beyond the repository it installs first. Three checks may be left out, and are then announced:
//! the advisories, when their database cannot be reached; what needs the original, where that is not found; and
//! Autobahn's fuzzing client, where no Python 2.7 can be had.
//! Left out on purpose: `torture`, `bench-peers` and long simulator runs, which take minutes each.

use anyhow::Result;

use crate::autobahn;
use crate::client_cases;
use crate::conformance;
use crate::end_to_end;
use crate::steps::{Steps, cargo, must_run, succeeds};
use crate::tidy;

/// The version the licence list and the advisory settings in `deny.toml` were written for.
const CARGO_DENY_VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::begin();
    steps.step("tools: cargo-deny", install_cargo_deny)?;
    steps.step(
        "tools: the official SignalR client",
        end_to_end::install_official_client,
    )?;
    steps.step("format", || {
        must_run(&mut cargo(["fmt", "--all", "--check"]))
    })?;
    steps.step("house rules", tidy::run)?;
    steps.step("lints", || {
        must_run(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny=warnings",
        ]))
    })?;
    steps.step("licences, sources, bans", || {
        must_run(&mut cargo([
            "deny",
            "--workspace",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    steps.step("advisories", check_advisories)?;
    steps.step("tests", || {
        must_run(&mut cargo(["test", "--workspace", "--locked"]))
    })?;
    steps.step("official client", || {
        end_to_end::official_client(end_to_end::Build::Debug)
    })?;
    conformance::run_steps(&mut steps)?;
    autobahn::run_steps(&mut steps)?;
    client_cases::run_steps(&mut steps)?;
    steps.finish();
    Ok(())
}

fn install_cargo_deny() -> Result<()> {
    if succeeds(&mut cargo(["deny", "--version"])) {
        return Ok(());
    }
    println!("   once on this machine; about four minutes of one core");
    must_run(&mut cargo([
        "install",
        "--locked",
        "cargo-deny",
        "--version",
        CARGO_DENY_VERSION,
    ]))
}

/// Advisories change from day to day and live elsewhere: without them the rest still counts.
fn check_advisories() -> Result<()> {
    if !succeeds(&mut cargo(["deny", "fetch", "db"])) {
        println!("!! ADVISORIES NOT CHECKED: the RustSec database cannot be fetched from here.");
        println!("!! Run `cargo deny check advisories` where it can be, before you release.");
        return Ok(());
    }
    must_run(&mut cargo([
        "deny",
        "--workspace",
        "check",
        "--disable-fetch",
        "advisories",
    ]))
}
