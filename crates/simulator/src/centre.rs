//! The centre: its engine, the hub in front of it, the send API, and the pull of acknowledgements.
//!
//! The wire is modelled at the level of its messages: in order within one direction of one
//! connection, cut at any point, and noticed by each side when that side notices.

use crate::agents::DownMessage;
use crate::event::{Event, Fact, Host};
use crate::hosts::{Given, Role, read_all};
use crate::invariants::{
    Invariant, i1_state_knows_every_receipt, i4_messages_are_conserved, i16_the_window_holds,
};
use crate::node::{Node, Ticket};
use crate::planted::Around;
use crate::senders::{Answer, KINDS};
use crate::world::{Happening, MS, SECOND, World, agent_name, agent_number, tenant};
use countersign_rules::ack::decode_record as decode_ack;
use countersign_rules::delivery::{
    Centre, Effect, Gap, Input, Push, Record, Reply, Term, decode_accepted, decode_record,
};
use countersign_rules::site::ParkedLane;
use countersign_rules::{Position, Timestamp};

/// What a client says.
#[derive(Clone, Debug)]
pub(crate) enum UpMessage {
    Connect,
    Ready {
        epoch: u64,
        floor: u64,
        cursor: u64,
        highest: u64,
        centre_epoch: u64,
        parked: Vec<ParkedLane>,
    },
    Close,
}

/// A connection as the hub sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HubSide {
    /// Not heard of, or not answered.
    Waiting,
    /// Let in.
    Open(Term),
    /// Over.
    Gone,
}

/// A connection as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientSide {
    Connecting,
    Live,
    Gone,
}

/// A connection with both its ends.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) agent: usize,
    pub(crate) agent_life: u64,
    pub(crate) client: ClientSide,
    pub(crate) hub: HubSide,
    pub(crate) token_expires_at: Timestamp,
    /// It was made the agent's current one.
    pub(crate) current: bool,
    /// The client turned a push away: none of this connection counts any more.
    pub(crate) refused: bool,
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
    pub(crate) up_last: u64,
    pub(crate) down_last: u64,
    /// The client reads late: what it has left behind may still reach it.
    pub(crate) reads_late: bool,
}

/// Where the pull of acknowledgements stands.
#[derive(Debug, Default)]
pub(crate) struct Pulling {
    /// A request is on its way until then.
    pub(crate) busy_until: u64,
}

impl Role for Centre {
    fn node(world: &mut World, _host: Host) -> &mut Node<Self> {
        &mut world.centre
    }

    fn fresh(world: &World, _host: Host) -> Self {
        let policy = world.scenario.centre_policy(world.bug);
        Centre::with_archive(policy, world.archive.found())
    }

    fn beside(world: &World, _host: Host) -> Self {
        let policy = world.scenario.centre_policy(world.bug);
        Centre::with_archive(policy, world.archive.copy().found())
    }

    fn durable(world: &mut World, _host: Host, position: Position, payload: &[u8]) {
        let record = decode_record(payload).expect("a record of our own is understood");
        world
            .checker
            .judge_records(|records| records.centre(position, &record));
        let fact = world.fact(payload);
        if let Fact::Offered { cause, .. } = &fact {
            *world.stats.causes.entry(cause.as_str()).or_default() += 1;
        }
        if let Fact::Kept { why, .. } = &fact {
            *world.stats.acks_kept.entry(why.as_str()).or_default() += 1;
        }
        world.tell(Event::Recorded { position, fact });
    }

