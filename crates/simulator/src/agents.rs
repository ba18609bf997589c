//! The sites: their engine, the client that keeps a connection, the workers, the poster.

use crate::centre::{ClientSide, Connection, HubSide, UpMessage};
use crate::event::{Event, Host};
use crate::hosts::{Given, Role};
use crate::node::{Node, Ticket};
use crate::office::{Call, Said};
use crate::planted::Around;
use crate::world::{Happening, MS, Post, SECOND, World};
use countersign_journal::{Options, ReadError};
use countersign_rules::ack::{AckItem, Outcome, Stage};
use countersign_rules::message::LaneName;
use countersign_rules::site::{
    AckOwed, Arrival, Effect, Input, OwedStage, Record, Reply, Resumed, Site, Work, Worked,
    decode_record,
};
use countersign_rules::{LaneRule, MessageId, Position, Timestamp, TypeName};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the hub says.
#[derive(Clone, Debug)]
pub(crate) enum DownMessage {
    Connected,
    Welcome {
        epoch: u64,
        oldest: u64,
        resumed: Vec<Resumed>,
    },
    Resumed {
        lanes: Vec<Resumed>,
    },
    Push {
        id: MessageId,
        generation: u32,
        seq: u64,
        attempt: u32,
        lane: String,
        rule: LaneRule,
        kind: Option<TypeName>,
        attempts_max: Option<u32>,
        body: bytes::Bytes,
    },
    Close,
}

/// What a record of work says: when, what, how long it took, when it is tried again.
type Told = (Timestamp, Outcome, u32, Option<Timestamp>);

/// A site.
pub(crate) struct AgentHost {
    pub(crate) node: Node<Site>,
    /// The connection it counts on.
    pub(crate) current: Option<u64>,
    /// The post it waits for; zero while it asks its engine what is owed.
    posting: Option<u64>,
    /// Attempts it waits for.
    calls: BTreeSet<Call>,
}

impl AgentHost {
    pub(crate) fn new(seed: u64, epoch: u64, options: Options) -> Self {
        Self {
            node: Node::new(seed, epoch, options),
            current: None,
            posting: None,
            calls: BTreeSet::new(),
        }
    }
}

impl Role for Site {
    fn node(world: &mut World, host: Host) -> &mut Node<Self> {
        &mut world.agents[number(host)].node
    }

    fn fresh(world: &World, _host: Host) -> Self {
        Site::new(world.scenario.site_policy(world.bug))
    }

    fn durable(world: &mut World, host: Host, position: Position, payload: &[u8]) {
        let record = decode_record(payload).expect("a record of our own is understood");
        let agent = number(host);
        world
            .checker
            .judge_records(|records| records.site_record(agent, position, &record, None));
        match record {
            Record::TakenIn { id, generation, .. } => {
                world.tell(Event::InboxCommit {
                    agent,
                    id,
                    generation,
                });
            }
            Record::WorkStarted {
                id,
                generation,
                attempt,
                ..
            } => world.tell(Event::WorkBegun {
                agent,
                id,
                generation,
                attempt,
            }),
            Record::Worked {
                id,
                generation,
                attempt,
                worked,
                ..
            } => world.tell(match worked.stage() {
                Some(stage) => Event::EndedAtSite {
                    agent,
                    id,
                    generation,
                    attempt,
                    stage,
                },
                None => Event::ToBeTriedAgain {
                    agent,
                    id,
                    generation,
                    still_working: matches!(worked, Worked::StillWorking { .. }),
                },
            }),
            Record::Passed { over, .. } => world.tell(Event::Passed { agent, over }),
            Record::LaneResumed { id, generation, .. } => world.tell(Event::LaneGoesOn {
                agent,
                id,
                generation,
            }),
            _ => {}
        }
    }

    fn reply(world: &mut World, host: Host, ticket: Ticket, reply: Reply) {
        let agent = number(host);
        match (ticket, reply) {
            (Ticket::Standing { connection }, Reply::Standing(standing)) => {
                let message = UpMessage::Ready {
                    epoch: standing.epoch,
                    floor: standing.floor,
                    cursor: standing.cursor,
                    highest: standing.highest,
                    centre_epoch: standing.centre_epoch,
                    parked: standing.parked,
                };
                if world.agents[agent].current == Some(connection) {
                    world.send_up(connection, message);
                }
            }
            (Ticket::Owed, Reply::Owed(owed)) => world.post(agent, &owed),
            (Ticket::Posted, _) => {
                world.agents[agent].posting = None;
                world.wake_poster(agent, 0);
            }
            _ => {}
        }
    }

