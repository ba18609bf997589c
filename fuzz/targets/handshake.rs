//! Handshake requests and answers: no panic, and a request written again reads the same.
#![no_main]

use countersign_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use signalr_protocol::handshake::{self, HandshakeRequest, ResponseError};

fuzz_target!(|record: &[u8]| {
    if let Ok(request) = bounded(record.len(), 128, || HandshakeRequest::decode(record)) {
        let mut written = Vec::new();
        request.encode(&mut written);
        let body = written
            .strip_suffix(b"\x1e")
            .expect("it ends with a separator");
        assert_eq!(HandshakeRequest::decode(body), Ok(request));
    }
    let answer = bounded(record.len(), 128, || handshake::decode_response(record));
    if let Err(ResponseError::Refused { error }) = answer {
        let mut written = Vec::new();
        handshake::encode_refused(&mut written, &error);
        let body = written
            .strip_suffix(b"\x1e")
            .expect("it ends with a separator");
        assert_eq!(
            handshake::decode_response(body),
            Err(ResponseError::Refused { error })
        );
    }
});
