//! Settings of a store, each with its default and the reason for it.

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment in bytes. Default: 64 MiB, about two minutes at full load on the machine
    /// the product was measured on: few files, yet retention by segment stays fine-grained.
    /// At most 2 GiB, because offsets in the index are 32 bits wide.
    pub segment_bytes: u64,
    /// How a new segment gets its blocks. Default: [`Preallocation::Reserve`].
    pub preallocation: Preallocation,
    /// Free bytes below which [`crate::Log::above_reserve`] says no. Default: 256 MiB, room for
    /// four segments, so that acknowledgements and purges go on while sends are refused.
    pub reserve_bytes: u64,
    /// Partitions of the store, fixed at its creation. Default: 16, enough to spread a store over
    /// several nodes later.
    pub partition_count: u16,
    /// Successful flushes between two writes of the witness. Default: 256, below a second under
    /// load; an idle journal thread writes it after one second whatever the count.
    pub witness_every_flushes: u32,
    /// Scan and verify every segment at open, not only those the newest snapshots do not cover.
    /// Default: false, so that a restart costs the tail and not the archive.
    pub scan_everything: bool,
    /// Test-only: one known defect, to prove that a checker catches it. Default: none.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<Planted>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            preallocation: Preallocation::Reserve,
            reserve_bytes: 256 << 20,
            partition_count: 16,
            witness_every_flushes: 256,
            scan_everything: false,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

/// How a new segment gets its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocation {
    /// Not at all: it grows with each append.
    Grow,
    /// Its full size is reserved when it is made, so that a full disk is told at the roll.
    Reserve,
    /// It is filled with zeros when it is made: flushes change no metadata, but every byte is
    /// written twice and the roll waits for a whole segment of zeros.
    Zeros,
}

impl Options {
    pub(crate) fn defect(&self, defect: Defect) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self
            .planted
            .is_some_and(|planted| Defect::from(planted) == defect);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = defect;
            false
        }
    }
}

/// Identity of a store that does not exist yet, or that needs a new life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewStore {
    /// Random id; used only when the directory is empty.
    pub store_id: [u8; 16],
    /// Epoch of a new store; also the epoch taken when the old one must end, if it is higher than
    /// that one plus one.
    pub epoch: u64,
}

/// A known defect that a test can switch on.
#[cfg(feature = "planted-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// A flush answers success without syncing.
    AnswerBeforeFlush,
    /// Checksums and hashes are not compared.
    SkipChecksums,
    /// Recovery cuts the log at the first bad batch, wherever it lies.
    CutAtDamage,
    /// A failed flush is tried again and then trusted.
    RetryFailedFlush,
}

/// The defects, known to the code whether or not they can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    AnswerBeforeFlush,
    SkipChecksums,
    CutAtDamage,
    RetryFailedFlush,
}

#[cfg(feature = "planted-bugs")]
impl From<Planted> for Defect {
    fn from(planted: Planted) -> Self {
        match planted {
            Planted::AnswerBeforeFlush => Self::AnswerBeforeFlush,
            Planted::SkipChecksums => Self::SkipChecksums,
            Planted::CutAtDamage => Self::CutAtDamage,
            Planted::RetryFailedFlush => Self::RetryFailedFlush,
        }
    }
}
