//! The whole product in one thread: hosts, wires and people, and one queue of what happens next.

use crate::agents::{self, AgentHost};
use crate::archive::SimArchive;
use crate::centre::{Pulling, UpMessage};
use crate::checker::Checker;
use crate::event::{Event, Host};
use crate::hosts::Role;
use crate::node::{Node, Stage, Ticket};
use crate::office::{Call, Office, Said};
use crate::operators::Operator;
use crate::planted::{Around, PlantedBug};
use crate::scenario::{Scenario, is};
use crate::senders::{Answer, SendCall, Sender, Wishes};
use crate::stats::Stats;
use countersign_journal::sim::Random;
use countersign_rules::ack::{Ack, AckItem, AckStore};
use countersign_rules::delivery::{Centre, Input};
use countersign_rules::message::{AgentName, GroupName, LaneName, TenantName};
use countersign_rules::{MessageId, Position, Timestamp};
use std::collections::BTreeMap;

/// A millisecond in microseconds.
pub(crate) const MS: u64 = 1_000;
/// A second in microseconds.
pub(crate) const SECOND: u64 = 1_000_000;
/// Where virtual time begins.
const BEGIN: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Start {
        host: Host,
        life: u64,
    },
    Disk {
        host: Host,
        life: u64,
        stage: Stage,
    },
    Tick {
        host: Host,
        at: u64,
    },
    SenderActs {
        sender: usize,
    },
    SendArrives {
        call: u64,
    },
    SendAnswered {
        call: u64,
        answer: Answer,
    },
    SendTimesOut {
        call: u64,
    },
    Up {
        connection: u64,
        message: UpMessage,
    },
    Down {
        connection: u64,
        message: agents::DownMessage,
    },
    HubNotices {
        connection: u64,
    },
    HubLooksAtToken {
        connection: u64,
    },
    ClientNotices {
        connection: u64,
    },
    ClientLosesPatience {
        connection: u64,
    },
    ClientConnects {
        agent: usize,
        life: u64,
    },
    ClientRenews {
        connection: u64,
    },
    CallArrives {
        call: Call,
    },
    CallAnswered {
        call: Call,
        said: Said,
    },
    CallTimesOut {
        call: Call,
    },
    WorkReads {
        agent: usize,
        life: u64,
        work: countersign_rules::site::Work,
    },
    PosterWakes {
        agent: usize,
        life: u64,
    },
    PostArrives {
        call: u64,
        copy: u32,
    },
    PostAnswered {
        call: u64,
        taken: bool,
    },
    OperatorActs,
    PullWakes,
    PullArrives {
        after: Position,
        life: u64,
    },
    PullAnswered {
        source: u64,
        through: Position,
        acks: Vec<Ack>,
        damaged: Vec<Position>,
        life: u64,
    },
    FaultStrikes,
    FaultEnds {
        fault: crate::faults::Lasting,
    },
    CrashAgain {
        host: Host,
        times: u64,
    },
    Heal,
}

/// An acknowledgement request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) agent: usize,
    /// Life of the agent that waits for the answer; nobody waits for forged ones.
    pub(crate) life: Option<u64>,
    pub(crate) numbers: Vec<u64>,
    pub(crate) items: Vec<AckItem>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: u64,
    serial: u64,
    numbers: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) random: Random,
    pub(crate) scenario: Scenario,
    pub(crate) bug: Option<&'static PlantedBug>,
    pub(crate) checker: Checker,
    pub(crate) stats: Stats,
    pub(crate) centre: Node<Centre>,
    pub(crate) archive: SimArchive,
    pub(crate) connections: BTreeMap<u64, crate::centre::Connection>,
    pub(crate) pulling: Pulling,
    pub(crate) acks: Node<AckStore>,
    pub(crate) agents: Vec<AgentHost>,
    pub(crate) office: Office,
    pub(crate) operator: Operator,
    pub(crate) wishes: Wishes,
    pub(crate) senders: Vec<Sender>,
    pub(crate) sends: BTreeMap<u64, SendCall>,
    pub(crate) posts: BTreeMap<u64, Post>,
    pub(crate) acks_cut: bool,
    pub(crate) pull_cut: bool,
    pub(crate) healed: bool,
    verbose: bool,
}

