//! The promises, one function each.
//!
//! Each judges one event against the [`History`] before it, or the centre's state after a step, or
//! the end of a run. None looks into the rules' decisions: they know only what each party said and
//! did, and what the disks hold.

use crate::event::{Event, Fact, Verdict};
use crate::history::{History, said};
use countersign_rules::MessageId;
use countersign_rules::ack::Stage;
use countersign_rules::delivery::{Cause, End, Place, State};
use std::fmt;

/// A promise of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the guarantees")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I14,
    I15,
    I16,
    I17,
    I18,
    I19,
    I20,
    I21,
    I24,
    I25,
    I28,
}

impl Invariant {
    /// What it promises, in a few words.
    pub fn promise(self) -> &'static str {
        match self {
            Invariant::I1 => "durable send",
            Invariant::I2 => "no phantom",
            Invariant::I3 => "one message per key",
            Invariant::I4 => "conservation",
            Invariant::I5 => "delivery",
            Invariant::I6 => "lane order",
            Invariant::I7 => "every duplicate has a cause",
            Invariant::I8 => "inbox before received",
            Invariant::I9 => "no false success",
            Invariant::I10 => "one effect",
            Invariant::I11 => "acks are monotone, exact, durable",
            Invariant::I12 => "independent ack path",
            Invariant::I13 => "reconnect re-offers, gaps are told",
            Invariant::I14 => "one current term",
            Invariant::I15 => "nothing is pushed after a token's end",
            Invariant::I16 => "window",
            Invariant::I17 => "refuse before, never drop after",
            Invariant::I18 => "crash anywhere",
            Invariant::I19 => "full disk and failed flush",
            Invariant::I20 => "corruption is never served and never silent",
            Invariant::I21 => "clocks do not matter to safety",
            Invariant::I24 => "replay makes attempts, not messages",
            Invariant::I25 => "expiry, cancel and a later instant are decisions",
            Invariant::I28 => "records equal state",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub says: String,
    /// The messages it is about.
    pub about: Vec<MessageId>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = self.invariant.promise();
        write!(f, "{:?} ({promise}): {}", self.invariant, self.says)
    }
}

type Verdicts = Result<(), Violation>;

/// A check of one event.
pub type EventCheck = fn(&History, &Event) -> Verdicts;

/// The checks that each event has to pass.
pub const EVENT_CHECKS: &[(Invariant, EventCheck)] = &[
    (Invariant::I1, i1_what_was_confirmed_is_there),
    (Invariant::I2, i2_nothing_arrives_that_nobody_sent),
    (Invariant::I3, i3_one_key_one_message),
    (Invariant::I6, i6_lanes_keep_their_order),
    (Invariant::I7, i7_every_repeat_has_a_cause),
    (Invariant::I8, i8_inbox_before_acknowledgement),
    (Invariant::I9, i9_processed_means_committed),
    (Invariant::I10, i10_one_effect_or_a_declared_repeat),
    (Invariant::I11, i11_acks_are_durable_and_exact),
    (Invariant::I12, i12_a_healthy_ack_store_takes_acks),
    (Invariant::I13, i13_lower_ones_first_after_a_connect),
    (Invariant::I14, i14_only_the_current_term_is_pushed_to),
    (Invariant::I15, i15_no_push_after_the_tokens_end),
    (Invariant::I16, i16_nothing_for_whom_everything_is_held_back),
    (Invariant::I17, i17_what_was_refused_was_not_kept),
    (Invariant::I18, i18_what_was_read_was_acted_on),
    (Invariant::I19, i19_a_failed_flush_is_no_success),
    (Invariant::I20, i20_damage_is_reported),
    (Invariant::I21, i21_only_an_expiry_expires),
    (Invariant::I24, i24_a_replay_is_another_life),
    (Invariant::I25, i25_decisions_hold),
];

fn broken<T>(
    invariant: Invariant,
    about: impl IntoIterator<Item = MessageId>,
    says: String,
) -> Result<T, Violation> {
    let about = about.into_iter().collect();
    Err(Violation {
        invariant,
        says,
        about,
    })
}

