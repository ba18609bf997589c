//! The loop on tokio.

use crate::handle::{Ask, AskError, Handle, Health, StoreInfo};
use crate::open::{OpenError, Opened};
use crate::{Bodies, Clock, Engine, Sealed};
use countersign_journal::{
    Batch, Completion, JournalThread, Log, Reader, RealFiles, SegmentInfo, SnapshotStore, Space,
    ThreadOptions,
};
use countersign_rules::machine::{Image as _, Machine, Position, Start};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Where the effects of a machine go.
///
/// Called from the loop, so it must not wait: it hands over and returns.
pub trait Outlet<M: Machine>: Send + 'static {
    /// Carries out `effect`, whose records are durable. What it answers at once is the next input.
    fn carry_out(&mut self, effect: M::Effect, bodies: &Bodies) -> Option<M::Input>;

    /// Every effect of a batch has been carried out: a good moment to wake whoever works on them.
    fn batch_done(&mut self) {}
}

/// How the loop works; every default says why.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it takes the time from.
    pub clock: Clock,
    /// Bytes of records after which a batch takes no more steps. Default: 4 MiB, about what a disk
    /// takes in one of its slower flushes.
    pub batch_bytes_max: usize,
    /// Inputs that may wait; whoever brings one more waits itself. Default: 8,192.
    pub inputs_waiting_max: usize,
    /// Bytes of the last batches kept in memory for reading bodies back. Default: 32 MiB.
    pub recent_bytes_max: usize,
    /// Journal bytes after which a snapshot is taken, and never less than the size of the last one,
    /// so that snapshots cost at most what the journal costs, and a start reads at most so much of
    /// it. Default: 64 MiB.
    pub snapshot_every_bytes: u64,
    /// Bytes of closed segments to keep before unfinished messages are copied forward out of the
    /// oldest ones. Default: 1 GiB.
    pub carry_beyond_bytes: u64,
    /// Whether records are held until [`Handle::hold_from`] lets them go. Default: no.
    pub held: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            batch_bytes_max: 4 * 1024 * 1024,
            inputs_waiting_max: 8192,
            recent_bytes_max: 32 * 1024 * 1024,
            snapshot_every_bytes: 64 * 1024 * 1024,
            carry_beyond_bytes: 1024 * 1024 * 1024,
            held: false,
        }
    }
}

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to.
    #[error("it was asked to stop")]
    Asked,
    /// A write or flush failed: nothing after the last durable record was answered. Restarting
    /// recovers from what is on disk.
    #[error("the journal failed: {0}")]
    JournalFailed(String),
    /// The machine cannot read what it has to know: nothing that rests on it was answered.
    /// Restarting builds it again from the journal.
    #[error("{0}")]
    MachineFailed(String),
}

/// A running loop.
#[derive(Debug)]
pub struct Service<M: Machine> {
    handle: Handle<M>,
    stop: Arc<Notify>,
    task: JoinHandle<StopReason>,
}

