//! The loop of a host, taken apart: step, append, flush, let out; start and crash.

use crate::event::{Event, Host};
use crate::node::{CrashPoint, Image, Node, Running, Stage, Ticket, Writing};
use crate::world::{Happening, MS, World};
use countersign_driver::{OpenError, Opened, Sealed};
use countersign_journal::{
    AppendError, OpenError as JournalOpenError, ReadError, Reader, SnapshotError, sim::SimFiles,
};
use countersign_rules::machine::{Machine, Position, Start};

/// What came of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It was stepped.
    Taken,
    /// The disk runs short and the input would keep something new.
    NoSpace,
    /// The host is down.
    Down,
}

/// A machine with its place in the world.
pub(crate) trait Role: Machine {
    fn node(world: &mut World, host: Host) -> &mut Node<Self>;
    fn fresh(world: &World, host: Host) -> Self;
    /// One to look at a copy of the store with, while the world goes on.
    fn beside(world: &World, host: Host) -> Self {
        Self::fresh(world, host)
    }
    /// A record became durable.
    fn durable(world: &mut World, host: Host, position: Position, payload: &[u8]);
    fn reply(world: &mut World, host: Host, ticket: Ticket, reply: Self::Reply);
    fn effect(world: &mut World, host: Host, effect: Self::Effect);
    /// Something was stepped.
    fn stepped(_world: &mut World, _host: Host) {}
    /// A batch was let out.
    fn let_out(_world: &mut World, _host: Host) {}
    fn came_up(world: &mut World, host: Host);
    fn stopped(world: &mut World, host: Host);
}

impl World {
    /// Brings an input to a host.
    pub(crate) fn give<M: Role>(&mut self, host: Host, input: M::Input, ticket: Ticket) -> Given {
        let now = self.clock(host);
        let Some(running) = &mut M::node(self, host).running else {
            return Given::Down;
        };
        if running.short && M::grows(&input) && !running.log.above_reserve() {
            self.stats.refused_for_space += 1;
            return Given::NoSpace;
        }
        running.engine.step(input, ticket, now);
        M::stepped(self, host);
        self.pump::<M>(host);
        Given::Taken
    }

    /// Hands the journal what has gathered, if it has nothing to do.
    pub(crate) fn pump<M: Role>(&mut self, host: Host) {
        loop {
            let node = M::node(self, host);
            let eager = node.eager;
            let Some(running) = &mut node.running else {
                return;
            };
            if running.busy || running.writing.is_some() || running.engine.is_idle() {
                break;
            }
            let mut sealed = running.engine.seal();
            match sealed.batch.take() {
                None => self.carry_out::<M>(host, sealed),
                Some(batch) => {
                    self.take_image_if_due::<M>(host, &batch);
                    let sealed = match eager {
                        true => {
                            self.carry_out::<M>(host, sealed);
                            None
                        }
                        false => Some(sealed),
                    };
                    if let Some(running) = &mut M::node(self, host).running {
                        running.writing = Some(Writing { batch, sealed });
                        self.disk_later::<M>(host, Stage::Append);
                    }
                }
            }
        }
        self.arm_tick::<M>(host);
    }

    fn take_image_if_due<M: Role>(&mut self, host: Host, batch: &countersign_journal::Batch) {
        let every = self.scenario.snapshot_every_bytes;
        let Some(running) = &mut M::node(self, host).running else {
            return;
        };
        running.bytes_since_image += batch.payload_bytes() as u64;
        if running.bytes_since_image >= every && running.image.is_none() {
            let mut image = Vec::new();
            running.engine.machine().save(&mut image);
            let needed = running.engine.machine().oldest_needed();
            running.image = Some(Image {
                position: batch.last(),
                needed,
                body: image,
            });
            running.bytes_since_image = 0;
        }
    }

    fn disk_later<M: Role>(&mut self, host: Host, stage: Stage) {
        let life = M::node(self, host).life;
        let slow = self.scenario.faults && !self.healed && self.random.below(200) == 0;
        let most = self.scenario.disk_us * if slow { 100 } else { 1 };
        let delay = self.random.below(most);
        self.later(delay, Happening::Disk { host, life, stage });
    }