    fn reply(world: &mut World, _host: Host, ticket: Ticket, reply: Reply) {
        match (ticket, reply) {
            (Ticket::Send { call }, Reply::Submitted(result)) => {
                let answer = match result {
                    Ok(receipt) => {
                        let (id, repeated) = (receipt.id, receipt.repeated);
                        world.tell(Event::Receipt { id });
                        Answer::Ok { id, repeated }
                    }
                    Err(refusal) => Answer::Refused(refusal.to_string()),
                };
                world.answer_send(call, answer);
            }
            (Ticket::Send { call }, Reply::FannedOut(result)) => {
                let answer = match result {
                    Ok(receipt) => {
                        let (id, repeated) = (receipt.id, receipt.repeated);
                        world.tell(Event::Receipt { id });
                        Answer::Ok { id, repeated }
                    }
                    Err(refusal) => Answer::Refused(refusal.to_string()),
                };
                world.answer_send(call, answer);
            }
            (Ticket::Operate { number }, Reply::GroupVersion(result)) => {
                world.operated(number, result.map(|_| ()));
            }
            (Ticket::Operate { number }, Reply::Operated(result)) => {
                world.operated(number, result);
            }
            (Ticket::Connect { connection }, Reply::Connected(result)) => {
                world.hub_connected(connection, result.ok());
            }
            (Ticket::Ready { connection }, Reply::Ready(welcome)) => match welcome {
                None => world.hub_closes(connection),
                Some(welcome) => {
                    let Some(open) = world.connections.get_mut(&connection) else {
                        return;
                    };
                    let HubSide::Open(term) = open.hub else {
                        return;
                    };
                    open.current = true;
                    let gap = match welcome.gap {
                        Some(Gap::Ended { count }) => Some(count),
                        _ => None,
                    };
                    let agent = open.agent;
                    world.tell(Event::Welcome { agent, term, gap });
                    let message = DownMessage::Welcome {
                        epoch: welcome.epoch,
                        oldest: welcome.oldest_replayable,
                        resumed: welcome.resumed,
                    };
                    world.send_down(connection, message);
                }
            },
            (Ticket::AcksRead, Reply::AcksRead(position)) => world.pull_after(position),
            _ => {}
        }
    }

    fn effect(world: &mut World, host: Host, effect: Effect) {
        match effect {
            Effect::Push(push) => world.hub_pushes(&push),
            Effect::Supersede { connection } => {
                if let Some(open) = world.connections.get_mut(&connection) {
                    open.hub = HubSide::Gone;
                    world.tell(Event::Superseded { connection });
                    world.send_down(connection, DownMessage::Close);
                }
            }
            Effect::Resume { connection, lanes } => {
                world.send_down(connection, DownMessage::Resumed { lanes });
            }
            Effect::BatchRecorded { batch } => {
                world.stats.batches_archived += 1;
                let input = Input::BatchRecorded { batch };
                world.give::<Centre>(host, input, Ticket::Nobody);
            }
            Effect::CopyForward { id, accepted } => {
                if let Some(accepted) = world.read::<Centre>(host, accepted) {
                    world.stats.copied_forward += 1;
                    let input = Input::Carry { id, accepted };
                    world.give::<Centre>(host, input, Ticket::Nobody);
                }
            }
            _ => {}
        }
    }

    fn stepped(world: &mut World, _host: Host) {
        let World {
            centre,
            checker,
            scenario,
            ..
        } = world;
        let Some(running) = &centre.running else {
            return;
        };
        let state = running.engine.machine().state();
        checker.judge(Invariant::I4, |_| i4_messages_are_conserved(state));
        let (messages, bytes) = (scenario.window_messages, scenario.window_bytes);
        checker.judge(Invariant::I16, |_| {
            i16_the_window_holds(state, messages, bytes)
        });
    }

    fn let_out(world: &mut World, _host: Host) {
        for agent in 0..world.agents.len() {
            let open = world.connections.iter().filter(|(_, connection)| {
                let is_open = matches!(connection.hub, HubSide::Open(_));
                connection.agent == agent && connection.current && is_open
            });
            let live: Vec<u64> = open.map(|(number, _)| *number).collect();
            if live.len() > 1 {
                world.tell(Event::HubConnections { agent, live });
            }
        }
    }

    fn came_up(world: &mut World, host: Host) {
        let World {
            centre, checker, ..
        } = world;
        if let Some(running) = &centre.running {
            let centre = running.engine.machine();
            checker.judge(Invariant::I1, |history| {
                i1_state_knows_every_receipt(history, centre)
            });
        }
        for number in 0..world.agents.len() {
            let input = Input::Register {
                tenant: tenant(),
                agent: agent_name(number),
            };
            world.give::<Centre>(host, input, Ticket::Nobody);
        }
    }