/// I1, of one event: a receipt is given for what is on disk, and a restart loses nothing confirmed.
fn i1_what_was_confirmed_is_there(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Receipt { id } if !history.messages.contains_key(id) => broken(
            Invariant::I1,
            [*id],
            format!("a receipt was given for {id}, of which no durable record exists"),
        ),
        Event::Start {
            host,
            lost: Some(position),
            ..
        } => broken(
            Invariant::I1,
            [],
            format!("{host:?} confirmed record {position} and has lost it over a restart"),
        ),
        Event::NotOpened { host, why } => broken(
            Invariant::I1,
            [],
            format!("{host:?} cannot open its store: {why}"),
        ),
        _ => Ok(()),
    }
}

/// I1, of the state: every confirmed message is known.
pub fn i1_state_knows_every_receipt(history: &History, state: &State) -> Verdicts {
    let confirmed = history.requests.iter().filter_map(|request| request.id);
    for id in confirmed {
        if state.place(id).is_none() {
            let says = format!("{id} was confirmed and the centre does not know it");
            return broken(Invariant::I1, [id], says);
        }
    }
    Ok(())
}

/// I2: what arrives was sent, to this recipient, with this body.
fn i2_nothing_arrives_that_nobody_sent(history: &History, event: &Event) -> Verdicts {
    let Event::Arrived {
        agent, id, body, ..
    } = event
    else {
        return Ok(());
    };
    let request = history.submitted.get(id).map(|no| &history.requests[*no]);
    let says = match request {
        None => format!("{id} arrived, which nobody sent"),
        Some(request) if request.wish.to != *agent => {
            format!(
                "{id} for agent {} arrived at agent {agent}",
                request.wish.to
            )
        }
        Some(request) if request.wish.body != *body => {
            format!("{id} arrived with the body of another message")
        }
        Some(_) => return Ok(()),
    };
    broken(Invariant::I2, [*id], says)
}

