//! Scenarios of the centre: what is accepted, pushed, repeated, ended.
//!
//! Each scenario also proves that every step conserves messages (I4) and, at its end, that the
//! state equals the one rebuilt from the records and the one read back from its image (I28).

extern crate std;

mod acks;
mod archive;
mod bodies;
mod damage;
mod fanout;
mod golden;
mod lanes;
mod measures;
mod operate;
mod operations;
mod push;
mod random;
mod restored;
mod submit;
mod time;

use super::*;
use crate::ack::{AckItem, Outcome, Stage};
use crate::lane::LaneRule;
use crate::machine::Out;
use crate::message::TypeName;
use alloc::vec;

/// A centre with time by hand; keeps every record and every effect.
struct World {
    centre: Centre,
    policy: Policy,
    out: Out<Centre>,
    now: Timestamp,
    records: Vec<Vec<u8>>,
    effects: Vec<Effect>,
    connection_last: u64,
    epoch: u64,
    operation_last: u32,
    ack_position: Position,
    damaged: Vec<Position>,
    archive: archive::Shared,
    /// A scenario with a planted defect does not keep the promises checked at its end.
    sound: bool,
}

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

fn tenant() -> TenantName {
    TenantName::parse("default").unwrap()
}

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

/// A message of ten bytes without a key.
fn message(number: u8, to: &str) -> Submission {
    Submission {
        id: id(number),
        tenant: tenant(),
        to: agent(to),
        kind: TypeName::parse("document.insert").unwrap(),
        lane: LaneName::default_lane(),
        rule: LaneRule::Block,
        key: None,
        fingerprint: [number; 16],
        body_sha256: [number; 32],
        body: None,
        expires_at: None,
        not_before: None,
        attempts_max: None,
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        tracestate: String::new(),
        sender: String::from("erp"),
        content_type: String::new(),
        data: Bytes::from(vec![b'0' + number % 10; 10]),
    }
}

