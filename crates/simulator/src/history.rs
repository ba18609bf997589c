//! What happened, in one order, and the facts that follow from it.
//!
//! A fact enters here only when it is known to its own party: a record when its flush succeeded, an
//! answer when it left. [`crate::invariants`] judges each event against the facts before it.

use crate::event::{Event, Fact, Host, Wish};
use crate::lanes::{Lanes, Life};
use crate::scenario::ATTEMPTS_MAX;
use countersign_rules::ack::{Ack, AckItem, Stage};
use countersign_rules::delivery::{End, FanNo, Seq, Term, Why};
use countersign_rules::{LaneRule, MessageId, Position, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one request of a sender.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asks for.
    pub wish: Wish,
    /// Number of the event that began it.
    pub invoked: usize,
    /// Number of the event that confirmed it.
    pub ok: Option<usize>,
    /// The id confirmed.
    pub id: Option<MessageId>,
}

/// What is known of one accepted message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The request it came from.
    pub request: usize,
    /// Its recipient.
    pub agent: usize,
    /// Which life of it.
    pub generation: u32,
    /// Whether it was sent for later.
    pub for_later: bool,
    /// Number of the event that recorded it.
    pub accepted: usize,
    /// What its failure means for its lane.
    pub rule: LaneRule,
    /// Attempts that it may have.
    pub attempts_max: u32,
    /// Its number; zero while it is not due.
    pub seq: Seq,
    /// Its life.
    pub expires_at: Option<Timestamp>,
    /// Pushes recorded.
    pub offers: u32,
    /// Number of the event that recorded the last one.
    pub last_offer: usize,
    /// Pushes put on the wire.
    pub pushed: BTreeSet<u32>,
    /// Number of the event that recorded an overdue receipt.
    pub overdue: usize,
    /// On the agent's disk, as far as the centre knows.
    pub received: bool,
    /// How it ended.
    pub end: Option<End>,
    /// In some inbox, durably.
    pub committed: bool,
    /// Worked on.
    pub started: bool,
}

/// What is known of a send to many.
#[derive(Clone, Copy, Debug)]
pub struct FanOut {
    /// Its id.
    pub id: MessageId,
    /// What a failure means for a lane.
    pub rule: LaneRule,
    /// Attempts that each message may have.
    pub attempts_max: u32,
}

/// What is known of one agent.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    /// Its current term.
    pub term: Term,
    /// The connection of that term.
    pub connection: u64,
    /// Connections that are not ready, by term.
    pub joining: BTreeMap<Term, u64>,
    /// Said ready in this term.
    pub ready: bool,
    /// An operator holds everything back from it.
    pub paused: bool,
    /// Last epoch it told.
    pub epoch: u64,
    /// Number of the event that ended its last connection.
    pub ended: usize,
    /// Number of the event in which the loss of its store was told.
    pub store_lost: usize,
    /// Numbers offered in this term.
    pub offered: BTreeSet<Seq>,
    /// Unfinished messages that are not on its disk.
    pub waiting: BTreeMap<Seq, MessageId>,
    /// Unfinished messages that are.
    pub received: BTreeMap<Seq, MessageId>,
    /// Messages that ended before they reached it.
    pub gaps: BTreeSet<Seq>,
    /// Confirmed sends not yet in its inbox, by lane.
    pub uncommitted: BTreeMap<u8, BTreeSet<MessageId>>,
    /// Confirmed sends not yet worked on, by lane.
    pub unstarted: BTreeMap<u8, BTreeSet<MessageId>>,
}