    /// Carries a batch one stage on.
    pub(crate) fn disk<M: Role>(&mut self, host: Host, life: u64, stage: Stage) {
        let node = M::node(self, host);
        if node.life != life || node.running.is_none() {
            return;
        }
        let point = match stage {
            Stage::Append => CrashPoint::BeforeAppend,
            Stage::Flush => CrashPoint::BeforeFlush,
            Stage::LetOut => CrashPoint::BeforeLetOut,
        };
        if node.is_armed(point) {
            return self.crash::<M>(host, point);
        }
        match stage {
            Stage::Append => self.append::<M>(host),
            Stage::Flush => self.flush::<M>(host),
            Stage::LetOut => {
                let running = node.running.as_mut();
                let writing = running.and_then(|running| running.writing.take());
                let sealed = writing.and_then(|writing| writing.sealed);
                if let Some(sealed) = sealed {
                    self.carry_out::<M>(host, sealed);
                }
                if M::node(self, host).life == life {
                    self.write_image::<M>(host);
                    self.pump::<M>(host);
                }
            }
        }
    }

    fn append<M: Role>(&mut self, host: Host) {
        let node = M::node(self, host);
        let Some(running) = &mut node.running else {
            return;
        };
        let Some(writing) = &running.writing else {
            return;
        };
        node.ledger.append(&writing.batch);
        match running.log.append(&writing.batch) {
            Ok(()) => self.disk_later::<M>(host, Stage::Flush),
            Err(AppendError::NoSpace) => {
                running.short = true;
                let life = node.life;
                self.stats.appends_without_space += 1;
                self.later(
                    200 * MS,
                    Happening::Disk {
                        host,
                        life,
                        stage: Stage::Append,
                    },
                );
            }
            Err(AppendError::Failed(_)) => self.disk_failed::<M>(host),
            Err(error) => panic!("a batch of {host:?} is refused by its own journal: {error}"),
        }
    }

    fn flush<M: Role>(&mut self, host: Host) {
        let node = M::node(self, host);
        let failed_before = node.files.counts().syncs_failed;
        let Some(running) = &mut node.running else {
            return;
        };
        let flushed = running.log.flush();
        let sync_failed = node.files.counts().syncs_failed > failed_before;
        if flushed.is_err() {
            self.tell(Event::FlushFailed { host });
            return self.disk_failed::<M>(host);
        }
        running.short = !running.log.above_reserve();
        let batch = running
            .writing
            .as_ref()
            .map(|writing| writing.batch.clone());
        if sync_failed {
            self.tell(Event::FlushOk { host, sync_failed });
        }
        let Some(batch) = batch else { return };
        let ledger = &mut M::node(self, host).ledger;
        (ledger.confirmed, ledger.told) = (batch.last(), batch.last());
        for index in 0..batch.len() {
            M::durable(
                self,
                host,
                batch.first() + index as u64,
                &batch.payload(index),
            );
        }
        if M::node(self, host).files.is_stopped() {
            // The power went in something that a flush need not wait for.
            return self.crash::<M>(host, CrashPoint::AmidDisk);
        }
        self.disk_later::<M>(host, Stage::LetOut);
    }

    fn disk_failed<M: Role>(&mut self, host: Host) {
        let point = match M::node(self, host).files.is_stopped() {
            true => CrashPoint::AmidDisk,
            false => CrashPoint::DiskFailed,
        };
        self.crash::<M>(host, point);
    }

    /// Lets answers and effects out, one by one: a crash may fall between any two.
    fn carry_out<M: Role>(&mut self, host: Host, sealed: Sealed<M, Ticket>) {
        let amid = M::node(self, host).is_armed(CrashPoint::AmidLetOut);
        let count = (sealed.replies.len() + sealed.effects.len()) as u64;
        let mut left = match amid {
            true => self.random.below(count + 1),
            false => u64::MAX,
        };
        let life = M::node(self, host).life;
        self.set_busy::<M>(host, true);
        let replies = sealed
            .replies
            .into_iter()
            .map(|(ticket, reply)| Out::Reply(ticket, reply));
        let effects = sealed.effects.into_iter().map(Out::Effect);
        for out in replies.chain(effects).collect::<Vec<Out<M>>>() {
            if left == 0 {
                break;
            }
            left -= 1;
            match out {
                Out::Reply(ticket, reply) => M::reply(self, host, ticket, reply),
                Out::Effect(effect) => M::effect(self, host, effect),
            }
            if M::node(self, host).life != life {
                return;
            }
        }
        self.set_busy::<M>(host, false);
        if amid {
            return self.crash::<M>(host, CrashPoint::AmidLetOut);
        }
        M::let_out(self, host);
    }

