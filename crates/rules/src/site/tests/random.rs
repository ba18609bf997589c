//! Any inputs in any order: order, limits and memory hold, and records, image and state agree.

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Happens {
    Arrive {
        number: u8,
        lane: u8,
        rule: u8,
        attempt: u8,
        attempts_max: Option<u8>,
    },
    Work {
        which: u8,
        how: u8,
    },
    Resume {
        which: u8,
    },
    /// What has parked a lane comes once more.
    AgainFirst {
        which: u8,
    },
    Post {
        at_most: u8,
    },
    Welcome {
        epoch: u8,
        oldest: u8,
    },
    Carry {
        which: u8,
    },
    Pass {
        millis: u16,
    },
    SetBack {
        seconds: u16,
    },
    Restart,
    Snapshot,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1..40u8, 0..3u8, 0..3u8, 1..4u8, any::<Option<u8>>()).prop_map(
            |(number, lane, rule, attempt, max)| Happens::Arrive {
                number,
                lane,
                rule,
                attempt,
                attempts_max: max.map(|max| max % 3 + 1),
            }
        ),
        6 => (any::<u8>(), 0..8u8).prop_map(|(which, how)| Happens::Work { which, how }),
        2 => any::<u8>().prop_map(|which| Happens::Resume { which }),
        2 => any::<u8>().prop_map(|which| Happens::AgainFirst { which }),
        3 => (0..9u8).prop_map(|at_most| Happens::Post { at_most }),
        1 => (1..12u8, 1..40u8).prop_map(|(epoch, oldest)| Happens::Welcome {
            epoch: 1 + epoch / 11,
            oldest,
        }),
        1 => any::<u8>().prop_map(|which| Happens::Carry { which }),
        3 => any::<u16>().prop_map(|millis| Happens::Pass { millis }),
        1 => any::<u16>().prop_map(|seconds| Happens::SetBack { seconds }),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Snapshot),
    ]
}

struct Random {
    world: World,
    lanes: BTreeMap<MessageId, u8>,
    rules: BTreeMap<MessageId, LaneRule>,
    ended: BTreeSet<(MessageId, u32)>,
    going_on: BTreeSet<(MessageId, u32)>,
    running: Vec<Work>,
    /// First attempts per lane, in the order they began, and arrivals per lane.
    begun: BTreeMap<u8, Vec<MessageId>>,
    arrived: BTreeMap<u8, Vec<MessageId>>,
    snapshot: Option<(usize, Vec<u8>)>,
    checked: usize,
}

impl Random {
    fn run(policy: Policy, happenings: &[Happens]) -> Self {
        let mut random = Random {
            world: World::with(policy),
            lanes: BTreeMap::new(),
            rules: BTreeMap::new(),
            ended: BTreeSet::new(),
            going_on: BTreeSet::new(),
            running: vec![],
            begun: BTreeMap::new(),
            arrived: BTreeMap::new(),
            snapshot: None,
            checked: 0,
        };
        for one in happenings {
            random.happen(one);
            random.check_step();
        }
        random
    }

    fn happen(&mut self, what: &Happens) {
        let world = &mut self.world;
        match *what {
            Happens::Arrive {
                number,
                lane,
                rule,
                attempt,
                attempts_max,
            } => {
                let rule = [LaneRule::Block, LaneRule::Skip, LaneRule::Park][usize::from(rule)];
                let rule = *self.rules.entry(id(number)).or_insert(rule);
                let lane = *self.lanes.entry(id(number)).or_insert(lane);
                let forgotten = u64::from(number) < world.standing().floor;
                let new = world.arrive(Arrival {
                    attempt: attempt.into(),
                    rule,
                    attempts_max: attempts_max.map(Into::into),
                    ..arrival(number, ["a", "b", "c"][usize::from(lane)])
                });
                if new && !forgotten {
                    self.arrived.entry(lane).or_default().push(id(number));
                }
            }
            Happens::Work { which, how } => {
                if self.running.is_empty() {
                    return;
                }
                let at = usize::from(which) % self.running.len();
                let work = self.running.swap_remove(at);
                let result = match how {
                    0 | 1 => done(),
                    2 => WorkResult::Rejected(outcome("http-422")),
                    3 => WorkResult::Unusable(outcome("envelope-malformed")),
                    4 if self.going_on.insert((work.id, work.generation)) => {
                        WorkResult::StillWorking {
                            outcome: outcome("http-202"),
                            ask_after: None,
                        }
                    }
                    _ => failed(),
                };
                world.input(Input::Worked {
                    id: work.id,
                    generation: work.generation,
                    attempt: work.attempt,
                    result,
                    duration_ms: 4,
                });
            }
            Happens::Resume { which } => {
                let parked = world.standing().parked;
                if let Some(lane) = parked.get(usize::from(which) % parked.len().max(1)) {
                    let (id, generation) = (lane.by, lane.generation);
                    world.input(Input::Resumed(vec![Resumed { id, generation }]));
                }
            }
            Happens::AgainFirst { which } => {
                let parked = world.standing().parked;
                if let Some(lane) = parked.get(usize::from(which) % parked.len().max(1)) {
                    world.arrive(Arrival {
                        generation: lane.generation + 1,
                        seq: 200,
                        rule: LaneRule::Park,
                        ..arrival(lane.by.0[0], lane.lane.as_str())
                    });
                }
            }
            Happens::Post { at_most } => {
                let owed = world.owed();
                let numbers = owed.iter().take(at_most.into());
                let numbers = numbers.map(|owed| owed.number).collect();
                world.input(Input::Posted { numbers });
            }
            Happens::Welcome { epoch, oldest } => world.welcomed(epoch.into(), oldest.into()),
            Happens::Carry { which } => self.carry(which),
            Happens::Pass { millis } => world.pass(Duration::from_millis(millis.into())),
            Happens::SetBack { seconds } => {
                world.now = world.now.before(Duration::from_secs(seconds.into()));
                world.pass(Duration::ZERO);
            }
            Happens::Restart => {
                self.running.clear();
                world.restart();
            }
            Happens::Snapshot => {
                let mut image = vec![];
                world.site.save(&mut image);
                self.snapshot = Some((world.records.len(), image));
            }
        }
    }

