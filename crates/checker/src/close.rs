//! What crosses journals, judged once for each life of a message: when it is forgotten, begun anew,
//! or when everything was told.

use crate::lives::{Flags, Key, Life};
use crate::verdict::{Invariant, Violation};
use crate::{Checker, Coverage};
use countersign_rules::ack::Stage;
use countersign_rules::delivery::End;

impl Checker {
    /// Judges a life. More than once does no harm.
    pub(crate) fn close(&mut self, key: Key) {
        let Some(life) = self.lives.get(key).copied() else {
            return;
        };
        if life.flags.has(Flags::CLOSED) {
            return;
        }
        self.lives.entry(key).flags.set(Flags::CLOSED);
        self.i2_it_was_accepted(key, &life);
        self.i8_it_was_in_the_inbox(key, &life);
        self.i9_processed_is_true(key, &life);
        self.i10_it_had_one_effect(key, &life);
        self.i11_its_owner_said_so(key, &life);
    }

    fn cross(&mut self, invariant: Invariant, key: Key, says: impl Into<String>) {
        self.tallies.broken(Violation {
            invariant,
            says: says.into(),
            about: vec![key.id],
            at: None,
        });
    }

    /// I2: what is at a site or in the back office was accepted.
    fn i2_it_was_accepted(&mut self, key: Key, life: &Life) {
        let arrived = life.flags.has(Flags::INBOXED);
        if !arrived && life.effects == 0 {
            return;
        }
        if life.flags.has(Flags::KNOWN) {
            return self.tallies.held(Invariant::I2);
        }
        if let Some(why) = self.centre_doubt() {
            return self.tallies.open(Invariant::I2, why);
        }
        let place = match arrived {
            true => "at a site",
            false => "in the back office",
        };
        self.figures.unexpected += 1;
        let (id, generation) = (key.id, key.generation);
        self.cross(
            Invariant::I2,
            key,
            format!("{id} (life {generation}) is {place} and was never accepted"),
        );
    }

    /// I8: whoever acknowledges has it on disk.
    fn i8_it_was_in_the_inbox(&mut self, key: Key, life: &Life) {
        if !life.flags.has(Flags::SAID_STORED) && life.word.is_none() {
            return;
        }
        if life.flags.has(Flags::INBOXED) {
            return self.tallies.held(Invariant::I8);
        }
        if let Some(why) = self.site_doubt(life) {
            return self.tallies.open(Invariant::I8, why);
        }
        let (id, name) = (key.id, self.centre.name_of(life.recipient));
        self.cross(
            Invariant::I8,
            key,
            format!("{name} acknowledged {id}, which was never in its inbox"),
        );
    }

    /// I9: processed means that the site wrote a success down, and that the back office has it.
    fn i9_processed_is_true(&mut self, key: Key, life: &Life) {
        let said = life.flags.has(Flags::SAID_DONE) || life.end == Some(End::Processed);
        let (id, name) = (key.id, self.centre.name_of(life.recipient));
        if said && !life.flags.has(Flags::DONE) {
            match self.site_doubt(life) {
                Some(why) => self.tallies.open(Invariant::I9, why),
                None => {
                    self.figures.false_success += 1;
                    self.cross(
                        Invariant::I9,
                        key,
                        format!("{id} counts as processed, and {name} wrote no success of it down"),
                    );
                }
            }
        } else if said {
            self.tallies.held(Invariant::I9);
        }
        if self.outside.has_effects && (said || life.flags.has(Flags::DONE)) {
            if life.effects > 0 {
                return self.tallies.held(Invariant::I9);
            }
            self.figures.false_success += 1;
            self.cross(
                Invariant::I9,
                key,
                format!("{id} counts as processed, and the back office has nothing of it"),
            );
        }
    }

    /// I10: one effect; a second one only where a repeat was declared and keys are not looked at.
    fn i10_it_had_one_effect(&mut self, key: Key, life: &Life) {
        if life.effects == 0 {
            return;
        }
        let declared = life.flags.has(Flags::REPEATED) && !self.limits.keys_honoured;
        self.figures.effects_repeated += u64::from(life.effects) - 1;
        if life.effects == 1 || declared {
            return self.tallies.held(Invariant::I10);
        }
        let (id, effects) = (key.id, life.effects);
        self.figures.duplicated_in_effect += u64::from(effects) - 1;
        self.cross(
            Invariant::I10,
            key,
            format!("{id} had {effects} effects in the back office"),
        );
    }

    /// I11: what changed the state was said by the owner, and its first word stands.
    fn i11_its_owner_said_so(&mut self, key: Key, life: &Life) {
        let id = key.id;
        let by_site = life.end.filter(|_| life.flags.has(Flags::BY_SITE));
        match (by_site, life.word) {
            (Some(end), Some(word)) => {
                let fits = stage_of(end) == Some(word);
                if fits {
                    return self.tallies.held(Invariant::I11);
                }
                self.cross(
                    Invariant::I11,
                    key,
                    format!("{id} ended as {end:?}, but its owner first said {word:?}"),
                );
            }
            (Some(end), None) => self.unsaid(key, &format!("{id} ended as {end:?}")),
            (None, _) if life.flags.has(Flags::EVER_RECEIVED) => {
                match life.flags.has(Flags::SAID_STORED) || life.word.is_some() {
                    true => self.tallies.held(Invariant::I11),
                    false => self.unsaid(key, &format!("{id} counts as stored")),
                }
            }
            _ => {}
        }
    }

    fn unsaid(&mut self, key: Key, what: &str) {
        match self.acks.coverage.doubt("the ack store") {
            Some(why) => self.tallies.open(Invariant::I11, why),
            None => self.cross(
                Invariant::I11,
                key,
                format!("{what}, and its owner said nothing of the kind"),
            ),
        }
    }

    /// Why what the life's site wrote may not all have been told.
    fn site_doubt(&self, life: &Life) -> Option<String> {
        if !life.flags.has(Flags::KNOWN) {
            let unknown = || String::from("whoever acknowledged it did so for an unknown message");
            let doubt = self.centre_doubt();
            return Some(doubt.unwrap_or_else(unknown));
        }
        let name = self.centre.name_of(life.recipient);
        let owner = self.centre.recipients.get(life.recipient as usize);
        let owner = owner.and_then(|owner| owner.name.as_ref());
        let site = self
            .sites
            .iter()
            .find(|site| owner.is_some_and(|(_, name)| site.name.as_ref() == Some(name)));
        match site {
            Some(site) => site.coverage.doubt(&name),
            None => Coverage::Absent.doubt(&name),
        }
    }
}

fn stage_of(end: End) -> Option<Stage> {
    match end {
        End::Processed => Some(Stage::Acknowledged),
        End::Rejected => Some(Stage::Rejected),
        End::Dead => Some(Stage::Dead),
        _ => None,
    }
}