/// I3: a key stands for one message, and for one content.
fn i3_one_key_one_message(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Recorded {
            fact: Fact::Accepted { id, key, .. },
            ..
        } => match history.keys.get(key) {
            Some(first) if first != id => broken(
                Invariant::I3,
                [*first, *id],
                format!("one key was accepted as {first} and as {id}"),
            ),
            _ => Ok(()),
        },
        Event::SendOk { request, id, .. } => {
            let wish = &history.requests[*request].wish;
            let first = wish.key.and_then(|key| history.keys.get(&key));
            let Some(first) = first else { return Ok(()) };
            let meant = history
                .submitted
                .get(first)
                .map(|no| history.requests[*no].wish.fingerprint);
            if first != id {
                let says = format!("request {request} got {id}, but its key stands for {first}");
                return broken(Invariant::I3, [*first, *id], says);
            }
            if meant != Some(wish.fingerprint) {
                let says = format!("request {request} got {id}, which stands for another content");
                return broken(Invariant::I3, [*id], says);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// I4: every accepted message is in one place, and in one that leads on.
pub fn i4_messages_are_conserved(state: &State) -> Verdicts {
    if !state.conserved() {
        let says = format!(
            "accepted is not the sum of the rest: {:?}",
            state.counters()
        );
        return broken(Invariant::I4, [], says);
    }
    if !state.accounted() {
        let says = String::from("a pending message is in no place, or in two");
        return broken(Invariant::I4, [], says);
    }
    Ok(())
}

/// I4, against the records: the counters say what the records say.
pub fn i4_counters_equal_records(history: &History, state: &State) -> Verdicts {
    let ended = |end| {
        let with = history
            .messages
            .values()
            .filter(|message| message.end == Some(end));
        with.count() as u64
    };
    let counters = state.counters();
    let pairs = [
        ("accepted", counters.accepted, history.messages.len() as u64),
        ("processed", counters.processed, ended(End::Processed)),
        ("rejected", counters.rejected, ended(End::Rejected)),
        ("dead", counters.dead, ended(End::Dead)),
        ("expired", counters.expired, ended(End::Expired)),
        ("cancelled", counters.cancelled, ended(End::Cancelled)),
    ];
    for (what, counted, recorded) in pairs {
        if counted != recorded {
            let says = format!("{what}: {counted} counted, {recorded} recorded");
            return broken(Invariant::I4, [], says);
        }
    }
    Ok(())
}

/// I5: after the faults everything ends within the deadline.
pub fn i5_everything_ended(history: &History, owed: &[u64], waited_s: u64) -> Verdicts {
    let stuck = history
        .messages
        .iter()
        .find(|(_, message)| message.end.is_none());
    if let Some((id, message)) = stuck {
        let place = if message.received {
            "received"
        } else {
            "waiting"
        };
        let says = format!(
            "{id} (agent {}, seq {}) is still {place} {waited_s} s after the last fault",
            message.agent, message.seq
        );
        return broken(Invariant::I5, [*id], says);
    }
    match owed.iter().position(|owed| *owed > 0) {
        None => Ok(()),
        Some(agent) => {
            let says = format!(
                "agent {agent} still owes {} acks {waited_s} s after the last fault",
                owed[agent]
            );
            broken(Invariant::I5, [], says)
        }
    }
}

/// I6: what was confirmed before another of its lane was sent gets into the inbox and to work first.
fn i6_lanes_keep_their_order(history: &History, event: &Event) -> Verdicts {
    let (agent, id, what) = match event {
        Event::InboxCommit { agent, id, .. } => (*agent, id, "into the inbox"),
        Event::HandlerStart { agent, id, .. } => (*agent, id, "to work"),
        _ => return Ok(()),
    };
    let Some(message) = history.messages.get(id) else {
        return Ok(());
    };
    let later = &history.requests[message.request];
    let lanes = match event {
        Event::InboxCommit { .. } => &history.agents[agent].uncommitted,
        _ => &history.agents[agent].unstarted,
    };
    for earlier in lanes.get(&later.wish.lane).into_iter().flatten() {
        let request = history.messages[earlier].request;
        let ok = history.requests[request].ok;
        if earlier != id && ok.is_some_and(|ok| ok < later.invoked) {
            let says = format!(
                "{id} came {what} before {earlier}, which was confirmed before it was sent in the same lane"
            );
            return broken(Invariant::I6, [*earlier, *id], says);
        }
    }
    Ok(())
}

/// I7: pushes are numbered, each number goes out once, and each after the first has a cause that
/// happened.
fn i7_every_repeat_has_a_cause(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Recorded {
            fact: Fact::SiteSetBack { agent },
            ..
        } => {
            let received = history.agents[*agent].received.values();
            let has = |id: &&MessageId| {
                let generation = history.messages.get(id).map_or(1, |m| m.generation);
                history.committed.contains(&(*agent, **id, generation))
            };
            if received.clone().all(|id| has(&id)) {
                let says = format!("agent {agent} has all that it said to have");
                return broken(Invariant::I7, received.copied(), says);
            }
            Ok(())
        }
        Event::Recorded {
            fact: Fact::Offered {
                id, attempt, cause, ..
            },
            ..
        } => {
            let Some(message) = history.messages.get(id) else {
                return Ok(());
            };
            let agent = &history.agents[message.agent];
            let since = message.last_offer;
            let happened = match cause {
                Cause::New => message.offers == 0 && message.generation == 1,
                Cause::Reprocessed => message.offers == 0 && message.generation > 1,
                Cause::Disconnected => agent.ended > since,
                Cause::Restarted => history.centre_started > since,
                Cause::Overdue => message.overdue > since,
                Cause::AgentStoreLost => agent.store_lost > since,
                Cause::ReceiptDoubted => history.receipts_doubted > since,
                _ => false,
            };
            if !happened || *attempt != message.offers + 1 {
                let says = format!(
                    "push {attempt} of {id} says {cause:?}, after {} pushes",
                    message.offers
                );
                return broken(Invariant::I7, [*id], says);
            }
            Ok(())
        }
        Event::Push { id, attempt, .. } => {
            let message = history.messages.get(id);
            let fresh = message.is_some_and(|message| {
                *attempt <= message.offers && !message.pushed.contains(attempt)
            });
            if fresh {
                return Ok(());
            }
            let says = format!("push {attempt} of {id} went out twice or without a record");
            broken(Invariant::I7, [*id], says)
        }
        _ => Ok(()),
    }
}

/// I8: whoever acknowledges has it on disk.
fn i8_inbox_before_acknowledgement(history: &History, event: &Event) -> Verdicts {
    let Event::AckInvoke {
        agent,
        item,
        forged: false,
    } = event
    else {
        return Ok(());
    };
    let key = (*agent, item.message, item.generation);
    if history.committed.contains(&key) {
        return Ok(());
    }
    let (id, stage) = (item.message, item.stage);
    let says = format!("agent {agent} says {stage:?} of {id}, which is not durable in its inbox");
    broken(Invariant::I8, [id], says)
}

/// I9: processed means that the back office has it.
fn i9_processed_means_committed(history: &History, event: &Event) -> Verdicts {
    let Event::AckInvoke {
        agent,
        item,
        forged: false,
    } = event
    else {
        return Ok(());
    };
    let key = (item.message, item.generation);
    if item.stage != Stage::Acknowledged || history.effects.contains_key(&key) {
        return Ok(());
    }
    let says = format!(
        "agent {agent} says that {} is processed, and the back office has no effect of it",
        item.message
    );
    broken(Invariant::I9, [item.message], says)
}

/// I10: never a second effect in a back office that honours tokens; in another only where it was
/// declared, or where an attempt was reported as failed although its effect had happened, or where
/// the agent lost its disk.
fn i10_one_effect_or_a_declared_repeat(history: &History, event: &Event) -> Verdicts {
    let Event::Effect {
        honours,
        agent,
        id,
        generation,
        attempt,
    } = event
    else {
        return Ok(());
    };
    let key = (*id, *generation);
    let first = !history.effects.contains_key(&key);
    let told = history.declared.contains(&key)
        || history.unclear.contains(&key)
        || history.lost_stores.contains(agent);
    if first || (told && !honours) {
        return Ok(());
    }
    let says = format!("attempt {attempt} of {id} had another effect, and nobody was told");
    broken(Invariant::I10, [*id], says)
}

/// I11: what is answered is durable; what changes a state was said by its owner, once.
fn i11_acks_are_durable_and_exact(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::AckOk { agent, items } => {
            for item in items {
                if !history.said.contains(&said(*agent, item)) {
                    let (id, stage) = (item.message, item.stage);
                    let says = format!("{stage:?} of {id} was answered and is not durable");
                    return broken(Invariant::I11, [id], says);
                }
            }
            Ok(())
        }
        Event::Start {
            host: crate::event::Host::Acks,
            lost: Some(position),
            ..
        } => {
            let says = format!("the ack store has lost record {position}, which it answered");
            broken(Invariant::I11, [], says)
        }
        Event::Recorded {
            fact: Fact::Settled { id, end, .. },
            ..
        } => {
            let Some(message) = history.messages.get(id) else {
                return broken(Invariant::I11, [*id], format!("{id} ended and never began"));
            };
            if let Some(before) = message.end {
                let says = format!("{id} had ended as {before:?} and ends again as {end:?}");
                return broken(Invariant::I11, [*id], says);
            }
            let stage = stage_of(*end);
            let owner = |(agent, ack): &(usize, countersign_rules::ack::Ack)| {
                *agent == message.agent
                    && ack.item.message == *id
                    && ack.item.generation == message.generation
            };
            let first = history
                .acks
                .values()
                .filter(|entry| owner(entry))
                .map(|(_, ack)| ack.item.stage)
                .find(|stage| *stage != Stage::Stored);
            if stage.is_some() && first != stage {
                let says = format!("{id} ended as {end:?}, but its owner first said {first:?}");
                return broken(Invariant::I11, [*id], says);
            }
            Ok(())
        }
        _ => Ok(()),
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

/// I12: an ack store that is up and has a disk takes acks, whatever the centre does.
fn i12_a_healthy_ack_store_takes_acks(_: &History, event: &Event) -> Verdicts {
    match event {
        Event::AckRefused { agent } => {
            let says = format!("a post of agent {agent} was turned away by a healthy ack store");
            broken(Invariant::I12, [], says)
        }
        _ => Ok(()),
    }
}

/// I13: nothing before the ready gate; after it, whatever waits below is offered first; and a
/// client is told exactly what it missed.
fn i13_lower_ones_first_after_a_connect(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Recorded {
            fact: Fact::Offered { id, term, .. },
            ..
        } => {
            let Some(message) = history.messages.get(id) else {
                return Ok(());
            };
            let agent = &history.agents[message.agent];
            if !agent.ready {
                let says = format!("{id} was pushed before agent {} was ready", message.agent);
                return broken(Invariant::I13, [*id], says);
            }
            let mut below = agent.waiting.range(..message.seq);
            match below.find(|(seq, _)| !agent.offered.contains(seq)) {
                None => Ok(()),
                Some((seq, lower)) => broken(
                    Invariant::I13,
                    [*lower, *id],
                    format!(
                        "seq {} was pushed over term {term} and seq {seq} below it was not",
                        message.seq
                    ),
                ),
            }
        }
        Event::Welcome { agent, term, gap } => {
            let missed = history.missed.get(&(*agent, *term)).copied();
            if missed.unwrap_or(0) == gap.unwrap_or(0) {
                return Ok(());
            }
            let says = format!("agent {agent} missed {missed:?} messages and was told {gap:?}");
            broken(Invariant::I13, [], says)
        }
        _ => Ok(()),
    }
}

/// I14: a push is decided for the newest term only, none is written to a connection that was told to
/// go, and the hub keeps no older connection.
fn i14_only_the_current_term_is_pushed_to(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Recorded {
            fact: Fact::Offered { id, term, .. },
            ..
        } => {
            let message = history.messages.get(id);
            let current = message.map(|message| history.agents[message.agent].term);
            if current == Some(*term) {
                return Ok(());
            }
            let says = format!("{id} was pushed over term {term}, the current one is {current:?}");
            broken(Invariant::I14, [*id], says)
        }
        Event::Push { connection, id, .. } if history.superseded.contains(connection) => {
            let says =
                format!("{id} was pushed over connection {connection}, which was superseded");
            broken(Invariant::I14, [*id], says)
        }
        Event::HubConnections { agent, live } if live.len() > 1 => {
            let says = format!(
                "agent {agent} has {} live connections: {live:?}",
                live.len()
            );
            broken(Invariant::I14, [], says)
        }
        _ => Ok(()),
    }
}

/// I15: nothing is written to a connection after its token's end.
fn i15_no_push_after_the_tokens_end(_: &History, event: &Event) -> Verdicts {
    match event {
        Event::Push {
            id,
            at,
            token_expires_at,
            ..
        } if at >= token_expires_at => {
            let late = at.since(*token_expires_at);
            let says = format!("{id} was pushed {late:?} after the end of its token");
            broken(Invariant::I15, [*id], says)
        }
        _ => Ok(()),
    }
}

/// I16: in flight are at most as many messages and bytes as the window allows.
pub fn i16_the_window_holds(state: &State, messages_max: u32, bytes_max: u64) -> Verdicts {
    for (name, messages, bytes) in state.in_flight() {
        let fits = messages <= messages_max as usize && (bytes <= bytes_max || messages == 1);
        if !fits {
            let says = format!(
                "{name} has {messages} messages and {bytes} bytes in flight, allowed are {messages_max} and {bytes_max}"
            );
            return broken(Invariant::I16, [], says);
        }
    }
    Ok(())
}

/// I16: nothing is pushed to an agent from whom an operator holds everything back.
fn i16_nothing_for_whom_everything_is_held_back(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::Offered { id, .. },
        ..
    } = event
    else {
        return Ok(());
    };
    let message = history.messages.get(id);
    match message.filter(|message| history.agents[message.agent].paused) {
        None => Ok(()),
        Some(message) => {
            let says = format!(
                "{id} was pushed to agent {}, which is paused",
                message.agent
            );
            broken(Invariant::I16, [*id], says)
        }
    }
}

