//! Standard output as a sink: one line of JSON for each message.

use super::{Attempt, Sink, failed, outcome};
use crate::Delivery;
use countersign_rules::site::WorkResult;
use std::io::{self, Write};

/// Prints each envelope as one line of JSON.
///
/// Done means written and flushed; what reads the other end of the pipe answers for the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdoutSink;

impl Sink for StdoutSink {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Attempt<'a> {
        let line = one_line(&delivery.envelope);
        Box::pin(async move {
            // A pipe may be full: the thread that waits must not be one that serves others.
            let printed = tokio::task::spawn_blocking(move || print(&line)).await;
            match printed
                .map_err(io::Error::other)
                .and_then(|printed| printed)
            {
                Ok(()) => WorkResult::Done(outcome("printed", "")),
                Err(error) => failed("stdout", error),
            }
        })
    }
}

fn print(line: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line)?;
    stdout.flush()
}

/// The JSON with its line breaks, which stand only between values, turned into spaces.
fn one_line(json: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            *byte
        }
    };
    json.iter().map(space).chain([b'\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_many_lines_is_printed_as_one() {
        let line = one_line(b"{\r\n \"data\": \"a\\nb\"\n}");
        assert_eq!(line, b"{   \"data\": \"a\\nb\" }\n");
    }
}
