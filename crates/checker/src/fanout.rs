//! Sends to many: who had to be addressed, who was, and when the whole was done.

use crate::centre::At;
use crate::lives::{Flags, Key};
use crate::verdict::{Invariant, Party};
use crate::{Checker, Coverage};
use countersign_rules::delivery::{
    Accepted, Addressed, Audience, End, FanNo, Labels, RecipientNo, Record,
};
use countersign_rules::{GroupName, MessageId, TenantName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of groups, labels and sends to many.
#[derive(Debug, Default)]
pub(crate) struct FanOuts {
    groups: BTreeMap<(TenantName, GroupName), Group>,
    labels: BTreeMap<RecipientNo, Labels>,
    sends: BTreeMap<FanNo, Send>,
    /// The send to many that each message belongs to.
    of: BTreeMap<MessageId, FanNo>,
    /// The one whose rows are being told.
    open: Option<(FanNo, At)>,
}

#[derive(Debug, Default)]
struct Group {
    version: u64,
    members: BTreeSet<RecipientNo>,
}

#[derive(Debug)]
struct Send {
    id: MessageId,
    key: bool,
    count: u32,
    body: [u8; 32],
    /// Whom it had to address, when that can be told.
    expected: Option<BTreeSet<RecipientNo>>,
    /// The version its list had to have, when that can be told.
    version: Option<(u64, u64)>,
    /// Whom its rows address, in their order.
    rows: Vec<RecipientNo>,
    needed: Option<u32>,
    deadline: Option<Timestamp>,
    done: BTreeSet<RecipientNo>,
    judged: bool,
}

impl Checker {
    /// A record about groups or a send to many; says whether it is one.
    pub(crate) fn fan_out_record(&mut self, at: At, record: &Record<'_>) -> bool {
        if !matches!(record, Record::Addressed(_)) {
            self.close_rows();
        }
        match record {
            Record::GroupChanged {
                tenant,
                group,
                version,
                recipient,
                member,
                agent,
                ..
            } => {
                self.centre.name(*recipient, tenant, agent);
                self.group_changed(at, (tenant, group), *version, (*recipient, *member));
            }
            Record::Labelled {
                recipient,
                labels,
                tenant,
                agent,
                ..
            } => {
                self.centre.name(*recipient, tenant, agent);
                self.fan_outs.labels.insert(*recipient, labels.clone());
            }
            Record::FannedOut {
                number,
                audience,
                version,
                count,
                needed,
                deadline,
                accepted,
                ..
            } => {
                self.remember_key(at, accepted);
                let send = self.send_of(accepted, audience, *version);
                let send = Send {
                    count: *count,
                    needed: *needed,
                    deadline: *deadline,
                    ..send
                };
                self.fan_outs.sends.insert(*number, send);
                self.fan_outs.open = Some((*number, at));
            }
            Record::Addressed(row) => self.addressed(at, row),
            Record::QuorumReached {
                number, processed, ..
            } => self.i26_a_quorum_is_what_was_done(at, *number, *processed, None),
            Record::QuorumMissed {
                number,
                processed,
                missing,
                ..
            } => self.i26_a_quorum_is_what_was_done(at, *number, *processed, Some(missing)),
            Record::FanOutAged { number, .. } => {
                if let Some(send) = self.fan_outs.sends.remove(number)
                    && send.key
                    && let Some(hash) = self.lives.keys_of.remove(&send.id)
                {
                    self.lives.keys.remove(&hash);
                }
            }
            _ => return false,
        }
        true
    }

    fn group_changed(
        &mut self,
        at: At,
        (tenant, name): (&TenantName, &GroupName),
        version: u64,
        (recipient, member): (RecipientNo, bool),
    ) {
        let doubt = self.centre.coverage.doubt("the centre");
        let key = (tenant.clone(), name.clone());
        let group = self.fan_outs.groups.entry(key).or_default();
        let before = group.version;
        group.version = version;
        match member {
            true => group.members.insert(recipient),
            false => group.members.remove(&recipient),
        };
        if let Some(why) = doubt {
            return self.tallies.open(Invariant::I26, why);
        }
        self.judge_here(Invariant::I26, at, version == before + 1, || {
            let says = format!("version {version} of group {name} follows {before}");
            (says, vec![])
        });
    }

    fn send_of(&self, accepted: &Accepted<'_>, audience: &Audience, version: u64) -> Send {
        let whole = self.centre.coverage == Coverage::Whole;
        let tenant = TenantName::parse(accepted.tenant).ok();
        let tenant = tenant.filter(|_| whole);
        let group = match (audience, &tenant) {
            (Audience::Group(name), Some(tenant)) => {
                let name = (tenant.clone(), name.clone());
                self.fan_outs.groups.get(&name)
            }
            _ => None,
        };
        Send {
            id: accepted.id,
            key: accepted.key != [0; 16],
            count: 0,
            body: accepted.body_sha256,
            version: group.map(|group| (group.version, version)),
            expected: tenant.map(|tenant| match audience {
                Audience::Group(_) => group.map(|group| group.members.clone()).unwrap_or_default(),
                Audience::Labels(wanted) => self.known_with(&tenant, wanted),
                Audience::All => self.known_with(&tenant, &Labels::new()),
            }),
            rows: Vec::new(),
            needed: None,
            deadline: None,
            done: BTreeSet::new(),
            judged: false,
        }
    }

    /// The recipients of a tenant that carry these labels.
    fn known_with(&self, tenant: &TenantName, wanted: &Labels) -> BTreeSet<RecipientNo> {
        let numbers = 0..self.centre.recipients.len() as RecipientNo;
        let fits = |number: &RecipientNo| {
            let known = &self.centre.recipients[*number as usize];
            let labels = self.fan_outs.labels.get(number);
            let carries = |(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value);
            known.name.as_ref().is_some_and(|(of, _)| of == tenant) && wanted.iter().all(carries)
        };
        numbers.filter(fits).collect()
    }

    fn addressed(&mut self, at: At, row: &Addressed<'_>) {
        self.fan_outs.of.insert(row.id, row.fan_out);
        let Some(send) = self.fan_outs.sends.get_mut(&row.fan_out) else {
            // The record of the send was left out: what its rows say is not enough.
            return;
        };
        send.rows.push(row.recipient);
        let accepted = Accepted {
            body_sha256: send.body,
            ..row_as_accepted(row)
        };
        self.accepted(at, &accepted, row.not_before);
        let key = Key {
            id: row.id,
            generation: 1,
        };
        let life = self.lives.entry(key);
        life.bytes = row.bytes;
        if row.lane & 1 == 1 {
            life.flags.set(Flags::PARKS);
        }
    }

    /// I26: whoever had to be addressed is, once each, and nobody else.
    pub(crate) fn close_rows(&mut self) {
        let Some((number, at)) = self.fan_outs.open.take() else {
            return;
        };
        let Some(send) = self.fan_outs.sends.get(&number) else {
            return;
        };
        let id = send.id;
        let got: BTreeSet<_> = send.rows.iter().copied().collect();
        let once = got.len() == send.rows.len();
        let (Some(expected), true) = (&send.expected, self.centre.coverage == Coverage::Whole)
        else {
            let why = self.centre.coverage.doubt("the centre");
            return self.tallies.open(Invariant::I26, why.unwrap_or_default());
        };
        let names = |numbers: BTreeSet<RecipientNo>| {
            let names = numbers.iter().map(|number| self.centre.name_of(*number));
            names.collect::<Vec<_>>().join(", ")
        };
        let versions = send.version.filter(|(known, said)| known != said);
        let says = if let Some(left_out) = some(expected - &got) {
            Some(format!(
                "{} had to be addressed by {id} and was not",
                names(left_out)
            ))
        } else if let Some(others) = some(&got - expected) {
            Some(format!(
                "{} was addressed by {id} and had not to be",
                names(others)
            ))
        } else if !once || send.count as usize != send.rows.len() {
            let (count, rows) = (send.count, send.rows.len());
            Some(format!(
                "{id} says {count} addressed and has {rows} rows for {}",
                got.len()
            ))
        } else {
            versions.map(|(known, said)| format!("{id} names version {said}, it is {known}"))
        };
        self.judge_here(Invariant::I26, at, says.is_none(), || {
            (says.unwrap_or_default(), vec![id])
        });
    }

    /// I26, of the quorum (N14): it is reached or missed by what was done until then, by the deadline,
    /// once, and names who had not.
    fn i26_a_quorum_is_what_was_done(
        &mut self,
        at: At,
        number: FanNo,
        processed: u32,
        missing: Option<&Vec<u8>>,
    ) {
        if let Some(why) = self.centre.coverage.doubt("the centre") {
            return self.tallies.open(Invariant::I26, why);
        }
        let Some(send) = self.fan_outs.sends.get_mut(&number) else {
            return self.judge_here(Invariant::I26, at, false, || {
                (
                    format!("a quorum of send {number}, which is not known"),
                    vec![],
                )
            });
        };
        let id = send.id;
        let twice = std::mem::replace(&mut send.judged, true);
        let done = send.done.len() as u32;
        let needed = send.needed.unwrap_or(u32::MAX);
        let is_missing = |index: usize, missing: &[u8]| {
            let byte = missing.get(index / 8).copied().unwrap_or(0);
            byte & (1 << (index % 8)) != 0
        };
        let holds = match missing {
            None => done >= needed,
            Some(missing) => {
                let names_them = send.rows.iter().enumerate().all(|(index, recipient)| {
                    is_missing(index, missing) != send.done.contains(recipient)
                });
                let due = send.deadline.is_some_and(|deadline| deadline <= at.time);
                done < needed && due && names_them
            }
        };
        let holds = holds && !twice && done == processed;
        self.judge_here(Invariant::I26, at, holds, || {
            let word = if missing.is_some() { "missed" } else { "reached" };
            let says = format!(
                "the quorum of {id} is said to be {word} with {processed} of {needed}; {done} are done"
            );
            (says, vec![id])
        });
    }

    /// A message of a send to many has ended, or begins another life.
    pub(crate) fn counts_for_quorum(&mut self, id: MessageId, end: Option<End>) {
        let recipient = self.lives.get(self.lives.current(id));
        let recipient = recipient.map(|life| life.recipient);
        let number = self.fan_outs.of.get(&id);
        let send = number.and_then(|number| self.fan_outs.sends.get_mut(number));
        if let (Some(send), Some(recipient)) = (send, recipient) {
            match end {
                Some(End::Processed) => send.done.insert(recipient),
                _ => send.done.remove(&recipient),
            };
        }
    }

    /// I26: a quorum that is reached is said to be, and a deadline that is over is not passed over.
    pub(crate) fn i26_no_quorum_is_forgotten(&mut self) {
        if self.centre.coverage != Coverage::Whole {
            return;
        }
        let now = self.centre.last_at;
        let late = self.limits.stuck_after;
        let last = self.centre.last;
        let open = self.fan_outs.sends.values().filter(|send| !send.judged);
        let forgotten = open.filter(|send| {
            let reached = send
                .needed
                .is_some_and(|needed| send.done.len() as u32 >= needed);
            let over = send
                .deadline
                .is_some_and(|deadline| now.since(deadline) > late);
            reached || over
        });
        let forgotten: Vec<_> = forgotten.map(|send| send.id).collect();
        for id in forgotten {
            self.judge(Invariant::I26, (Party::Centre, last), false, || {
                let says = format!("nothing is said of the quorum of {id}, which is decided");
                (says, vec![id])
            });
        }
    }
}

fn some(numbers: BTreeSet<RecipientNo>) -> Option<BTreeSet<RecipientNo>> {
    (!numbers.is_empty()).then_some(numbers)
}

fn row_as_accepted<'a>(row: &Addressed<'a>) -> Accepted<'a> {
    Accepted {
        at: row.at,
        id: row.id,
        partition: row.partition,
        recipient: row.recipient,
        seq: row.seq,
        generation: 1,
        key: [0; 16],
        fingerprint: [0; 16],
        body_sha256: [0; 32],
        expires_at: row.expires_at,
        tenant: row.tenant,
        to: row.to,
        kind: "",
        lane: "",
        attempts_max: None,
        correlation_id: "",
        causation_id: "",
        traceparent: "",
        tracestate: "",
        sender: "",
        content_type: "",
        data: &[],
        rule: countersign_rules::LaneRule::Block,
        body: None,
    }
}