impl<M: Machine> Service<M> {
    /// Starts the loop over an opened store.
    ///
    /// # Errors
    /// The thread that writes the journal could not be started.
    pub fn start(
        opened: Opened<M, RealFiles, Waiting<M>>,
        outlet: impl Outlet<M>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let Opened {
            mut engine,
            mut log,
            recovered,
            damaged,
            replayed_bytes,
        } = opened;
        // An image of a damaged state would hide the damage before it is reckoned with.
        if !options.held && damaged.is_empty() {
            make_room(&engine, &mut log);
        }
        let store = StoreInfo {
            store_id: log.store_id(),
            epoch: log.epoch(),
        };
        let (reader, snapshots, space) = (log.reader(), log.snapshots(), log.space());
        let (done, completions) = mpsc::unbounded_channel();
        let journal = JournalThread::spawn(log, &ThreadOptions::default(), move |completion| {
            // The loop outlives its journal; if it is gone, nobody is left to be told.
            let _ = done.send(completion);
        })
        .map_err(OpenError::Thread)?;

        let start = Start {
            epoch: store.epoch,
            damaged,
        };
        engine.start(start, options.clock.now());
        let (asks, inbox) = mpsc::channel(options.inputs_waiting_max);
        let (health, health_seen) = watch::channel(Health::Writable);
        let (durable, durable_seen) = watch::channel(engine.next_position() - 1);
        let hold = Arc::new(AtomicU64::new(if options.held { 0 } else { Position::MAX }));
        let stop = Arc::new(Notify::new());
        let handle = Handle {
            asks,
            reader: reader.clone(),
            health: health_seen,
            durable: durable_seen,
            hold: Arc::clone(&hold),
            store,
        };
        let (snapshot_done, snapshots_done) = mpsc::unbounded_channel();
        let running = Running {
            engine,
            outlet,
            journal,
            completions,
            inbox,
            inputs: Vec::new(),
            writing: None,
            bodies: Bodies::new(reader.clone(), options.recent_bytes_max),
            reader,
            space,
            health,
            durable,
            stop: Arc::clone(&stop),
            snapshotting: Snapshotting {
                store: snapshots,
                // Counted over restarts, or a store that writes little in each life would never
                // have a snapshot, and keep its journal for ever.
                bytes_since: replayed_bytes,
                bytes_last: recovered
                    .snapshot
                    .map_or(0, |(_, image)| image.len() as u64),
                wanted: false,
                waiting: None,
                writing: None,
                reclaimed_at: None,
                done: snapshot_done,
            },
            snapshots_done,
            hold,
            retry_at: None,
            options,
        };
        let task = tokio::spawn(running.run());
        Ok(Self { handle, stop, task })
    }

    /// The way to the loop.
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Asks the loop to finish what it was brought so far and to close the store.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the loop has ended.
    pub async fn ended(&mut self) -> StopReason {
        match (&mut self.task).await {
            Ok(reason) => reason,
            Err(error) => StopReason::JournalFailed(error.to_string()),
        }
    }
}

/// Whoever waits for a reply.
pub struct Waiting<M: Machine>(Option<oneshot::Sender<Result<M::Reply, AskError>>>);

impl<M: Machine> fmt::Debug for Waiting<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiting").field(&self.0.is_some()).finish()
    }
}

/// A batch on its way to the disk, and what waits for it.
struct Writing<M: Machine> {
    batch: Batch,
    sealed: Sealed<M, Waiting<M>>,
}

struct Snapshotting<I> {
    store: SnapshotStore<RealFiles>,
    bytes_since: u64,
    bytes_last: u64,
    /// One is to be taken whatever has been written since the last.
    wanted: bool,
    /// An image of the state after the batch being written.
    waiting: Option<(I, Lets)>,
    /// What the image that is being written lets go.
    writing: Option<Lets>,
    /// When one was last taken for want of space.
    reclaimed_at: Option<Instant>,
    done: mpsc::UnboundedSender<Option<u64>>,
}

/// What a snapshot lets go once it is written. Taken together with it: a later state is not durable
/// yet and may need less.
#[derive(Clone, Copy)]
struct Lets {
    position: Position,
    needed: Position,
}

struct Running<M: Machine, O> {
    engine: Engine<M, Waiting<M>>,
    outlet: O,
    journal: JournalThread,
    completions: mpsc::UnboundedReceiver<Completion>,
    inbox: mpsc::Receiver<Ask<M>>,
    inputs: Vec<Ask<M>>,
    writing: Option<Writing<M>>,
    bodies: Bodies,
    reader: Reader<RealFiles>,
    space: Space<RealFiles>,
    health: watch::Sender<Health>,
    durable: watch::Sender<Position>,
    stop: Arc<Notify>,
    snapshotting: Snapshotting<M::Image>,
    /// How many bytes a snapshot has that was written, `None` for one that could not be.
    snapshots_done: mpsc::UnboundedReceiver<Option<u64>>,
    hold: Arc<AtomicU64>,
    /// When a batch that found no room is tried again.
    retry_at: Option<Instant>,
    options: Options,
}