impl World {
    pub(crate) fn new(scenario: Scenario, bug: Option<&'static PlantedBug>, verbose: bool) -> Self {
        let mut random = Random::new(scenario.seed ^ 0x636f_756e_7465_7273);
        let options = scenario.journal_options(bug);
        let mut node_seed = || random.next_u64();
        let centre = Node::new(node_seed(), 1, options.clone());
        let acks = Node::new(node_seed(), 1, options.clone());
        let agents = (0..scenario.agents)
            .map(|_| AgentHost::new(node_seed(), 1, options.clone()))
            .collect::<Vec<_>>();
        let archive = SimArchive::new(scenario.seed ^ 0x6172_6368_6976_6500);
        let only = bug.map(|bug| bug.breaks);
        let senders = vec![Sender::default(); scenario.senders];
        let mut world = Self {
            now: 0,
            serial: 0,
            numbers: 0,
            queue: BTreeMap::new(),
            checker: Checker::new(scenario.agents, only),
            stats: Stats::default(),
            connections: BTreeMap::new(),
            pulling: Pulling::default(),
            office: Office::default(),
            operator: Operator::default(),
            wishes: Wishes::default(),
            sends: BTreeMap::new(),
            posts: BTreeMap::new(),
            acks_cut: false,
            pull_cut: false,
            healed: false,
            random,
            scenario,
            bug,
            centre,
            archive,
            acks,
            agents,
            senders,
            verbose,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.centre.eager = self.has(Around::EagerCentre);
        self.acks.eager = self.has(Around::EagerAcks);
        self.acks.hold = 1;
        let eager = self.has(Around::EagerAgent);
        for host in self.hosts() {
            if let Host::Agent(number) = host {
                self.agents[number].node.eager = eager;
            }
            self.set_stale_bytes(host);
            self.later(0, Happening::Start { host, life: 0 });
        }
        for sender in 0..self.senders.len() {
            self.later(50 * MS, Happening::SenderActs { sender });
        }
        self.later(100 * MS, Happening::PullWakes);
        self.later(SECOND, Happening::OperatorActs);
        if self.scenario.faults {
            self.later(SECOND, Happening::FaultStrikes);
        }
        self.later(LOAD_MAX, Happening::Heal);
    }

    pub(crate) fn hosts(&self) -> Vec<Host> {
        let agents = (0..self.agents.len()).map(Host::Agent);
        [Host::Centre, Host::Acks]
            .into_iter()
            .chain(agents)
            .collect()
    }

    /// Whether this defect is planted.
    pub(crate) fn has(&self, around: Around) -> bool {
        is(self.bug, around)
    }

    /// A number never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// As [`World::chance`], in runs with faults and before they are over.
    pub(crate) fn mishap(&mut self, percent: u64) -> bool {
        self.scenario.faults && !self.healed && self.chance(percent)
    }

    /// A way over the network.
    pub(crate) fn delay(&mut self) -> u64 {
        100 + self.random.below(self.scenario.delay_us)
    }

    pub(crate) fn true_clock(&self) -> Timestamp {
        Timestamp(BEGIN.0 + self.now as i64)
    }

    /// What `host` takes for the time.
    pub(crate) fn clock(&self, host: Host) -> Timestamp {
        let off = match host {
            Host::Centre => self.centre.clock_off_us,
            Host::Acks => self.acks.clock_off_us,
            Host::Agent(number) => self.agents[number].node.clock_off_us,
        };
        Timestamp(self.true_clock().0 + off)
    }

    pub(crate) fn later(&mut self, delay: u64, what: Happening) {
        self.at(self.now + delay, what);
    }

    pub(crate) fn at(&mut self, at: u64, what: Happening) {
        self.serial += 1;
        self.queue.insert((at, self.serial), what);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if self.verbose {
            println!(
                "{:>12.6} s  {}",
                self.now as f64 / 1e6,
                crate::checker::short(&event)
            );
        }
        self.checker.tell(self.now, event);
    }

    /// Lets the next thing happen; false when a promise is broken or nothing is left.
    pub(crate) fn advance(&mut self) -> bool {
        if self.checker.is_broken() {
            return false;
        }
        let Some(((at, _), what)) = self.queue.pop_first() else {
            return false;
        };
        self.now = at;
        self.happen(what);
        true
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Start { host, life } => each!(self, host, start(host, life)),
            Happening::Disk { host, life, stage } => each!(self, host, disk(host, life, stage)),
            Happening::Tick { host, at } => each!(self, host, tick(host, at)),
            Happening::SenderActs { sender } => self.sender_acts(sender),
            Happening::SendArrives { call } => self.send_arrives(call),
            Happening::SendAnswered { call, answer } => self.send_answered(call, answer),
            Happening::SendTimesOut { call } => self.send_times_out(call),
            Happening::Up {
                connection,
                message,
            } => self.up_arrives(connection, message),
            Happening::Down {
                connection,
                message,
            } => self.down_arrives(connection, message),
            Happening::HubNotices { connection } => self.hub_ends(connection),
            Happening::HubLooksAtToken { connection } => self.hub_looks_at_token(connection),
            Happening::ClientNotices { connection } => self.client_ends(connection),
            Happening::ClientLosesPatience { connection } => {
                self.client_loses_patience(connection);
            }
            Happening::ClientConnects { agent, life } => self.client_connects(agent, life),
            Happening::ClientRenews { connection } => self.client_renews(connection),
            Happening::CallArrives { call } => self.call_arrives(call),
            Happening::CallAnswered { call, said } => self.call_ends(&call, said),
            Happening::CallTimesOut { call } => self.call_times_out(&call),
            Happening::WorkReads { agent, life, work } => self.work_reads(agent, life, work),
            Happening::PosterWakes { agent, life } => self.poster_wakes(agent, life),
            Happening::PostArrives { call, copy } => self.post_arrives(call, copy),
            Happening::PostAnswered { call, taken } => self.post_answered(call, taken),
            Happening::OperatorActs => self.operator_acts(),
            Happening::PullWakes => self.pull_wakes(),
            Happening::PullArrives { after, life } => self.pull_arrives(after, life),
            Happening::PullAnswered {
                source,
                through,
                acks,
                damaged,
                life,
            } => {
                if life == self.centre.life {
                    self.pulling.busy_until = 0;
                    let input = Input::Acks {
                        source,
                        through,
                        acks,
                        damaged,
                    };
                    self.give::<Centre>(Host::Centre, input, Ticket::Nobody);
                }
            }
            Happening::FaultStrikes => self.fault_strikes(),
            Happening::FaultEnds { fault } => self.fault_ends(fault),
            Happening::CrashAgain { host, times } => self.crash_again(host, times),
            Happening::Heal => self.heal(),
        }
    }
}