/// I17: a refusal keeps nothing.
fn i17_what_was_refused_was_not_kept(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::SendRefused {
            id: Some(id), why, ..
        } if history.messages.contains_key(id) => {
            let says = format!("{id} was refused ({why}) and kept");
            broken(Invariant::I17, [*id], says)
        }
        _ => Ok(()),
    }
}

/// I18: an ack that counts as read has been acted on.
fn i18_what_was_read_was_acted_on(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::AcksRead { through },
        ..
    } = event
    else {
        return Ok(());
    };
    for (agent, ack) in history
        .acks
        .range(history.acks_read + 1..=*through)
        .map(|(_, entry)| entry)
    {
        let id = ack.item.message;
        let Some(message) = history.messages.get(&id) else {
            continue;
        };
        let counts = message.agent == *agent && ack.item.generation == message.generation;
        let done = match ack.item.stage {
            Stage::Stored => {
                message.received || message.end.is_some() || history.stale_receipts.contains(&id)
            }
            _ => message.end.is_some(),
        };
        if counts && !done {
            let says = format!(
                "{:?} of {id} counts as read and was not acted on",
                ack.item.stage
            );
            return broken(Invariant::I18, [id], says);
        }
    }
    Ok(())
}

/// I19: a flush that failed is not taken for a success, and nobody is answered after one.
fn i19_a_failed_flush_is_no_success(history: &History, event: &Event) -> Verdicts {
    use crate::event::Host;
    let (host, what) = match event {
        Event::FlushOk {
            host,
            sync_failed: true,
        } => (*host, "took a failed flush for a success"),
        Event::Receipt { .. } | Event::Push { .. } => (Host::Centre, "answered"),
        Event::AckOk { .. } => (Host::Acks, "answered"),
        _ => return Ok(()),
    };
    let took = matches!(event, Event::FlushOk { .. });
    if took || history.failed.contains(&host) {
        let says = format!("{host:?} {what} after its flush had failed");
        return broken(Invariant::I19, event.about(), says);
    }
    Ok(())
}