impl<M: Machine, O: Outlet<M>> Running<M, O> {
    async fn run(mut self) -> StopReason {
        let stop = Arc::clone(&self.stop);
        let (mut stopping, mut drained) = (false, false);
        let reason = loop {
            if let Some(why) = self.engine.failure() {
                break StopReason::MachineFailed(why.to_owned());
            }
            self.hand_over();
            if drained && self.writing.is_none() && self.engine.is_idle() {
                break StopReason::Asked;
            }
            if stopping && self.retry_at.is_some() {
                // Nobody was answered, so nothing is lost that anybody relies on.
                tracing::warn!("stopped with a full disk: what waited for space was not answered");
                break StopReason::Asked;
            }
            let listening = !drained && self.engine.bytes() < self.options.batch_bytes_max;
            let due = self.due();
            tokio::select! {
                biased;
                Some(completion) = self.completions.recv() => {
                    if let Err(reason) = self.completed(completion) {
                        break reason;
                    }
                }
                count = self.inbox.recv_many(&mut self.inputs, INPUTS_PER_TURN), if listening => {
                    // None come any more: nobody is left to bring them, or the loop is to stop.
                    drained = count == 0;
                    stopping |= drained;
                    self.step_inputs();
                }
                Some(written) = self.snapshots_done.recv() => self.snapshot_written(written),
                () = sleep_until(self.retry_at.unwrap_or(due)), if self.retry_at.is_some() => {
                    self.append_again();
                }
                () = sleep_until(due) => {
                    self.engine.deadline(self.options.clock.now());
                    self.reclaim();
                }
                () = stop.notified(), if !stopping => {
                    // What has been brought is still stepped; nobody may bring more.
                    self.inbox.close();
                    stopping = true;
                }
            }
        };
        self.health.send_replace(Health::Stopped);
        let journal = self.journal;
        let closed = tokio::task::spawn_blocking(move || journal.close()).await;
        match (reason, closed) {
            (StopReason::Asked, Ok(Err(error))) => StopReason::JournalFailed(error.to_string()),
            (reason, _) => reason,
        }
    }

    /// Gives the journal what has gathered, if it has nothing to do. A batch without records waits
    /// for nothing.
    fn hand_over(&mut self) {
        let goes_on = |engine: &Engine<_, _>| engine.failure().is_none() && !engine.is_idle();
        while self.writing.is_none() && goes_on(&self.engine) {
            let mut sealed = self.engine.seal();
            let Some(batch) = sealed.batch.take() else {
                self.let_out(sealed);
                continue;
            };
            self.take_image_if_due(&batch);
            self.write(batch.clone());
            self.writing = Some(Writing { batch, sealed });
        }
    }

    fn write(&self, batch: Batch) {
        // One batch is on its way at a time, so there is always room; a thread that has ended has
        // told why.
        if let Err(refused) = self.journal.try_submit(batch) {
            tracing::debug!(%refused, "the journal takes no batch");
        }
    }

    fn completed(&mut self, completion: Completion) -> Result<(), StopReason> {
        match completion {
            Completion::Durable(through) => {
                let Some(Writing { batch, sealed }) = self.writing.take() else {
                    return Ok(());
                };
                debug_assert_eq!(batch.last(), through, "one batch is written at a time");
                self.bodies.remember(batch);
                self.durable.send_replace(through);
                self.look_at_space();
                self.let_out(sealed);
                self.write_image();
                self.reclaim();
                Ok(())
            }
            Completion::NoSpace { .. } => {
                // Whoever waits for this batch goes on waiting: nothing of it was answered, and
                // it is written as soon as there is room. New growth is refused meanwhile.
                self.set_health(Health::NoSpace);
                self.retry_at = Some(Instant::now() + NO_SPACE_PAUSE);
                Ok(())
            }
            Completion::Failed(error) => Err(StopReason::JournalFailed(error)),
            other => Err(StopReason::JournalFailed(format!(
                "unknown completion {other:?}"
            ))),
        }
    }

