//! A JSON hub message, read as a server and as a client: no panic, and written again it reads the same.
#![no_main]

use countersign_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use signalr_protocol::{Reader, json};

fuzz_target!(|record: &[u8]| {
    for reader in [Reader::Server, Reader::Client] {
        let Ok(Some(message)) = bounded(record.len(), 64, || json::decode(record, reader)) else {
            continue;
        };
        // Values that were no text are marked as unreadable; nothing writes them again.
        if std::str::from_utf8(record).is_err() {
            continue;
        }
        let mut written = Vec::new();
        json::encode(&mut written, &message);
        let (separator, body) = written.split_last().expect("a message is not empty");
        assert_eq!(*separator, 0x1e);
        assert!(!body.contains(&0x1e), "a record holds no separator");
        let again = json::decode(body, reader).expect("what was written is good");
        let again = again.expect("its type is known");
        assert_eq!(again, message);
    }
});
