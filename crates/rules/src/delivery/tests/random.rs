//! Any inputs in any order: nothing is lost or counted twice, and state, records and image agree.

use super::*;
use proptest::prelude::*;

/// One thing that happens; numbers are taken modulo what exists.
#[derive(Clone, Debug)]
enum Happens {
    Send {
        to: u8,
        key: Option<u8>,
        fingerprint: u8,
        life_s: Option<u8>,
        wait_s: Option<u8>,
        lane: u8,
        rule: u8,
    },
    ResumeLane {
        who: u8,
        lane: u8,
    },
    Cancel {
        message: u8,
    },
    Operate {
        kind: u8,
        twice: bool,
        rate: u32,
    },
    Reprocess {
        message: u8,
    },
    Pause {
        who: u8,
        paused: bool,
    },
    Connect {
        who: u8,
    },
    Ready {
        connection: u8,
        epoch: u8,
        cursor: u8,
    },
    Disconnect {
        connection: u8,
    },
    Ack {
        who: u8,
        message: u8,
        stage: u8,
        attempt: u8,
        generation: u8,
    },
    Carry {
        message: u8,
    },
    Pass {
        seconds: u16,
    },
    SetBack {
        seconds: u16,
    },
    Restart,
    Snapshot,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (0..2u8, any::<Option<u8>>(), 0..2u8, any::<Option<u8>>(), any::<Option<u8>>(), 0..2u8, 0..3u8)
            .prop_map(|(to, key, fingerprint, life_s, wait_s, lane, rule)| Happens::Send {
                lane,
                rule,
                to,
                key: key.map(|key| key % 8),
                fingerprint,
                life_s: life_s.filter(|life| life % 4 == 0),
                wait_s: wait_s.filter(|wait| wait % 4 == 0),
            }),
        2 => any::<u8>().prop_map(|message| Happens::Cancel { message }),
        2 => any::<u8>().prop_map(|message| Happens::Reprocess { message }),
        2 => (0..4u8, any::<bool>(), 1..40u32)
            .prop_map(|(kind, twice, rate)| Happens::Operate { kind, twice, rate }),
        1 => (0..2u8, any::<bool>()).prop_map(|(who, paused)| Happens::Pause { who, paused }),
        2 => (0..2u8, 0..2u8).prop_map(|(who, lane)| Happens::ResumeLane { who, lane }),
        2 => (0..2u8).prop_map(|who| Happens::Connect { who }),
        3 => (0..4u8, 0..20u8, any::<u8>()).prop_map(|(connection, epoch, cursor)| {
            Happens::Ready { connection, epoch: epoch.saturating_sub(17), cursor }
        }),
        1 => (0..4u8).prop_map(|connection| Happens::Disconnect { connection }),
        6 => (0..2u8, any::<u8>(), 0..5u8, 0..4u8, 0..12u8).prop_map(
            |(who, message, stage, attempt, generation)| Happens::Ack {
                who,
                message,
                stage,
                attempt,
                generation: 1 + generation / 9,
            }
        ),
        1 => any::<u8>().prop_map(|message| Happens::Carry { message }),
        3 => (0..120u16).prop_map(|seconds| Happens::Pass { seconds }),
        1 => any::<u16>().prop_map(|seconds| Happens::SetBack { seconds }),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Snapshot),
    ]
}

const NAMES: [&str; 2] = ["lyon", "nice"];
const LANES: [&str; 2] = ["a", "b"];
const STAGES: [Stage; 5] = [
    Stage::Stored,
    Stage::Acknowledged,
    Stage::Rejected,
    Stage::Dead,
    Stage::Retrying,
];

/// A world that things happen to.
struct Random {
    world: World,
    sent: u8,
    snapshot: Option<(usize, Vec<u8>)>,
    effects: Vec<Effect>,
}

