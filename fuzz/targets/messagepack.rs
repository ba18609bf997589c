//! A MessagePack hub message, read as a server and as a client: no panic, and written again it reads the same.
#![no_main]

use countersign_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use signalr_protocol::Reader;
use signalr_protocol::messagepack::{self, FrameSplitter};

fuzz_target!(|body: &[u8]| {
    for reader in [Reader::Server, Reader::Client] {
        let Ok(Some(message)) = bounded(body.len(), 64, || messagepack::decode(body, reader))
        else {
            continue;
        };
        let mut written = Vec::new();
        messagepack::encode(&mut written, &message);
        let mut splitter = FrameSplitter::new(None);
        let mut frames = splitter.feed(&written);
        let frame = frames
            .next()
            .expect("one frame was written")
            .expect("its length is good");
        let again = messagepack::decode(&frame, reader).expect("what was written is good");
        assert_eq!(again.expect("its type is known"), message);
        assert!(frames.next().is_none(), "only one frame was written");
    }
});
