//! What goes wrong, when, and until when.

use crate::agents::AgentHost;
use crate::centre::HubSide;
use crate::event::{Event, Host};
use crate::node::CrashPoint;
use crate::office::Mood;
use crate::world::{Happening, MS, Post, SECOND, World, each};
use countersign_journal::sim::{Fault, FaultRates, Kind};
use countersign_rules::ack::{AckItem, Outcome, Stage};

/// A fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    Full(Host),
    BadDisk(Host),
    AcksCut,
    PullCut,
    Office,
}

impl World {
    /// One fault now, the next one later.
    pub(crate) fn fault_strikes(&mut self) {
        if self.healed {
            return;
        }
        if self.senders_done() && self.chance(10) {
            return self.heal();
        }
        let pause = MS + self.random.below(2 * self.scenario.fault_pause_us);
        self.later(pause, Happening::FaultStrikes);
        let hosts = self.hosts();
        let host = hosts[self.random.below(hosts.len() as u64) as usize];
        if self.chance(self.scenario.crash_percent) {
            return self.arm(host);
        }
        match self.random.below(100) {
            0..12 => self.fill_disk(host),
            12..20 => self.fail_flush(host),
            20..26 => self.spoil_disk(host),
            26..46 => self.cut_connection(),
            46..52 => self.cut_acks(),
            52..57 => self.cut_pull(),
            57..67 => self.set_clock(host),
            67..77 => self.upset_office(),
            77..80 => self.lose_store(),
            80..85 => self.second_connection(),
            85..95 => self.forge_ack(),
            _ => self.storm(host),
        }
    }

    fn note(&mut self, what: &'static str, host: Host) {
        self.stats.fault(what);
        self.tell(Event::Fault { what, host });
    }

    /// A crash at a point that will be reached.
    fn arm(&mut self, host: Host) {
        let all = CrashPoint::ALL;
        let point = all[self.random.below(all.len() as u64) as usize];
        let operations = self.random.below(12);
        match point {
            CrashPoint::Anytime | CrashPoint::DiskFailed => self.crash_again(host, 1),
            CrashPoint::AmidDisk => self.files(host).stop_after(operations),
            CrashPoint::AmidOpen => {
                each!(self, host, crash(host, CrashPoint::Anytime));
                each!(self, host, set_armed(host, point));
            }
            _ => each!(self, host, set_armed(host, point)),
        }
    }

    pub(crate) fn set_armed<M: crate::hosts::Role>(&mut self, host: Host, point: CrashPoint) {
        let node = M::node(self, host);
        node.armed = Some(point);
        if let (CrashPoint::AmidSnapshot, Some(running)) = (point, &mut node.running) {
            // The next batch leads to one.
            running.bytes_since_image = u64::MAX / 2;
        }
    }

    fn is_up(&self, host: Host) -> bool {
        match host {
            Host::Centre => self.centre.is_up(),
            Host::Acks => self.acks.is_up(),
            Host::Agent(number) => self.agents[number].node.is_up(),
        }
    }

    pub(crate) fn crash_again(&mut self, host: Host, times: u64) {
        if self.healed {
            return;
        }
        if self.is_up(host) {
            each!(self, host, crash(host, CrashPoint::Anytime));
        }
        if times > 1 {
            let pause = self.random.below(400 * MS);
            self.later(
                pause,
                Happening::CrashAgain {
                    host,
                    times: times - 1,
                },
            );
        }
    }

    fn storm(&mut self, host: Host) {
        self.note("restart storm", host);
        let times = 3 + self.random.below(5);
        self.crash_again(host, times);
    }

    fn until(&mut self, fault: Lasting) {
        let lasts = 200 * MS + self.random.below(8 * SECOND);
        self.later(lasts, Happening::FaultEnds { fault });
    }

    fn fill_disk(&mut self, host: Host) {
        self.note("disk full", host);
        let files = self.files(host);
        let room = self.random.below(24 << 10);
        files.set_capacity(Some(files.used_bytes() + room));
        self.until(Lasting::Full(host));
    }

    fn fail_flush(&mut self, host: Host) {
        self.note("flush fails", host);
        let nth = 1 + self.random.below(3);
        self.files(host).fail_nth(Kind::Sync, nth, Fault::Error);
    }

    fn spoil_disk(&mut self, host: Host) {
        self.note("disk errors", host);
        self.files(host).set_rates(FaultRates {
            read_errors: 50_000,
            write_errors: 10_000,
            sync_errors: 5_000,
        });
        self.until(Lasting::BadDisk(host));
    }

    /// A connection breaks: in both directions or one, noticed soon or late.
    fn cut_connection(&mut self) {
        let open = self.connections.iter();
        let open = open.filter(|(_, connection)| matches!(connection.hub, HubSide::Open(_)));
        let open: Vec<u64> = open.map(|(number, _)| *number).collect();
        if open.is_empty() {
            return;
        }
        let connection = open[self.random.below(open.len() as u64) as usize];
        let (up, down) =
            [(true, true), (true, false), (false, true)][self.random.below(3) as usize];
        let what = if up && down {
            "connection cut"
        } else {
            "connection half open"
        };
        let agent = self.connections[&connection].agent;
        self.note(what, Host::Agent(agent));
        if let Some(cut) = self.connections.get_mut(&connection) {
            cut.up_cut |= up;
            cut.down_cut |= down;
        }
        let slow = self.chance(30);
        let by_hub = self
            .random
            .below(if slow { 30 * SECOND } else { 2 * SECOND });
        let by_client = self.random.below(5 * SECOND);
        self.later(by_hub, Happening::HubNotices { connection });
        self.later(by_client, Happening::ClientNotices { connection });
    }

