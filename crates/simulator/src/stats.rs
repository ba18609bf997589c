//! What was done to the world, and what it did.

use crate::event::Host;
use crate::node::CrashPoint;
use countersign_journal::sim::FaultCounts;
use std::collections::BTreeMap;
use std::fmt;

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names say what is counted")]
pub struct Stats {
    pub runs: u64,
    pub quiet_runs: u64,
    pub virtual_us: u64,
    pub sent: u64,
    pub confirmed: u64,
    pub unknown: u64,
    pub refused: u64,
    pub repeated: u64,
    pub refused_for_space: u64,
    pub accepted: u64,
    pub processed: u64,
    pub rejected: u64,
    pub dead: u64,
    pub expired: u64,
    pub cancelled: u64,
    pub reprocessed: u64,
    pub operated: u64,
    pub pushes: u64,
    pub pushes_again: u64,
    pub causes: BTreeMap<&'static str, u64>,
    pub strays: u64,
    pub effects: u64,
    pub effects_repeated: u64,
    pub possibly_repeated: u64,
    pub posts: u64,
    pub acks: u64,
    pub acks_while_centre_down: u64,
    pub acks_kept: BTreeMap<&'static str, u64>,
    pub restarts: u64,
    pub failed_opens: u64,
    pub snapshots: u64,
    pub segments_trimmed: u64,
    pub copied_forward: u64,
    pub batches_archived: u64,
    pub batches_lost: u64,
    pub appends_without_space: u64,
    pub flips: u64,
    pub flips_reported: u64,
    pub records_read_damaged: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub disk: FaultCounts,
    crashes: BTreeMap<(&'static str, CrashPoint), u64>,
}

impl Stats {
    pub(crate) fn crash(&mut self, host: Host, point: CrashPoint) {
        let role = role(host);
        *self.crashes.entry((role, point)).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// Faults injected, of every kind.
    pub fn faults_injected(&self) -> u64 {
        self.faults.values().sum::<u64>() + self.crashes.values().sum::<u64>()
    }

    /// Pairs of role and crash point that were hit.
    pub fn crash_points(&self) -> usize {
        self.crashes.len()
    }

    /// Pairs of role and crash point that there are.
    pub fn crash_points_max() -> usize {
        3 * CrashPoint::ALL.len()
    }

    /// Crashes of every kind.
    pub fn crashes(&self) -> u64 {
        self.crashes.values().sum()
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Stats) {
        macro_rules! sum {
            ($($field:ident)*) => { $(self.$field += other.$field;)* };
        }
        sum!(runs quiet_runs virtual_us sent confirmed unknown refused repeated refused_for_space
            accepted processed rejected dead expired cancelled reprocessed operated pushes pushes_again strays effects
            effects_repeated possibly_repeated posts acks acks_while_centre_down restarts
            failed_opens snapshots segments_trimmed copied_forward batches_archived batches_lost appends_without_space flips
            flips_reported records_read_damaged);
        self.disk.add(&other.disk);
        merge(&mut self.causes, &other.causes);
        merge(&mut self.acks_kept, &other.acks_kept);
        merge(&mut self.faults, &other.faults);
        merge(&mut self.crashes, &other.crashes);
    }
}

fn merge<K: Ord + Copy>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(*key).or_default() += count;
    }
}

fn role(host: Host) -> &'static str {
    match host {
        Host::Centre => "centre",
        Host::Acks => "acks",
        Host::Agent(_) => "agent",
    }
}

fn list<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    let counts: Vec<_> = counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    counts.join(" · ")
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { disk, .. } = self;
        let hours = self.virtual_us as f64 / 3.6e9;
        writeln!(
            f,
            "runs           {} ({} without faults), {hours:.1} simulated hours",
            self.runs, self.quiet_runs
        )?;
        writeln!(
            f,
            "messages       sent {} · confirmed {} · unknown {} · refused {} · repeated by key {}",
            self.sent, self.confirmed, self.unknown, self.refused, self.repeated
        )?;
        writeln!(
            f,
            "ended          accepted {} · processed {} · rejected {} · dead {} · expired {} · cancelled {} · done once more {} · decisions of operators {}",
            self.accepted,
            self.processed,
            self.rejected,
            self.dead,
            self.expired,
            self.cancelled,
            self.reprocessed,
            self.operated
        )?;
        writeln!(
            f,
            "pushes         {} · again {} ({}) · strays {}",
            self.pushes,
            self.pushes_again,
            list(&self.causes),
            self.strays
        )?;
        writeln!(
            f,
            "effects        {} · repeated {} · declared as possibly repeated {}",
            self.effects, self.effects_repeated, self.possibly_repeated
        )?;
        writeln!(
            f,
            "acks           posts {} · taken {} · while the centre was down {} · kept as evidence: {}",
            self.posts,
            self.acks,
            self.acks_while_centre_down,
            list(&self.acks_kept)
        )?;
        writeln!(
            f,
            "journals       restarts {} · failed opens {} · snapshots {} · segments trimmed {} · copied forward {} · batches archived {} · lost from the archive {} · appends without space {}",
            self.restarts,
            self.failed_opens,
            self.snapshots,
            self.segments_trimmed,
            self.copied_forward,
            self.batches_archived,
            self.batches_lost,
            self.appends_without_space
        )?;
        writeln!(
            f,
            "disks          power cuts {} · kills {} · writes lost {} · torn {} · reordered {} · names lost {} · full {} · EIO {} · failed flushes {}",
            disk.crashes,
            disk.kills,
            disk.writes_lost,
            disk.writes_torn,
            disk.writes_reordered,
            disk.names_lost,
            disk.full,
            disk.errors,
            disk.syncs_failed
        )?;
        writeln!(
            f,
            "flipped bits   {} · reported {} · records read {}",
            self.flips, self.flips_reported, self.records_read_damaged
        )?;
        writeln!(f, "other faults   {}", list(&self.faults))?;
        write!(
            f,
            "crashes        {} at {} of {} points:",
            self.crashes(),
            self.crash_points(),
            Stats::crash_points_max()
        )?;
        for ((role, point), count) in &self.crashes {
            write!(f, " {role}/{} {count}", point.as_str())?;
        }
        Ok(())
    }
}
