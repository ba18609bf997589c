//! What the targets share: a bound on memory, and chunks of any size.
//!
//! Promise: an input that has a parser hold more than its size allows ends the process, and libFuzzer keeps that input.
//! Left out on purpose: how long a parser takes; libFuzzer's own `-timeout` is there for that.

use std::alloc::System;
use std::sync::Once;

use cap::Cap;

/// Counts what is allocated; over the limit an allocation fails, which ends the process.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What any input may cost: error texts, the first growth of vectors.
const FIXED_BYTES: usize = 16 * 1024;

static PANICS: Once = Once::new();

/// A panic writes a backtrace, which needs more than any input.
fn free_panics() {
    let inner = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        ALLOCATOR
            .set_limit(usize::MAX)
            .expect("nothing is above it");
        inner(panic);
    }));
}

/// Runs `work`, which may hold at most `factor` times `input_bytes` more than before, and a fixed little.
pub fn bounded<T>(input_bytes: usize, factor: usize, work: impl FnOnce() -> T) -> T {
    PANICS.call_once(free_panics);
    let bound = ALLOCATOR.allocated() + input_bytes * factor + FIXED_BYTES;
    ALLOCATOR
        .set_limit(bound)
        .expect("it lies above what is allocated");
    let done = work();
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("nothing is above it");
    done
}

/// Cuts `bytes` into chunks of 1 to 16 bytes, sizes drawn from `seed`; with a seed of zero into one.
pub fn chunks(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let drawn = 1 + (state >> 28) as usize;
        let size = if seed == 0 {
            rest.len()
        } else {
            drawn.min(rest.len())
        };
        let (chunk, after) = rest.split_at(size);
        rest = after;
        Some(chunk)
    })
}
