//! Rows with checksums: SQLite itself compares none when it reads.

use countersign_rules::delivery::Remembered;
use countersign_rules::message::MessageId;

use crate::error::ReadError;

/// What stands in the row of a message: a checksum over its id, its batch and the rest, then the
/// rest in postcard's format.
pub(crate) fn of_message(batch: u64, message: &Remembered) -> Vec<u8> {
    let rest = postcard::to_allocvec(message).expect("writing to memory cannot fail");
    let mut row = checksum(&message.id.0, batch, &rest).to_vec();
    row.extend(rest);
    row
}

/// Reads what [`of_message`] wrote.
pub(crate) fn message(id: MessageId, batch: u64, row: &[u8]) -> Result<Remembered, ReadError> {
    let rest = proved(&id.0, batch, row)?;
    let message: Remembered = postcard::from_bytes(rest).map_err(|_| ReadError::Checksum)?;
    match message.id == id {
        true => Ok(message),
        false => Err(ReadError::Checksum),
    }
}

/// What stands in the row of an idempotency key: a checksum, then the message's id.
pub(crate) fn of_key(batch: u64, message: &Remembered) -> Vec<u8> {
    let mut row = checksum(&message.key, batch, &message.id.0).to_vec();
    row.extend(message.id.0);
    row
}

/// Reads what [`of_key`] wrote.
pub(crate) fn key(key: &[u8; 16], batch: u64, row: &[u8]) -> Result<MessageId, ReadError> {
    let id = proved(key, batch, row)?;
    let id = id.try_into().map_err(|_| ReadError::Checksum)?;
    Ok(MessageId(id))
}

/// What stands in the row of a batch: a checksum, then the id and the key of each of its messages.
pub(crate) fn of_batch(number: u64, digest: u64, messages: &[Remembered]) -> Vec<u8> {
    let members: Vec<u8> = messages
        .iter()
        .flat_map(|message| [message.id.0, message.key])
        .flatten()
        .collect();
    let mut row = checksum(&batch_key(digest), number, &members).to_vec();
    row.extend(members);
    row
}

/// Id and key of a message.
pub(crate) type Member = ([u8; 16], [u8; 16]);

/// Reads what [`of_batch`] wrote.
pub(crate) fn batch(number: u64, digest: u64, row: &[u8]) -> Result<Vec<Member>, ReadError> {
    let members = proved(&batch_key(digest), number, row)?;
    let members = members.as_chunks::<16>().0.as_chunks::<2>().0;
    Ok(members.iter().map(|&[id, key]| (id, key)).collect())
}

fn batch_key(digest: u64) -> [u8; 16] {
    u128::from(digest).to_le_bytes()
}

fn proved<'a>(key: &[u8; 16], batch: u64, row: &'a [u8]) -> Result<&'a [u8], ReadError> {
    let (sum, rest) = row.split_first_chunk().ok_or(ReadError::Checksum)?;
    match *sum == checksum(key, batch, rest) {
        true => Ok(rest),
        false => Err(ReadError::Checksum),
    }
}

fn checksum(key: &[u8; 16], batch: u64, rest: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c(key);
    let sum = crc32c::crc32c_append(sum, &batch.to_le_bytes());
    crc32c::crc32c_append(sum, rest).to_le_bytes()
}