/// I20: what is read from a damaged disk is right or reported.
fn i20_damage_is_reported(_: &History, event: &Event) -> Verdicts {
    match event {
        Event::ReadDamaged {
            host,
            position,
            verdict: verdict @ (Verdict::Wrong | Verdict::Silent),
        } => {
            let says = format!("record {position} of {host:?} on a damaged disk: {verdict:?}");
            broken(Invariant::I20, [], says)
        }
        Event::Start {
            host,
            damaged,
            epoch_changed,
            ..
        } if !damaged.is_empty() || *epoch_changed => {
            let says = format!(
                "{host:?} reports damage that nobody did ({damaged:?}, new epoch: {epoch_changed})"
            );
            broken(Invariant::I20, [], says)
        }
        _ => Ok(()),
    }
}

/// I21: only a message with an end of life expires, and only when its centre's clock is past it.
fn i21_only_an_expiry_expires(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact:
            Fact::Settled {
                id,
                end: End::Expired,
                at,
            },
        ..
    } = event
    else {
        return Ok(());
    };
    let message = history.messages.get(id);
    let due = message.and_then(|message| message.expires_at);
    if due.is_some_and(|due| due <= *at) {
        return Ok(());
    }
    let says = format!("{id} expired at {at}, its life ends at {due:?}");
    broken(Invariant::I21, [*id], says)
}

