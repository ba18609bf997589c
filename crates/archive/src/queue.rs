//! What waits to be written, and the thread that writes it.
//!
//! What waits is found as if it were written: it is looked at first, newest first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_rules::delivery::{BatchName, Remembered};
use countersign_rules::message::MessageId;

use crate::error::ReadError;
use crate::file::{Change, File};

/// Batches that may wait before the archive says that it has no room: a second's work or so.
const ROOM: usize = 16;
/// Batches that may wait before whoever puts waits itself: only a start puts so many.
const WAITING_MAX: usize = 256;
/// Jobs to a transaction.
const TOGETHER: usize = 8;
/// Pause before a file that takes nothing is tried again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Batches up to this one are recorded.
    released: u64,
    /// Everything in the file is to be removed, and is not yet.
    is_clearing: bool,
    closing: bool,
    /// The last transaction failed.
    is_stuck: bool,
}

/// One thing to do to the file.
#[derive(Clone, Debug)]
enum Job {
    Put(Arc<Waiting>),
    /// Everything that is in the file.
    Clear,
    Forget {
        below: u64,
    },
}

/// A batch on its way to the file.
#[derive(Debug)]
struct Waiting {
    name: BatchName,
    messages: Vec<Remembered>,
    by_id: HashMap<MessageId, usize>,
    by_key: HashMap<[u8; 16], usize>,
}

impl State {
    /// Whether a job may be done: a batch only when its record is durable.
    fn may(&self, job: &Job) -> bool {
        match job {
            Job::Put(waiting) => waiting.name.number <= self.released,
            Job::Clear | Job::Forget { .. } => true,
        }
    }

    fn is_settled(&self) -> bool {
        self.jobs.front().is_none_or(|job| !self.may(job))
    }
}

impl Waiting {
    fn new(name: BatchName, messages: &[Remembered]) -> Self {
        let places = || messages.iter().enumerate();
        Self {
            name,
            by_id: places()
                .map(|(place, message)| (message.id, place))
                .collect(),
            by_key: places()
                .filter(|(_, message)| message.key != [0; 16])
                .map(|(place, message)| (message.key, place))
                .collect(),
            messages: messages.to_vec(),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here can be left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        !state.is_stuck && state.jobs.len() < ROOM
    }

    pub(crate) fn put(&self, name: BatchName, messages: &[Remembered]) {
        let waiting = Arc::new(Waiting::new(name, messages));
        let mut state = self.lock();
        while state.jobs.len() >= WAITING_MAX && !state.is_settled() && !state.is_stuck {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.jobs.push_back(Job::Put(waiting));
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn forget(&self, below: u64) {
        self.lock().jobs.push_back(Job::Forget { below });
        self.changed.notify_all();
    }

    /// Everything in the file is to be removed; what waits is written then.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.is_clearing = true;
        state.jobs.push_front(Job::Clear);
        drop(state);
        self.changed.notify_all();
    }

    /// The batches that wait.
    pub(crate) fn names(&self) -> Vec<BatchName> {
        let state = self.lock();
        let names = state.jobs.iter().filter_map(|job| match job {
            Job::Put(waiting) => Some(waiting.name),
            Job::Clear | Job::Forget { .. } => None,
        });
        names.collect()
    }

    /// Whether nothing in the file counts any more.
    pub(crate) fn is_clearing(&self) -> bool {
        self.lock().is_clearing
    }

    pub(crate) fn release(&self, through: u64) {
        let mut state = self.lock();
        state.released = state.released.max(through);
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn find(&self, id: MessageId) -> Option<(u64, Remembered)> {
        self.newest(|waiting| waiting.by_id.get(&id))
    }

    pub(crate) fn find_key(&self, key: &[u8; 16]) -> Option<(u64, Remembered)> {
        self.newest(|waiting| waiting.by_key.get(key))
    }

    /// All that waits, each message as its newest batch brings it.
    pub(crate) fn all(&self) -> BTreeMap<MessageId, (u64, Remembered)> {
        let state = self.lock();
        let waiting = state.jobs.iter().filter_map(|job| match job {
            Job::Put(waiting) => Some(waiting),
            Job::Clear | Job::Forget { .. } => None,
        });
        let mut all = BTreeMap::new();
        for waiting in waiting {
            let number = waiting.name.number;
            let messages = waiting.messages.iter();
            all.extend(messages.map(|message| (message.id, (number, *message))));
        }
        all
    }

    fn newest(&self, place: impl Fn(&Waiting) -> Option<&usize>) -> Option<(u64, Remembered)> {
        let state = self.lock();
        state.jobs.iter().rev().find_map(|job| match job {
            Job::Put(waiting) => Some((waiting.name.number, waiting.messages[*place(waiting)?])),
            Job::Clear | Job::Forget { .. } => None,
        })
    }

    /// Waits until nothing waits that may be written; false when nothing can be written.
    pub(crate) fn settle(&self) -> bool {
        let mut state = self.lock();
        while !state.is_settled() && !state.is_stuck {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_settled()
    }

    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Writes what comes, until it is closed; tells of damage that it meets.
    pub(crate) fn work(&self, mut file: File, on_damage: impl Fn(&ReadError)) {
        while let Some(jobs) = self.next() {
            match file.change(|change| jobs.iter().try_for_each(|job| job.carry_out(change))) {
                Ok(()) => self.done(jobs.len()),
                Err(error) => {
                    on_damage(&error);
                    tracing::warn!(%error, "the archive cannot be written; what has ended stays in memory");
                    if self.is_over_after_pause() {
                        return;
                    }
                }
            }
        }
    }

    /// The next jobs, or none when there will be no more.
    fn next(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            let ready = state.jobs.iter().take_while(|job| state.may(job));
            let jobs: Vec<_> = ready.take(TOGETHER).cloned().collect();
            if !jobs.is_empty() {
                return Some(jobs);
            }
            if state.closing {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, count: usize) {
        let mut state = self.lock();
        state.is_stuck = false;
        for job in state.jobs.drain(..count).collect::<Vec<_>>() {
            state.is_clearing &= !matches!(job, Job::Clear);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Pauses; true when it was closed meanwhile: what is not written is put again at the next start.
    fn is_over_after_pause(&self) -> bool {
        let mut state = self.lock();
        state.is_stuck = true;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(state, PAUSE, |state| !state.closing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.closing
    }
}

impl Job {
    fn carry_out(&self, change: &Change<'_>) -> Result<(), ReadError> {
        match self {
            Self::Put(waiting) => change.put(waiting.name, &waiting.messages),
            Self::Clear => change.clear(),
            Self::Forget { below } => change.forget(*below),
        }
    }
}
