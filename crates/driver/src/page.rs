//! A stretch of a journal, as one process reads it from another.
//!
//! The form: epoch, position of the last record covered, number of records, each 8 bytes little
//! endian; then each record as position (8 bytes), length (4 bytes) and payload; then the number of
//! damaged records and the position of each, 8 bytes each. `through` covers damaged records too, so
//! that a follower is not held up for ever, and knows what it missed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use countersign_journal::{Files, ReadError, Reader};
use countersign_rules::Position;

/// Media type of a page.
pub const CONTENT_TYPE: &str = "application/vnd.countersign.journal";

/// Some records of a journal, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Life of the store it was read from.
    pub epoch: u64,
    /// Every record up to here is in this page or an earlier one, or cannot be served.
    pub through: Position,
    /// The records.
    pub records: Vec<(Position, Bytes)>,
    /// Those that are damaged: what they said is lost.
    pub damaged: Vec<Position>,
}

/// The bytes are not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a page of a journal")]
pub struct NotAPage;

/// Reads the durable records after `after`, about `bytes_max` of them; empty when there are none.
///
/// # Errors
/// The disk failed.
pub fn from_reader<F: Files>(
    reader: &Reader<F>,
    after: Position,
    bytes_max: usize,
) -> Result<Page, ReadError> {
    // What was trimmed was read and confirmed before; a reader that begins anew begins behind it.
    let from = after.saturating_add(1).max(reader.first_position());
    let mut page = Page {
        epoch: reader.epoch(),
        through: after,
        records: Vec::new(),
        damaged: Vec::new(),
    };
    for record in reader.read_range(from, bytes_max)? {
        page.through = record.position;
        match record.payload {
            Ok(payload) => page.records.push((record.position, payload)),
            Err(damaged) => {
                tracing::error!(position = record.position, %damaged, "a record cannot be served");
                page.damaged.push(record.position);
            }
        }
    }
    Ok(page)
}

/// Writes a page.
pub fn encode(page: &Page) -> Bytes {
    let bytes: usize = page
        .records
        .iter()
        .map(|(_, payload)| payload.len() + 12)
        .sum();
    let mut to = BytesMut::with_capacity(32 + bytes + 8 * page.damaged.len());
    to.put_u64_le(page.epoch);
    to.put_u64_le(page.through);
    to.put_u64_le(page.records.len() as u64);
    for (position, payload) in &page.records {
        to.put_u64_le(*position);
        to.put_u32_le(u32::try_from(payload.len()).expect("a record is far below 4 GiB"));
        to.put_slice(payload);
    }
    to.put_u64_le(page.damaged.len() as u64);
    page.damaged
        .iter()
        .for_each(|position| to.put_u64_le(*position));
    to.freeze()
}

/// Reads a page; payloads share its bytes.
///
/// # Errors
/// The bytes are cut short or too long.
pub fn decode(mut from: Bytes) -> Result<Page, NotAPage> {
    let number = |from: &mut Bytes| from.try_get_u64_le().map_err(|_| NotAPage);
    let (epoch, through) = (number(&mut from)?, number(&mut from)?);
    let count = number(&mut from)?;
    let mut records = Vec::new();
    for _ in 0..count {
        let position = number(&mut from)?;
        let length = from.try_get_u32_le().map_err(|_| NotAPage)? as usize;
        if from.remaining() < length {
            return Err(NotAPage);
        }
        records.push((position, from.split_to(length)));
    }
    let count = number(&mut from)?;
    let mut damaged = Vec::new();
    for _ in 0..count {
        damaged.push(number(&mut from)?);
    }
    if from.has_remaining() {
        Err(NotAPage)
    } else {
        Ok(Page {
            epoch,
            through,
            records,
            damaged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let records = vec![(4, Bytes::from_static(b"abc")), (6, Bytes::new())];
        Page {
            epoch: 9,
            through: 7,
            records,
            damaged: vec![5, 7],
        }
    }

    #[test]
    fn a_page_reads_back_as_written() {
        assert_eq!(decode(encode(&page())), Ok(page()));
    }

    #[test]
    fn bytes_cut_short_or_too_long_are_no_page() {
        let whole = encode(&page());
        for cut in 0..whole.len() {
            assert_eq!(decode(whole.slice(..cut)), Err(NotAPage), "cut at {cut}");
        }
        let mut long = whole.to_vec();
        long.push(0);
        assert_eq!(decode(long.into()), Err(NotAPage));
        let mut many = whole.to_vec();
        many[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(many.into()), Err(NotAPage));
    }
}
