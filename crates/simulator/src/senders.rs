//! Senders: one message after the other, the same key again when no answer comes.

use crate::centre::not_taken;
use crate::event::{Event, Host, Many, Wish};
use crate::node::Ticket;
use crate::scenario::Rules;
use crate::world::{Happening, MS, SECOND, World, agent_name, group_name, lane_name, tenant};
use bytes::Bytes;
use countersign_rules::delivery::{Audience, Centre, FanOut, Input, Quorum, Submission};
use countersign_rules::limits::BODY_BYTES_MAX;
use countersign_rules::message::TypeName;
use countersign_rules::{LaneRule, MessageId, Timestamp};
use std::time::Duration;

/// An answer of the send API.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Ok {
        id: MessageId,
        repeated: bool,
    },
    Refused(String),
    /// Nobody listened: it was certainly not taken.
    Down,
}

/// A sender.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sender {
    /// The request it is busy with.
    request: Option<usize>,
    tries: u32,
    /// The call it waits for.
    call: Option<u64>,
    pub(crate) done: bool,
}

/// What is sent in all.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    made: Vec<Plan>,
}

/// What of a request only the send API is told.
#[derive(Clone, Debug)]
struct Plan {
    wish: Wish,
    life: Option<Duration>,
    wait: Option<Duration>,
    attempts_max: Option<u32>,
    kind: &'static str,
    rule: LaneRule,
    quorum: Option<Quorum>,
    /// Until when the quorum has to be there.
    patience: Option<Duration>,
}

/// One call of the send API.
#[derive(Clone, Debug)]
pub(crate) struct SendCall {
    sender: usize,
    request: usize,
    id: Option<MessageId>,
}

impl World {
    pub(crate) fn senders_done(&self) -> bool {
        self.senders.iter().all(|sender| sender.done)
    }

    pub(crate) fn sender_acts(&mut self, sender: usize) {
        let request = match self.senders[sender].request {
            Some(request) => request,
            None if self.wishes.made.len() >= self.scenario.messages => {
                self.senders[sender].done = true;
                return;
            }
            None => self.begin_request(sender),
        };
        let call = self.number();
        self.sends.insert(
            call,
            SendCall {
                sender,
                request,
                id: None,
            },
        );
        let state = &mut self.senders[sender];
        state.tries += 1;
        state.call = Some(call);
        let delay = self.delay();
        if !self.mishap(3) {
            self.later(delay, Happening::SendArrives { call });
        }
        if self.mishap(1) {
            // A proxy that tries again by itself.
            let delay = self.random.below(5 * SECOND);
            self.later(delay, Happening::SendArrives { call });
        }
        self.later(2 * SECOND, Happening::SendTimesOut { call });
    }

    fn begin_request(&mut self, sender: usize) -> usize {
        let request = self.wishes.made.len();
        let plan = self.plan(request);
        self.tell(Event::SendInvoke {
            request,
            wish: plan.wish.clone(),
        });
        self.wishes.made.push(plan);
        self.stats.sent += 1;
        self.senders[sender] = Sender {
            request: Some(request),
            ..Sender::default()
        };
        request
    }

