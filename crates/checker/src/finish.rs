//! The end of the telling: what is still open is judged, and everything is summed up.

use crate::lives::{Flags, Key, Life};
use crate::report::{Judged, Report, Verdict};
use crate::verdict::{Invariant, Party, Violation};
use crate::{Checker, Coverage};
use countersign_rules::delivery::{Counters, End, Record};
use countersign_rules::{MessageId, Position};
use std::collections::BTreeSet;

impl Checker {
    /// Sums up. Nothing can be told after this.
    pub fn finish(mut self) -> Report {
        self.close_rows();
        self.i26_no_quorum_is_forgotten();
        self.sends_are_known();
        self.sends_in_order();
        let mut keys: Vec<Key> = self.lives.lives.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.close(key);
            self.i5_nothing_is_stuck(key);
        }
        self.i20_damage_is_reckoned_with();
        let judged = Invariant::ALL
            .iter()
            .map(|invariant| self.judged(*invariant));
        let judged = judged.collect();
        Report {
            judged,
            figures: self.figures,
        }
    }

    /// I4: what the centre counts after the record told last is what its records say.
    ///
    /// Nothing is judged when the beginning of its journal was left out.
    pub fn counters(&mut self, counters: &Counters) {
        let position = self.centre.last;
        if let Some(why) = self.centre.coverage.doubt("the centre") {
            self.tallies.open(Invariant::I4, why);
            return;
        }
        let figures = &self.figures;
        let pairs = [
            ("accepted", counters.accepted, figures.accepted),
            ("pending", counters.pending, figures.pending()),
            (
                "processed",
                counters.processed,
                figures.ended(End::Processed),
            ),
            ("rejected", counters.rejected, figures.ended(End::Rejected)),
            ("dead", counters.dead, figures.ended(End::Dead)),
            ("expired", counters.expired, figures.ended(End::Expired)),
            (
                "cancelled",
                counters.cancelled,
                figures.ended(End::Cancelled),
            ),
        ];
        let wrong = pairs.iter().find(|(_, counted, told)| counted != told);
        let says = wrong.map(|(what, counted, told)| {
            format!("{what}: {counted} counted after record {position}, {told} recorded")
        });
        self.judge(
            Invariant::I4,
            (Party::Centre, position),
            says.is_none(),
            || (says.unwrap_or_default(), vec![]),
        );
    }

    /// A record that the centre wrote after its journal was told: what it accepted then may have
    /// been told by others, and is left to the next time.
    pub fn accepted_later(&mut self, record: &Record<'_>) {
        let key = match record {
            Record::Accepted(accepted)
            | Record::Scheduled { accepted, .. }
            | Record::AcceptedUnder { accepted, .. }
            | Record::AcceptedByReference { accepted, .. } => Key {
                id: accepted.id,
                generation: accepted.generation,
            },
            Record::Addressed(row) => Key {
                id: row.id,
                generation: 1,
            },
            Record::Reprocessed { id, generation, .. } => Key {
                id: *id,
                generation: *generation,
            },
            _ => return,
        };
        self.lives.lives.remove(&key);
    }

    /// I28: a broken hash chain, or a state that is not what its records make of it.
    pub fn state_differs(&mut self, says: impl Into<String>) {
        self.tallies.broken(Violation {
            invariant: Invariant::I28,
            says: says.into(),
            about: Vec::new(),
            at: None,
        });
    }

    /// I28: a batch whose hash and chain hold, or a state that is what its records make of it.
    pub fn state_agrees(&mut self, times: u64) {
        for _ in 0..times.min(1 << 20) {
            self.tallies.held(Invariant::I28);
        }
    }

    /// I28: something of it could not be looked at.
    pub fn state_unseen(&mut self, why: impl Into<String>) {
        self.tallies.open(Invariant::I28, why.into());
    }

    /// I20: damage that costs no record.
    pub fn damaged_without_loss(&mut self, says: impl Into<String>) {
        self.tallies.broken(Violation {
            invariant: Invariant::I20,
            says: says.into(),
            about: Vec::new(),
            at: None,
        });
    }

    /// I5: what nothing stands in the way of does not wait for ever.
    fn i5_nothing_is_stuck(&mut self, key: Key) {
        let Some(life) = self.lives.known(key).copied() else {
            return;
        };
        if life.end.is_some() {
            return self.tallies.held(Invariant::I5);
        }
        let now = self.centre.last_at;
        let Some(owner) = self.centre.recipients.get(life.recipient as usize) else {
            return;
        };
        // Which lane a message is of is not kept: while one is parked, those not pushed may be held.
        let may_be_held = !owner.parked.is_empty() && life.pushes == 0;
        let free = owner.ready && !owner.paused && !may_be_held && !life.flags.has(Flags::HELD);
        let since = life.last_at.max(owner.ready_at);
        let is_over = now.since(since) > self.limits.stuck_after;
        if !free || !is_over || !self.waits_for_the_centre(&life) {
            let why = "messages are still under way at the end of what was read";
            return self.tallies.open(Invariant::I5, why.to_owned());
        }
        self.figures.stuck += 1;
        let (id, name) = (key.id, self.centre.name_of(life.recipient));
        let waited = now.since(since).as_secs();
        self.tallies.broken(Violation {
            invariant: Invariant::I5,
            says: format!("{id} waits {waited} s for {name}, who is connected and ready"),
            about: vec![id],
            at: None,
        });
    }

    /// Whether it is not its site's turn: not there yet, or ended there already.
    fn waits_for_the_centre(&self, life: &Life) -> bool {
        let ended_at_site = life.flags.has(Flags::DONE) || life.flags.has(Flags::FAILED);
        !life.flags.has(Flags::RECEIVED) || ended_at_site
    }

    /// I20: whoever has damaged records has written so down.
    fn i20_damage_is_reckoned_with(&mut self) {
        let mut damaged: Vec<(Party, Position, bool)> = Vec::new();
        let reckoned = |known: &BTreeSet<Position>, position| known.contains(&position);
        for position in &self.centre.damaged {
            let known = reckoned(&self.centre.reckoned, *position);
            damaged.push((Party::Centre, *position, known));
        }
        for position in &self.acks.damaged {
            // The ack store writes nothing down: the centre does when it reads it.
            damaged.push((Party::Acks, *position, false));
        }
        for (number, site) in self.sites.iter().enumerate() {
            for position in &site.damaged {
                let known = reckoned(&site.reckoned, *position);
                damaged.push((Party::Site(number), *position, known));
            }
        }
        for (party, position, known) in damaged {
            let name = self.name_of(party);
            self.judge(Invariant::I20, (party, position), known, || {
                let says = format!(
                    "record {position} of {name} is damaged, and {name} has not written so down: \
                     start it once, so that it asks again for what was lost"
                );
                (says, Vec::<MessageId>::new())
            });
        }
        let whole = |coverage: &Coverage| *coverage == Coverage::Whole;
        if self.figures.corrupt == 0 && whole(&self.centre.coverage) {
            self.tallies.held(Invariant::I20);
        }
    }

    fn judged(&self, invariant: Invariant) -> Judged {
        let tally = self.tallies.of(invariant);
        let mut reasons = tally.reasons.clone();
        let verdict = if tally.broken > 0 {
            Verdict::Violated
        } else if tally.open > 0 {
            Verdict::Undecided
        } else if tally.held > 0 {
            Verdict::Held
        } else {
            reasons.push(self.why_nothing(invariant));
            Verdict::Undecided
        };
        Judged {
            invariant,
            verdict,
            held: tally.held,
            broken: tally.broken,
            open: tally.open,
            reasons,
            witnesses: tally.witnesses.clone(),
        }
    }

    /// Why there was no case of an invariant.
    fn why_nothing(&self, invariant: Invariant) -> String {
        use Invariant::*;
        let why = match invariant {
            I12 | I17 | I19 => {
                "no record tells of answers; the simulator and the torture run judge it"
            }
            I22 | I27 | I30 => "no check of records covers it yet",
            I1 if !self.outside.has_sends => "no list of sends is given",
            I10 if !self.outside.has_effects => "no list of effects is given",
            I4 => "no snapshot was compared with the records",
            _ if self.centre.coverage == Coverage::Absent => {
                "the journal it needs is not given: name the centre's, and those of its agents"
            }
            _ => "nothing of the kind happened in what was read",
        };
        why.to_owned()
    }
}
