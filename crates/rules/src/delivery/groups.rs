//! Groups of recipients, and the labels that recipients carry: who is addressed by a name that
//! stands for many.
//!
//! Every change is a record with its author, and raises the version of its group; so who was a member
//! when something was sent can be told from the records for as long as they are kept (I26).
//!
//! Left out on purpose: what is sent to a group. A send freezes the members it finds; see `fanout`.

use super::record::{RecipientNo, Record};
use super::state::State;
use super::{Centre, Refusal};
use crate::limits;
use crate::machine::Out;
use crate::message::{AgentName, GroupName, LabelName, LabelValue, TenantName};
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Labels of one recipient, or those that a send asks for.
pub type Labels = BTreeMap<LabelName, LabelValue>;

/// Changes of labels: a value to set, or nothing to take the label away.
pub type LabelChanges = BTreeMap<LabelName, Option<LabelValue>>;

/// Who is addressed by a send to many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// The members of a group.
    Group(GroupName),
    /// Whoever carries all of these labels.
    Labels(Labels),
    /// Every recipient of the tenant.
    All,
}

/// Groups and labels: part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    groups: BTreeMap<(TenantName, GroupName), Group>,
    labels: BTreeMap<RecipientNo, Labels>,
    /// Raised by each new recipient and each change of labels: the version of what a send to labels or
    /// to everyone finds.
    directory: u64,
    memberships: usize,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    version: u64,
    members: BTreeSet<RecipientNo>,
}

/// What the state knows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its version: how often its membership has changed.
    pub version: u64,
    /// Its members, by name.
    pub members: Vec<AgentName>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// Its version.
    pub version: u64,
    /// How many members it has.
    pub members: u64,
}

impl Groups {
    pub(super) fn recipient_known(&mut self) {
        self.directory += 1;
    }

    pub(super) fn change(
        &mut self,
        (tenant, group): (&TenantName, &GroupName),
        version: u64,
        recipient: RecipientNo,
        member: bool,
    ) {
        let name = (tenant.clone(), group.clone());
        let group = self.groups.entry(name).or_default();
        group.version = version;
        match member {
            true => self.memberships += usize::from(group.members.insert(recipient)),
            false => self.memberships -= usize::from(group.members.remove(&recipient)),
        }
    }

    pub(super) fn label(&mut self, recipient: RecipientNo, labels: &Labels) {
        self.directory += 1;
        match labels.is_empty() {
            true => self.labels.remove(&recipient),
            false => self.labels.insert(recipient, labels.clone()),
        };
    }

    pub(super) fn labels_of(&self, recipient: RecipientNo) -> Labels {
        self.labels.get(&recipient).cloned().unwrap_or_default()
    }
}

impl State {
    fn group(&self, tenant: &TenantName, group: &GroupName) -> Option<&Group> {
        let name = (tenant.clone(), group.clone());
        self.groups.groups.get(&name)
    }

    /// What is known of a group.
    pub(super) fn group_view(&self, tenant: &TenantName, group: &GroupName) -> Option<GroupView> {
        let group = self.group(tenant, group)?;
        let names = group.members.iter().map(|no| self.queue(*no).name.clone());
        let mut members: Vec<_> = names.collect();
        members.sort_unstable();
        Some(GroupView {
            version: group.version,
            members,
        })
    }

    /// The groups of a tenant behind `after`, by name.
    pub(super) fn groups_of(
        &self,
        tenant: &TenantName,
        after: Option<&GroupName>,
        at_most: usize,
    ) -> Vec<GroupSummary> {
        let groups = self.groups.groups.iter();
        let theirs = groups.filter(|((of, name), _)| of == tenant && Some(name) > after);
        let summary = |((_, name), group): (&(TenantName, GroupName), &Group)| GroupSummary {
            name: name.clone(),
            version: group.version,
            members: group.members.len() as u64,
        };
        theirs.take(at_most).map(summary).collect()
    }

