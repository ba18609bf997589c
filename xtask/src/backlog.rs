//! `cargo xtask backlog`: what a backlog costs, measured by `countersign bench --waiting`.
//!
//! Promise: what is measured is the optimised binary built from this checkout a moment before.
//! Left out on purpose: the arguments; they are handed on as they are.

use anyhow::Result;
use std::process::Command;

use crate::end_to_end::{self, Build};
use crate::steps::must_run;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let binary = end_to_end::build_binary(Build::Release)?;
    let mut command = Command::new(binary);
    command.arg("bench");
    let names = |option: &str| arguments.iter().any(|argument| argument == option);
    if !names("--waiting") {
        command.args(["--waiting", WAITING]);
    }
    if !names("--rounds") {
        command.args(["--rounds", ROUNDS]);
    }
    must_run(command.args(arguments))
}

/// A minute's worth; the numbers that the product is held to need a quiet machine and 10 GB of disk:
/// `--waiting 0,1000,100000,1000000,10000000`.
const WAITING: &str = "0,1000,100000";
const ROUNDS: &str = "3";
