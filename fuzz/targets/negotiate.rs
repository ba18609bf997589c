//! Answers to a negotiation, and the versions asked for: no panic, and an answer written again decides the same.
#![no_main]

use countersign_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use signalr_protocol::negotiate::{NegotiateResponse, choose_version};

fuzz_target!(|data: &[u8]| {
    let decided = bounded(data.len(), 128, || NegotiateResponse::read(data));
    if let Ok(response) = serde_json::from_slice::<NegotiateResponse>(data) {
        let again = NegotiateResponse::read(&response.to_json());
        assert_eq!(format!("{again:?}"), format!("{decided:?}"));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(version) = choose_version(text.split('&'), 0)
    {
        assert!((0..=1).contains(&version));
    }
});