/// Calls a method of the world that is generic over the machine of a host.
macro_rules! each {
    ($world:expr, $host:expr, $method:ident ( $($argument:expr),* )) => {
        match $host {
            $crate::event::Host::Centre => {
                $world.$method::<countersign_rules::delivery::Centre>($($argument),*)
            }
            $crate::event::Host::Acks => {
                $world.$method::<countersign_rules::ack::AckStore>($($argument),*)
            }
            $crate::event::Host::Agent(_) => {
                $world.$method::<countersign_rules::site::Site>($($argument),*)
            }
        }
    };
}
pub(crate) use each;

impl World {
    fn set_stale_bytes(&mut self, host: Host) {
        let stale = self.scenario.stale_bytes;
        self.files(host).set_stale_bytes(stale);
    }

    /// The disk of a host.
    pub(crate) fn files(&mut self, host: Host) -> countersign_journal::sim::SimFiles {
        match host {
            Host::Centre => Centre::node(self, host).files.clone(),
            Host::Acks => AckStore::node(self, host).files.clone(),
            Host::Agent(number) => self.agents[number].node.files.clone(),
        }
    }

    /// A fresh id, as the send API makes them.
    pub(crate) fn make_id(&mut self) -> MessageId {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        MessageId(id)
    }
}

/// The one tenant.
pub(crate) fn tenant() -> TenantName {
    TenantName::parse("default").expect("the name is good")
}

/// Name of an agent; one that nobody registered when out of range.
pub(crate) fn agent_name(number: usize) -> AgentName {
    AgentName::parse(&format!("agent-{number}")).expect("the name is good")
}

/// Name of the one group.
pub(crate) fn group_name() -> GroupName {
    GroupName::parse("some").expect("the name is good")
}

/// Name of a lane.
pub(crate) fn lane_name(number: u8) -> LaneName {
    LaneName::parse(&format!("lane-{number}")).expect("the name is good")
}

/// The number in an agent's name.
pub(crate) fn agent_number(name: &AgentName) -> usize {
    let digits = name.as_str().rsplit('-').next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(usize::MAX)
}

/// Longest time of load and faults.
const LOAD_MAX: u64 = 200 * SECOND;