    fn append_again(&mut self) {
        self.retry_at = None;
        if let Some(writing) = &self.writing {
            self.write(writing.batch.clone());
        }
    }

    fn let_out(&mut self, sealed: Sealed<M, Waiting<M>>) {
        for (Waiting(waiting), reply) in sealed.replies {
            if let Some(waiting) = waiting {
                // Whoever asked may have gone; the facts stand all the same.
                let _ = waiting.send(Ok(reply));
            }
        }
        if sealed.effects.is_empty() {
            return;
        }
        let now = self.options.clock.now();
        for effect in sealed.effects {
            if let Some(next) = self.outlet.carry_out(effect, &self.bodies) {
                self.engine.step(next, Waiting(None), now);
            }
        }
        self.outlet.batch_done();
    }

    fn step_inputs(&mut self) {
        let now = self.options.clock.now();
        let short = self.short_of_space();
        for ask in self.inputs.drain(..) {
            match (short, M::grows(&ask.input)) {
                (true, true) => {
                    if let Some(waiting) = ask.waiting {
                        let _ = waiting.send(Err(AskError::NoSpace));
                    }
                }
                _ => self.engine.step(ask.input, Waiting(ask.waiting), now),
            }
        }
    }

    fn short_of_space(&self) -> bool {
        // Asked again each time, so that the first send after space was freed succeeds.
        *self.health.borrow() == Health::NoSpace
            && (self.retry_at.is_some() || !self.space.above_reserve())
    }

    fn look_at_space(&self) {
        let enough = self.space.above_reserve();
        self.set_health(if enough {
            Health::Writable
        } else {
            Health::NoSpace
        });
    }

    fn set_health(&self, health: Health) {
        self.health.send_if_modified(|current| {
            let changed = *current != health;
            *current = health;
            changed
        });
    }

    fn due(&self) -> Instant {
        let wait = match self.engine.next_deadline() {
            Some(at) => at.since(self.options.clock.now()),
            None => DEADLINE_LOOK,
        };
        // Looked at again soon even when far away, because the clock may be set.
        Instant::now() + wait.min(DEADLINE_LOOK)
    }

    fn take_image_if_due(&mut self, batch: &Batch) {
        let every = self.snapshot_every();
        let snapshotting = &mut self.snapshotting;
        snapshotting.bytes_since += batch.payload_bytes() as u64;
        let is_due = snapshotting.wanted || snapshotting.bytes_since >= every;
        if !is_due || snapshotting.waiting.is_some() || snapshotting.writing.is_some() {
            return;
        }
        snapshotting.wanted = false;
        snapshotting.bytes_since = 0;
        let lets = Lets {
            position: batch.last(),
            needed: self.engine.machine().oldest_needed(),
        };
        snapshotting.waiting = Some((self.engine.machine().image(), lets));
    }

    fn snapshot_every(&self) -> u64 {
        let by_size = self.snapshotting.bytes_last;
        self.options.snapshot_every_bytes.max(by_size)
    }

    /// The state of the image is durable now: it may stand in for the records up to it.
    fn write_image(&mut self) {
        let Some((image, lets)) = self.snapshotting.waiting.take() else {
            return;
        };
        self.snapshotting.writing = Some(lets);
        let (store, done) = (
            self.snapshotting.store.clone(),
            self.snapshotting.done.clone(),
        );
        tokio::task::spawn_blocking(move || {
            let mut body = Vec::new();
            image.write(&mut body);
            // What the image shares with the state is copied whenever it changes.
            drop(image);
            let written = store.write(lets.position, &body);
            if let Err(error) = &written {
                tracing::warn!(%error, "a snapshot could not be written; the journal is kept instead");
            }
            let _ = done.send(written.is_ok().then_some(body.len() as u64));
        });
    }

