//! `store check`: every byte of stores, backups and archives is read, and what is not as it was
//! written is told with the messages it is about.
//!
//! Promise: it changes nothing and takes no lock. It never calls damaged what a running owner is
//! just writing.

mod check;
pub(crate) mod find;

use crate::cli::Store;
use crate::exit::{Exit, Outcome};
use crate::output::Output;
use serde_json::json;
use std::process::ExitCode;

pub(crate) fn run(args: &Store, output: Output) -> Outcome {
    let Store::Check { directories } = args;
    let mut checked = Vec::new();
    for directory in directories {
        checked.extend(check::all(directory)?);
    }
    let sound = checked.iter().all(check::Checked::is_sound);
    let documents: Vec<_> = checked.iter().map(check::Checked::document).collect();
    let document = json!({ "sound": sound, "checked": documents });
    output.answer(&document, || {
        let texts: Vec<_> = checked.iter().map(check::Checked::text).collect();
        texts.join("\n")
    });
    Ok(match sound {
        true => ExitCode::SUCCESS,
        false => Exit::ChecksFailed.into(),
    })
}
