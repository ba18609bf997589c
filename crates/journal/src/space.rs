//! How much room the disk has, cheap enough to ask for each send.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::Files;

/// Questions answered from memory before the disk is asked again.
const QUESTIONS_PER_LOOK: u32 = 64;

/// Tells whether the disk has more than its reserve left. Cheap to clone; any thread may ask.
pub struct Space<F: Files> {
    files: F,
    reserve_bytes: u64,
    seen: Arc<Seen>,
}

struct Seen {
    above: AtomicBool,
    questions: AtomicU32,
}

impl<F: Files> Clone for Space<F> {
    fn clone(&self) -> Self {
        let (files, seen) = (self.files.clone(), Arc::clone(&self.seen));
        Self {
            files,
            reserve_bytes: self.reserve_bytes,
            seen,
        }
    }
}

impl<F: Files> fmt::Debug for Space<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.seen.above.load(Ordering::Relaxed);
        f.debug_struct("Space")
            .field("above_reserve", &above)
            .finish_non_exhaustive()
    }
}

impl<F: Files> Space<F> {
    pub(crate) fn new(files: F, reserve_bytes: u64) -> Self {
        let seen = Seen {
            above: AtomicBool::new(true),
            questions: AtomicU32::new(0),
        };
        Self {
            files,
            reserve_bytes,
            seen: Arc::new(seen),
        }
    }

    /// Whether new work may be accepted. The disk is asked at the first question, at each 64th,
    /// and at every one while the answer is no, so that freed space is noticed at once.
    pub fn above_reserve(&self) -> bool {
        let question = self.seen.questions.fetch_add(1, Ordering::Relaxed);
        let above = self.seen.above.load(Ordering::Relaxed);
        if above && !question.is_multiple_of(QUESTIONS_PER_LOOK) {
            return true;
        }
        // A system that does not tell is not a full disk: the append itself will say.
        let above = self
            .files
            .free_bytes()
            .map_or(true, |free| free >= self.reserve_bytes);
        self.seen.above.store(above, Ordering::Relaxed);
        above
    }

    /// Notes that an append found the disk full.
    pub(crate) fn is_full(&self) {
        self.seen.above.store(false, Ordering::Relaxed);
    }
}