    fn effect(world: &mut World, host: Host, effect: Effect) {
        let agent = number(host);
        match effect {
            Effect::Work(work) => {
                let Work {
                    id,
                    generation,
                    attempt,
                    possibly_repeated,
                    ..
                } = work;
                world.tell(Event::HandlerStart {
                    agent,
                    id,
                    generation,
                    attempt,
                    possibly_repeated,
                });
                world.stats.possibly_repeated += u64::from(possibly_repeated);
                let life = world.agents[agent].node.life;
                world.work_reads(agent, life, work);
            }
            Effect::Owing => world.wake_poster(agent, 0),
            Effect::CopyForward {
                id,
                generation,
                inboxed,
            } => {
                if let Some(inboxed) = world.read::<Site>(host, inboxed) {
                    world.stats.copied_forward += 1;
                    let input = Input::Carry {
                        id,
                        generation,
                        inboxed,
                    };
                    world.give::<Site>(host, input, Ticket::Nobody);
                }
            }
            _ => {}
        }
    }

    fn came_up(world: &mut World, host: Host) {
        let agent = number(host);
        let life = world.agents[agent].node.life;
        let delay = world.random.below(200 * MS);
        world.later(delay, Happening::ClientConnects { agent, life });
    }

    fn stopped(world: &mut World, host: Host) {
        let number = number(host);
        let agent = &mut world.agents[number];
        agent.current = None;
        agent.posting = None;
        agent.calls.clear();
        let its = |(_, connection): &(&u64, &Connection)| connection.agent == number;
        let open: Vec<u64> = world
            .connections
            .iter()
            .filter(its)
            .map(|(n, _)| *n)
            .collect();
        for connection in open {
            let long = world.mishap(20);
            let noticed = world
                .random
                .below(if long { 20 * SECOND } else { 300 * MS });
            if let Some(connection) = world.connections.get_mut(&connection) {
                connection.client = ClientSide::Gone;
                connection.up_cut = true;
            }
            world.later(noticed, Happening::HubNotices { connection });
        }
    }
}

fn number(host: Host) -> usize {
    match host {
        Host::Agent(number) => number,
        other => unreachable!("{other:?} is no agent"),
    }
}

/// The client.
impl World {
    pub(crate) fn client_connects(&mut self, agent: usize, life: u64) {
        let host = &self.agents[agent];
        if host.node.life != life || !host.node.is_up() {
            return;
        }
        let connection = self.number();
        let token_life = Duration::from_millis(self.scenario.token_life_ms);
        let token_expires_at = self.true_clock() + token_life;
        let reads_late = self.scenario.strays && self.mishap(20);
        self.connections.insert(
            connection,
            Connection {
                agent,
                agent_life: life,
                client: ClientSide::Connecting,
                hub: HubSide::Waiting,
                token_expires_at,
                current: false,
                refused: false,
                up_cut: false,
                down_cut: false,
                up_last: self.now,
                down_last: self.now,
                reads_late,
            },
        );
        self.agents[agent].current = Some(connection);
        self.send_up(connection, UpMessage::Connect);
        self.later(5 * SECOND, Happening::ClientLosesPatience { connection });
        if self.scenario.renews {
            let renew = self.scenario.token_life_ms * MS * 7 / 10;
            self.later(renew, Happening::ClientRenews { connection });
        }
    }

    pub(crate) fn client_renews(&mut self, connection: u64) {
        let Some(open) = self.connections.get(&connection) else {
            return;
        };
        let (agent, life) = (open.agent, open.agent_life);
        let current = self.agents[agent].current == Some(connection);
        if current && open.client == ClientSide::Live {
            self.client_connects(agent, life);
        }
    }

    /// The client gives a connection up and takes another.
    pub(crate) fn client_closes(&mut self, connection: u64) {
        self.send_up(connection, UpMessage::Close);
        self.client_ends(connection);
    }

