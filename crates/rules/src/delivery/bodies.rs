//! Large bodies: kept while a message refers to them.
//!
//! A body comes first, durable in a store of its own; then messages may refer to it, as many as like.
//! It goes when the last of them is forgotten, or when nobody has referred to it for
//! [`limits::BODY_UNCLAIMED`]. A reference is part of the accepted message, in memory and in the
//! archive, so that one that can still be pushed or done once more has its body.
//!
//! Left out on purpose: the bodies themselves, which the rules never see; and references of a send to
//! many, each row of which would need one of its own: it is refused.

use super::record::{Accepted, Record};
use super::state::State;
use super::{Centre, Effect, Refusal, Remembered, Submission};
use crate::body::{BodyId, BodyRef};
use crate::limits;
use crate::machine::Out;
use crate::message::{MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::time::{Duration, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A large body that is whole and durable in the store of bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBody {
    /// The body.
    pub id: BodyId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// What is known of a large body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyView {
    /// The body, and its length.
    pub body: BodyRef,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// How many messages refer to it.
    pub references: u64,
}

/// The large bodies that must be in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bodies {
    kept: BTreeMap<BodyId, Kept>,
    /// Which body a message refers to.
    referring: BTreeMap<MessageId, BodyId>,
    /// Those of them that are in the archive, by their batch.
    archived: BTreeMap<u64, BTreeSet<MessageId>>,
    /// Bodies that nobody refers to, by when they go, on the retention clock.
    unclaimed: BTreeSet<(Duration, BodyId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    tenant: TenantName,
    bytes: u64,
    sha256: [u8; 32],
    references: u64,
    /// When it goes, if nobody refers to it.
    goes: Option<Duration>,
}

impl Bodies {
    fn keep(
        &mut self,
        body: BodyId,
        tenant: &TenantName,
        bytes: u64,
        sha256: [u8; 32],
        passed: Duration,
    ) {
        if self.kept.contains_key(&body) {
            return;
        }
        let goes = passed + limits::BODY_UNCLAIMED;
        let kept = Kept {
            tenant: tenant.clone(),
            bytes,
            sha256,
            references: 0,
            goes: Some(goes),
        };
        self.kept.insert(body, kept);
        self.unclaimed.insert((goes, body));
    }

    /// A message refers to a body. The record that says so of the body itself may be damaged: all of
    /// it stands here too.
    pub(super) fn refer(
        &mut self,
        accepted: &Accepted<'_>,
        body: BodyRef,
    ) -> Result<(), RecordError> {
        let no_name = |_| RecordError::Inconsistent("a body's tenant has no name");
        let tenant = TenantName::parse(accepted.tenant).map_err(no_name)?;
        self.keep(
            body.id,
            &tenant,
            body.bytes,
            accepted.body_sha256,
            Duration::ZERO,
        );
        if let Some(kept) = self.kept.get_mut(&body.id) {
            kept.references += 1;
            if let Some(goes) = kept.goes.take() {
                self.unclaimed.remove(&(goes, body.id));
            }
        }
        self.referring.insert(accepted.id, body.id);
        Ok(())
    }

    /// A message is forgotten, and with it what it referred to.
    pub(super) fn release(&mut self, message: MessageId, passed: Duration) {
        let Some(body) = self.referring.remove(&message) else {
            return;
        };
        if let Some(kept) = self.kept.get_mut(&body) {
            kept.references = kept.references.saturating_sub(1);
            if kept.references == 0 {
                kept.goes = Some(passed);
                self.unclaimed.insert((passed, body));
            }
        }
    }

    /// What a record of a body itself changes.
    pub(super) fn take(&mut self, record: &Record<'_>, passed: Duration) {
        match record {
            Record::BodyKept {
                body,
                tenant,
                bytes,
                sha256,
                ..
            } => self.keep(*body, tenant, *bytes, *sha256, passed),
            Record::BodyDropped { body, .. } => self.drop(*body),
            _ => {}
        }
    }

    fn drop(&mut self, body: BodyId) {
        if let Some(goes) = self.kept.remove(&body).and_then(|kept| kept.goes) {
            self.unclaimed.remove(&(goes, body));
        }
    }

    pub(super) fn archive(&mut self, batch: u64, messages: &[Remembered]) {
        let refers = |message: &&Remembered| self.referring.contains_key(&message.id);
        let referring = messages.iter().filter(refers).map(|message| message.id);
        let referring: BTreeSet<_> = referring.collect();
        if !referring.is_empty() {
            self.archived.insert(batch, referring);
        }
    }

    pub(super) fn recall(&mut self, batch: u64, message: MessageId) {
        if let Some(messages) = self.archived.get_mut(&batch) {
            messages.remove(&message);
        }
    }

    pub(super) fn age_archive(&mut self, below: u64, passed: Duration) {
        let stays = self.archived.split_off(&below);
        for messages in core::mem::replace(&mut self.archived, stays).into_values() {
            for message in messages {
                self.release(message, passed);
            }
        }
    }

    /// When the next one goes, on the retention clock.
    pub(super) fn next_unclaimed(&self) -> Option<Duration> {
        self.unclaimed.first().map(|(goes, _)| *goes)
    }
}

impl State {
    /// What is known of a body of this tenant.
    pub(super) fn body(&self, tenant: &TenantName, body: BodyId) -> Option<BodyView> {
        let kept = self.bodies.kept.get(&body);
        let kept = kept.filter(|kept| kept.tenant == *tenant)?;
        Some(BodyView {
            body: BodyRef {
                id: body,
                bytes: kept.bytes,
            },
            sha256: kept.sha256,
            references: kept.references,
        })
    }

    /// Every body that must be in the store.
    pub fn bodies(&self) -> Vec<BodyId> {
        self.bodies.kept.keys().copied().collect()
    }
}

impl Centre {
    pub(super) fn keep_body(&mut self, body: &NewBody, now: Timestamp, out: &mut Out<Self>) {
        if self.state.bodies.kept.contains_key(&body.id) {
            return;
        }
        let record = Record::BodyKept {
            at: now,
            body: body.id,
            tenant: body.tenant.clone(),
            bytes: body.bytes,
            sha256: body.sha256,
        };
        self.write(&record, out);
    }

    /// A message may refer only to what is there, durably, and its tenant's.
    pub(super) fn check_body<To>(&self, message: &Submission<To>) -> Result<(), Refusal> {
        let Some(body) = message.body else {
            return Ok(());
        };
        let known = self.state.body(&message.tenant, body.id);
        let is_it =
            known.is_some_and(|known| known.body == body && known.sha256 == message.body_sha256);
        match is_it || self.policy.planted.is(Planted::ReferUnknownBody) {
            true => Ok(()),
            false => Err(Refusal::UnknownBody { body: body.id }),
        }
    }

    /// Lets go the bodies that nobody refers to.
    pub(super) fn drop_unclaimed(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let passed = self.state.clock.passed_at(now, self.policy.retention);
        let unclaimed = &self.state.bodies.unclaimed;
        let gone = unclaimed.iter().take_while(|(goes, _)| *goes <= passed);
        let gone: Vec<_> = gone.take(limits::PER_DEADLINE_MAX).copied().collect();
        for (_, body) in gone {
            self.write(&Record::BodyDropped { at: now, body }, out);
            out.effect(Effect::DropBody { body });
        }
    }
}
