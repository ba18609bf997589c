//! The end of a run: wait until everything has ended, then look at what the disks hold.

use crate::event::{Event, Host, Verdict};
use crate::hosts::{Role, read_all};
use crate::invariants::{
    Invariant, i1_state_knows_every_receipt, i4_counters_equal_records, i5_everything_ended,
    i11_the_first_end_stands, i28_records_equal_state,
};
use crate::node::Ticket;
use crate::world::{SECOND, World, each};
use countersign_driver::Opened;
use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::verify;
use countersign_rules::delivery::Centre;

impl World {
    /// Load and faults, then the drain; true when the run came to its end.
    pub(crate) fn run(&mut self) {
        while !self.healed {
            let idle_and_done = !self.scenario.faults && self.senders_done();
            if idle_and_done {
                self.heal();
            } else if !self.advance() {
                return;
            }
        }
        let healed_at = self.now;
        let mut look_at = self.now;
        while self.now < healed_at + DRAIN_MAX {
            if self.now >= look_at {
                if self.is_quiet() {
                    break;
                }
                look_at = self.now + SECOND;
            }
            if !self.advance() {
                break;
            }
        }
        if self.checker.is_broken() {
            return;
        }
        self.judge_end((self.now - healed_at) / SECOND);
        self.examine_disks();
    }

    fn owed(&self) -> Vec<u64> {
        let running = self.agents.iter().map(|agent| agent.node.running.as_ref());
        running
            .map(|running| match running {
                Some(running) => running.engine.machine().state().counters().owed,
                None => 1,
            })
            .collect()
    }

    fn is_quiet(&self) -> bool {
        let (Some(centre), Some(acks)) = (&self.centre.running, &self.acks.running) else {
            return false;
        };
        let still = centre.writing.is_none() && centre.engine.is_idle() && acks.writing.is_none();
        self.senders_done()
            && self.operator_is_done()
            && still
            && centre.engine.machine().state().counters().pending == 0
            && self.owed().iter().all(|owed| *owed == 0)
            && self.checker.history.acks_read >= acks.reader.durable_position()
    }

    fn judge_end(&mut self, waited_s: u64) {
        let owed = self.owed();
        let World {
            checker,
            centre,
            stats,
            ..
        } = self;
        checker.judge(Invariant::I5, |history| {
            i5_everything_ended(history, &owed, waited_s)
        });
        let Some(running) = &centre.running else {
            return;
        };
        let centre = running.engine.machine();
        let state = centre.state();
        checker.judge(Invariant::I1, |history| {
            i1_state_knows_every_receipt(history, centre)
        });
        checker.judge(Invariant::I4, |history| {
            i4_counters_equal_records(history, state)
        });
        checker.judge(Invariant::I11, |history| {
            i11_the_first_end_stands(history, centre)
        });
        checker.judge_records(|records| records.counters(state.counters()));
        checker.judge_all_records();
        let counters = state.counters();
        stats.accepted = counters.accepted;
        stats.processed = counters.processed;
        stats.rejected = counters.rejected;
        stats.dead = counters.dead;
        stats.expired = counters.expired;
        stats.cancelled = counters.cancelled;
        stats.reprocessed = counters.reprocessed;
        stats.pushes_again = counters.pushes_again;
        let again = checker
            .history
            .effects
            .values()
            .map(|count| u64::from(*count) - 1);
        stats.effects_repeated = again.sum();
        self.compare_rebuilt();
    }

    /// The state rebuilt from the journal has to be the state.
    fn compare_rebuilt(&mut self) {
        let fork = self.centre.files.fork(self.scenario.seed);
        let (options, identity) = (self.centre.options.clone(), self.centre.identity);
        let fresh = Centre::beside(self, Host::Centre);
        let opened = countersign_driver::open::<_, _, Ticket>(fresh, fork, options, identity);
        match opened {
            Ok(opened) => {
                let World {
                    checker, centre, ..
                } = self;
                let Some(running) = &centre.running else {
                    return;
                };
                let live = running.engine.machine().state();
                let rebuilt = opened.engine.machine().state();
                checker.judge(Invariant::I28, |_| i28_records_equal_state(live, rebuilt));
            }
            Err(error) => {
                let why = format!("a copy of its journal: {error}");
                self.tell(Event::NotOpened {
                    host: Host::Centre,
                    why,
                });
            }
        }
    }

