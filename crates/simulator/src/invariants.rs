//! The promises that only a simulated world can judge, one function each: answers, wires, disks, and
//! what the back office holds. What records alone prove is judged by `countersign-checker`, as in
//! production.
//!
//! Each judges one event against the [`History`] before it, or the centre's state after a step, or
//! the end of a run. None looks into the rules' decisions: they know only what each party said and
//! did, and what the disks hold.

use crate::event::{Event, Fact, Verdict};
use crate::history::{History, Message, said};
pub use countersign_checker::Invariant;
use countersign_rules::MessageId;
use countersign_rules::ack::Stage;
use countersign_rules::delivery::{Centre, End, Place, State};
use std::fmt;

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
    (Invariant::I13, i13_gaps_are_told),
    (Invariant::I14, i14_only_the_current_term_is_pushed_to),
    (Invariant::I15, i15_no_push_after_the_tokens_end),
    (Invariant::I17, i17_what_was_refused_was_not_kept),
    (Invariant::I19, i19_a_failed_flush_is_no_success),
    (Invariant::I20, i20_damage_is_reported),
    (Invariant::I6, i6_lanes_keep_their_rules),
    (Invariant::I6, i6_nothing_new_leaves_a_parked_lane),
    (Invariant::I6, i6_due_together_in_order),
    (Invariant::I23, i23_attempts_are_real_and_bounded),
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
        Event::Receipt { id } if !history.knows(*id) => broken(
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
pub fn i1_state_knows_every_receipt(history: &History, centre: &Centre) -> Verdicts {
    let confirmed = history.requests.iter().filter_map(|request| request.id);
    for id in confirmed {
        if centre.place(id).is_none() && !centre.state().is_fan_out(id) {
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
        Some(request) if request.wish.many.is_none() && request.wish.to != *agent => {
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

/// I6, of the rules: what begins passes nothing that has not ended, but for what was recorded as
/// skipped; in a parked lane nothing begins but what parked it; and a parked lane goes on only
/// because the centre says so.
fn i6_lanes_keep_their_rules(history: &History, event: &Event) -> Verdicts {
    match *event {
        Event::LaneGoesOn { id, .. } => {
            let lane = history.lane_of(id);
            if lane.is_some_and(|lane| history.resumed_lanes.contains(&lane)) {
                return Ok(());
            }
            let says = format!("the lane that {id} has parked goes on without anybody's word");
            broken(Invariant::I6, [id], says)
        }
        Event::WorkBegun {
            agent,
            id,
            generation,
            ..
        } => {
            let Some((_, lane)) = history.lane_of(id) else {
                return Ok(());
            };
            let place = (agent, lane);
            if let Some((by, life)) = history.lanes.parked.get(&place)
                && (*by != id || generation <= *life)
            {
                let says = format!("{id} is worked on in a lane that {by} has parked");
                return broken(Invariant::I6, [*by, id], says);
            }
            let order = history.lanes.order.get(&place).into_iter().flatten();
            for earlier in order.take_while(|other| **other != (id, generation)) {
                if !history.lanes.passed.contains(&(agent, *earlier)) {
                    let (before, _) = earlier;
                    let says = format!("{id} overtakes {before}, which has not ended, in its lane");
                    return broken(Invariant::I6, [*before, id], says);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// I6, at the centre: what is accepted into a lane that is parked at its site, for a reason that the
/// centre knows, is not pushed. What words that were forged or came late are worth is not judged
/// here: the site holds what it has of a parked lane in any case.
fn i6_nothing_new_leaves_a_parked_lane(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::Offered { id, .. },
        ..
    } = event
    else {
        return Ok(());
    };
    let Some(message) = history.messages.get(id) else {
        return Ok(());
    };
    let lane = history.lane_of(*id);
    let Some(by) = lane.and_then(|lane| history.lanes.parked.get(&lane)) else {
        return Ok(());
    };
    let invoked = history.requests[message.request].invoked;
    let known = history
        .failed_lives
        .get(by)
        .is_some_and(|failed| *failed < invoked);
    if known && !history.let_go.contains(by) && by.0 != *id && message.offers == 0 {
        let says = format!("{id} is pushed although {} has parked its lane", by.0);
        return broken(Invariant::I6, [by.0, *id], says);
    }
    Ok(())
}

/// I6, at the centre: of messages for one agent that are due at one instant, the one that was accepted
/// first comes due first. One that its agent has already comes due by that.
fn i6_due_together_in_order(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::Due { id, .. },
        ..
    } = event
    else {
        return Ok(());
    };
    let (Some(due), Some(instant)) = (history.messages.get(id), history.not_before.get(id)) else {
        return Ok(());
    };
    let mut others = history.not_before.iter();
    let earlier = others.find(|(other, other_instant)| {
        let goes_first = |other: &Message| {
            other.agent == due.agent && other.end.is_none() && other.accepted < due.accepted
        };
        *other_instant == instant && history.messages.get(other).is_some_and(goes_first)
    });
    match earlier {
        Some((earlier, _)) if !due.committed => {
            let says = format!("{id} came due before {earlier}, which was accepted before it");
            broken(Invariant::I6, [*earlier, *id], says)
        }
        _ => Ok(()),
    }
}

/// I23: attempts are counted one by one, by what was begun and by nothing else, and are no more than
/// allowed.
fn i23_attempts_are_real_and_bounded(history: &History, event: &Event) -> Verdicts {
    let Event::WorkBegun {
        agent,
        id,
        generation,
        attempt,
    } = *event
    else {
        return Ok(());
    };
    let last = history.lanes.attempts.get(&(agent, (id, generation)));
    let next = match last {
        None => 1,
        Some((last, true)) => *last,
        Some((last, false)) => last + 1,
    };
    if attempt != next {
        let says = format!(
            "attempt {attempt} of {id} begins, and {} were begun",
            next - 1
        );
        return broken(Invariant::I23, [id], says);
    }
    match history.messages.get(&id) {
        Some(message) if attempt > message.attempts_max => {
            let says = format!(
                "attempt {attempt} of {id} begins, allowed are {}",
                message.attempts_max
            );
            broken(Invariant::I23, [id], says)
        }
        _ => Ok(()),
    }
}

/// I7: a site that is taken for an older copy is one, and each push that was recorded goes out once.
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

/// I11: what is answered is durable.
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
        _ => Ok(()),
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

/// I13: a client is told exactly what it missed.
fn i13_gaps_are_told(history: &History, event: &Event) -> Verdicts {
    match event {
        Event::Welcome { agent, term, gap } => {
            let missed = history.missed.get(&(*agent, *term)).copied();
            // What ends while it is held in its lane is nobody's gap.
            let ever_parked = history.ever_parked.iter().any(|lane| lane.0 == *agent);
            if missed.unwrap_or(0) == gap.unwrap_or(0) || ever_parked {
                return Ok(());
            }
            let says = format!("agent {agent} missed {missed:?} messages and was told {gap:?}");
            broken(Invariant::I13, [], says)
        }
        _ => Ok(()),
    }
}

/// I14: no push is written to a connection that was told to go, and the hub keeps no older
/// connection.
fn i14_only_the_current_term_is_pushed_to(history: &History, event: &Event) -> Verdicts {
    match event {
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

/// I25: nothing is pushed of a message of which an operator was told that it is taken back, or
/// before the instant that its sender named, whatever the records say of either.
fn i25_decisions_hold(history: &History, event: &Event) -> Verdicts {
    let Event::Recorded {
        fact: Fact::Offered { id, .. },
        ..
    } = event
    else {
        return Ok(());
    };
    let says = match history.not_before.get(id) {
        _ if history.cancelled.contains(id) => {
            format!("{id} is pushed and was said to be taken back")
        }
        Some(at) => format!("{id} is pushed and not due before {at}"),
        None => return Ok(()),
    };
    broken(Invariant::I25, [*id], says)
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
pub fn i11_the_first_end_stands(history: &History, centre: &Centre) -> Verdicts {
    for (agent, ack) in history.acks.values() {
        let id = ack.item.message;
        let Some(message) = history.messages.get(&id) else {
            continue;
        };
        let is_its_word = message.agent == *agent && message.generation == ack.item.generation;
        if !is_its_word || !is_end(ack.item.stage) {
            continue;
        }
        if !matches!(centre.place(id), Some(Place::Ended(_))) {
            let says = format!("{id} was acknowledged durably and has not ended");
            return broken(Invariant::I11, [id], says);
        }
    }
    Ok(())
}

/// Whether a message has ended when its owner says this.
pub(crate) fn is_end(stage: Stage) -> bool {
    matches!(stage, Stage::Acknowledged | Stage::Rejected | Stage::Dead)
}
