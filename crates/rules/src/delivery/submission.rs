//! What a sender asks for.

#[cfg(doc)]
use super::Accepted;
use crate::body::BodyRef;
use crate::lane::LaneRule;
use crate::message::{AgentName, LaneName, MessageId, TenantName, TypeName};
use crate::time::Timestamp;
use alloc::string::String;
use bytes::Bytes;

/// A message to accept.
#[derive(Clone, Debug)]
pub struct Submission<To = AgentName> {
    /// The id it will have; made by the caller, because rules have no randomness.
    pub id: MessageId,
    /// The sender's tenant.
    pub tenant: TenantName,
    /// The recipient, or who else is addressed.
    pub to: To,
    /// Its type.
    pub kind: TypeName,
    /// Its lane.
    pub lane: LaneName,
    /// What its failure means for the messages behind it in its lane.
    pub rule: LaneRule,
    /// Digest of tenant and idempotency key, when there is a key.
    pub key: Option<[u8; 16]>,
    /// Digest of everything the sender asked for.
    pub fingerprint: [u8; 16],
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// End of its life.
    pub expires_at: Option<Timestamp>,
    /// It is pushed at this instant or later, behind what waits by then.
    pub not_before: Option<Timestamp>,
    /// Attempts at the site before it is dead.
    pub attempts_max: Option<u32>,
    /// See [`Accepted::correlation_id`].
    pub correlation_id: String,
    /// See [`Accepted::causation_id`].
    pub causation_id: String,
    /// See [`Accepted::traceparent`].
    pub traceparent: String,
    /// See [`Accepted::tracestate`].
    pub tracestate: String,
    /// Subject of the sender's token.
    pub sender: String,
    /// See [`Accepted::content_type`].
    pub content_type: String,
    /// The body: raw JSON. Empty when it refers to a large one.
    pub data: Bytes,
    /// The large body that it refers to.
    pub body: Option<BodyRef>,
}

impl<To> Submission<To> {
    /// The same for somebody else.
    pub fn addressed_to<Other>(self, to: Other) -> Submission<Other> {
        let Self {
            id,
            tenant,
            to: _,
            kind,
            lane,
            rule,
            key,
            fingerprint,
            body_sha256,
            expires_at,
            not_before,
            attempts_max,
            correlation_id,
            causation_id,
            traceparent,
            tracestate,
            sender,
            content_type,
            data,
            body,
        } = self;
        Submission {
            id,
            tenant,
            to,
            kind,
            lane,
            rule,
            key,
            fingerprint,
            body_sha256,
            expires_at,
            not_before,
            attempts_max,
            correlation_id,
            causation_id,
            traceparent,
            tracestate,
            sender,
            content_type,
            data,
            body,
        }
    }
}