    fn stopped(world: &mut World, _host: Host) {
        world.pulling.busy_until = 0;
        let open: Vec<u64> = world.connections.keys().copied().collect();
        for number in open {
            let long = world.mishap(20);
            let noticed = world
                .random
                .below(if long { 10 * SECOND } else { 300 * MS });
            let Some(connection) = world.connections.get_mut(&number) else {
                continue;
            };
            if connection.hub != HubSide::Gone {
                connection.hub = HubSide::Gone;
                connection.down_cut = true;
                world.later(noticed, Happening::ClientNotices { connection: number });
            }
        }
    }
}

/// The hub.
impl World {
    pub(crate) fn send_up(&mut self, number: u64, message: UpMessage) {
        let delay = self.delay();
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let at = connection.up_last.max(now + delay);
        connection.up_last = at;
        self.at(
            at,
            Happening::Up {
                connection: number,
                message,
            },
        );
    }

    pub(crate) fn send_down(&mut self, number: u64, message: DownMessage) {
        let delay = self.delay();
        let now = self.now;
        // An answer and the pushes beside it are written by different tasks of a real hub.
        let overtaken = matches!(message, DownMessage::Welcome { .. }) && self.mishap(20);
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.down_cut {
            return;
        }
        let late = connection.reads_late && matches!(message, DownMessage::Push { .. });
        let at = connection
            .down_last
            .max(now + delay + if late { READS_LATE } else { 0 });
        if overtaken {
            return self.at(
                at + 2 * delay,
                Happening::Down {
                    connection: number,
                    message,
                },
            );
        }
        connection.down_last = at;
        self.at(
            at,
            Happening::Down {
                connection: number,
                message,
            },
        );
    }

    pub(crate) fn up_arrives(&mut self, number: u64, message: UpMessage) {
        let Some(connection) = self.connections.get(&number).filter(|c| !c.up_cut) else {
            return;
        };
        if !self.centre.is_up() {
            let noticed = self.delay();
            return self.later(noticed, Happening::ClientNotices { connection: number });
        }
        let (agent, token_expires_at) = (connection.agent, connection.token_expires_at);
        match (message, connection.hub) {
            (UpMessage::Connect, HubSide::Waiting) => {
                let input = Input::Connect {
                    tenant: tenant(),
                    agent: agent_name(agent),
                    connection: number,
                    token_expires_at,
                };
                let ticket = Ticket::Connect { connection: number };
                self.give::<Centre>(Host::Centre, input, ticket);
            }
            (
                UpMessage::Ready {
                    epoch,
                    floor,
                    cursor,
                    highest,
                    centre_epoch,
                    parked,
                },
                HubSide::Open(_),
            ) => {
                let input = Input::Ready {
                    connection: number,
                    agent_epoch: epoch,
                    floor,
                    cursor,
                    highest: Some(highest),
                    centre_epoch,
                    parked,
                };
                let ticket = Ticket::Ready { connection: number };
                self.give::<Centre>(Host::Centre, input, ticket);
            }
            (UpMessage::Close, _) => self.hub_ends(number),
            _ => {}
        }
    }

    fn hub_connected(&mut self, number: u64, term: Option<Term>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let Some(term) = term else {
            return self.hub_closes(number);
        };
        if connection.hub != HubSide::Waiting {
            return;
        }
        connection.hub = HubSide::Open(term);
        self.send_down(number, DownMessage::Connected);
        self.hub_looks_at_token(number);
    }

    /// Closes a connection at the end of its token, by the hub's clock.
    pub(crate) fn hub_looks_at_token(&mut self, number: u64) {
        let clock = self.clock(Host::Centre);
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if !matches!(connection.hub, HubSide::Open(_)) || self.has(Around::NoTokenGuard) {
            return;
        }
        if clock >= connection.token_expires_at {
            return self.hub_closes(number);
        }
        let wait = connection.token_expires_at.since(clock).as_micros() as u64;
        let happening = Happening::HubLooksAtToken { connection: number };
        self.later(wait.clamp(100, SECOND), happening);
    }