    fn set_busy<M: Role>(&mut self, host: Host, busy: bool) {
        if let Some(running) = &mut M::node(self, host).running {
            running.busy = busy;
        }
    }

    /// Writes the image of a state that is durable now, and lets go of what it stands in for.
    fn write_image<M: Role>(&mut self, host: Host) {
        let carry_beyond = self.scenario.carry_beyond_bytes;
        let interrupted = self.random.below(6);
        let node = M::node(self, host);
        let image = node
            .running
            .as_mut()
            .and_then(|running| running.image.take());
        let Some(Image {
            position,
            needed,
            body,
        }) = image
        else {
            return;
        };
        if node.is_armed(CrashPoint::AmidSnapshot) {
            node.files.stop_after(interrupted);
        }
        let hold = node.hold;
        let Some(running) = &mut node.running else {
            return;
        };
        let written = running.log.write_snapshot(position, &body);
        let not_durable = matches!(written, Err(SnapshotError::NotDurable { .. }));
        assert!(
            !not_durable || node.eager,
            "an image is written once its state is durable"
        );
        if written.is_ok() {
            let needed = needed.min(hold).min(position + 1);
            // A trim that fails leaves more than is needed.
            let trimmed = running.log.trim(needed).unwrap_or(0) as u64;
            let (before, bytes) = older_than(&running.reader, carry_beyond);
            if bytes > 0 {
                running.engine.release(before, u64::MAX / 2);
            }
            self.stats.snapshots += 1;
            self.stats.segments_trimmed += trimmed;
        }
        if M::node(self, host).files.is_stopped() {
            self.crash::<M>(host, CrashPoint::AmidSnapshot);
        }
    }

    /// Looks at the clock again when something is due, and once a second.
    fn arm_tick<M: Role>(&mut self, host: Host) {
        let clock = self.clock(host);
        let now = self.now;
        let node = M::node(self, host);
        let Some(running) = &node.running else { return };
        let wait = match running.engine.next_deadline() {
            Some(at) => at.since(clock).as_micros().min(1_000_000) as u64,
            None => 1_000_000,
        };
        let at = now + wait.max(100);
        if at < node.tick_at {
            node.tick_at = at;
            self.at(at, Happening::Tick { host, at });
        }
    }

    pub(crate) fn tick<M: Role>(&mut self, host: Host, at: u64) {
        let clock = self.clock(host);
        let node = M::node(self, host);
        if node.tick_at != at {
            return;
        }
        node.tick_at = u64::MAX;
        if let Some(running) = &mut node.running {
            running.engine.deadline(clock);
            M::stepped(self, host);
            self.pump::<M>(host);
        }
    }

    /// A host stops, with the power of its machine or alone, and comes back later.
    pub(crate) fn crash<M: Role>(&mut self, host: Host, point: CrashPoint) {
        let power = self.random.below(10) < 7;
        let node = M::node(self, host);
        node.running = None;
        node.life += 1;
        node.tick_at = u64::MAX;
        node.armed = None;
        if power || node.files.is_stopped() {
            node.files.crash();
        } else {
            node.files.kill();
        }
        let life = node.life;
        self.stats.crash(host, point);
        self.tell(Event::Crash {
            host,
            point: point.as_str(),
        });
        M::stopped(self, host);
        let delay = match self.random.below(10) {
            _ if self.healed => 100 * MS,
            0..5 => self.random.below(50 * MS),
            5..8 => self.random.below(1000 * MS),
            _ => self.random.below(6000 * MS),
        };
        self.later(delay, Happening::Start { host, life });
    }

