//! One attempt at one message, as a sink sees it.

use crate::envelope::Content;
use crate::fetch::{Document, LargeBody};
use bytes::Bytes;
use countersign_rules::{LaneName, MessageId};
use serde_json::value::RawValue;

/// One attempt at one message. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The message.
    pub id: MessageId,
    /// Which life of it: 1, and one more after each deliberate reprocessing.
    pub generation: u32,
    /// Its number among this site's messages.
    pub seq: u64,
    /// Its lane: messages of one lane are worked on one after the other.
    pub lane: LaneName,
    /// Its type.
    pub message_type: String,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// An earlier attempt was cut short by a crash: its effect may have happened. A sink that can
    /// ask its back office by [`Delivery::idempotency_key`] should do so.
    pub possibly_repeated: bool,
    /// Media type of the document, when the sender gave one; else the document is JSON.
    pub content_type: Option<String>,
    /// What the sender relates it to.
    pub correlation_id: Option<String>,
    /// What made the sender send it.
    pub causation_id: Option<String>,
    /// Trace context (W3C) of the sender.
    pub traceparent: Option<String>,
    /// The document, byte for byte as it was sent; empty when it is a [large](Delivery::large) one.
    pub body: Bytes,
    /// The document, when it is too large to be held in memory.
    pub large: Option<Document>,
    /// The whole envelope, byte for byte as it came: JSON.
    pub envelope: Bytes,
}

/// Why an envelope cannot be worked on; no later attempt will do better.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A field is missing or has the wrong type.
    #[error("the envelope is malformed: {0}")]
    Malformed(String),
    /// It carries no document and names none.
    #[error("the envelope carries no data and refers to none")]
    NoData,
}

impl DeliveryError {
    /// Short and stable, for grouping.
    pub fn code(&self) -> &'static str {
        match self {
            DeliveryError::Malformed(_) => "envelope-malformed",
            DeliveryError::NoData => "envelope-without-data",
        }
    }
}

impl Delivery {
    /// Reads the envelope of attempt number `attempt`.
    ///
    /// # Errors
    /// It is not an envelope, or carries no document in itself.
    pub fn from_envelope(
        envelope: Bytes,
        attempt: u32,
        possibly_repeated: bool,
    ) -> Result<Self, DeliveryError> {
        match Self::read(envelope, attempt, possibly_repeated)? {
            (delivery, None) => Ok(delivery),
            (_, Some(_)) => Err(DeliveryError::NoData),
        }
    }

    /// The same for an envelope that may refer to a large document.
    pub(crate) fn read(
        envelope: Bytes,
        attempt: u32,
        possibly_repeated: bool,
    ) -> Result<(Self, Option<LargeBody>), DeliveryError> {
        let malformed = |reason: String| DeliveryError::Malformed(reason);
        let content: Content<'_> =
            serde_json::from_slice(&envelope).map_err(|error| malformed(error.to_string()))?;
        let lane = match &content.lane {
            None => LaneName::default_lane(),
            Some(lane) => {
                LaneName::parse(&lane.0).map_err(|error| malformed(format!("lane: {error}")))?
            }
        };
        let id = content.id.0.parse();
        let id = id.map_err(|error| malformed(format!("id: {error}")))?;
        let large = content.data_ref.map(|body| {
            let read = body.read(id);
            read.ok_or_else(|| malformed(String::from("data_ref: its sha256 is none")))
        });
        let large = large.transpose()?;
        let data = content.data.map(RawValue::get);
        if data.is_none() && large.is_none() {
            return Err(DeliveryError::NoData);
        }
        let delivery = Self {
            id,
            generation: content.generation,
            seq: content.seq,
            lane,
            message_type: content.message_type.0.into_owned(),
            attempt,
            possibly_repeated,
            body: match data {
                Some(data) => body(data, content.content_type.is_some(), &envelope),
                None => Bytes::new(),
            },
            large: None,
            content_type: content.content_type.map(|text| text.0.into_owned()),
            correlation_id: content.correlation_id.map(|text| text.0.into_owned()),
            causation_id: content.causation_id.map(|text| text.0.into_owned()),
            traceparent: content.traceparent.map(|text| text.0.into_owned()),
            envelope: envelope.clone(),
        };
        Ok((delivery, large))
    }

    /// The token by which a back office tells a repeated delivery from a new one: the same for
    /// every attempt, another after a deliberate reprocessing.
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.id, self.generation)
    }

    /// Media type of [`Delivery::body`].
    pub fn media_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or("application/json")
    }
}

/// The bytes the sender gave: the text inside the JSON string when it declared a media type, the
/// JSON itself otherwise.
fn body(data: &str, is_typed: bool, envelope: &Bytes) -> Bytes {
    match serde_json::from_str::<String>(data) {
        Ok(text) if is_typed => Bytes::from(text),
        _ => envelope.slice_ref(data.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(fields: &str) -> Result<Delivery, DeliveryError> {
        let envelope = format!(
            r#"{{"id":"01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f","type":"document.insert","seq":1,"generation":2{fields}}}"#
        );
        Delivery::from_envelope(Bytes::from(envelope), 1, false)
    }

    #[test]
    fn a_json_document_keeps_its_spaces_and_the_spelling_of_its_numbers() {
        let delivery = delivery(r#","data":{ "total" : 1.10, "e": 1E2 }"#).unwrap();
        assert_eq!(delivery.body, r#"{ "total" : 1.10, "e": 1E2 }"#.as_bytes());
        assert_eq!(delivery.media_type(), "application/json");
    }

    #[test]
    fn a_document_of_another_media_type_is_the_text_inside_the_string() {
        let delivery =
            delivery(r#","content_type":"application/xml","data":"<a b=\"é\">\n</a>""#).unwrap();
        assert_eq!(delivery.body, "<a b=\"é\">\n</a>".as_bytes());
        assert_eq!(delivery.media_type(), "application/xml");
    }

    #[test]
    fn a_string_without_a_media_type_stays_json() {
        assert_eq!(
            delivery(r#","data":"plain""#).unwrap().body,
            r#""plain""#.as_bytes()
        );
    }

    #[test]
    fn null_is_a_document() {
        assert_eq!(delivery(r#","data":null"#).unwrap().body, "null".as_bytes());
    }

    #[test]
    fn a_message_that_carries_nothing_is_refused_with_its_own_code() {
        assert_eq!(delivery("").unwrap_err().code(), "envelope-without-data");
        assert_eq!(
            delivery(r#","data":{"#).unwrap_err().code(),
            "envelope-malformed"
        );
    }

    #[test]
    fn the_idempotency_key_changes_with_the_generation_only() {
        let delivery = delivery(r#","data":1"#).unwrap();
        assert_eq!(
            delivery.idempotency_key(),
            "01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f:2"
        );
    }
}
