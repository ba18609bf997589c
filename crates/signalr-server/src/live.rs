//! The live connections of a hub, by id, by user and by group.
//!
//! Promise: a connection is in no group before it is live and in none after, and what it was in
//! leaves nothing behind. All of it changes under one lock, so that no join meets a half-gone
//! connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::ConnectionHandle;

/// Connections by their id.
type Members = HashMap<Arc<str>, ConnectionHandle>;

#[derive(Debug, Default)]
pub(crate) struct Live {
    all: Members,
    /// Nobody in particular is not in here.
    users: HashMap<Arc<str>, Members>,
    /// None is empty.
    groups: HashMap<Arc<str>, Members>,
    /// The groups of each connection that is in any.
    memberships: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Live {
    pub(crate) fn enter(&mut self, connection: ConnectionHandle) {
        let id = connection.shared_id();
        if let Some(user) = connection.identity().shared_user_id() {
            let devices = self.users.entry(Arc::clone(user)).or_default();
            devices.insert(Arc::clone(id), connection.clone());
        }
        self.all.insert(Arc::clone(id), connection);
    }

    pub(crate) fn leave(&mut self, connection: &ConnectionHandle) {
        let id = connection.id();
        self.all.remove(id);
        if let Some(user) = connection.identity().user_id() {
            strike(&mut self.users, user, id);
        }
        for group in self.memberships.remove(id).unwrap_or_default() {
            strike(&mut self.groups, &group, id);
        }
    }

    /// Says whether the connection is a member now; one that is not live becomes none.
    pub(crate) fn join(&mut self, id: &str, group: &str) -> bool {
        let Some((id, connection)) = self.all.get_key_value(id) else {
            return false;
        };
        let group = match self.groups.get_key_value(group) {
            Some((group, _)) => Arc::clone(group),
            None => Arc::from(group),
        };
        let members = self.groups.entry(Arc::clone(&group)).or_default();
        if let Entry::Vacant(place) = members.entry(Arc::clone(id)) {
            place.insert(connection.clone());
            self.memberships
                .entry(Arc::clone(id))
                .or_default()
                .push(group);
        }
        true
    }

    /// Says whether the connection was a member.
    pub(crate) fn leave_group(&mut self, id: &str, group: &str) -> bool {
        let was_member = strike(&mut self.groups, group, id);
        if was_member && let Some(groups) = self.memberships.get_mut(id) {
            groups.retain(|name| &**name != group);
            if groups.is_empty() {
                self.memberships.remove(id);
            }
        }
        was_member
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&ConnectionHandle> {
        self.all.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ConnectionHandle> {
        self.all.values()
    }

    pub(crate) fn of_user(&self, user: &str) -> impl Iterator<Item = &ConnectionHandle> {
        self.users.get(user).into_iter().flat_map(Members::values)
    }

    pub(crate) fn of_group(&self, group: &str) -> impl Iterator<Item = &ConnectionHandle> {
        self.groups.get(group).into_iter().flat_map(Members::values)
    }

    pub(crate) fn groups_of(&self, id: &str) -> &[Arc<str>] {
        self.memberships.get(id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn group_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }
}

/// Takes a member out, and what is empty then. Says whether it was there.
fn strike(all: &mut HashMap<Arc<str>, Members>, name: &str, id: &str) -> bool {
    let Some(members) = all.get_mut(name) else {
        return false;
    };
    let was_member = members.remove(id).is_some();
    if members.is_empty() {
        all.remove(name);
    }
    was_member
}
