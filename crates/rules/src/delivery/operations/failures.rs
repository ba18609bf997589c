//! Messages that nobody has, by id, so that they are listed without a look at all that has ended.

use crate::delivery::State;
use crate::delivery::messages::{Handle, Standing};
use crate::delivery::state::UNKNOWN_MESSAGE;
use crate::machine::Position;
use crate::message::MessageId;
use crate::record::RecordError;

impl State {
    /// Lists a message that has ended by its id, if nobody has it.
    pub(in crate::delivery) fn note_failure(&mut self, ended: Handle) {
        let message = &self.messages[ended];
        match message.is_failure() {
            true => self.failures.insert((message.id, ended)),
            false => self.failures.remove(&(message.id, ended)),
        };
    }

    /// Another message that nobody has: what a planted defect takes for the one that is meant.
    pub(in crate::delivery) fn another_failure(&self, than: MessageId) -> Option<MessageId> {
        let recipient = self.message(than)?.recipient;
        let others = self.failures.iter().filter(|(id, _)| *id != than);
        let mut theirs = others.filter(|(_, one)| self.messages[*one].recipient == recipient);
        theirs.next().map(|(id, _)| *id)
    }

    /// A dead letter is put away, or taken back.
    pub(in crate::delivery) fn put_away(
        &mut self,
        position: Position,
        id: MessageId,
        away: bool,
    ) -> Result<(), RecordError> {
        let handle = self.messages.find(id).ok_or(UNKNOWN_MESSAGE)?;
        let end = self.messages[handle].end();
        let end = end.ok_or(RecordError::Inconsistent("the message has not ended"))?;
        let message = self.messages.change(handle);
        message.last = position;
        message.standing = match away {
            true => Standing::Discarded(end),
            false => Standing::Ended(end),
        };
        Ok(())
    }
}