    /// The client learns that a connection is over.
    pub(crate) fn client_ends(&mut self, connection: u64) {
        let Some(open) = self.connections.get_mut(&connection) else {
            return;
        };
        if open.client == ClientSide::Gone {
            return;
        }
        open.client = ClientSide::Gone;
        let (agent, life) = (open.agent, open.agent_life);
        if self.agents[agent].current == Some(connection) {
            self.agents[agent].current = None;
            let pause = 20 * MS + self.random.below(SECOND);
            self.later(pause, Happening::ClientConnects { agent, life });
        }
    }

    pub(crate) fn client_loses_patience(&mut self, connection: u64) {
        let waiting = self.connections.get(&connection);
        if waiting.is_some_and(|open| open.client == ClientSide::Connecting) {
            self.client_closes(connection);
        }
    }

    pub(crate) fn down_arrives(&mut self, number: u64, message: DownMessage) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let agent = connection.agent;
        let stale = connection.agent_life != self.agents[agent].node.life;
        let left = connection.client == ClientSide::Gone;
        if stale || connection.refused || connection.down_cut && left {
            return;
        }
        let host = Host::Agent(agent);
        match message {
            DownMessage::Close => self.client_ends(number),
            DownMessage::Connected if !left => {
                let ticket = Ticket::Standing { connection: number };
                self.give::<Site>(host, Input::LookStanding, ticket);
            }
            DownMessage::Resumed { lanes } if !left => {
                self.give::<Site>(host, Input::Resumed(lanes), Ticket::Nobody);
            }
            DownMessage::Welcome {
                epoch,
                oldest,
                resumed,
            } if !left => {
                connection.client = ClientSide::Live;
                let input = Input::Welcomed {
                    centre_epoch: epoch,
                    oldest_replayable: oldest,
                };
                self.give::<Site>(host, input, Ticket::Nobody);
                if !resumed.is_empty() {
                    self.give::<Site>(host, Input::Resumed(resumed), Ticket::Nobody);
                }
            }
            DownMessage::Push {
                id,
                generation,
                seq,
                attempt,
                lane,
                rule,
                kind,
                attempts_max,
                body,
            } => {
                if left && !self.scenario.strays {
                    return;
                }
                self.stats.strays += u64::from(left);
                self.tell(Event::Arrived {
                    agent,
                    id,
                    generation,
                    body: body.clone(),
                });
                let arrival = Arrival {
                    id,
                    generation,
                    seq,
                    attempt,
                    lane: LaneName::parse(&lane).expect("the name was good"),
                    rule,
                    kind,
                    attempts_max,
                    envelope: body,
                };
                let given = self.give::<Site>(host, Input::Arrived(vec![arrival]), Ticket::Nobody);
                if given == Given::NoSpace {
                    // What follows must not overtake it.
                    if let Some(connection) = self.connections.get_mut(&number) {
                        connection.refused = true;
                    }
                    self.client_closes(number);
                }
            }
            _ => {}
        }
    }
}

/// The workers.
impl World {
    pub(crate) fn work_reads(&mut self, agent: usize, life: u64, work: Work) {
        if self.agents[agent].node.life != life {
            return;
        }
        if self
            .read::<Site>(Host::Agent(agent), work.inboxed)
            .is_none()
        {
            return self.later(100 * MS, Happening::WorkReads { agent, life, work });
        }
        let Work {
            id,
            generation,
            attempt,
            ..
        } = work;
        let call = Call {
            agent,
            life,
            id,
            generation,
            attempt,
        };
        self.agents[agent].calls.insert(call);
        self.call_office(call);
    }

    pub(crate) fn call_ends(&mut self, call: &Call, said: Said) {
        if !self.agents[call.agent].calls.remove(call) {
            return;
        }
        let Call {
            agent,
            id,
            generation,
            attempt,
            ..
        } = *call;
        self.tell(Event::HandlerEnd {
            agent,
            id,
            generation,
            attempt,
            result: said.word(),
        });
        let result = said.result();
        let input = Input::Worked {
            id,
            generation,
            attempt,
            result,
            duration_ms: 1,
        };
        self.give::<Site>(Host::Agent(agent), input, Ticket::Nobody);
    }
}

/// The poster.
impl World {
    pub(crate) fn wake_poster(&mut self, agent: usize, delay: u64) {
        let life = self.agents[agent].node.life;
        self.later(delay, Happening::PosterWakes { agent, life });
    }

