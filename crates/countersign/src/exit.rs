//! How a command ends: an exit code that scripts can act on, and an error in three lines.

use std::borrow::Cow;
use std::fmt;
use std::process::ExitCode;

/// What the exit code says; the numbers are part of the product's surface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Unexpected = 1,
    Usage = 2,
    ConfigInvalid = 3,
    CannotConnect = 4,
    NotAuthorised = 5,
    TimedOut = 6,
    RejectedOrDead = 7,
    NotFound = 8,
    Conflict = 9,
    Partial = 10,
    ChecksFailed = 11,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not do what it was asked: what failed, why, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: Cow<'static, str>,
    what: String,
    why: String,
    todo: String,
}

impl Failure {
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<Cow<'static, str>>,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            code: code.into(),
            what: what.into(),
            why: why.into(),
            todo: todo.into(),
        }
    }

    /// Something that no user could have caused.
    pub(crate) fn unexpected(what: impl Into<String>, why: impl fmt::Display) -> Self {
        let todo = "run it again with RUST_LOG=debug and report what it prints";
        Self::new(
            Exit::Unexpected,
            "E-UNEXPECTED",
            what,
            why.to_string(),
            todo,
        )
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Self {
        Self::new(
            Exit::Usage,
            "E-FILE",
            format!("cannot {doing} {}", path.display()),
            error.to_string(),
            "check the path and its permissions",
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {} [{}]", self.what, self.code)?;
        writeln!(f, "  why: {}", self.why)?;
        write!(f, "   do: {}", self.todo)
    }
}

impl std::error::Error for Failure {}

/// What a command returns.
pub(crate) type Outcome = Result<ExitCode, Failure>;
