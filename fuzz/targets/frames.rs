//! Length-prefixed frames: however the bytes are cut into chunks, the same bodies come out, and no more is kept than allowed.
#![no_main]

use countersign_fuzz::{bounded, chunks};
use libfuzzer_sys::fuzz_target;
use signalr_protocol::messagepack::{FrameError, FrameSplitter};

/// The bodies, what ended them, and whether one is unfinished.
fn split(
    bytes: &[u8],
    seed: u8,
    bytes_max: Option<usize>,
) -> (Vec<Vec<u8>>, Option<FrameError>, bool) {
    let mut splitter = FrameSplitter::new(bytes_max);
    let mut bodies = Vec::new();
    for chunk in chunks(bytes, seed) {
        for body in splitter.feed(chunk) {
            match body {
                Ok(body) => bodies.push(body.into_owned()),
                Err(error) => return (bodies, Some(error), false),
            }
        }
    }
    (bodies, None, splitter.is_amid_message())
}

fuzz_target!(|data: &[u8]| {
    let [seed, limit, bytes @ ..] = data else {
        return;
    };
    let bytes_max = (*limit > 0).then_some(usize::from(*limit));
    let whole = split(bytes, 0, bytes_max);
    let cut = bounded(bytes.len(), 64, || split(bytes, *seed, bytes_max));
    assert_eq!(whole, cut);
});
