//! What is printed where: the answer on stdout, everything else on stderr.

use crate::exit::Failure;
use serde_json::{Value, json};

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
            println!("{document}");
        } else if !self.quiet {
            println!("{}", text());
        }
    }

    /// One line on the way to the answer.
    pub(crate) fn progress(self, line: &str) {
        if !self.quiet && !self.json {
            println!("{line}");
        }
    }

    /// A remark for a person.
    pub(crate) fn remark(self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// Why the command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let document = json!({
                "error": failure.to_string(), "code": failure.code, "exit": failure.exit as u8,
            });
            eprintln!("{document}");
        } else {
            eprintln!("{failure}");
        }
    }
}