/// Everything known at one moment.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every event with its instant in microseconds.
    pub events: Vec<(u64, Event)>,
    /// Requests by number.
    pub requests: Vec<Request>,
    /// Ids the send API made up, and for which request.
    pub submitted: BTreeMap<MessageId, usize>,
    /// When those are due that were sent for later, and have not come due.
    pub not_before: BTreeMap<MessageId, Timestamp>,
    /// Messages of which an operator was told that they are taken back.
    pub cancelled: BTreeSet<MessageId>,
    /// Accepted messages.
    pub messages: BTreeMap<MessageId, Message>,
    /// Sends to many.
    pub fan_outs: BTreeMap<FanNo, FanOut>,
    /// Which message a key stands for.
    pub keys: BTreeMap<[u8; 16], MessageId>,
    /// Agents by number.
    pub agents: Vec<Agent>,
    /// Number of the event of the centre's last start.
    pub centre_started: usize,
    /// Number of the last event after which receipts were asked for again.
    pub receipts_doubted: usize,
    /// Records of the ack store.
    pub acks: BTreeMap<Position, (usize, Ack)>,
    /// The same, by their words.
    pub said: BTreeSet<Said>,
    /// How far the centre read them.
    pub acks_read: Position,
    /// Receipts kept because their store was lost.
    pub stale_receipts: BTreeSet<MessageId>,
    /// Messages in inboxes.
    pub committed: BTreeSet<(usize, MessageId, u32)>,
    /// Effects in the back office.
    pub effects: BTreeMap<(MessageId, u32), u32>,
    /// Attempts of which the agent never heard that they had an effect, or heard of a failure.
    pub unclear: BTreeSet<(MessageId, u32)>,
    /// Messages of which an attempt was declared as a possible repeat.
    pub declared: BTreeSet<(MessageId, u32)>,
    /// Agents that lost their store at some time.
    pub lost_stores: BTreeSet<usize>,
    /// What an agent had missed when it said ready in a term.
    pub missed: BTreeMap<(usize, Term), u64>,
    /// Connections that had to give way.
    pub superseded: BTreeSet<u64>,
    /// Lanes that were parked at some time.
    pub ever_parked: BTreeSet<(usize, u8)>,
    /// Lives that ended dead or rejected at the centre, and with which event.
    pub(crate) failed_lives: BTreeMap<Life, usize>,
    /// Lives whose parked lanes the centre has let go on.
    pub(crate) let_go: BTreeSet<Life>,
    /// Lanes that the centre has let go on at some time.
    pub resumed_lanes: BTreeSet<(usize, u8)>,
    /// The lanes as the sites know them.
    pub(crate) lanes: Lanes,
    /// A host's flush failed and it has not started since.
    pub failed: BTreeSet<Host>,
}

/// The words of an acknowledgement.
pub type Said = (usize, MessageId, Stage, u32, u32, Timestamp);

/// The words of `item`, said by `agent`.
pub fn said(agent: usize, item: &AckItem) -> Said {
    (
        agent,
        item.message,
        item.stage,
        item.attempt,
        item.generation,
        item.occurred_at,
    )
}

impl Message {
    fn new(request: usize, agent: usize, seq: Seq, rule: LaneRule) -> Self {
        Self {
            request,
            agent,
            generation: 1,
            for_later: false,
            accepted: 0,
            rule,
            attempts_max: 0,
            seq,
            expires_at: None,
            offers: 0,
            last_offer: 0,
            pushed: BTreeSet::new(),
            overdue: 0,
            received: false,
            end: None,
            committed: false,
            started: false,
        }
    }
}

impl History {
    /// An empty history of so many agents.
    pub fn new(agents: usize) -> Self {
        Self {
            agents: vec![Agent::default(); agents],
            ..Self::default()
        }
    }