    fn cut_acks(&mut self) {
        self.note("ack path cut", Host::Acks);
        self.acks_cut = true;
        self.until(Lasting::AcksCut);
    }

    fn cut_pull(&mut self) {
        self.note("centre and ack store apart", Host::Acks);
        self.pull_cut = true;
        self.until(Lasting::PullCut);
    }

    fn set_clock(&mut self, host: Host) {
        self.note("clock set", host);
        let most: u64 = [SECOND, 60 * SECOND, 3_600 * SECOND][self.random.below(3) as usize];
        let off = self.random.below(2 * most) as i64 - most as i64;
        match host {
            Host::Centre => self.centre.clock_off_us = off,
            Host::Acks => self.acks.clock_off_us = off,
            Host::Agent(number) => self.agents[number].node.clock_off_us = off,
        }
    }

    fn upset_office(&mut self) {
        self.office.mood = [Mood::Failing, Mood::Slow, Mood::Down][self.random.below(3) as usize];
        let what = match self.office.mood {
            Mood::Slow => "back office slow",
            Mood::Down => "back office down",
            _ => "back office failing",
        };
        self.note(what, Host::Agent(0));
        self.until(Lasting::Office);
    }

    /// An agent's disk is replaced by an empty one.
    fn lose_store(&mut self) {
        let agent = self.random.below(self.agents.len() as u64) as usize;
        let host = Host::Agent(agent);
        if self.is_up(host) {
            each!(self, host, crash(host, CrashPoint::Anytime));
        }
        self.note("agent store lost", host);
        self.tell(Event::StoreLost { agent });
        self.checker
            .judge_records(|records| records.site_replaced(agent));
        let (seed, epoch) = (self.random.next_u64(), self.random.next_u64() | 1);
        let old = &self.agents[agent].node;
        self.stats.disk.add(&old.files.counts());
        let mut fresh = AgentHost::new(seed, epoch, old.options.clone());
        fresh.node.life = old.life;
        fresh.node.eager = old.eager;
        fresh.node.clock_off_us = old.clock_off_us;
        fresh.node.files.set_stale_bytes(self.scenario.stale_bytes);
        self.agents[agent] = fresh;
    }

    /// The client opens another connection beside the one it has.
    fn second_connection(&mut self) {
        let agent = self.random.below(self.agents.len() as u64) as usize;
        self.note("second connection", Host::Agent(agent));
        let life = self.agents[agent].node.life;
        self.client_connects(agent, life);
    }

    /// Somebody else acknowledges a message, or its owner contradicts itself.
    fn forge_ack(&mut self) {
        let given: Vec<(usize, AckItem)> = {
            let acks = &self.checker.history.acks;
            let ended = acks.values().filter(|(agent, ack)| {
                crate::invariants::is_end(ack.item.stage) && *agent < self.agents.len()
            });
            ended
                .map(|(agent, ack)| (*agent, ack.item.clone()))
                .collect()
        };
        let known: Vec<_> = self.checker.history.messages.keys().copied().collect();
        let foreign = self.chance(50) && self.agents.len() > 1 && !known.is_empty();
        let (agent, item, what) = if foreign {
            let message = known[self.random.below(known.len() as u64) as usize];
            let owner = self.checker.history.messages[&message].agent;
            let item = AckItem {
                message,
                stage: Stage::Acknowledged,
                attempt: 1,
                generation: 1,
                occurred_at: self.true_clock(),
                outcome: Outcome::default(),
                duration_ms: 0,
                traceparent: String::new(),
                next_at: None,
            };
            ((owner + 1) % self.agents.len(), item, "foreign ack")
        } else if !given.is_empty() {
            let at = self.random.below(given.len() as u64) as usize;
            let (agent, mut item) = given[at].clone();
            item.stage = match item.stage {
                Stage::Rejected => Stage::Dead,
                _ => Stage::Rejected,
            };
            (agent, item, "contradicting ack")
        } else {
            return;
        };
        self.note(what, Host::Agent(agent));
        self.tell(Event::AckInvoke {
            agent,
            item: item.clone(),
            forged: true,
        });
        let call = self.number();
        let post = Post {
            agent,
            life: None,
            numbers: Vec::new(),
            items: vec![item],
        };
        self.posts.insert(call, post);
        self.send_post(call);
    }

    pub(crate) fn fault_ends(&mut self, fault: Lasting) {
        match fault {
            Lasting::Full(host) => self.files(host).set_capacity(None),
            Lasting::BadDisk(host) => self.files(host).set_rates(FaultRates::default()),
            Lasting::AcksCut => self.acks_cut = false,
            Lasting::PullCut => self.pull_cut = false,
            Lasting::Office => self.office.mood = Mood::Well,
        }
    }

    /// Every fault is over.
    pub(crate) fn heal(&mut self) {
        if self.healed {
            return;
        }
        self.healed = true;
        for host in self.hosts() {
            self.fault_ends(Lasting::Full(host));
            self.fault_ends(Lasting::BadDisk(host));
            each!(self, host, disarm(host));
        }
        for fault in [Lasting::AcksCut, Lasting::PullCut, Lasting::Office] {
            self.fault_ends(fault);
        }
        self.tell(Event::Healed);
    }

    pub(crate) fn disarm<M: crate::hosts::Role>(&mut self, host: Host) {
        let node = M::node(self, host);
        node.armed = None;
        node.clock_off_us = 0;
    }
}
