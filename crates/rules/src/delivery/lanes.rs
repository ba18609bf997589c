//! Parked lanes: what is held in them, who lets them go on, and how their sites hear of it.
//!
//! A lane is parked by the same fact at both ends: a message with the rule
//! [`LaneRule::Park`](crate::lane::LaneRule::Park) ended dead or rejected. The site holds what it has
//! of that lane, the centre what was never pushed; so the window, and the inbox, stay open for other
//! lanes. What is held here has no number: it gets one when the lane goes on, behind what waits by
//! then, in the order it had.
//!
//! Promise: a lane that was parked goes on only by an operator's word, or after the message that had
//! parked it was done once more with success. That message goes first: it alone is pushed while the
//! lane is parked.
//!
//! The site is told over its connection, and at each `ready` again until it no longer names the lane.

use super::messages::{Handle, Message, Messages, Standing};
use super::record::{RecipientNo, Record, Seq};
use super::state::State;
use super::{Centre, Effect, LaneView, Refusal};
use crate::lane::LaneHash;
use crate::limits::PER_DEADLINE_MAX;
use crate::machine::Out;
use crate::message::{AgentName, LaneName, MessageId, TenantName};
use crate::planted::Planted;
use crate::site::{ParkedLane, Resumed};
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A lane of one recipient that is parked, or was and has not caught up, or whose site has not heard
/// that it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// The message whose end parked it last.
    by: MessageId,
    /// All whose ends are known to have parked it, and which lives of them. More than one only where
    /// words were forged or came late; its site goes by one of them.
    reasons: BTreeMap<MessageId, u32>,
    is_parked: bool,
    /// The site has not said since that it goes on.
    is_untold: bool,
    /// What is held, in order.
    held: BTreeMap<u64, Handle>,
    /// Unfinished messages of the lane, held or at the site.
    behind: u64,
}

impl Lane {
    fn parked(by: MessageId, generation: u32) -> Self {
        Self {
            by,
            reasons: BTreeMap::from([(by, generation)]),
            is_parked: true,
            is_untold: false,
            held: BTreeMap::new(),
            behind: 0,
        }
    }

    /// Whether this is known to have parked it.
    fn is_reason(&self, by: MessageId, generation: u32) -> bool {
        let known = self.reasons.get(&by);
        known.is_some_and(|known| *known >= generation)
    }

    fn add_reason(&mut self, by: MessageId, generation: u32) {
        self.by = by;
        let known = self.reasons.entry(by).or_insert(generation);
        *known = generation.max(*known);
        if self.reasons.len() > REASONS_MAX
            && let Some(other) = self.reasons.keys().copied().find(|other| *other != by)
        {
            self.reasons.remove(&other);
        }
    }

    /// What its site is told when it goes on.
    fn resumed(&self) -> impl Iterator<Item = Resumed> {
        let reasons = self.reasons.iter();
        reasons.map(|(id, generation)| Resumed {
            id: *id,
            generation: *generation,
        })
    }

    /// Whether what is new in it has to wait behind what is held.
    fn holds(&self) -> bool {
        self.is_parked || !self.held.is_empty()
    }

    fn is_over(&self) -> bool {
        !self.holds() && !self.is_untold
    }

    /// Puts a message behind the others; tells its place.
    fn append(&mut self, handle: Handle) -> u64 {
        let last = self.held.last_key_value();
        let place = last.map_or(PLACE_FIRST, |(last, _)| last + 1);
        self.held.insert(place, handle);
        place
    }

    /// Puts a message before the others; tells its place.
    fn prepend(&mut self, handle: Handle) -> u64 {
        let first = self.held.first_key_value();
        let place = first.map_or(PLACE_FIRST, |(first, _)| first - 1);
        self.held.insert(place, handle);
        place
    }

    /// Whether each message that is held here says so.
    pub(super) fn accounted(&self, messages: &Messages) -> bool {
        self.held.iter().all(|(place, handle)| {
            let message = &messages[*handle];
            message.standing == Standing::InParkedLane && message.seq == *place
        })
    }

    pub(super) fn held(&self) -> u64 {
        self.held.len() as u64
    }
}

/// What records change.
impl State {
    /// The end of this message parks its lane: what of it was never pushed is held.
    pub(super) fn park(&mut self, by: Handle) {
        let message = &self.messages[by];
        let (id, generation) = (message.id, u32::from(message.generation));
        let (recipient, lane) = (message.recipient, message.lane.lane());
        self.park_lane(recipient, lane, (id, generation));
    }

