//! Where documents go: the back office, in whatever form.
//!
//! A sink answers [`WorkResult::Done`] only when the effect is committed, because that answer is
//! acknowledged to the sender (I9). It may be called again for the same message, after a failure or
//! a crash; [`Delivery::idempotency_key`] tells it so.
//!
//! | sink | for |
//! |---|---|
//! | [`HttpSink`] | a back office with an HTTP interface |
//! | [`FolderSink`] | a program that picks up files |
//! | [`StdoutSink`] | looking, and pipes |
//! | [`FnSink`] | Rust programs that use this crate as a library |

mod folder;
mod function;
mod http;
mod stdout;

pub use folder::FolderSink;
pub use function::FnSink;
pub use http::HttpSink;
pub use stdout::StdoutSink;

use crate::Delivery;
use countersign_rules::ack::Outcome;
use countersign_rules::site::WorkResult;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// An attempt under way.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = WorkResult> + Send + 'a>>;

/// Takes documents.
///
/// Called for several messages at once, but for one message of a lane at a time. Dropping the
/// attempt, as a stop does after its grace, must leave nothing half done that a next attempt cannot
/// finish.
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Tries to hand over one document.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Attempt<'a>;
}

/// An outcome without data.
pub(crate) fn outcome(code: impl Into<String>, detail: impl fmt::Display) -> Outcome {
    Outcome {
        code: code.into(),
        detail: detail.to_string(),
        data: Vec::new(),
    }
}

/// A failure after which the agent itself decides when to try again.
pub(crate) fn failed(code: impl Into<String>, detail: impl fmt::Display) -> WorkResult {
    WorkResult::Failed {
        outcome: outcome(code, detail),
        retry_after: None,
    }
}
