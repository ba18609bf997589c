//! `back-office`: the demo back office as a process of its own.

use crate::cli::BackOffice as Args;
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use crate::roles::listen;
use countersign_back_office::{BackOffice, Options, serve};
use std::process::ExitCode;

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let runtime = listen::runtime()?;
    runtime.block_on(async {
        let back_office = open(&args.data)?;
        let listener = listen::bind(&args.listen, "the back office").await?;
        output.remark(&format!(
            "back office on http://{}",
            listen::address(&listener)?
        ));
        serve(listener, back_office, listen::interrupted())
            .await
            .map_err(|error| Failure::unexpected("the back office stopped", error))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Opens the database in `directory`, which is made when missing.
pub(crate) fn open(directory: &std::path::Path) -> Result<BackOffice, Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::file(directory, "create", &error))?;
    BackOffice::open(&Options::at(directory.join("documents.sqlite")))
        .map_err(|error| Failure::unexpected("cannot open the back office's database", error))
}