impl Random {
    fn run(policy: Policy, happenings: &[Happens]) -> Self {
        let mut world = World::with(policy);
        world.register(NAMES[1]);
        let mut random = Random {
            world,
            sent: 0,
            snapshot: None,
            effects: vec![],
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
            Happens::Send {
                to,
                key,
                fingerprint,
                life_s,
                wait_s,
                lane,
                rule,
            } => {
                let rules = [LaneRule::Block, LaneRule::Skip, LaneRule::Park];
                self.sent = self.sent.wrapping_add(1);
                let _ = world.submit(Submission {
                    lane: LaneName::parse(LANES[usize::from(lane)]).unwrap(),
                    rule: rules[usize::from(rule)],
                    key: key.map(|key| [key + 1; 16]),
                    fingerprint: [fingerprint; 16],
                    expires_at: life_s.map(|s| world.now + Duration::from_secs(s.into())),
                    not_before: wait_s.map(|s| world.now + Duration::from_secs(s.into())),
                    ..message(self.sent, NAMES[usize::from(to)])
                });
            }
            Happens::Cancel { message } => {
                world.input(Input::Cancel {
                    tenant: tenant(),
                    id: id(message % self.sent.max(1) + 1),
                    by: String::from("ada"),
                });
            }
            Happens::Operate { kind, twice, rate } => {
                world.operate_on_all(kind, twice, rate);
            }
            Happens::Reprocess { message } => {
                world.input(Input::Reprocess {
                    tenant: tenant(),
                    id: id(message % self.sent.max(1) + 1),
                    may_process_twice: false,
                    by: String::from("ada"),
                });
            }
            Happens::Pause { who, paused } => {
                world.input(Input::Pause {
                    tenant: tenant(),
                    agent: agent(NAMES[usize::from(who)]),
                    paused,
                    reason: String::new(),
                    by: String::from("ada"),
                });
            }
            Happens::ResumeLane { who, lane } => {
                world.input(Input::ResumeLane {
                    tenant: tenant(),
                    agent: agent(NAMES[usize::from(who)]),
                    lane: LaneName::parse(LANES[usize::from(lane)]).unwrap(),
                    reason: String::new(),
                    by: String::from("ada"),
                });
            }
            Happens::Connect { who } => {
                world.connect(NAMES[usize::from(who)]);
            }
            Happens::Ready {
                connection,
                epoch,
                cursor,
            } => {
                let connection = world.connection_last.saturating_sub(connection.into());
                world.ready_saying(connection, epoch.into(), cursor.into(), 1);
            }
            Happens::Disconnect { connection } => {
                let connection = world.connection_last.saturating_sub(connection.into());
                world.disconnect(connection);
            }
            Happens::Ack {
                who,
                message,
                stage,
                attempt,
                generation,
            } => {
                let message = message % self.sent.max(1) + 1;
                let stage = STAGES[usize::from(stage)];
                let mut ack = world.ack_of(NAMES[usize::from(who)], message, stage, attempt.into());
                ack.item.generation = generation.into();
                world.acks(vec![ack]);
            }
            Happens::Carry { message } => self.carry(message % self.sent.max(1) + 1),
            Happens::Pass { seconds } => world.pass(Duration::from_secs(seconds.into())),
            Happens::SetBack { seconds } => {
                world.now = world.now.before(Duration::from_secs(seconds.into()));
                world.pass(Duration::ZERO);
            }
            Happens::Restart => {
                // A third of what it holds is lost.
                let mut kept = world.archive.kept();
                kept.batches.retain(|number, _| number % 3 != 0);
                drop(kept);
                world.restart();
            }
            Happens::Snapshot => {
                let mut image = vec![];
                world.centre.save(&mut image);
                self.snapshot = Some((world.records.len(), image));
            }
        }
    }

    fn carry(&mut self, number: u8) {
        let world = &mut self.world;
        let accepted = world.records.iter().rposition(|record| {
            decode_accepted(record).is_ok_and(|accepted| accepted.id == id(number))
        });
        if let Some(index) = accepted {
            let accepted = Bytes::from(world.records[index].clone());
            world.input(Input::Carry {
                id: id(number),
                accepted,
            });
        }
    }

