//! Scenarios of the site: what is new, what is worked on, what is owed.
//!
//! Each scenario also proves at its end that the state equals the one rebuilt from the records and
//! the one read back from its image.

extern crate std;

mod damage;
mod golden;
mod lanes;
mod owed;
mod random;
mod work;

use super::*;
use crate::machine::Out;
use alloc::vec;

/// A site with time by hand; keeps every record and every effect.
struct World {
    site: Site,
    policy: Policy,
    out: Out<Site>,
    now: Timestamp,
    records: Vec<Vec<u8>>,
    effects: Vec<Effect>,
    epoch: u64,
    damaged: Vec<Position>,
}

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

fn arrival(number: u8, lane: &str) -> Arrival {
    Arrival {
        id: id(number),
        generation: 1,
        seq: number.into(),
        attempt: 1,
        lane: LaneName::parse(lane).unwrap(),
        rule: LaneRule::Block,
        kind: None,
        attempts_max: None,
        envelope: Bytes::from_static(b"{}"),
    }
}

fn outcome(code: &str) -> Outcome {
    Outcome {
        code: code.into(),
        ..Outcome::default()
    }
}

fn done() -> WorkResult {
    WorkResult::Done(outcome("inserted"))
}

fn failed() -> WorkResult {
    WorkResult::Failed {
        outcome: outcome("http-503"),
        retry_after: None,
    }
}

impl World {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        let mut world = Self {
            site: Site::new(policy.clone()),
            policy,
            out: Out::<Site>::new(1),
            now: NOON,
            records: vec![],
            effects: vec![],
            epoch: 1,
            damaged: vec![],
        };
        world.started();
        world
    }

    fn started(&mut self) {
        self.start_with_damage(vec![]);
    }

    fn start_with_damage(&mut self, damaged: Vec<Position>) {
        let start = Start {
            epoch: self.epoch,
            damaged,
        };
        self.site.started(start, self.now, &mut self.out);
        self.settle();
    }

    fn settle(&mut self) {
        self.effects.append(&mut self.out.take_effects());
        let (_, payloads, ends) = self.out.take_records();
        let mut start = 0;
        for end in ends {
            self.records.push(payloads[start..end as usize].to_vec());
            start = end as usize;
        }
    }

    fn input(&mut self, input: Input) -> Reply {
        self.site.step(input, self.now, &mut self.out);
        self.settle();
        self.out.take_reply().expect("every input is answered")
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        self.site.deadline(self.now, &mut self.out);
        self.settle();
    }

    /// The process ends; effects not yet taken are lost with it.
    fn restart(&mut self) {
        self.site = self.rebuilt();
        self.effects.clear();
        self.started();
    }

    /// The process ends, and these records are found damaged at the next start.
    fn restart_with_damage(&mut self, damaged: &[Position]) {
        self.damaged.extend(damaged);
        self.site = self.rebuilt();
        self.effects.clear();
        self.start_with_damage(self.damaged.clone());
    }

    fn rebuilt(&self) -> Site {
        let mut site = Site::new(self.policy.clone());
        for (index, record) in self.records.iter().enumerate() {
            let position = index as Position + 1;
            if self.damaged.contains(&position) {
                continue;
            }
            match site.restore(position, record) {
                Err(RecordError::Inconsistent(_)) if !self.damaged.is_empty() => {}
                restored => restored.unwrap(),
            }
        }
        site
    }

    /// Where the last record of this kind stands.
    fn position_of(&self, is: impl Fn(&Record<'_>) -> bool) -> Position {
        let last = self
            .records
            .iter()
            .rposition(|record| is(&decode_record(record).unwrap()));
        last.expect("there is one") as Position + 1
    }

    /// Whether it was new.
    fn arrive(&mut self, arrival: Arrival) -> bool {
        match self.input(Input::Arrived(vec![arrival])) {
            Reply::Arrived { new } => new == 1,
            other => panic!("{other:?}"),
        }
    }

    /// Messages with these numbers arrive in the default lane.
    fn arrive_all(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            assert!(self.arrive(arrival(number, "default")));
        }
    }

    fn worked(&mut self, number: u8, attempt: u32, result: WorkResult) {
        self.input(Input::Worked {
            id: id(number),
            generation: 1,
            attempt,
            result,
            duration_ms: 4,
        });
    }

    fn welcomed(&mut self, centre_epoch: u64, oldest_replayable: u64) {
        self.input(Input::Welcomed {
            centre_epoch,
            oldest_replayable,
        });
    }

    fn standing(&mut self) -> Standing {
        match self.input(Input::LookStanding) {
            Reply::Standing(standing) => standing,
            other => panic!("{other:?}"),
        }
    }

    fn owed(&mut self) -> Vec<AckOwed> {
        match self.input(Input::TakeOwed { at_most: 100 }) {
            Reply::Owed(owed) => owed,
            other => panic!("{other:?}"),
        }
    }

    /// Number of the message, stage and attempt of what is owed.
    fn owes(&mut self) -> Vec<(u8, Stage, u32)> {
        let stage = |owed: &AckOwed| match owed.stage {
            OwedStage::Stored(_) => Stage::Stored,
            OwedStage::Ended(stage, _) | OwedStage::Again { stage, .. } => stage,
        };
        self.owed()
            .iter()
            .map(|owed| (owed.id.0[0], stage(owed), owed.attempt))
            .collect()
    }

    /// Everything that is owed is told.
    fn post_all(&mut self) {
        let numbers = self.owed().iter().map(|owed| owed.number).collect();
        self.input(Input::Posted { numbers });
    }

    /// Work asked for since the last call: number of the message, attempt.
    fn working(&mut self) -> Vec<(u8, u32)> {
        let works = self.works();
        works
            .iter()
            .map(|work| (work.id.0[0], work.attempt))
            .collect()
    }

    fn works(&mut self) -> Vec<Work> {
        let effects = core::mem::take(&mut self.effects);
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Work(work) => Some(work),
                _ => None,
            })
            .collect()
    }

    fn counters(&self) -> Counters {
        self.site.state().counters()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.rebuilt().state, self.site.state, "records and state");
            let (mut image, mut loaded) = (vec![], Site::new(self.policy.clone()));
            self.site.save(&mut image);
            loaded.load(&image).unwrap();
            assert_eq!(loaded.state, self.site.state, "image and state");
        }
    }
}