    fn snapshot_written(&mut self, written: Option<u64>) {
        let Some(Lets { position, needed }) = self.snapshotting.writing.take() else {
            return;
        };
        let Some(bytes) = written else {
            // Tried again before long, and not with each batch.
            let every = self.snapshot_every();
            self.snapshotting.bytes_since += every - every / 8;
            return;
        };
        self.snapshotting.bytes_last = bytes;
        let held = self.hold.load(Ordering::Relaxed);
        let before = needed.min(held).min(position + 1);
        self.journal.trim(before, |trimmed| {
            if let Err(error) = trimmed {
                tracing::warn!(%error, "old segments could not be removed");
            }
        });
        let (before, bytes) = self.older_than(self.options.carry_beyond_bytes);
        if bytes > 0 {
            self.engine.release(before, bytes / 2);
        }
    }
}

impl<M: Machine, O> Running<M, O> {
    /// Takes a snapshot for want of space, if old segments could go with it.
    ///
    /// Segments go once two snapshots cover them, so this may come twice in a row.
    fn reclaim(&mut self) {
        if *self.health.borrow() != Health::NoSpace || self.writing.is_some() {
            return;
        }
        let snapshotting = &mut self.snapshotting;
        let is_under_way =
            snapshotting.wanted || snapshotting.waiting.is_some() || snapshotting.writing.is_some();
        let is_recent = |at: Instant| at.elapsed() < RECLAIM_PAUSE;
        if is_under_way || snapshotting.reclaimed_at.is_some_and(is_recent) {
            return;
        }
        let held = self.hold.load(Ordering::Relaxed);
        if !lets_go(
            &self.reader.segments(),
            self.engine.machine().oldest_needed().min(held),
        ) {
            return;
        }
        snapshotting.wanted = true;
        snapshotting.reclaimed_at = Some(Instant::now());
        // So that the snapshot gets a position of its own.
        self.engine.mark(self.options.clock.now());
    }

    /// The first record behind the segments that lie more than `keep_bytes` back, and their size.
    fn older_than(&self, keep_bytes: u64) -> (Position, u64) {
        let segments = self.reader.segments();
        let mut newer = 0;
        let recent = segments.iter().rev().take_while(|segment| {
            newer += segment.bytes;
            newer <= keep_bytes
        });
        let old = &segments[..segments.len() - recent.count()];
        let behind = segments.get(old.len()).map_or(0, |segment| segment.first);
        (behind, old.iter().map(|segment| segment.bytes).sum())
    }
}

/// Removes what a full disk holds for nobody, before anything is written.
fn make_room<M: Machine, T>(engine: &Engine<M, T>, log: &mut Log<RealFiles>) {
    let needed = engine.machine().oldest_needed();
    if log.above_reserve() || !lets_go(&log.segments(), needed) {
        return;
    }
    let mut image = Vec::new();
    engine.machine().save(&mut image);
    let position = log.durable_position();
    if let Err(error) = log.write_snapshot(position, &image) {
        tracing::warn!(%error, "the disk is full, and no snapshot could be written");
    }
    match log.trim(needed.min(position + 1)) {
        Ok(segments) => tracing::info!(segments, "old segments were removed from a full disk"),
        Err(error) => tracing::warn!(%error, "old segments could not be removed"),
    }
}

/// Whether a whole segment lies before `needed`.
fn lets_go(segments: &[SegmentInfo], needed: Position) -> bool {
    segments.get(1).is_some_and(|next| next.first <= needed)
}

/// Inputs stepped before the loop looks at completions again.
const INPUTS_PER_TURN: usize = 1024;
/// Pause before a batch that found no room is tried again.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two snapshots that are taken for want of space.
const RECLAIM_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two looks at the clock.
const DEADLINE_LOOK: Duration = Duration::from_secs(1);