    pub(crate) fn poster_wakes(&mut self, agent: usize, life: u64) {
        let host = &mut self.agents[agent];
        if host.node.life != life || host.posting.is_some() {
            return;
        }
        host.posting = Some(0);
        let input = Input::TakeOwed { at_most: 20 };
        self.give::<Site>(Host::Agent(agent), input, Ticket::Owed);
    }

    fn post(&mut self, agent: usize, owed: &[AckOwed]) {
        let mut items = Vec::new();
        for one in owed {
            match self.ack_item(agent, one) {
                Some(item) => items.push(item),
                None => break,
            }
        }
        if items.is_empty() {
            self.agents[agent].posting = None;
            if !owed.is_empty() {
                self.wake_poster(agent, 200 * MS);
            }
            return;
        }
        for item in &items {
            self.tell(Event::AckInvoke {
                agent,
                item: item.clone(),
                forged: false,
            });
        }
        let numbers = owed
            .iter()
            .take(items.len())
            .map(|one| one.number)
            .collect();
        let call = self.number();
        self.agents[agent].posting = Some(call);
        let life = Some(self.agents[agent].node.life);
        self.posts.insert(
            call,
            Post {
                agent,
                life,
                numbers,
                items,
            },
        );
        self.send_post(call);
        self.later(2 * SECOND, Happening::PostAnswered { call, taken: false });
    }

    /// Puts a post on its way: it may get lost, and it may come twice.
    pub(crate) fn send_post(&mut self, call: u64) {
        let delay = self.delay();
        self.stats.posts += 1;
        if !self.acks_cut && !self.mishap(4) {
            self.later(delay, Happening::PostArrives { call, copy: 0 });
        }
        if self.mishap(4) {
            self.stats.fault("post twice");
            let delay = self.random.below(20 * SECOND);
            self.later(delay, Happening::PostArrives { call, copy: 1 });
        }
    }

    /// What an owed acknowledgement says; nothing when the disk does not answer.
    fn ack_item(&mut self, agent: usize, owed: &AckOwed) -> Option<AckItem> {
        let (stage, (occurred_at, outcome, duration_ms, next_at)) = match owed.stage {
            OwedStage::Stored(at) => (Stage::Stored, (at, Outcome::default(), 0, None)),
            OwedStage::Ended(stage, worked) | OwedStage::Again { stage, worked, .. } => {
                (stage, self.worked(agent, worked)?)
            }
            other => unreachable!("{other:?} is a new kind of debt"),
        };
        Some(AckItem {
            message: owed.id,
            stage,
            attempt: owed.attempt,
            generation: owed.generation,
            occurred_at,
            outcome,
            duration_ms,
            traceparent: String::new(),
            next_at,
        })
    }

    fn worked(&mut self, agent: usize, position: Position) -> Option<Told> {
        let reader = &self.agents[agent].node.running.as_ref()?.reader;
        match reader.read(position) {
            Ok(payload) => match decode_record(&payload) {
                Ok(Record::Worked {
                    at,
                    worked,
                    duration_ms,
                    ..
                }) => Some((at, worked.outcome().clone(), duration_ms, worked.next_at())),
                other => panic!("an end is a record of work, not {other:?}"),
            },
            // It was told once and its words are gone: that it ended is still true.
            Err(ReadError::Trimmed(_)) => Some((Timestamp(0), Outcome::default(), 0, None)),
            Err(ReadError::Io { .. }) => None,
            Err(error) => {
                let why = format!("a record that is needed cannot be read: {error}");
                self.tell(Event::NotOpened {
                    host: Host::Agent(agent),
                    why,
                });
                None
            }
        }
    }

    pub(crate) fn post_answered(&mut self, call: u64, taken: bool) {
        let Some(post) = self.posts.get(&call) else {
            return;
        };
        let (agent, numbers) = (post.agent, post.numbers.clone());
        let host = &self.agents[agent];
        if post.life != Some(host.node.life) || host.posting != Some(call) {
            return;
        }
        if taken || self.has(Around::PostOnce) {
            self.agents[agent].posting = Some(0);
            let input = Input::Posted { numbers };
            self.give::<Site>(Host::Agent(agent), input, Ticket::Posted);
        } else {
            self.agents[agent].posting = None;
            let pause = 50 * MS + self.random.below(SECOND);
            self.wake_poster(agent, pause);
        }
    }
}
