//! The writer thread: completions in order, one sync for all that wait, a clean end.

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};

use common::{open, small};
use countersign_journal::sim::{Fault, Kind, SimFiles};
use countersign_journal::{Batch, Completion, JournalThread, Log, Reader, Refused, ThreadOptions};

/// A thread whose first completion can be held back, so that batches pile up behind it.
struct Held {
    thread: JournalThread,
    reader: Reader<SimFiles>,
    completions: Receiver<Completion>,
    go_on: Sender<()>,
}

fn spawn(log: Log<SimFiles>) -> Held {
    let reader = log.reader();
    let (told, completions) = channel();
    let (go_on, held) = channel();
    let options = ThreadOptions {
        queue: 64,
        ..ThreadOptions::default()
    };
    let thread = JournalThread::spawn(log, &options, move |completion| {
        told.send(completion).expect("the test listens");
        // An error means that the test lets everything through.
        let _ = held.recv();
    });
    Held {
        thread: thread.expect("a thread starts"),
        reader,
        completions,
        go_on,
    }
}

fn batch(first: u64) -> Batch {
    Batch::from_payloads(first, [format!("record {first}")])
}

#[test]
fn batches_that_wait_share_one_flush() {
    let files = SimFiles::new(1);
    let held = spawn(open(&files, &small()).0);
    held.thread.submit(batch(1)).expect("the thread runs");
    assert_eq!(held.completions.recv(), Ok(Completion::Durable(1)));
    for first in 2..=20 {
        held.thread.submit(batch(first)).expect("the thread runs");
    }
    let before = files.operations();
    held.go_on.send(()).expect("the thread waits");
    assert_eq!(held.completions.recv(), Ok(Completion::Durable(20)));
    assert_eq!(
        files.operations() - before,
        19 + 1,
        "nineteen writes, one sync"
    );
    assert_eq!(held.reader.read(20).expect("it is durable"), "record 20");
    drop(held.go_on);
    held.thread.close().expect("the store closes");
    let (_, recovered) = open(&files, &small());
    assert_eq!((recovered.next, recovered.torn_tail_bytes), (21, 0));
}

#[test]
fn a_failed_flush_is_told_once_and_the_thread_takes_no_more() {
    let files = SimFiles::new(2);
    let held = spawn(open(&files, &small()).0);
    drop(held.go_on);
    files.fail_nth(Kind::Sync, 1, Fault::Error);
    held.thread.submit(batch(1)).expect("the thread runs");
    assert!(matches!(held.completions.recv(), Ok(Completion::Failed(_))));
    // The sender is gone with the thread: nothing else was told.
    assert!(held.completions.recv().is_err());
    assert!(matches!(
        held.thread.submit(batch(2)),
        Err(Refused::Stopped(_))
    ));
    held.thread.close().expect_err("it did not close cleanly");
}

#[test]
fn a_refused_batch_and_those_behind_it_can_be_submitted_again() {
    let files = SimFiles::new(3);
    let held = spawn(open(&files, &small()).0);
    held.thread.submit(batch(1)).expect("the thread runs");
    assert_eq!(held.completions.recv(), Ok(Completion::Durable(1)));
    for first in 2..=4 {
        held.thread.submit(batch(first)).expect("the thread runs");
    }
    files.fail_nth(Kind::Write, 2, Fault::Full);
    drop(held.go_on);
    let told: Vec<_> = held.completions.iter().take(3).collect();
    let refused = |first| Completion::NoSpace { first, last: first };
    assert_eq!(told, [refused(3), refused(4), Completion::Durable(2)]);
    for first in 3..=4 {
        held.thread.submit(batch(first)).expect("the thread runs");
    }
    let last = held
        .completions
        .iter()
        .find(|told| *told == Completion::Durable(4));
    assert!(last.is_some());
    held.thread.close().expect("the store closes");
}

#[test]
fn dropping_the_handle_makes_durable_what_was_submitted() {
    let files = SimFiles::new(4);
    let (log, _) = open(&files, &small());
    let thread = JournalThread::spawn(log, &ThreadOptions::default(), |_| {});
    let thread = thread.expect("a thread starts");
    for first in 1..=10 {
        thread.submit(batch(first)).expect("the thread runs");
    }
    drop(thread);
    files.crash();
    assert_eq!(open(&files, &small()).1.next, 11);
}