    /// What holds after every step, beside conservation.
    fn check_step(&mut self) {
        let world = &mut self.world;
        assert!(world.centre.state().accounted(), "a message leads nowhere");
        let measures = world.centre.state().measures();
        let again = measures.counters.needed_store.again();
        let again: u64 = again.iter().map(|(_, count)| count).sum();
        assert_eq!(again, measures.counters.pushes_again, "each has one cause");
        let first = measures.counters.pushes - measures.counters.pushes_again;
        assert!(measures.counters.needed_store.waited <= first);
        let in_flight = world.centre.state().in_flight();
        let in_flight: usize = in_flight.map(|(_, messages, _)| messages).sum();
        assert_eq!(measures.in_flight, in_flight as u64);
        for (_, messages, bytes) in world.centre.state().in_flight() {
            assert!(messages <= world.policy.window_messages as usize);
            assert!(messages <= 1 || bytes <= world.policy.window_bytes);
            assert_eq!(bytes, 10 * messages as u64, "bytes are those in flight");
        }
        for effect in &world.effects {
            if let Effect::Push(push) = effect {
                let record = &world.records[push.accepted as usize - 1];
                assert_eq!(decode_accepted(record).unwrap().id, push.id);
            }
        }
        self.effects.append(&mut world.effects);
    }

    /// What the outside saw of it, and can ask for; positions apart.
    fn visible(&mut self) -> Vec<String> {
        let mut seen: Vec<_> = self.effects.iter().map(without_positions).collect();
        // What ends at one instant ends in the order of its places in memory, which differ.
        for ended in seen.chunk_by_mut(|a, b| [a, b].iter().all(|seen| seen.starts_with("Changed")))
        {
            ended.sort();
        }
        seen.push(alloc::format!("{:?}", self.world.counters()));
        for number in 0..=self.sent {
            let view = self.world.view(number);
            let view = view.map(|view| View { last: 0, ..view });
            seen.push(alloc::format!("{view:?}"));
        }
        for key in 1..=8 {
            let receipt = self.world.submit(Submission {
                key: Some([key; 16]),
                fingerprint: [0; 16],
                ..message(200 + key, NAMES[0])
            });
            let receipt = receipt.map(|receipt| Receipt {
                position: 0,
                ..receipt
            });
            seen.push(alloc::format!("{receipt:?}"));
        }
        seen
    }

    fn check_end(&self) {
        if let Some((records, image)) = &self.snapshot {
            let mut centre = Centre::new(self.world.policy.clone());
            centre.load(image).unwrap();
            for (index, record) in self.world.records.iter().enumerate().skip(*records) {
                centre.restore(index as Position + 1, record).unwrap();
            }
            assert_eq!(
                centre.state, self.world.centre.state,
                "image, tail and state"
            );
        }
    }
}

fn without_positions(effect: &Effect) -> String {
    let effect = match effect {
        Effect::Push(push) => Effect::Push(Push {
            accepted: 0,
            ..push.clone()
        }),
        Effect::CopyForward { id, .. } => Effect::CopyForward {
            id: *id,
            accepted: 0,
        },
        other => other.clone(),
    };
    alloc::format!("{effect:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_messages_are_conserved_and_records_image_and_state_agree(
        happenings in proptest::collection::vec(happens(), 1..120),
        window_messages in 1..4u32,
        window_bytes in 5..40u64,
    ) {
        let policy = Policy {
            window_messages,
            window_bytes,
            retention: Duration::from_secs(300),
            remembered_max: 2,
            archive_batch: 2,
            ..Policy::default()
        };
        let first = Random::run(policy.clone(), &happenings);
        first.check_end();
        let again = Random::run(policy, &happenings);
        prop_assert_eq!(&first.world.records, &again.world.records, "same inputs, same records");
        prop_assert_eq!(&first.effects, &again.effects, "same inputs, same effects");
    }

    #[test]
    fn whether_what_ended_is_in_memory_or_in_the_archive_makes_no_difference(
        happenings in proptest::collection::vec(happens(), 1..120),
    ) {
        let policy = |remembered_max| Policy {
            remembered_max,
            archive_batch: 2,
            ..Policy::default()
        };
        let mut in_memory = Random::run(policy(u64::MAX / 2), &happenings);
        let mut archived = Random::run(policy(1), &happenings);
        prop_assert_eq!(in_memory.visible(), archived.visible());
    }
}