    /// Takes in an event.
    pub fn apply(&mut self, at: u64, event: Event) {
        let number = self.events.len() + 1;
        self.look_at_lanes(&event);
        match &event {
            Event::SendInvoke { wish, .. } => self.requests.push(Request {
                wish: wish.clone(),
                invoked: number,
                ok: None,
                id: None,
            }),
            Event::Submit {
                request,
                id,
                not_before,
            } => {
                self.submitted.insert(*id, *request);
                if let Some(not_before) = not_before {
                    self.not_before.insert(*id, *not_before);
                }
            }
            Event::Cancelled { id } => {
                self.cancelled.insert(*id);
            }
            Event::SendOk { request, id, .. } => self.confirm(*request, *id, number),
            Event::Recorded { fact, .. } => self.record(fact, number),
            Event::Push { id, attempt, .. } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.pushed.insert(*attempt);
                }
            }
            Event::InboxCommit {
                agent,
                id,
                generation,
            } => {
                self.committed.insert((*agent, *id, *generation));
                self.leave(
                    *id,
                    |message| message.committed = true,
                    |agent| &mut agent.uncommitted,
                );
            }
            // One that died of crashes alone was perhaps never handed over.
            Event::EndedAtSite { id, .. } => self.leave(*id, |_| (), |agent| &mut agent.unstarted),
            Event::HandlerStart {
                id,
                generation,
                possibly_repeated,
                ..
            } => {
                if *possibly_repeated {
                    self.declared.insert((*id, *generation));
                }
                self.leave(
                    *id,
                    |message| message.started = true,
                    |agent| &mut agent.unstarted,
                );
            }
            Event::Effect { id, generation, .. } => {
                *self.effects.entry((*id, *generation)).or_default() += 1;
            }
            Event::HandlerEnd {
                id,
                generation,
                result: "failed",
                ..
            } => {
                self.unclear.insert((*id, *generation));
            }
            Event::AckRecorded {
                position,
                agent,
                ack,
            } => {
                self.said.insert(said(*agent, &ack.item));
                self.acks.insert(*position, (*agent, ack.clone()));
            }
            Event::Start { host, .. } => {
                self.failed.remove(host);
            }
            Event::FlushFailed { host } => {
                self.failed.insert(*host);
            }
            Event::Superseded { connection } => {
                self.superseded.insert(*connection);
            }
            Event::StoreLost { agent } => {
                self.lost_stores.insert(*agent);
            }
            _ => {}
        }
        self.events.push((at, event));
    }

    /// Whether a durable record tells of this message, or of this send to many.
    pub(crate) fn knows(&self, id: MessageId) -> bool {
        let mut fan_outs = self.fan_outs.values();
        self.messages.contains_key(&id) || fan_outs.any(|fan_out| fan_out.id == id)
    }

    fn accept(&mut self, id: MessageId, message: Message) {
        if message.seq > 0 {
            let waiting = &mut self.agents[message.agent].waiting;
            waiting.insert(message.seq, id);
        }
        let accepted = self.events.len() + 1;
        self.messages.insert(
            id,
            Message {
                accepted,
                ..message
            },
        );
    }

    fn confirm(&mut self, request: usize, id: MessageId, number: usize) {
        let known = &mut self.requests[request];
        known.id = Some(id);
        if known.ok.is_some() {
            return;
        }
        known.ok = Some(number);
        let lane = known.wish.lane;
        // What was sent for later, or is done once more, was in nobody's way when it was confirmed.
        let is_under_way = |m: &Message| m.end.is_none() && !m.for_later && m.generation == 1;
        let of_many = known.wish.many.is_some();
        let messages = self.messages.iter();
        let confirmed = messages.filter(|(of, message)| match of_many {
            true => message.request == request && is_under_way(message),
            false => **of == id && is_under_way(message),
        });
        for (id, message) in confirmed {
            let agent = &mut self.agents[message.agent];
            if !message.committed {
                agent.uncommitted.entry(lane).or_default().insert(*id);
            }
            if !message.started {
                agent.unstarted.entry(lane).or_default().insert(*id);
            }
        }
    }

    fn leave(
        &mut self,
        id: MessageId,
        mark: impl FnOnce(&mut Message),
        lanes: impl FnOnce(&mut Agent) -> &mut BTreeMap<u8, BTreeSet<MessageId>>,
    ) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        mark(message);
        let lane = self.requests[message.request].wish.lane;
        let lanes = lanes(&mut self.agents[message.agent]);
        lanes.entry(lane).or_default().remove(&id);
    }

    fn record(&mut self, fact: &Fact, number: usize) {
        match *fact {
            Fact::Started => {
                self.centre_started = number;
                for agent in &mut self.agents {
                    agent.ended = number;
                    agent.ready = false;
                    agent.offered.clear();
                    agent.joining.clear();
                }
            }
            Fact::Accepted {
                id,
                agent,
                seq,
                key,
                expires_at,
                for_later,
                rule,
                kind,
                attempts_max,
            } => {
                let request = self.submitted.get(&id).copied().unwrap_or_default();
                let message = Message {
                    for_later,
                    expires_at,
                    attempts_max: attempts_max.unwrap_or(ATTEMPTS_MAX[kind]),
                    ..Message::new(request, agent, seq, rule)
                };
                self.accept(id, message);
                if key != [0; 16] {
                    self.keys.insert(key, id);
                }
            }
            Fact::FannedOut {
                number,
                id,
                key,
                rule,
                kind,
                attempts_max,
            } => {
                let fan_out = FanOut {
                    id,
                    rule,
                    attempts_max: attempts_max.unwrap_or(ATTEMPTS_MAX[kind]),
                };
                self.fan_outs.insert(number, fan_out);
                if key != [0; 16] {
                    self.keys.insert(key, id);
                }
            }
            Fact::Addressed {
                number,
                id,
                agent,
                seq,
                expires_at,
                not_before,
            } => {
                let fan_out = self.fan_outs[&number];
                let request = self.submitted[&fan_out.id];
                self.submitted.insert(id, request);
                if let Some(not_before) = not_before {
                    self.not_before.insert(id, not_before);
                }
                let message = Message {
                    for_later: not_before.is_some(),
                    expires_at,
                    attempts_max: fan_out.attempts_max,
                    ..Message::new(request, agent, seq, fan_out.rule)
                };
                self.accept(id, message);
            }
            Fact::Due { id, seq, .. } => {
                self.not_before.remove(&id);
                self.leave_queue(id);
                self.enqueue(id, seq);
            }
            Fact::Reprocessed {
                id,
                generation,
                seq,
            } => {
                self.cancelled.remove(&id);
                // It is wanted now, whatever its sender wanted.
                self.not_before.remove(&id);
                if let Some(message) = self.messages.get_mut(&id) {
                    message.generation = generation;
                    message.expires_at = None;
                    message.offers = 0;
                    message.last_offer = 0;
                    message.pushed.clear();
                    message.overdue = 0;
                    message.received = false;
                    message.end = None;
                    message.committed = false;
                    message.started = false;
                }
                self.enqueue(id, seq);
            }
            Fact::Paused { agent, paused } => self.agents[agent].paused = paused,
            Fact::Offered { id, .. } => {
                if let Some(message) = self.messages.get_mut(&id) {
                    message.offers += 1;
                    message.last_offer = number;
                    self.agents[message.agent].offered.insert(message.seq);
                }
            }
            Fact::Connected {
                agent,
                term,
                connection,
            } => {
                self.agents[agent].joining.insert(term, connection);
            }
            Fact::Ready {
                agent,
                term,
                epoch,
                cursor,
            } => {
                self.make_current(agent, term, number);
                self.ready(agent, epoch, cursor, number);
                let missed = self.agents[agent].gaps.len() as u64;
                self.missed.insert((agent, term), missed);
            }
            Fact::Disconnected { agent, term } => {
                let agent = &mut self.agents[agent];
                agent.joining.remove(&term);
                if agent.term == term {
                    agent.ended = number;
                    agent.ready = false;
                }
            }
            Fact::Overdue { id } => {
                if let Some(message) = self.messages.get_mut(&id) {
                    message.overdue = number;
                }
            }
            Fact::Stored { id } => {
                if let Some(message) = self.messages.get_mut(&id) {
                    message.received = true;
                    let agent = &mut self.agents[message.agent];
                    agent.waiting.remove(&message.seq);
                    agent.received.insert(message.seq, id);
                }
            }
            Fact::Settled { id, end, .. } => {
                self.settle(id, end);
                self.failed_at_centre(id, end, number);
            }
            Fact::LaneParked { id } => self.ever_parked.extend(self.lane_of(id)),
            Fact::LaneResumed { id } => {
                if let Some(place) = self.lane_of(id) {
                    self.resumed_lanes.insert(place);
                    self.let_go.extend(self.lanes.parked.get(&place));
                }
            }
            // It came too late to end its message, and parks its lane all the same.
            Fact::Kept {
                id,
                why: Why::Late | Why::Conflict | Why::OtherGeneration,
                stage: Stage::Rejected | Stage::Dead,
            } => self.ever_parked.extend(self.lane_of(id)),
            Fact::Kept {
                id,
                why: Why::StoreLost,
                ..
            } => {
                self.stale_receipts.insert(id);
            }
            Fact::AcksRead { through } => self.acks_read = through,
            Fact::SiteSetBack { agent } => {
                self.agents[agent].store_lost = number;
                self.none_received(agent);
            }
            Fact::ReceiptsDoubted => {
                self.receipts_doubted = number;
                (0..self.agents.len()).for_each(|agent| self.none_received(agent));
            }
            Fact::Kept { .. } | Fact::Other => {}
        }
    }

    /// The lane of a message, among those of all agents.
    pub(crate) fn lane_of(&self, id: MessageId) -> Option<(usize, u8)> {
        let message = self.messages.get(&id)?;
        Some((message.agent, self.requests[message.request].wish.lane))
    }

    fn failed_at_centre(&mut self, id: MessageId, end: End, number: usize) {
        let Some(message) = self.messages.get(&id) else {
            return;
        };
        if message.rule == LaneRule::Park && matches!(end, End::Rejected | End::Dead) {
            self.failed_lives
                .entry((id, message.generation))
                .or_insert(number);
            self.ever_parked.extend(self.lane_of(id));
        }
    }

    fn leave_queue(&mut self, id: MessageId) {
        if let Some(message) = self.messages.get(&id) {
            self.agents[message.agent].waiting.remove(&message.seq);
        }
    }

    fn enqueue(&mut self, id: MessageId, seq: Seq) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.seq = seq;
            if seq == 0 {
                return;
            }
            self.agents[message.agent].waiting.insert(seq, id);
        }
    }

    /// The newest connection that is ready is the current one.
    fn make_current(&mut self, agent: usize, term: Term, number: usize) {
        let agent = &mut self.agents[agent];
        let Some(connection) = agent.joining.remove(&term) else {
            return;
        };
        (agent.term, agent.connection) = (term, connection);
        agent.ended = number;
        agent.offered.clear();
    }

    fn ready(&mut self, agent: usize, epoch: u64, cursor: Seq, number: usize) {
        let known = &mut self.agents[agent];
        known.ready = true;
        known.gaps = known.gaps.split_off(&(cursor + 1));
        let before = std::mem::replace(&mut known.epoch, epoch);
        if before != 0 && before != epoch {
            known.store_lost = number;
            self.none_received(agent);
        }
    }

    /// What the agent was known to have is to be pushed again.
    fn none_received(&mut self, agent: usize) {
        let agent = &mut self.agents[agent];
        for (seq, id) in std::mem::take(&mut agent.received) {
            agent.waiting.insert(seq, id);
            if let Some(message) = self.messages.get_mut(&id) {
                message.received = false;
            }
        }
    }

    fn settle(&mut self, id: MessageId, end: End) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        let arrived = message.received || !matches!(end, End::Expired | End::Cancelled);
        message.end = Some(end);
        let lane = self.requests[message.request].wish.lane;
        let agent = &mut self.agents[message.agent];
        agent.waiting.remove(&message.seq);
        agent.received.remove(&message.seq);
        if !arrived && message.seq > 0 {
            agent.gaps.insert(message.seq);
        }
        for lanes in [&mut agent.uncommitted, &mut agent.unstarted] {
            lanes.entry(lane).or_default().remove(&id);
        }
    }
}
