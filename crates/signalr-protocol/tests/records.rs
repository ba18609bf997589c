//! Records come out of a byte stream the same, wherever it was cut.

use proptest::prelude::*;
use signalr_protocol::{RecordSplitter, RecordTooLarge};

fn split(splitter: &mut RecordSplitter, chunk: &[u8]) -> Vec<Result<Vec<u8>, RecordTooLarge>> {
    splitter
        .feed(chunk)
        .map(|record| record.map(|bytes| bytes.into_owned()))
        .collect()
}

#[test]
fn a_record_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
    let mut splitter = RecordSplitter::new(Some(4));
    assert_eq!(split(&mut splitter, b"abc\x1e"), [Ok(b"abc".to_vec())]);
    assert_eq!(
        split(&mut splitter, b"abcd\x1e"),
        [Err(RecordTooLarge { bytes_max: 4 })]
    );
}

#[test]
fn an_unfinished_record_over_the_limit_is_refused_before_its_end() {
    let mut splitter = RecordSplitter::new(Some(4));
    assert_eq!(split(&mut splitter, b"ab"), []);
    assert_eq!(
        split(&mut splitter, b"cde"),
        [Err(RecordTooLarge { bytes_max: 4 })]
    );
}

#[test]
fn the_limit_holds_for_each_record_and_not_for_the_chunk() {
    let mut splitter = RecordSplitter::new(Some(4));
    assert_eq!(
        split(&mut splitter, b"abc\x1edef\x1eg"),
        [Ok(b"abc".to_vec()), Ok(b"def".to_vec())]
    );
    assert!(splitter.is_amid_record());
    assert_eq!(split(&mut splitter, b"\x1e"), [Ok(b"g".to_vec())]);
    assert!(!splitter.is_amid_record());
}

proptest! {
    #[test]
    fn cuts_do_not_change_the_records(
        records in prop::collection::vec(prop::collection::vec(0x20_u8..0x7f, 0..20), 0..8),
        cuts in prop::collection::vec(1_usize..9, 0..40),
    ) {
        let mut stream = Vec::new();
        for record in &records {
            stream.extend_from_slice(record);
            stream.push(0x1e);
        }
        let mut splitter = RecordSplitter::new(None);
        let mut seen = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            seen.extend(split(&mut splitter, chunk));
            rest = after;
        }
        seen.extend(split(&mut splitter, rest));
        let seen: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(seen, records);
    }
}