    /// A host comes up from what its disk holds.
    pub(crate) fn start<M: Role>(&mut self, host: Host, life: u64) {
        let interrupted = self.random.below(25);
        let clock = self.clock(host);
        let node = M::node(self, host);
        if node.life != life || node.is_up() {
            return;
        }
        let machine = M::fresh(self, host);
        let node = M::node(self, host);
        let amid_open = node.is_armed(CrashPoint::AmidOpen);
        if amid_open {
            node.files.stop_after(interrupted);
        }
        let (files, options) = (node.files.clone(), node.options.clone());
        let opened = countersign_driver::open(machine, files, options, node.identity);
        let opened: Opened<M, SimFiles, Ticket> = match opened {
            Ok(opened) => opened,
            Err(error) => return self.not_opened::<M>(host, &error),
        };
        let Opened {
            engine,
            log,
            recovered,
            damaged,
            replayed_bytes,
        } = opened;
        let mut running = Running::new(engine, log);
        running.bytes_since_image = replayed_bytes;
        node.life += 1;
        let Some(lost) = self.compare::<M>(host, &running.reader, recovered.next) else {
            return self.crash::<M>(host, CrashPoint::AmidOpen);
        };
        let epoch = recovered.epoch;
        let mut told: Vec<_> = recovered.damaged.iter().map(ToString::to_string).collect();
        told.extend(damaged.iter().map(|position| format!("record {position}")));
        running.engine.start(Start { epoch, damaged }, clock);
        self.tell(Event::Start {
            host,
            epoch,
            epoch_changed: recovered.epoch_changed,
            lost,
            damaged: told,
        });
        M::node(self, host).running = Some(running);
        self.stats.restarts += 1;
        M::came_up(self, host);
        M::stepped(self, host);
        self.pump::<M>(host);
    }

    fn not_opened<M: Role>(&mut self, host: Host, error: &OpenError) {
        let node = M::node(self, host);
        if node.files.is_stopped() {
            return self.crash::<M>(host, CrashPoint::AmidOpen);
        }
        let excused = matches!(
            error,
            OpenError::Journal(JournalOpenError::NoSpace { .. } | JournalOpenError::Io { .. })
                | OpenError::Read(ReadError::Io { .. })
        );
        node.files.kill();
        node.life += 1;
        let life = node.life;
        if !excused {
            let why = error.to_string();
            self.tell(Event::NotOpened { host, why });
        }
        self.stats.failed_opens += 1;
        self.later(400 * MS, Happening::Start { host, life });
    }

    /// Compares what a disk holds with what was appended; `None` when the disk stopped meanwhile.
    /// Tells the facts of a batch that survived although it was never confirmed.
    fn compare<M: Role>(
        &mut self,
        host: Host,
        reader: &Reader<SimFiles>,
        next: Position,
    ) -> Option<Option<Position>> {
        let first = reader.first_position();
        let records = read_all(reader, first, next)?;
        let ledger = &mut M::node(self, host).ledger;
        let (confirmed, told) = (ledger.confirmed, ledger.told);
        let mut lost = (next <= confirmed).then_some(next);
        for (position, payload) in &records {
            let right = match payload {
                Some(payload) => ledger.holds(*position, payload),
                // What was never confirmed may be damaged, and has to be reported as that.
                None => *position > confirmed,
            };
            if !right && lost.is_none() {
                lost = Some(*position);
            }
        }
        ledger.cut(next - 1);
        (ledger.confirmed, ledger.told, ledger.first) = (next - 1, next - 1, first);
        for (position, payload) in records {
            if let (true, Some(payload)) = (position > told, payload) {
                M::durable(self, host, position, &payload);
            }
        }
        Some(lost)
    }
}

enum Out<M: Machine> {
    Reply(Ticket, M::Reply),
    Effect(M::Effect),
}

/// Every record from `first` to before `next`; a damaged one without its payload. Asks a disk that
/// fails to read again and again.
pub(crate) fn read_all(
    reader: &Reader<SimFiles>,
    first: Position,
    next: Position,
) -> Option<Vec<(Position, Option<bytes::Bytes>)>> {
    let (mut records, mut from, mut failures) = (Vec::new(), first, 0);
    while from < next {
        match reader.read_range(from, 1 << 20) {
            Ok(some) if some.is_empty() => return Some(records),
            Ok(some) => {
                from = some.last().map_or(next, |record| record.position + 1);
                records.extend(some.into_iter().map(|r| (r.position, r.payload.ok())));
            }
            Err(_) if failures < READ_TRIES => failures += 1,
            Err(_) => return None,
        }
    }
    Some(records)
}

/// The first record behind the segments that lie more than `keep_bytes` back, and their size.
fn older_than(reader: &Reader<SimFiles>, keep_bytes: u64) -> (Position, u64) {
    let segments = reader.segments();
    let mut newer = 0;
    let recent = segments.iter().rev().take_while(|segment| {
        newer += segment.bytes;
        newer <= keep_bytes
    });
    let old = &segments[..segments.len() - recent.count()];
    let behind = segments.get(old.len()).map_or(0, |segment| segment.first);
    (behind, old.iter().map(|segment| segment.bytes).sum())
}

const READ_TRIES: u32 = 50;