    /// Each disk is read with flipped bits; then the power goes, and it is read whole.
    fn examine_disks(&mut self) {
        for host in self.hosts() {
            each!(self, host, flip_bits(host));
            let files = self.files(host);
            files.crash();
            each!(self, host, come_back(host));
            let sound = verify(&files).is_ok_and(|report| report.is_sound());
            if !sound {
                let why = String::from("its journal is not as written");
                self.tell(Event::NotOpened { host, why });
            }
            self.stats.disk.add(&files.counts());
        }
    }

    fn come_back<M: Role>(&mut self, host: Host) {
        let node = M::node(self, host);
        node.running = None;
        node.life += 1;
        let life = node.life;
        self.now += 1;
        self.start::<M>(host, life);
        M::node(self, host).running = None;
    }

    /// One bit at a time, each in a copy of its own.
    fn flip_bits<M: Role>(&mut self, host: Host) {
        let seed = self.random.next_u64();
        let node = M::node(self, host);
        let (options, identity) = (node.options.clone(), node.identity);
        let Some(running) = node
            .running
            .as_mut()
            .filter(|running| running.writing.is_none())
        else {
            return;
        };
        // With an exact witness each loss must be noticed.
        running.log.write_witness();
        let (first, next) = (running.reader.first_position(), running.log.next_position());
        let clean = node.files.fork(seed);
        let files = clean.lengths().into_iter().filter(|(_, bytes)| *bytes > 0);
        let files: Vec<_> = files.collect();
        for _ in 0..FLIPS {
            let copy = clean.fork(self.random.next_u64());
            let (name, bytes) = &files[self.random.below(files.len() as u64) as usize];
            let mut random = Random::new(self.random.next_u64());
            copy.flip_bit(name, random.below(*bytes), random.below(8) as u8);
            self.stats.flips += 1;
            let opened =
                countersign_driver::open(M::beside(self, host), copy, options.clone(), identity);
            let opened: Opened<M, SimFiles, Ticket> = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let why = format!("one bit of {name} flipped: {error}");
                    self.tell(Event::NotOpened { host, why });
                    continue;
                }
            };
            self.read_damaged::<M>(host, &opened, first, next);
        }
    }

    fn read_damaged<M: Role>(
        &mut self,
        host: Host,
        opened: &Opened<M, SimFiles, Ticket>,
        first: u64,
        next: u64,
    ) {
        let Some(records) = read_all(&opened.log.reader(), first, next) else {
            return;
        };
        let mut damaged = opened.recovered.damaged.clone();
        damaged.extend(opened.log.damaged());
        let listed = |position: u64| {
            let ranges = damaged
                .iter()
                .filter_map(|damage| damage.positions.as_ref());
            ranges.into_iter().any(|range| range.contains(&position))
        };
        let (mut reported, mut found) = (0, first);
        for (position, payload) in records {
            let verdict = match payload {
                Some(payload) if M::node(self, host).ledger.holds(position, &payload) => {
                    Verdict::Right
                }
                Some(_) => Verdict::Wrong,
                None if listed(position) => Verdict::Reported,
                None => Verdict::Silent,
            };
            self.stats.records_read_damaged += 1;
            reported += u64::from(verdict == Verdict::Reported);
            // One bit damages one record.
            let verdict = if reported > 1 {
                Verdict::Silent
            } else {
                verdict
            };
            if verdict != Verdict::Right {
                self.tell(Event::ReadDamaged {
                    host,
                    position,
                    verdict,
                });
            }
            found = position + 1;
        }
        if found < next {
            let verdict = Verdict::Silent;
            self.tell(Event::ReadDamaged {
                host,
                position: found,
                verdict,
            });
        }
        self.stats.flips_reported += u64::from(!damaged.is_empty());
    }

    /// Takes the queue's next instant as the end of the run.
    pub(crate) fn virtual_us(&self) -> u64 {
        self.now
    }
}

/// Longest time from the last fault until everything has ended.
const DRAIN_MAX: u64 = 1_800 * SECOND;
/// Bits flipped on each disk.
const FLIPS: u64 = 3;
