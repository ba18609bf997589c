//! Text records: however the bytes are cut into chunks, the same records come out, and no more is kept than allowed.
#![no_main]

use countersign_fuzz::{bounded, chunks};
use libfuzzer_sys::fuzz_target;
use signalr_protocol::RecordSplitter;

/// The records, whether the last was too large, and whether one is unfinished.
fn split(bytes: &[u8], seed: u8, bytes_max: Option<usize>) -> (Vec<Vec<u8>>, bool, bool) {
    let mut splitter = RecordSplitter::new(bytes_max);
    let mut records = Vec::new();
    for chunk in chunks(bytes, seed) {
        for record in splitter.feed(chunk) {
            match record {
                Ok(record) => records.push(record.into_owned()),
                Err(_) => return (records, true, false),
            }
        }
    }
    (records, false, splitter.is_amid_record())
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