    pub(super) fn park_lane(
        &mut self,
        recipient: RecipientNo,
        lane: LaneHash,
        (by, generation): (MessageId, u32),
    ) {
        let Some(queue) = self.recipients.get_mut(recipient as usize) else {
            return;
        };
        if let Some(known) = queue.lanes.get_mut(&lane) {
            // Said before: somebody may have let it go on since.
            if known.is_reason(by, generation) {
                return;
            }
            if known.is_parked {
                return known.add_reason(by, generation);
            }
        }
        self.releasing.remove(&(recipient, lane));
        let of_lane = queue.queue.each(&self.messages);
        let of_lane = of_lane.filter(|handle| self.messages[*handle].lane.lane() == lane);
        let of_lane: Vec<_> = of_lane.collect();
        let known = queue.lanes.entry(lane).or_insert_with(|| Lane {
            behind: of_lane.len() as u64,
            ..Lane::parked(by, generation)
        });
        known.add_reason(by, generation);
        (known.is_parked, known.is_untold) = (true, false);
        // From the last on, each before what is held already: what was let go is earlier in order.
        for handle in of_lane.into_iter().rev() {
            let message = &self.messages[handle];
            // What parked the lane goes first when it is done once more.
            if message.standing == Standing::Fresh && message.id != by {
                self.leave_queue(handle);
                self.hold(handle, Lane::prepend);
            }
        }
    }

    fn count_behind(&mut self, recipient: RecipientNo, lane: LaneHash, more: i64) {
        let lanes = &mut self.recipients[recipient as usize].lanes;
        if let Some(lane) = lanes.get_mut(&lane) {
            lane.behind = lane.behind.saturating_add_signed(more);
        }
    }

    /// Puts a message that stands nowhere behind what is held in its lane.
    pub(super) fn hold_in_lane(&mut self, handle: Handle) {
        self.hold(handle, Lane::append);
    }

    fn hold(&mut self, handle: Handle, put: fn(&mut Lane, Handle) -> u64) {
        let message = self.messages.change(handle);
        let (hash, id) = (message.lane.lane(), message.id);
        let queue = &mut self.recipients[message.recipient as usize];
        queue.in_lanes += 1;
        // Only when the record that parked it is damaged: then it parks itself, to be seen.
        let lane = queue.lanes.entry(hash);
        let lane = lane.or_insert_with(|| Lane::parked(id, 0));
        lane.behind += 1;
        message.standing = Standing::InParkedLane;
        message.seq = put(lane, handle);
    }

    /// Takes a message out of its recipient's queue.
    pub(super) fn leave_queue(&mut self, handle: Handle) {
        self.leave(handle);
        let queue = &mut self.recipients[self.messages[handle].recipient as usize];
        queue.queue.take(handle, &mut self.messages);
        queue.waiting -= 1;
        self.lane_shrinks(handle);
    }

    /// Takes a message out of what is held in its lane.
    pub(super) fn leave_lane(&mut self, handle: Handle) {
        let message = &self.messages[handle];
        let (recipient, lane) = (message.recipient, message.lane.lane());
        let queue = &mut self.recipients[recipient as usize];
        queue.in_lanes -= 1;
        if let Some(held) = queue.lanes.get_mut(&lane) {
            held.held.remove(&message.seq);
            held.behind = held.behind.saturating_sub(1);
        }
        self.forget_lane(recipient, lane);
    }

    /// A message that was not held in its lane has left the queue.
    pub(super) fn lane_shrinks(&mut self, handle: Handle) {
        let message = &self.messages[handle];
        self.count_behind(message.recipient, message.lane.lane(), -1);
    }

    /// A message of a lane stands in the queue now.
    pub(super) fn lane_grows(&mut self, handle: Handle) {
        let message = &self.messages[handle];
        self.count_behind(message.recipient, message.lane.lane(), 1);
    }

    pub(super) fn resume_lane(&mut self, recipient: RecipientNo, lane: LaneHash, told: bool) {
        let Some(queue) = self.recipients.get_mut(recipient as usize) else {
            return;
        };
        let Some(known) = queue.lanes.get_mut(&lane) else {
            return;
        };
        (known.is_parked, known.is_untold) = (false, !told);
        if known.holds() {
            self.releasing.insert((recipient, lane));
        }
        self.forget_lane(recipient, lane);
    }

