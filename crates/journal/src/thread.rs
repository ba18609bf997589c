//! The writer on a thread of its own: batches in, completions out, one sync for all that wait.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{AppendError, Batch, CloseError, Files, Log, Position, TrimError};

/// Longest time the witness lags. Only how often it is written depends on the clock, nothing else.
const WITNESS_LAG_MAX: Duration = Duration::from_secs(1);

/// Settings of the thread.
#[derive(Debug, Clone)]
pub struct ThreadOptions {
    /// Batches that may wait. Default: 4; the driver seals one while one is being flushed, and a
    /// longer queue would only add latency. Submitting waits when it is full.
    pub queue: usize,
    /// Payload bytes after which no further batch joins a flush. Default: 8 MiB, below the time
    /// of one flush on a slow disk.
    pub flush_bytes_max: usize,
}

impl Default for ThreadOptions {
    fn default() -> Self {
        Self {
            queue: 4,
            flush_bytes_max: 8 << 20,
        }
    }
}

/// What became of batches. Called on the writer thread, in order of positions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// Everything up to and including this position is durable.
    Durable(Position),
    /// The batch was not written because the disk is full, or because one before it was not.
    /// Submit again from `first` on when there is space; batches behind it are refused as well.
    NoSpace {
        /// First position of the refused batch.
        first: Position,
        /// Last position of the refused batch.
        last: Position,
    },
    /// Nothing will be durable any more: stop the node (I19).
    Failed(String),
}

/// The thread does not take the batch.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The queue is full; this batch comes back.
    #[error("the journal's queue is full")]
    Full(Batch),
    /// The thread has ended; this batch comes back.
    #[error("the journal has stopped")]
    Stopped(Batch),
}

enum Command {
    Append(Batch),
    Trim(Position, Box<dyn FnOnce(Result<usize, TrimError>) + Send>),
}

/// Handle to the writer thread. Dropping it, or [`JournalThread::close`], ends the thread after
/// what waits is durable.
pub struct JournalThread {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<Result<(), CloseError>>>,
}

impl fmt::Debug for JournalThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalThread").finish_non_exhaustive()
    }
}

impl JournalThread {
    /// Starts the thread; `on_completion` is called from it and must not block for long.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn spawn<F: Files>(
        log: Log<F>,
        options: &ThreadOptions,
        on_completion: impl FnMut(Completion) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(options.queue.max(1));
        let flush_bytes_max = options.flush_bytes_max;
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                Writer {
                    log,
                    receiver,
                    flush_bytes_max,
                    on_completion,
                    waiting: None,
                    witnessed: Instant::now(),
                }
                .run()
            })?;
        Ok(Self {
            commands: Some(sender),
            thread: Some(thread),
        })
    }

    /// Hands a batch over, waiting while the queue is full.
    ///
    /// # Errors
    ///
    /// [`Refused::Stopped`] when the thread has ended.
    pub fn submit(&self, batch: Batch) -> Result<(), Refused> {
        self.commands()
            .send(Command::Append(batch))
            .map_err(|error| match error.0 {
                Command::Append(batch) => Refused::Stopped(batch),
                Command::Trim(..) => unreachable!("an append was sent"),
            })
    }

    /// Hands a batch over if the queue has room; for callers that must not block.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the batch.
    pub fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        self.commands()
            .try_send(Command::Append(batch))
            .map_err(|error| match error {
                TrySendError::Full(Command::Append(batch)) => Refused::Full(batch),
                TrySendError::Disconnected(Command::Append(batch)) => Refused::Stopped(batch),
                TrySendError::Full(_) | TrySendError::Disconnected(_) => {
                    unreachable!("an append was sent")
                }
            })
    }

    /// Removes old segments, see [`Log::trim`]; `done` is called on the writer thread. False when
    /// the thread has ended.
    pub fn trim(
        &self,
        before: Position,
        done: impl FnOnce(Result<usize, TrimError>) + Send + 'static,
    ) -> bool {
        self.commands()
            .send(Command::Trim(before, Box::new(done)))
            .is_ok()
    }

    /// Makes durable what waits, closes the log cleanly and ends the thread.
    ///
    /// # Errors
    ///
    /// When the log was not closed cleanly.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.commands = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(closed)) => closed,
            Some(Err(_)) => Err(CloseError("the journal thread panicked".to_owned())),
            None => Ok(()),
        }
    }

    fn commands(&self) -> &SyncSender<Command> {
        self.commands
            .as_ref()
            .expect("only close and drop take the sender")
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // The result of an unclean close is told by `close`; here nobody asks.
            let _ = thread.join();
        }
    }
}

struct Writer<F: Files, C> {
    log: Log<F>,
    receiver: Receiver<Command>,
    flush_bytes_max: usize,
    on_completion: C,
    /// A command taken from the channel that did not join the flush before it.
    waiting: Option<Command>,
    witnessed: Instant,
}

impl<F: Files, C: FnMut(Completion)> Writer<F, C> {
    fn run(mut self) -> Result<(), CloseError> {
        loop {
            let command = match self.waiting.take() {
                Some(command) => command,
                None => match self.receiver.recv_timeout(WITNESS_LAG_MAX) {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Timeout) => {
                        self.witness();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return self.log.close(),
                },
            };
            match command {
                Command::Trim(before, done) => done(self.log.trim(before)),
                Command::Append(batch) => self.commit(batch)?,
            }
            if self.witnessed.elapsed() >= WITNESS_LAG_MAX {
                self.witness();
            }
        }
    }

    fn witness(&mut self) {
        self.log.write_witness();
        self.witnessed = Instant::now();
    }

    /// Appends `batch` and all that wait behind it, then flushes once.
    fn commit(&mut self, batch: Batch) -> Result<(), CloseError> {
        let before = self.log.durable_position();
        let mut bytes = 0;
        let mut next = Some(batch);
        while let Some(batch) = next {
            bytes += batch.payload_bytes();
            self.append(&batch)?;
            next = if bytes < self.flush_bytes_max {
                self.next_batch()
            } else {
                None
            };
        }
        if let Err(error) = self.log.flush() {
            return self.stop(error.0);
        }
        let durable = self.log.durable_position();
        if durable > before {
            (self.on_completion)(Completion::Durable(durable));
        }
        Ok(())
    }

    fn append(&mut self, batch: &Batch) -> Result<(), CloseError> {
        let (first, last) = (batch.first(), batch.last());
        match self.log.append(batch) {
            Ok(()) => Ok(()),
            // Behind a batch that found no space, the next ones do not fit on.
            Err(AppendError::NoSpace | AppendError::OutOfOrder { .. }) => {
                (self.on_completion)(Completion::NoSpace { first, last });
                Ok(())
            }
            Err(error) => self.stop(error.to_string()),
        }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        match self.receiver.try_recv() {
            Ok(Command::Append(batch)) => Some(batch),
            Ok(other) => {
                self.waiting = Some(other);
                None
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn stop(&mut self, error: String) -> Result<(), CloseError> {
        (self.on_completion)(Completion::Failed(error.clone()));
        Err(CloseError(error))
    }
}
