//! `cargo xtask cuts`: TCP connections cut at random bytes under stateful reconnect; the work is done by the example
//! `cuts` of `signalr-client`.
//!
//! Promise: without `--url` our own server, built from this checkout a moment before, runs for it and ends after it.
//! Left out on purpose: the other arguments; they are handed on as they are (`--help` lists them).

use std::process::Command;

use anyhow::Result;

use crate::servers::{build_example, build_ours, serve};
use crate::steps::must_run;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let campaign = build_example("signalr-client", "cuts")?;
    let names_a_server = |argument: &String| argument.starts_with("--url") || argument == "--help";
    if arguments.iter().any(names_a_server) {
        return must_run(Command::new(campaign).args(arguments));
    }
    serve(&build_ours()?, |url| {
        must_run(Command::new(&campaign).args(["--url", url]).args(arguments))
    })
}