    /// The site has heard that a lane goes on.
    pub(super) fn lane_heard(
        &mut self,
        recipient: RecipientNo,
        (by, generation): (MessageId, u32),
    ) {
        let Some(queue) = self.recipients.get_mut(recipient as usize) else {
            return;
        };
        let mut lanes = queue.lanes.iter_mut();
        let heard = lanes.find(|(_, lane)| lane.is_untold && lane.is_reason(by, generation));
        if let Some((&hash, lane)) = heard {
            lane.is_untold = false;
            self.forget_lane(recipient, hash);
        }
    }

    fn forget_lane(&mut self, recipient: RecipientNo, lane: LaneHash) {
        let queue = &mut self.recipients[recipient as usize];
        let Some(known) = queue.lanes.get(&lane) else {
            return;
        };
        if known.held.is_empty() {
            self.releasing.remove(&(recipient, lane));
        }
        if known.is_over() {
            queue.lanes.remove(&lane);
        }
    }

    /// A message that has parked this lane was done once more with success: its site knows. The lane
    /// goes on, unless it is parked for another reason as well.
    pub(super) fn done_once_more(&mut self, handle: Handle) {
        let message = &self.messages[handle];
        let (recipient, lane) = (message.recipient, message.lane.lane());
        let lanes = &mut self.recipients[recipient as usize].lanes;
        let Some(parked) = lanes.get_mut(&lane).filter(|lane| lane.is_parked) else {
            return;
        };
        if parked.reasons.remove(&message.id).is_none() {
            return;
        }
        match parked.reasons.keys().next() {
            Some(other) => parked.by = *other,
            None => self.resume_lane(recipient, lane, true),
        }
    }

    /// Lanes that go on and have not caught up, told from the rest.
    pub(super) fn lanes_releasing(&self) -> BTreeSet<(RecipientNo, LaneHash)> {
        let queues = self.recipients.iter().enumerate();
        let lanes = queues.flat_map(|(number, queue)| {
            let lanes = queue.lanes.iter();
            let going_on = lanes.filter(|(_, lane)| !lane.is_parked && lane.holds());
            going_on.map(move |(hash, _)| (number as RecipientNo, *hash))
        });
        lanes.collect()
    }
}

/// Questions.
impl State {
    /// Whether a new message of this lane has to wait in it.
    pub(super) fn is_lane_held(&self, recipient: RecipientNo, lane: LaneHash) -> bool {
        let lanes = &self.queue(recipient).lanes;
        lanes.get(&lane).is_some_and(Lane::holds)
    }

    /// The message that has parked this message's lane.
    pub(super) fn parked_by(&self, message: &Message) -> Option<MessageId> {
        let lanes = &self.queue(message.recipient).lanes;
        let lane = lanes.get(&message.lane.lane())?;
        lane.is_parked.then_some(lane.by)
    }

    /// Whether this message may be pushed although its lane is parked: it is what parked it.
    fn goes_first(&self, message: &Message) -> bool {
        let lanes = &self.queue(message.recipient).lanes;
        let lane = lanes.get(&message.lane.lane());
        lane.is_some_and(|lane| lane.is_parked && lane.reasons.contains_key(&message.id))
    }

    /// The parked lanes of a recipient.
    pub(super) fn lanes_of(&self, recipient: RecipientNo) -> impl Iterator<Item = LaneView> {
        let lanes = self.queue(recipient).lanes.values();
        let parked = lanes.filter(|lane| lane.is_parked);
        parked.map(|lane| LaneView {
            by: lane.by,
            generation: lane.reasons.get(&lane.by).copied().unwrap_or(1),
            // Whoever asks looks into the archive as well.
            last: self.last_record(lane.by),
            behind: lane.behind,
            held: lane.held(),
        })
    }

    /// Parked lanes of all recipients, for checkers.
    pub fn parked_lanes(&self) -> impl Iterator<Item = (&AgentName, MessageId)> {
        self.recipients.iter().flat_map(|queue| {
            let parked = queue.lanes.values().filter(|lane| lane.is_parked);
            parked.map(|lane| (&queue.name, lane.by))
        })
    }

    fn first_released(&self) -> Option<&Message> {
        let &(recipient, lane) = self.releasing.first()?;
        let held = self
            .queue(recipient)
            .lanes
            .get(&lane)?
            .held
            .first_key_value();
        held.map(|(_, handle)| &self.messages[*handle])
    }

    /// What the site has to be told.
    pub(super) fn untold(&self, recipient: RecipientNo) -> Vec<Resumed> {
        let lanes = self.queue(recipient).lanes.values();
        let untold = lanes.filter(|lane| lane.is_untold);
        untold.flat_map(Lane::resumed).collect()
    }
}

