//! Records of the journal, read by the three machines: no panic, bounded memory.
//!
//! The journal's own pages are proved by its tests, which flip bits; its checksums keep a fuzzer out.
#![no_main]

use countersign_fuzz::bounded;
use countersign_rules::{ack, delivery, site};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 64, || {
        let _ = delivery::decode_record(bytes);
        let _ = delivery::decode_accepted(bytes);
        let _ = site::decode_record(bytes);
        let _ = ack::decode_record(bytes);
    });
});
