//! A Rust function as a sink.

use super::{Attempt, Sink};
use crate::Delivery;
use countersign_rules::site::WorkResult;
use std::fmt;
use std::future::Future;

/// Hands each document to an asynchronous function.
///
/// A panic in the function counts as a failed attempt.
pub struct FnSink<F>(F);

impl<F, R> FnSink<F>
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = WorkResult> + Send + 'static,
{
    /// A sink that calls `function` for each attempt.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

impl<F, R> Sink for FnSink<F>
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = WorkResult> + Send + 'static,
{
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Attempt<'a> {
        Box::pin((self.0)(delivery.clone()))
    }
}

impl<F> fmt::Debug for FnSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnSink")
    }
}