impl Centre {
    /// The number for a message that begins, or comes due: zero when it has to wait in its lane.
    pub(super) fn number_for(&self, message: &Message) -> Seq {
        let (recipient, lane) = (message.recipient, message.lane.lane());
        self.number_in_lane(recipient, lane, self.state.goes_first(message))
    }

    pub(super) fn number_in_lane(
        &self,
        recipient: RecipientNo,
        lane: LaneHash,
        goes_first: bool,
    ) -> Seq {
        let is_held = self.state.is_lane_held(recipient, lane);
        match is_held && !goes_first && !self.policy.planted.is(Planted::PushParked) {
            true => 0,
            false => self.state.queue(recipient).seq_last + 1,
        }
    }

    /// Lets a parked lane go on. What parked it stays as it ended.
    pub(super) fn resume_parked(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        lane: &LaneName,
        (reason, by): (&str, &str),
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let recipient = self.state.number_of(tenant, agent);
        let recipient = recipient.ok_or_else(|| Refusal::UnknownRecipient {
            agent: agent.clone(),
        })?;
        let queue = self.state.queue(recipient);
        let parked = queue.lanes.get(&LaneHash::of(lane));
        let Some(parked) = parked.filter(|lane| lane.is_parked) else {
            return Err(Refusal::NotParked { lane: lane.clone() });
        };
        let (id, resumed) = (parked.by, parked.resumed().collect());
        let generation = parked.reasons.get(&id).copied().unwrap_or(1);
        let live = queue.live;
        let record = Record::LaneResumed {
            at: now,
            recipient,
            lane: lane.clone(),
            id,
            generation,
            reason,
            by,
        };
        self.write(&record, out);
        if let Some(live) = live {
            out.effect(Effect::Resume {
                connection: live.connection,
                lanes: resumed,
            });
        }
        self.release_lanes(now, out);
        Ok(())
    }

    /// Gives numbers to what was held in lanes that go on.
    pub(super) fn release_lanes(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let mut recipients = BTreeSet::new();
        for _ in 0..PER_DEADLINE_MAX {
            let Some(held) = self.state.first_released() else {
                break;
            };
            let (held, recipient) = (*held, held.recipient);
            recipients.insert(recipient);
            let seq = self.state.queue(recipient).seq_last + 1;
            self.come_due(&held, seq, now, out);
            out.effect(Effect::Changed { id: held.id });
        }
        for recipient in recipients {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Compares the lanes that a site names as parked with what is known here.
    pub(super) fn compare_lanes(
        &mut self,
        recipient: RecipientNo,
        parked: &[ParkedLane],
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        // A list that is full may leave out what was resumed.
        if parked.len() < crate::limits::PARKED_LANES_TOLD_MAX {
            let lanes = self.state.queue(recipient).lanes.values();
            let untold = lanes.filter(|lane| lane.is_untold);
            let is_named = |lane: &Lane| {
                let mut named = parked.iter();
                named.any(|named| lane.is_reason(named.by, named.generation))
            };
            let heard: Vec<_> = untold
                .filter(|lane| !is_named(lane))
                .filter_map(|lane| Some((lane.by, *lane.reasons.get(&lane.by)?)))
                .collect();
            for (id, generation) in heard {
                let record = Record::LaneHeard {
                    at: now,
                    recipient,
                    id,
                    generation,
                };
                self.write(&record, out);
            }
        }
        for lane in parked {
            if self.is_news(recipient, lane) {
                let record = Record::LaneParked {
                    at: now,
                    recipient,
                    lane: lane.lane.clone(),
                    id: lane.by,
                    generation: lane.generation,
                };
                self.write(&record, out);
            }
        }
    }

    /// Whether nothing known here leads to, or from, what the site says.
    fn is_news(&self, recipient: RecipientNo, parked: &ParkedLane) -> bool {
        let lanes = &self.state.queue(recipient).lanes;
        let hash = LaneHash::of(&parked.lane);
        let is_known = lanes
            .get(&hash)
            .is_some_and(|lane| lane.is_reason(parked.by, parked.generation));
        let message = self.state.message(parked.by);
        // Its end is on its way here, or another life of it is under way.
        let is_under_way = message.is_some_and(|message| message.end().is_none());
        !is_known && !is_under_way
    }
}

/// Reasons that are kept of one parked lane.
const REASONS_MAX: usize = 16;

/// In the middle, so that there is room on both sides.
const PLACE_FIRST: u64 = 1 << 32;
