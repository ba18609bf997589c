//! What is measured of the centre: where all messages are (N11), and which pushes plain SignalR
//! would not have made (N12).

use super::counters::Counters;
use super::record::Cause;
use super::state::State;
use serde::{Deserialize, Serialize};

/// Pushes that needed the store, by why: a hub without one pushes once, to whoever is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NeededStore {
    /// First pushes of messages that could not be pushed when they were accepted: their agent was
    /// away, paused or had its window full, or they were for later. Messages of a fan-out count here
    /// too: they are pushed once all of them are accepted.
    pub waited: u64,
    /// Pushed again, because the connection ended before a receipt.
    pub disconnected: u64,
    /// Pushed again, because the centre restarted before a receipt.
    pub restarted: u64,
    /// Pushed again, because no receipt came in time.
    pub overdue: u64,
    /// Pushed again, because the agent lost its store.
    pub agent_store_lost: u64,
    /// Pushed again, because what the agent said of it may be lost.
    pub receipt_doubted: u64,
    /// First pushes of another life, which somebody asked for.
    pub reprocessed: u64,
}

impl NeededStore {
    /// Counts a push; `at_once` tells whether it was made by what accepted the message.
    pub(super) fn count(&mut self, cause: Cause, at_once: bool) {
        let counter = match cause {
            Cause::New if at_once => return,
            Cause::New => &mut self.waited,
            Cause::Disconnected => &mut self.disconnected,
            Cause::Restarted => &mut self.restarted,
            Cause::Overdue => &mut self.overdue,
            Cause::AgentStoreLost => &mut self.agent_store_lost,
            Cause::ReceiptDoubted => &mut self.receipt_doubted,
            Cause::Reprocessed => &mut self.reprocessed,
        };
        *counter += 1;
    }

    /// The pushes that repeat an earlier one, by cause.
    pub fn again(&self) -> [(Cause, u64); 6] {
        [
            (Cause::Disconnected, self.disconnected),
            (Cause::Restarted, self.restarted),
            (Cause::Overdue, self.overdue),
            (Cause::AgentStoreLost, self.agent_store_lost),
            (Cause::ReceiptDoubted, self.receipt_doubted),
            (Cause::Reprocessed, self.reprocessed),
        ]
    }
}

/// The centre at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measures {
    /// Where all messages are.
    pub counters: Counters,
    /// Life of the store.
    pub epoch: u64,
    /// Messages pushed and not yet received.
    pub in_flight: u64,
    /// Recipients known.
    pub recipients: u64,
    /// Those of them that are connected and ready.
    pub connected: u64,
    /// Those of them that are held back by an operator.
    pub paused: u64,
}

impl State {
    /// Measures the centre: reads each recipient once.
    pub fn measures(&self) -> Measures {
        let mut measures = Measures {
            counters: self.counters().clone(),
            epoch: self.epoch(),
            recipients: self.recipients.len() as u64,
            ..Measures::default()
        };
        for queue in &self.recipients {
            measures.in_flight += queue.in_flight.len() as u64;
            measures.connected += u64::from(queue.live.is_some());
            measures.paused += u64::from(queue.paused);
        }
        measures
    }
}
