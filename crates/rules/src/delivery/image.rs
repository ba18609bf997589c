//! The centre's state as an image, and back.

use super::fanout::{FanOuts, FanOutsImage};
use super::messages::{Blocks, Messages};
use super::record::RecipientNo;
use super::state::State;
use crate::machine::Image;
use crate::record::RecordError;
use alloc::vec::Vec;

impl State {
    pub(super) fn image(&self) -> StateImage {
        StateImage {
            others: crate::record::encode(self, Vec::new()),
            fan_outs: self.fan_outs.image(),
            messages: self.messages.image(),
        }
    }

    pub(super) fn load(image: &[u8]) -> Result<Self, RecordError> {
        let (mut state, rest): (Self, _) = crate::record::decode_first(image)?;
        let (fan_outs, rest) = FanOuts::load(rest)?;
        state.fan_outs = fan_outs;
        state.messages = Messages::load(rest)?;
        for (number, queue) in state.recipients.iter().enumerate() {
            if queue.named {
                let name = (queue.tenant.clone(), queue.name.clone());
                state.by_name.insert(name, number as RecipientNo);
            }
            let waits = queue.in_flight.iter();
            let waits = waits.map(|(seq, flight)| (flight.due, number as RecipientNo, *seq));
            state.ack_waits.extend(waits);
        }
        state.releasing = state.lanes_releasing();
        state.held = state.held_by_instant();
        let ended = state.messages.each();
        state.remembered = ended.filter(|(_, message)| message.end().is_some()).count() as u64;
        let failures = state.messages.each();
        let failures = failures.filter(|(_, message)| message.is_failure());
        state.failures = failures
            .map(|(handle, message)| (message.id, handle))
            .collect();
        let unfinished = state
            .messages
            .each()
            .filter(|(_, message)| message.end().is_none());
        let expiries =
            unfinished.filter_map(|(handle, message)| Some((message.expires_at()?, handle)));
        state.expiries = expiries.collect();
        Ok(state)
    }
}

/// The state as it once was.
#[derive(Debug)]
pub struct StateImage {
    others: Vec<u8>,
    fan_outs: FanOutsImage,
    messages: Blocks,
}

impl Image for StateImage {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.others);
        *to = self.fan_outs.write(core::mem::take(to));
        *to = self.messages.write(core::mem::take(to));
    }
}