    fn hub_pushes(&mut self, push: &Push) {
        let at = self.clock(Host::Centre);
        let number = push.connection;
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (agent, token_expires_at) = (connection.agent, connection.token_expires_at);
        if !matches!(connection.hub, HubSide::Open(_)) {
            return;
        }
        if at >= token_expires_at && !self.has(Around::NoTokenGuard) {
            return self.hub_closes(number);
        }
        let Some(record) = self.read::<Centre>(Host::Centre, push.accepted) else {
            // What follows on this connection would overtake it.
            return self.hub_closes(number);
        };
        let Ok(accepted) = decode_accepted(&record) else {
            return self.hub_closes(number);
        };
        self.stats.pushes += 1;
        self.tell(Event::Push {
            agent,
            connection: number,
            term: push.term,
            id: push.id,
            attempt: push.attempt,
            seq: push.seq,
            at,
            token_expires_at,
        });
        let message = DownMessage::Push {
            id: push.id,
            generation: push.generation,
            seq: push.seq,
            attempt: push.attempt,
            lane: accepted.lane.to_owned(),
            rule: accepted.rule,
            kind: accepted.type_name(),
            attempts_max: accepted.attempts_max,
            body: bytes::Bytes::copy_from_slice(accepted.data),
        };
        self.send_down(number, message);
    }

    /// The hub ends a connection and tells the client.
    pub(crate) fn hub_closes(&mut self, number: u64) {
        self.send_down(number, DownMessage::Close);
        self.hub_ends(number);
    }

    /// The hub learns, or decides, that a connection is over.
    pub(crate) fn hub_ends(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.hub == HubSide::Gone {
            return;
        }
        connection.hub = HubSide::Gone;
        let input = Input::Disconnect { connection: number };
        self.give::<Centre>(Host::Centre, input, Ticket::Nobody);
    }

    /// Reads a record back; nothing when the disk does not answer.
    pub(crate) fn read<M: Role>(&mut self, host: Host, position: Position) -> Option<bytes::Bytes> {
        let node = M::node(self, host);
        let reader = &node.running.as_ref()?.reader;
        match reader.read(position) {
            Ok(payload) => Some(payload),
            Err(countersign_journal::ReadError::Io { .. }) => None,
            Err(error) => {
                let why = format!("a record that is needed cannot be read: {error}");
                self.tell(Event::NotOpened { host, why });
                None
            }
        }
    }
}

/// The pull.
impl World {
    pub(crate) fn pull_wakes(&mut self) {
        let pause = 50 * MS + self.random.below(400 * MS);
        self.later(pause, Happening::PullWakes);
        self.pull();
    }

    /// Asks for what is new, unless a request is on its way.
    pub(crate) fn pull(&mut self) {
        if self.centre.is_up() && self.now >= self.pulling.busy_until {
            self.pulling.busy_until = self.now + 3 * SECOND;
            let input = Input::LookAcksRead {
                source: self.acks.identity.epoch,
            };
            self.give::<Centre>(Host::Centre, input, Ticket::AcksRead);
        }
    }

    fn pull_after(&mut self, position: Position) {
        let life = self.centre.life;
        let delay = self.delay();
        if !self.pull_cut && !self.mishap(2) {
            self.later(
                delay,
                Happening::PullArrives {
                    after: position,
                    life,
                },
            );
        }
    }

    pub(crate) fn pull_arrives(&mut self, after: Position, life: u64) {
        self.acks.hold = self.acks.hold.max(after + 1);
        let Some(running) = &self.acks.running else {
            return;
        };
        let source = running.log.epoch();
        let last = running.reader.durable_position();
        let through = last.min(after + 200);
        let Some(records) = read_all(&running.reader, after + 1, through + 1) else {
            return;
        };
        let damaged = records.iter().filter(|(_, payload)| payload.is_none());
        let damaged: Vec<_> = damaged.map(|(position, _)| *position).collect();
        let decoded = records
            .iter()
            .map(|(_, payload)| payload.as_ref().map(|p| decode_ack(p)));
        let acks = decoded.filter_map(|record| match record {
            Some(Ok(record)) => record.into_ack(),
            _ => None,
        });
        let acks: Vec<_> = acks.collect();
        let (delay, lost) = (self.delay(), self.pull_cut || self.mishap(2));
        if !lost {
            self.later(
                delay,
                Happening::PullAnswered {
                    source,
                    through,
                    acks,
                    damaged,
                    life,
                },
            );
        }
    }
}