    /// Who is addressed, by number, and the version of the list that says so. One more than are
    /// allowed is enough to tell that there are too many.
    pub(super) fn addressed(
        &self,
        tenant: &TenantName,
        audience: &Audience,
    ) -> Result<(u64, Vec<RecipientNo>), Refusal> {
        let theirs = |no: &RecipientNo| self.queue(*no).named && self.queue(*no).tenant == *tenant;
        let (version, found): (_, Vec<_>) = match audience {
            Audience::Group(name) => {
                let group = self.group(tenant, name);
                let group = group.ok_or_else(|| Refusal::UnknownGroup {
                    group: name.clone(),
                })?;
                (group.version, group.members.iter().copied().collect())
            }
            Audience::Labels(wanted) => {
                let carries = |labels: &Labels| {
                    wanted
                        .iter()
                        .all(|(name, value)| labels.get(name) == Some(value))
                };
                let labelled = self.groups.labels.iter();
                let matching = labelled.filter(|(_, labels)| carries(labels));
                let matching = matching.map(|(no, _)| *no).filter(theirs);
                (self.groups.directory, up_to_limit(matching))
            }
            Audience::All => {
                let all = (0..self.recipient_count() as RecipientNo).filter(theirs);
                (self.groups.directory, up_to_limit(all))
            }
        };
        let count = found.len();
        match count {
            0 => Err(Refusal::NobodyAddressed),
            _ if count > limits::RECIPIENTS_PER_SEND_MAX => Err(Refusal::TooManyAddressed),
            _ => Ok((version, found)),
        }
    }
}

fn up_to_limit(numbers: impl Iterator<Item = RecipientNo>) -> Vec<RecipientNo> {
    numbers.take(limits::RECIPIENTS_PER_SEND_MAX + 1).collect()
}

impl Centre {
    /// Makes a recipient a member of a group, or no longer one. Tells the version of the group, which
    /// stays what it was when nothing changes.
    pub(super) fn change_member(
        &mut self,
        (tenant, group): (&TenantName, &GroupName),
        agent: &AgentName,
        member: bool,
        by: &str,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<u64, Refusal> {
        let known = self.state.group(tenant, group);
        let version = known.map_or(0, |group| group.version);
        if known.is_none() && !member {
            let group = group.clone();
            return Err(Refusal::UnknownGroup { group });
        }
        let number = self.state.number_of(tenant, agent);
        let is_member = known
            .zip(number)
            .is_some_and(|(group, number)| group.members.contains(&number));
        if is_member == member {
            return Ok(version);
        }
        if member {
            self.room_for_member(
                known.is_none(),
                known.map_or(0, |group| group.members.len()),
            )?;
        }
        let recipient = self.target(tenant, agent, now, out)?;
        let record = Record::GroupChanged {
            partition: self.state.queue(recipient).partition,
            agent: agent.clone(),
            at: now,
            tenant: tenant.clone(),
            group: group.clone(),
            version: version + 1,
            recipient,
            member,
            by,
        };
        self.write(&record, out);
        Ok(version + 1)
    }

    fn room_for_member(&self, is_new: bool, members: usize) -> Result<(), Refusal> {
        let groups = &self.state.groups;
        if is_new && groups.groups.len() >= limits::GROUPS_MAX {
            return Err(Refusal::TooManyGroups);
        }
        if groups.memberships >= limits::MEMBERSHIPS_MAX {
            return Err(Refusal::TooManyGroups);
        }
        match members >= limits::RECIPIENTS_PER_SEND_MAX {
            true => Err(Refusal::TooManyAddressed),
            false => Ok(()),
        }
    }

    /// Changes the labels of a recipient.
    pub(super) fn label(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        changes: &LabelChanges,
        by: &str,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let recipient = self.state.number_of(tenant, agent);
        let recipient = recipient.ok_or_else(|| Refusal::UnknownRecipient {
            agent: agent.clone(),
        })?;
        let before = self.state.groups.labels_of(recipient);
        let mut labels = before.clone();
        for (name, value) in changes {
            match value {
                Some(value) => labels.insert(name.clone(), value.clone()),
                None => labels.remove(name),
            };
        }
        let count = labels.len();
        if count > limits::LABELS_PER_RECIPIENT_MAX {
            return Err(Refusal::TooManyLabels { labels: count });
        }
        if labels != before {
            let record = Record::Labelled {
                tenant: tenant.clone(),
                partition: self.state.queue(recipient).partition,
                agent: agent.clone(),
                at: now,
                recipient,
                labels,
                by,
            };
            self.write(&record, out);
        }
        Ok(())
    }
}
