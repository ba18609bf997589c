//! The known fields of a message, raw, whatever their order; of duplicates the last.

use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::DecodeError;

/// Texts of the fields that messages may have.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) invocation_id: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    pub(super) arguments: Option<&'a str>,
    pub(super) stream_ids: Option<&'a str>,
    pub(super) item: Option<&'a str>,
    pub(super) result: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    pub(super) allow_reconnect: Option<&'a str>,
    pub(super) sequence_id: Option<&'a str>,
    pub(super) headers: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Reads the object `text`.
    pub(super) fn read(text: &'a str) -> Result<Self, DecodeError> {
        serde_json::from_str(text).map_err(|_| DecodeError::NotJson)
    }

    fn slot(&mut self, key: &Key) -> Option<&mut Option<&'a str>> {
        Some(match key {
            Key::Kind => &mut self.kind,
            Key::InvocationId => &mut self.invocation_id,
            Key::Target => &mut self.target,
            Key::Arguments => &mut self.arguments,
            Key::StreamIds => &mut self.stream_ids,
            Key::Item => &mut self.item,
            Key::Result => &mut self.result,
            Key::Error => &mut self.error,
            Key::AllowReconnect => &mut self.allow_reconnect,
            Key::SequenceId => &mut self.sequence_id,
            Key::Headers => &mut self.headers,
            Key::Unknown => return None,
        })
    }
}

/// A field name, compared with case, escapes resolved.
enum Key {
    Kind,
    InvocationId,
    Target,
    Arguments,
    StreamIds,
    Item,
    Result,
    Error,
    AllowReconnect,
    SequenceId,
    Headers,
    Unknown,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hub message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            match fields.slot(&key) {
                Some(slot) => *slot = Some(map.next_value::<&'de RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match name {
            "type" => Key::Kind,
            "invocationId" => Key::InvocationId,
            "target" => Key::Target,
            "arguments" => Key::Arguments,
            "streamIds" => Key::StreamIds,
            "item" => Key::Item,
            "result" => Key::Result,
            "error" => Key::Error,
            "allowReconnect" => Key::AllowReconnect,
            "sequenceId" => Key::SequenceId,
            "headers" => Key::Headers,
            _ => Key::Unknown,
        })
    }
}