/// What the history wants to know of a record.
impl World {
    fn fact(&self, payload: &[u8]) -> Fact {
        let record = decode_record(payload).expect("a record of our own is understood");
        // Agents are registered in the order of their numbers.
        let number = |recipient: u32| recipient as usize;
        let for_later = matches!(
            record,
            Record::Scheduled { .. }
                | Record::AcceptedUnder {
                    not_before: Some(_),
                    ..
                }
                | Record::AcceptedByReference {
                    not_before: Some(_),
                    ..
                }
        );
        match record {
            Record::Started { .. } => Fact::Started,
            Record::Accepted(accepted)
            | Record::Scheduled { accepted, .. }
            | Record::AcceptedUnder { accepted, .. }
            | Record::AcceptedByReference { accepted, .. } => Fact::Accepted {
                id: accepted.id,
                agent: agent_number(
                    &countersign_rules::AgentName::parse(accepted.to).expect("it was a name"),
                ),
                seq: accepted.seq,
                key: accepted.key,
                expires_at: accepted.expires_at,
                for_later,
                rule: accepted.rule,
                kind: usize::from(accepted.kind != KINDS[0]),
                attempts_max: accepted.attempts_max,
            },
            Record::FannedOut {
                number, accepted, ..
            } => Fact::FannedOut {
                number,
                id: accepted.id,
                key: accepted.key,
                rule: accepted.rule,
                kind: usize::from(accepted.kind != KINDS[0]),
                attempts_max: accepted.attempts_max,
            },
            Record::Addressed(row) => Fact::Addressed {
                number: row.fan_out,
                id: row.id,
                agent: number(row.recipient),
                seq: row.seq,
                expires_at: row.expires_at,
                not_before: row.not_before,
            },
            Record::Due { at, id, seq, .. } => Fact::Due { id, seq, at },
            Record::Reprocessed {
                id,
                generation,
                seq,
                ..
            } => Fact::Reprocessed {
                id,
                generation,
                seq,
            },
            Record::Paused {
                recipient, paused, ..
            } => Fact::Paused {
                agent: number(recipient),
                paused,
            },
            Record::Offered {
                id,
                term,
                attempt,
                cause,
                ..
            } => Fact::Offered {
                id,
                term,
                attempt,
                cause,
            },
            Record::Connected {
                recipient,
                term,
                connection,
                ..
            } => Fact::Connected {
                agent: number(recipient),
                term,
                connection,
            },
            Record::Ready {
                recipient,
                term,
                agent_epoch,
                cursor,
                ..
            } => Fact::Ready {
                agent: number(recipient),
                term,
                epoch: agent_epoch,
                cursor,
            },
            Record::Disconnected {
                recipient, term, ..
            } => Fact::Disconnected {
                agent: number(recipient),
                term,
            },
            Record::Overdue { id, .. } => Fact::Overdue { id },
            Record::Stored { id, .. } => Fact::Stored { id },
            Record::Settled { id, end, at, .. } => Fact::Settled { id, end, at },
            Record::Kept { id, why, stage, .. } => Fact::Kept { id, why, stage },
            Record::AcksRead { through, .. } => Fact::AcksRead { through },
            Record::SiteSetBack { recipient, .. } => Fact::SiteSetBack {
                agent: number(recipient),
            },
            Record::LaneParked { id, .. } => Fact::LaneParked { id },
            Record::LaneResumed { id, .. } => Fact::LaneResumed { id },
            Record::AcksDamaged { .. } | Record::Damaged { .. } => Fact::ReceiptsDoubted,
            _ => Fact::Other,
        }
    }

    /// Answers a send; the answer may get lost.
    pub(crate) fn answer_send(&mut self, call: u64, answer: Answer) {
        let delay = self.delay();
        if !self.mishap(4) {
            self.later(delay, Happening::SendAnswered { call, answer });
        }
    }
}

/// What becomes of an input that could not be taken.
pub(crate) fn not_taken(given: Given) -> Option<Answer> {
    match given {
        Given::Taken => None,
        Given::NoSpace => Some(Answer::Refused(String::from("no space"))),
        Given::Down => Some(Answer::Down),
    }
}

/// How much later than it could a slow client reads.
const READS_LATE: u64 = 1500 * MS;