    fn plan(&mut self, request: usize) -> Plan {
        let agents = self.scenario.agents as u64;
        let mut fingerprint = [0; 16];
        self.random.fill(&mut fingerprint);
        let mut key = [0; 16];
        self.random.fill(&mut key);
        let keyed = !self.chance(20);
        let room = 1 + self.random.below(150) as usize;
        let mut wish = Wish {
            to: self.random.below(agents) as usize,
            many: None,
            lane: self.random.below(self.scenario.lanes.into()) as u8,
            key: keyed.then_some(key),
            fingerprint,
            body: Bytes::from(format!(
                "{{\"n\":{request},\"pad\":\"{}\"}}",
                "x".repeat(room)
            )),
        };
        let odd = self.random.below(100);
        if (9..19).contains(&odd) {
            wish.many = Some([Many::Group, Many::All][self.random.below(2) as usize]);
        } else if odd < 2 {
            wish.to = self.scenario.agents;
        } else if odd < 3 {
            wish.body = Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]);
        } else if odd < 9 && request > 0 {
            let earlier = self.random.below(request as u64) as usize;
            let earlier = &self.wishes.made[earlier].wish;
            if earlier.key.is_some() && odd < 6 {
                wish = earlier.clone();
            } else {
                wish.key = earlier.key.or(wish.key);
            }
        }
        let life_s = 1 + self.random.below(30);
        let attempts = 1 + self.random.below(4) as u32;
        let wait_ms = 1 + self.random.below(20_000);
        let percent = 1 + self.random.below(100) as u8;
        let patience_ms = 1 + self.random.below(30_000);
        Plan {
            wish,
            life: self.chance(10).then(|| Duration::from_secs(life_s)),
            wait: self.chance(8).then(|| Duration::from_millis(wait_ms)),
            attempts_max: self.chance(20).then_some(attempts),
            kind: KINDS[self.random.below(2) as usize],
            rule: self.some_rule(),
            quorum: self.chance(60).then_some(Quorum::Percent(percent)),
            patience: self.chance(60).then(|| Duration::from_millis(patience_ms)),
        }
    }

    fn some_rule(&mut self) -> LaneRule {
        let rules = [LaneRule::Block, LaneRule::Skip, LaneRule::Park];
        let any = self.random.below(3) as usize;
        match self.scenario.rules {
            Rules::Block => LaneRule::Block,
            Rules::Any => rules[any],
            Rules::Park => LaneRule::Park,
        }
    }

    pub(crate) fn send_arrives(&mut self, call: u64) {
        if !self.centre.is_up() {
            return self.answer_send(call, Answer::Down);
        }
        let id = self.make_id();
        let Some(send) = self.sends.get_mut(&call) else {
            return;
        };
        send.id = Some(id);
        let request = send.request;
        let plan = self.wishes.made[request].clone();
        let now = self.clock(Host::Centre);
        // A sender has a clock of its own.
        let not_before = plan.wait.map(|wait| whole(self.true_clock() + wait));
        let not_before = not_before.filter(|at| *at > now);
        let begins = not_before.unwrap_or(now);
        self.tell(Event::Submit {
            request,
            id,
            not_before,
        });
        let submission = Submission {
            id,
            tenant: tenant(),
            to: agent_name(plan.wish.to),
            kind: TypeName::parse(plan.kind).expect("the name is good"),
            lane: lane_name(plan.wish.lane),
            rule: plan.rule,
            key: plan.wish.key,
            fingerprint: plan.wish.fingerprint,
            body_sha256: [0; 32],
            body: None,
            expires_at: plan.life.map(|life| begins + life),
            not_before,
            attempts_max: plan.attempts_max,
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: String::new(),
            tracestate: String::new(),
            sender: String::from("simulator"),
            content_type: String::new(),
            data: plan.wish.body,
        };
        let input = match plan.wish.many {
            None => Input::Submit(Box::new(submission)),
            Some(many) => Input::FanOut(Box::new(FanOut {
                message: submission.addressed_to(match many {
                    Many::Group => Audience::Group(group_name()),
                    Many::All => Audience::All,
                }),
                quorum: plan.quorum,
                deadline: plan.patience.map(|patience| now + patience),
            })),
        };
        let given = self.give::<Centre>(Host::Centre, input, Ticket::Send { call });
        if let Some(answer) = not_taken(given) {
            self.answer_send(call, answer);
        }
    }

    pub(crate) fn send_answered(&mut self, call: u64, answer: Answer) {
        let Some(SendCall {
            sender,
            request,
            id,
        }) = self.sends.get(&call).cloned()
        else {
            return;
        };
        if self.senders[sender].call != Some(call) {
            return;
        }
        match answer {
            Answer::Ok { id, repeated } => {
                self.tell(Event::SendOk {
                    request,
                    id,
                    repeated,
                });
                self.stats.confirmed += 1;
                self.stats.repeated += u64::from(repeated);
                self.next_request(sender);
            }
            Answer::Refused(why) if why == "no space" => self.try_again(sender, call),
            Answer::Refused(why) => {
                self.tell(Event::SendRefused { request, id, why });
                self.stats.refused += 1;
                self.next_request(sender);
            }
            Answer::Down => self.try_again(sender, call),
        }
    }

    /// No answer: with a key it can be tried again, without one it stays unknown.
    pub(crate) fn send_times_out(&mut self, call: u64) {
        let Some(SendCall {
            sender, request, ..
        }) = self.sends.get(&call).cloned()
        else {
            return;
        };
        if self.senders[sender].call != Some(call) {
            return;
        }
        if self.wishes.made[request].wish.key.is_some() && self.senders[sender].tries < TRIES_MAX {
            return self.try_again(sender, call);
        }
        self.tell(Event::SendUnknown { request });
        self.stats.unknown += 1;
        self.next_request(sender);
    }

    fn try_again(&mut self, sender: usize, call: u64) {
        self.sends.remove(&call);
        self.senders[sender].call = None;
        let pause = 100 * MS + self.random.below(SECOND);
        self.later(pause, Happening::SenderActs { sender });
    }

    fn next_request(&mut self, sender: usize) {
        self.senders[sender] = Sender::default();
        let pause = self.random.below(self.scenario.think_us);
        self.later(pause, Happening::SenderActs { sender });
    }
}

/// The types of messages, each with retries of its own.
pub(crate) const KINDS: [&str; 2] = ["document.insert", "note.insert"];

/// Tries before a sender gives up on a message.
const TRIES_MAX: u32 = 25;

/// Senders like round times, so that messages are due together.
fn whole(instant: Timestamp) -> Timestamp {
    Timestamp::from_millis((instant.as_millis() / ROUND_MS + 1) * ROUND_MS)
}

const ROUND_MS: i64 = 5000;
