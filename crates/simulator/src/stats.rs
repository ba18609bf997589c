//! What was done to the world, and what it did.

use crate::event::Host;
use crate::invariants::Invariant;
use crate::node::CrashPoint;
use Invariant::{I1, I4, I5, I6, I9, I10, I20};
use countersign_journal::sim::FaultCounts;
use std::collections::{BTreeMap, BTreeSet};
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
    crashes: BTreeMap<At, u64>,
    /// Crashes that followed each other in one run.
    crash_pairs: BTreeSet<(At, At)>,
    last_crash: Option<At>,
    broken: BTreeMap<Invariant, u64>,
}

/// A role, and the point at which it crashed.
type At = (&'static str, CrashPoint);

impl Stats {
    pub(crate) fn crash(&mut self, host: Host, point: CrashPoint) {
        let at = (role(host), point);
        *self.crashes.entry(at).or_default() += 1;
        if let Some(before) = self.last_crash.replace(at) {
            self.crash_pairs.insert((before, at));
        }
    }

    pub(crate) fn broke(&mut self, invariant: Invariant) {
        *self.broken.entry(invariant).or_default() += 1;
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

    /// Pairs of crashes of which one followed the other within a run.
    pub fn crash_pairs(&self) -> usize {
        self.crash_pairs.len()
    }

    /// The line of figures that is kept with a release: what was done, and what came of it.
    pub fn figures(&self) -> String {
        let broke = |promises: &[Invariant]| -> u64 {
            let times = promises
                .iter()
                .filter_map(|promise| self.broken.get(promise));
            times.sum()
        };
        let named = [I1, I4, I10, I6, I9, I5, I20];
        let others = self.broken.iter();
        let others = others.filter(|(promise, _)| !named.contains(promise));
        let others: u64 = others.map(|(_, times)| times).sum();
        let points = Stats::crash_points_max();
        format!(
            "seeds {} · simulated hours {:.1} · crashes {} · {} · disk full {} · EIO {} · failed flushes {} · \
             flipped bits {} · crash points covered {} of {points}, pairs {} of {} · sent {} · acknowledged {} · \
             unknown {} · lost {} · duplicated in effect {} · possibly repeated {} · reordered {} · \
             false success {} · stuck {} · corrupt served {} · other promises broken {others}",
            self.runs,
            self.virtual_us as f64 / 3.6e9,
            self.crashes(),
            list(&self.faults),
            self.disk.full,
            self.disk.errors,
            self.disk.syncs_failed,
            self.flips,
            self.crash_points(),
            self.crash_pairs(),
            points * points,
            self.sent,
            self.confirmed,
            self.unknown,
            broke(&[I1, I4]),
            broke(&[I10]),
            self.possibly_repeated,
            broke(&[I6]),
            broke(&[I9]),
            broke(&[I5]),
            broke(&[I20]),
        )
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
        merge(&mut self.broken, &other.broken);
        self.crash_pairs.extend(&other.crash_pairs);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_of_one_run_make_pairs_and_those_of_two_runs_do_not() {
        let (mut first, mut second) = (Stats::default(), Stats::default());
        first.crash(Host::Centre, CrashPoint::BeforeFlush);
        first.crash(Host::Acks, CrashPoint::AmidOpen);
        second.crash(Host::Agent(0), CrashPoint::Anytime);
        let mut all = Stats::default();
        all.add(&first);
        all.add(&second);
        assert_eq!((all.crashes(), all.crash_points()), (3, 3));
        assert_eq!(all.crash_pairs(), 1);
        assert!(
            all.figures()
                .contains("crash points covered 3 of 27, pairs 1 of 729")
        );
    }

    #[test]
    fn a_broken_promise_stands_under_its_name_in_the_figures() {
        let mut stats = Stats::default();
        stats.broke(I5);
        stats.broke(Invariant::I13);
        let figures = stats.figures();
        assert!(figures.contains("stuck 1"), "{figures}");
        assert!(figures.contains("lost 0"), "{figures}");
        assert!(figures.ends_with("other promises broken 1"), "{figures}");
    }
}