impl World {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        let archive = archive::Shared::default();
        let mut world = Self {
            centre: Centre::with_archive(policy.clone(), archive.clone()),
            archive,
            policy,
            out: Out::<Centre>::new(1),
            now: NOON,
            records: vec![],
            effects: vec![],
            connection_last: 0,
            operation_last: 0,
            ack_position: 0,
            epoch: 1,
            damaged: vec![],
            sound: true,
        };
        world.started();
        world.register("lyon");
        world
    }

    fn started(&mut self) {
        let start = Start {
            epoch: self.epoch,
            damaged: self.damaged.clone(),
        };
        self.centre.started(start, self.now, &mut self.out);
        self.settle();
    }

    /// The process ends, and these records are found damaged at the next start.
    fn restart_with_damage(&mut self, damaged: &[Position]) {
        self.damaged.extend(damaged);
        self.restart();
    }

    /// Where the last record of this kind stands.
    fn position_of(&self, is: impl Fn(&Record<'_>) -> bool) -> Position {
        let mut records = self.records.iter();
        let last = records.rposition(|record| is(&decode_record(record).unwrap()));
        last.expect("there is one") as Position + 1
    }

    /// Takes what the step led to.
    fn settle(&mut self) {
        for effect in self.out.take_effects() {
            match effect {
                Effect::BatchRecorded { batch } => self.archive.clone().release(batch),
                other => self.effects.push(other),
            }
        }
        let (_, payloads, ends) = self.out.take_records();
        let mut start = 0;
        for end in ends {
            self.records.push(payloads[start..end as usize].to_vec());
            start = end as usize;
        }
        assert!(
            !self.sound || self.centre.state().conserved(),
            "{:?}",
            self.centre.state().counters()
        );
    }

    fn input(&mut self, input: Input) -> Reply {
        self.centre.step(input, self.now, &mut self.out);
        self.settle();
        self.out.take_reply().expect("every input is answered")
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        self.centre.deadline(self.now, &mut self.out);
        self.settle();
    }

    fn restart(&mut self) {
        self.archive.crash();
        self.centre = self.rebuilt_with(self.archive.clone());
        self.supply();
        self.started();
    }

    /// Gives the centre back what its archive has lost.
    fn supply(&mut self) {
        for position in self.centre.lacking().unwrap() {
            let record = &self.records[position as usize - 1];
            self.centre.supply(record).unwrap();
        }
    }

    fn rebuilt(&self) -> Centre {
        self.rebuilt_with(NoArchive)
    }

    fn rebuilt_with(&self, archive: impl Archive) -> Centre {
        let mut centre = Centre::with_archive(self.policy.clone(), archive);
        for (index, record) in self.records.iter().enumerate() {
            let position = index as Position + 1;
            if self.damaged.contains(&position) {
                continue;
            }
            match centre.restore(position, record) {
                Err(RecordError::Inconsistent(_)) if !self.damaged.is_empty() => {}
                restored => restored.unwrap(),
            }
        }
        centre
    }

    fn register(&mut self, name: &str) {
        let reply = self.input(Input::Register {
            tenant: tenant(),
            agent: agent(name),
        });
        assert_eq!(reply, Reply::Registered(Ok(())));
    }

    fn submit(&mut self, message: Submission) -> Result<Receipt, Refusal> {
        match self.input(Input::Submit(Box::new(message))) {
            Reply::Submitted(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Submits messages with these numbers to `lyon`.
    fn send(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.submit(message(number, "lyon")).unwrap();
        }
    }

    fn connect(&mut self, name: &str) -> u64 {
        self.connection_last += 1;
        let connection = self.connection_last;
        let reply = self.input(Input::Connect {
            tenant: tenant(),
            agent: agent(name),
            connection,
            token_expires_at: self.now + TOKEN_LIFE,
        });
        assert!(matches!(reply, Reply::Connected(Ok(_))), "{reply:?}");
        connection
    }

    fn ready_saying(
        &mut self,
        connection: u64,
        agent_epoch: u64,
        cursor: Seq,
        centre_epoch: u64,
    ) -> Option<Welcome> {
        let reply = self.input(Input::Ready {
            connection,
            agent_epoch,
            floor: 0,
            cursor,
            highest: None,
            centre_epoch,
            parked: vec![],
        });
        match reply {
            Reply::Ready(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    fn ready(&mut self, connection: u64) -> Welcome {
        self.ready_saying(connection, 7, 0, 1)
            .expect("it is current")
    }

    /// A connected and ready `lyon`.
    fn online(&mut self) -> u64 {
        let connection = self.connect("lyon");
        self.ready(connection);
        connection
    }

    fn disconnect(&mut self, connection: u64) {
        self.input(Input::Disconnect { connection });
    }

    /// An acknowledgement by `lyon` of the first generation.
    fn ack(&mut self, number: u8, stage: Stage, attempt: u32) {
        let ack = self.ack_of("lyon", number, stage, attempt);
        self.acks(vec![ack]);
    }

    fn ack_of(&self, name: &str, number: u8, stage: Stage, attempt: u32) -> Ack {
        Ack {
            at: self.now,
            tenant: tenant(),
            agent: agent(name),
            item: AckItem {
                message: id(number),
                stage,
                attempt,
                generation: 1,
                occurred_at: self.now,
                outcome: Outcome::default(),
                duration_ms: 0,
                traceparent: String::new(),
                next_at: None,
            },
        }
    }

    fn acks(&mut self, acks: Vec<Ack>) {
        self.ack_position += acks.len() as u64;
        let through = self.ack_position;
        self.input(Input::Acks {
            source: 9,
            through,
            acks,
            damaged: vec![],
        });
    }

    fn place(&mut self, number: u8) -> Option<Place> {
        self.view(number).map(|view| view.place)
    }

    fn view(&mut self, number: u8) -> Option<View> {
        match self.input(Input::Look {
            tenant: tenant(),
            id: id(number),
        }) {
            Reply::Message(view) => view,
            other => panic!("{other:?}"),
        }
    }

    fn counters(&self) -> &Counters {
        self.centre.state().counters()
    }

    /// Pushes since the last call: number of the message, number of the push.
    fn pushed(&mut self) -> Vec<(u8, u32)> {
        let pushes = self.pushes();
        pushes
            .iter()
            .map(|push| (push.id.0[0], push.attempt))
            .collect()
    }

    fn pushes(&mut self) -> Vec<Push> {
        let effects = core::mem::take(&mut self.effects);
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Push(push) => Some(push),
                _ => None,
            })
            .collect()
    }

    /// The causes of all pushes ever made of this message.
    fn causes(&self, number: u8) -> Vec<Cause> {
        let records = self
            .records
            .iter()
            .map(|record| decode_record(record).unwrap());
        records
            .filter_map(|record| match record {
                Record::Offered { id: of, cause, .. } if of == id(number) => Some(cause),
                _ => None,
            })
            .collect()
    }

    /// What was kept as evidence, in order.
    fn kept(&self) -> Vec<Why> {
        let records = self
            .records
            .iter()
            .map(|record| decode_record(record).unwrap());
        records
            .filter_map(|record| match record {
                Record::Kept { why, .. } => Some(why),
                _ => None,
            })
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.sound && !std::thread::panicking() {
            assert_eq!(self.rebuilt().state, self.centre.state, "records and state");
            let (mut image, mut loaded) = (vec![], Centre::new(self.policy.clone()));
            self.centre.save(&mut image);
            loaded.load(&image).unwrap();
            assert_eq!(loaded.state, self.centre.state, "image and state");
        }
    }
}