/// I24: a replay is another life of a message that had ended, and the next one.
fn i24_a_replay_is_another_life(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::Reprocessed { id, generation, .. },
        ..
    } = event
    else {
        return Ok(());
    };
    match history.messages.get(id) {
        Some(message) if message.end.is_some() && *generation == message.generation + 1 => Ok(()),
        message => {
            let says = format!("{id} begins life {generation} after {message:?}");
            broken(Invariant::I24, [*id], says)
        }
    }
}

/// I25: nothing is pushed of a message that has ended, of one that an operator was told is taken
/// back, or of one before it is due; and none comes due before its instant.
fn i25_decisions_hold(history: &History, event: &Event) -> Verdicts {
    let says = match event {
        Event::Recorded {
            fact: Fact::Offered { id, .. },
            ..
        } => {
            let end = history.messages.get(id).and_then(|message| message.end);
            match (end, history.not_before.get(id)) {
                (Some(end), _) => format!("{id} is pushed and has ended as {end:?}"),
                _ if history.cancelled.contains(id) => {
                    format!("{id} is pushed and was said to be taken back")
                }
                (None, Some(at)) => format!("{id} is pushed and not due before {at}"),
                (None, None) => return Ok(()),
            }
        }
        Event::Recorded {
            fact: Fact::Due { id, at, .. },
            ..
        } => match history.not_before.get(id) {
            Some(not_before) if at < not_before => {
                format!("{id} came due at {at}, before {not_before}")
            }
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    broken(Invariant::I25, event.about(), says)
}

/// I28: the state rebuilt from the journal is the state.
pub fn i28_records_equal_state(live: &State, rebuilt: &State) -> Verdicts {
    if live == rebuilt {
        return Ok(());
    }
    let says = String::from("the state rebuilt from the journal is not the state");
    broken(Invariant::I28, [], says)
}

/// I11, at the end: each message ended as its owner first said, or its life was over before.
pub fn i11_the_first_end_stands(history: &History, state: &State) -> Verdicts {
    for (agent, ack) in history.acks.values() {
        let id = ack.item.message;
        let Some(message) = history.messages.get(&id) else {
            continue;
        };
        let is_its_word = message.agent == *agent && message.generation == ack.item.generation;
        if !is_its_word || ack.item.stage == Stage::Stored {
            continue;
        }
        if !matches!(state.place(id), Some(Place::Ended(_))) {
            let says = format!("{id} was acknowledged durably and has not ended");
            return broken(Invariant::I11, [id], says);
        }
    }
    Ok(())
}
