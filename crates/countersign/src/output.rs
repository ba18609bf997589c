//! What is printed where: the answer on stdout, everything else on stderr.

use crate::exit::{Exit, Failure};
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the user wants answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// The answer, as one document or as text.
    pub(crate) fn answer(self, document: &Value, text: impl FnOnce() -> String) {
        if self.json {
            say(document);
        } else if !self.quiet {
            say(text());
        }
    }

    /// One line on the way to the answer.
    pub(crate) fn progress(self, line: &str) {
        if !self.quiet && !self.json {
            say(line);
        }
    }

    /// A remark for a person.
    pub(crate) fn remark(self, line: &str) {
        if !self.quiet {
            complain(line);
        }
    }

    /// Why the command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let document = json!({
                "error": failure.to_string(), "code": failure.code, "exit": failure.exit as u8,
            });
            complain(document);
        } else {
            complain(failure);
        }
    }
}

/// Whether an answer could not be written where it was to go.
static IS_CUT_SHORT: AtomicBool = AtomicBool::new(false);

/// One line of the answer. Whoever reads it may have gone (`… | head`): that ends nothing. A file that
/// takes no more is told, and makes the command fail.
pub(crate) fn say(line: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !IS_CUT_SHORT.swap(true, Ordering::Relaxed)
    {
        complain(format_args!("the answer cannot be written: {error}"));
    }
}

/// Asks on the same line where the answer is typed. When that cannot be written, the answer is no.
pub(crate) fn question(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// One line that is no part of the answer. When even that cannot be written, nobody can be told.
fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What the command ends with: no success when its answer was cut short.
pub(crate) fn ended_with(code: ExitCode) -> ExitCode {
    match IS_CUT_SHORT.load(Ordering::Relaxed) {
        true if code == ExitCode::SUCCESS => Exit::Unexpected.into(),
        _ => code,
    }
}