    fn carry(&mut self, which: u8) {
        let world = &mut self.world;
        world
            .effects
            .retain(|effect| matches!(effect, Effect::Work(_)));
        let before = world.records.len() as Position + 1;
        world.site.release(before, u64::MAX, &mut world.out);
        world.settle();
        let copies: Vec<_> = world
            .effects
            .extract_if(.., |effect| matches!(effect, Effect::CopyForward { .. }))
            .collect();
        if copies.is_empty() {
            return;
        }
        if let Effect::CopyForward {
            id,
            generation,
            inboxed,
        } = copies[usize::from(which) % copies.len()]
        {
            let inboxed = Bytes::from(world.records[inboxed as usize - 1].clone());
            world.input(Input::Carry {
                id,
                generation,
                inboxed,
            });
        }
    }

    fn check_step(&mut self) {
        let mut begun = vec![];
        for work in self.world.works() {
            let lane = self.lanes[&work.id];
            // Asked again because the back office was still working on it: no other attempt.
            let goes_on = self.going_on.remove(&(work.id, work.generation));
            if work.attempt == 1 && work.generation == 1 && !goes_on {
                self.begun.entry(lane).or_default().push(work.id);
            }
            let same_lane = |other: &Work| self.lanes[&other.id] == lane;
            assert!(
                !self.running.iter().any(same_lane),
                "one of a lane at a time"
            );
            let record = &self.world.records[work.inboxed as usize - 1];
            let of = match decode_record(record).unwrap() {
                Record::TakenIn { id, .. } | Record::Carried { id, .. } => id,
                other => panic!("{other:?}"),
            };
            assert_eq!(of, work.id);
            begun.push(work.clone());
            self.running.push(work);
        }
        assert!(self.running.len() <= self.world.policy.workers as usize);
        assert_eq!(self.running.len(), self.world.counters().running as usize);
        for (lane, begun) in &self.begun {
            let arrived = &self.arrived[lane];
            assert_eq!(begun[..], arrived[..begun.len()], "order of arrival");
        }
        self.check_rules(&begun);
        let counters = self.world.counters();
        let ended = counters.done + counters.rejected + counters.dead;
        assert_eq!(counters.arrived, counters.waiting + ended);
    }

    /// What begins goes past none that is not ended, but for those that let it; and in a parked lane
    /// runs nothing but what parked it.
    fn check_rules(&mut self, begun: &[Work]) {
        let records = self.world.records.iter();
        for record in records.skip(self.checked) {
            if let Record::Worked {
                id,
                generation,
                worked,
                ..
            } = decode_record(record).unwrap()
                && worked.stage().is_some()
            {
                self.ended.insert((id, generation));
            }
        }
        self.checked = self.world.records.len();
        let parked: Vec<_> = self.world.site.state().parked().collect();
        for work in begun {
            let lane = self.lanes[&work.id];
            let name = ["a", "b", "c"][usize::from(lane)];
            if let Some(parked) = parked.iter().find(|parked| parked.lane.as_str() == name) {
                assert!(work.id == parked.by && work.generation > parked.generation);
                continue;
            }
            if work.generation > 1 {
                continue;
            }
            let arrived = self.arrived[&lane].iter();
            for earlier in arrived.take_while(|other| **other != work.id) {
                let is_over = self.ended.contains(&(*earlier, 1));
                assert!(is_over || self.rules[earlier] == LaneRule::Skip);
            }
        }
    }

    fn check_end(&self) {
        if let Some((records, image)) = &self.snapshot {
            let mut site = Site::new(self.world.policy.clone());
            site.load(image).unwrap();
            for (index, record) in self.world.records.iter().enumerate().skip(*records) {
                site.restore(index as Position + 1, record).unwrap();
            }
            assert_eq!(site.state, self.world.site.state, "image, tail and state");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_lanes_keep_their_order_and_records_image_and_state_agree(
        happenings in proptest::collection::vec(happens(), 1..120),
        workers in 1..4u32,
    ) {
        let policy = Policy { workers, ..Policy::default() };
        let first = Random::run(policy.clone(), &happenings);
        first.check_end();
        let again = Random::run(policy, &happenings);
        prop_assert_eq!(&first.world.records, &again.world.records, "same inputs, same records");
    }
}
