//! `cargo xtask torture`: real processes, killed at random; the work is done by `tests/torture`.
//!
//! Promise: what is tortured is the optimised binary built from this checkout a moment before.
//! Left out on purpose: the arguments; they are handed on as they are (`-- --help` lists them).

use anyhow::Result;

use crate::end_to_end::{self, Build};
use crate::steps::{cargo, must_run};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let binary = end_to_end::build_binary(Build::Release)?;
    let mut command = cargo(["run", "--release", "--locked", "--quiet"]);
    command.args(["--package", "countersign-torture", "--"]);
    must_run(command.args(arguments).env("COUNTERSIGN_BIN", binary))
}
