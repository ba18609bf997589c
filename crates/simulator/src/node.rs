//! One host with a store: the real engine over the real journal over a simulated disk.
//!
//! It goes through the stages of the real loop, each at an instant of its own, so that a crash can
//! fall between any two of them.

use countersign_driver::{Engine, Sealed};
use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::{Batch, Log, NewStore, Options, Reader};
use countersign_rules::machine::{Machine, Position};
use std::hash::{DefaultHasher, Hasher};

/// Whom a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    Nobody,
    Send { call: u64 },
    Operate { number: u64 },
    Connect { connection: u64 },
    Ready { connection: u64 },
    Standing { connection: u64 },
    Owed,
    Posted,
    Post { call: u64, copy: u32 },
    AcksRead,
}

/// Where a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CrashPoint {
    /// At any instant, whatever the host does.
    Anytime,
    /// Stepped, not yet appended.
    BeforeAppend,
    /// Appended, not yet flushed.
    BeforeFlush,
    /// In the middle of an operation of the disk.
    AmidDisk,
    /// Flushed, nothing let out.
    BeforeLetOut,
    /// In the middle of answers and effects.
    AmidLetOut,
    /// In the middle of a snapshot or the trim behind it.
    AmidSnapshot,
    /// In the middle of the recovery.
    AmidOpen,
    /// A write or flush failed, and the host stopped by itself.
    DiskFailed,
}

impl CrashPoint {
    pub(crate) const ALL: [CrashPoint; 9] = [
        CrashPoint::Anytime,
        CrashPoint::BeforeAppend,
        CrashPoint::BeforeFlush,
        CrashPoint::AmidDisk,
        CrashPoint::BeforeLetOut,
        CrashPoint::AmidLetOut,
        CrashPoint::AmidSnapshot,
        CrashPoint::AmidOpen,
        CrashPoint::DiskFailed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CrashPoint::Anytime => "anytime",
            CrashPoint::BeforeAppend => "before_append",
            CrashPoint::BeforeFlush => "before_flush",
            CrashPoint::AmidDisk => "amid_disk",
            CrashPoint::BeforeLetOut => "before_let_out",
            CrashPoint::AmidLetOut => "amid_let_out",
            CrashPoint::AmidSnapshot => "amid_snapshot",
            CrashPoint::AmidOpen => "amid_open",
            CrashPoint::DiskFailed => "disk_failed",
        }
    }
}

/// What a batch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Append,
    Flush,
    LetOut,
}

/// A host with a store, up or down.
pub(crate) struct Node<M: Machine> {
    pub(crate) files: SimFiles,
    pub(crate) options: Options,
    pub(crate) identity: NewStore,
    pub(crate) running: Option<Running<M>>,
    /// Grows with each start and crash: what belongs to an earlier life is ignored.
    pub(crate) life: u64,
    pub(crate) armed: Option<CrashPoint>,
    /// What its clock is off by, in microseconds.
    pub(crate) clock_off_us: i64,
    pub(crate) ledger: Ledger,
    /// Instant of the next look at the clock, in microseconds.
    pub(crate) tick_at: u64,
    /// Lets things out before the flush: a planted defect.
    pub(crate) eager: bool,
    /// Oldest record that somebody else still has to read.
    pub(crate) hold: Position,
}

/// The state after a batch that is being written.
pub(crate) struct Image {
    pub(crate) position: Position,
    /// Oldest record that this state needs.
    pub(crate) needed: Position,
    pub(crate) body: Vec<u8>,
}

/// A host that is up.
pub(crate) struct Running<M: Machine> {
    pub(crate) engine: Engine<M, Ticket>,
    pub(crate) log: Log<SimFiles>,
    pub(crate) reader: Reader<SimFiles>,
    pub(crate) writing: Option<Writing<M>>,
    pub(crate) image: Option<Image>,
    pub(crate) bytes_since_image: u64,
    /// The disk's reserve is gone: nothing new is kept.
    pub(crate) short: bool,
    /// Answers and effects are being let out; nothing else is, meanwhile.
    pub(crate) busy: bool,
}

/// A batch on its way to the disk.
pub(crate) struct Writing<M: Machine> {
    pub(crate) batch: Batch,
    pub(crate) sealed: Option<Sealed<M, Ticket>>,
}

impl<M: Machine> Node<M> {
    pub(crate) fn new(seed: u64, epoch: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let mut store_id = [0; 16];
        random.fill(&mut store_id);
        Self {
            files: SimFiles::new(random.next_u64()),
            options,
            identity: NewStore { store_id, epoch },
            running: None,
            life: 0,
            armed: None,
            clock_off_us: 0,
            ledger: Ledger::default(),
            tick_at: u64::MAX,
            eager: false,
            hold: Position::MAX,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Takes the armed crash if it is meant for `point`.
    pub(crate) fn is_armed(&mut self, point: CrashPoint) -> bool {
        let meant = self.armed == Some(point);
        if meant {
            self.armed = None;
        }
        meant
    }
}

impl<M: Machine> Running<M> {
    pub(crate) fn new(engine: Engine<M, Ticket>, log: Log<SimFiles>) -> Self {
        let reader = log.reader();
        Self {
            engine,
            log,
            reader,
            writing: None,
            image: None,
            bytes_since_image: 0,
            short: false,
            busy: false,
        }
    }
}

/// What a host's journal must hold: a digest of every record, and how many were confirmed.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    digests: Vec<u64>,
    pub(crate) confirmed: Position,
    /// Facts up to here are in the history.
    pub(crate) told: Position,
    /// First position that was not trimmed.
    pub(crate) first: Position,
}

impl Ledger {
    pub(crate) fn append(&mut self, batch: &Batch) {
        self.digests.truncate(batch.first() as usize - 1);
        for index in 0..batch.len() {
            self.digests.push(digest(&batch.payload(index)));
        }
    }

    pub(crate) fn holds(&self, position: Position, payload: &[u8]) -> bool {
        let known = self.digests.get(position as usize - 1);
        known == Some(&digest(payload))
    }

    /// What lies behind `last` was not confirmed and is gone.
    pub(crate) fn cut(&mut self, last: Position) {
        self.digests.truncate(last as usize);
    }
}

fn digest(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(payload);
    hasher.finish()
}
