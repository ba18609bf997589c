//! `cargo xtask large-body`: one gigabyte from a sender to a back office, the server killed on its way
//! and the agent too; prints the peak memory of each. It is the slow test of `countersign`'s
//! `large_bodies`.
//!
//! Left out on purpose: the same with 5 MiB, which the ordinary tests do.

use anyhow::{Result, bail};

use crate::steps::{cargo, must_run};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mib = match arguments {
        [] => "1024",
        [name, mib] if name == "--mib" => mib,
        _ => bail!("large-body takes --mib N and nothing else"),
    };
    let mut test = cargo(["test", "--package", "countersign", "--test", "large_bodies"]);
    test.args(["--", "--ignored", "--nocapture"])
        .env("COUNTERSIGN_LARGE_BODY_MIB", mib);
    must_run(&mut test)
}
