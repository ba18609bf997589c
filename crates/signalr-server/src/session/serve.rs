//! The loop of a connection: read, run, write, keep time, until there is a reason to stop.

use std::future::{Future, poll_fn};

use bytes::Bytes;
use signalr_protocol::{HubMessage, error_text};
use tokio::select;
use tracing::debug;

use super::calls::{Calls, Finished};
use super::clocks::{Clocks, Due};
use super::ending::{self, Reason};
use crate::codec::{Codec, Incoming, Malformed};
use crate::outbox::{Batch, Frame, Waiting};
use crate::registry::Presence;
use crate::server::Shared;
use crate::wire::{Event, Failure, Wire};
use crate::{Caller, Hub, Options, PushError};

pub(super) struct Session<'a, H: Hub> {
    caller: &'a Caller<H>,
    options: &'a Options,
    wire: Wire,
    incoming: Incoming,
    calls: Calls<'a, H>,
    clocks: Clocks,
    /// Taken from the queue, not yet written.
    batch: Batch,
    /// Written, not yet flushed: how many messages and bytes.
    on_the_way: (usize, usize),
}

impl<'a, H: Hub> Session<'a, H> {
    /// Takes over from the handshake, whose answer is still to be flushed.
    pub(super) fn new(shared: &'a Shared<H>, caller: &'a Caller<H>, wire: Wire) -> Self {
        let mut clocks = Clocks::start(&shared.options, caller.expires_at());
        clocks.send_started();
        Self {
            caller,
            options: &shared.options,
            wire,
            incoming: Incoming::new(caller.codec(), shared.options.receive_bytes_max),
            calls: Calls::new(shared, caller),
            clocks,
            batch: Batch::default(),
            on_the_way: (0, 0),
        }
    }

    /// Serves until there is a reason to end. `rest` came together with the handshake.
    pub(super) async fn serve(&mut self, rest: Bytes) -> Reason {
        if self.caller.hub_handle().is_draining() {
            self.caller.drain();
        }
        match self.serve_on(rest).await {
            Err(reason) => reason,
            Ok(never) => match never {},
        }
    }

    async fn serve_on(&mut self, rest: Bytes) -> Result<std::convert::Infallible, Reason> {
        self.receive(&rest)?;
        loop {
            self.start_calls()?;
            let is_reading = self.calls.is_taking(self.options.waiting_invocations_max);
            let outbox = self.caller.outbox();
            let room = self.calls.uploads.taken();
            select! {
                waiting = poll_fn(|context| outbox.poll_take(context)), if !self.wire.is_flushing() => {
                    match waiting {
                        Waiting::Messages(batch) => self.batch = batch,
                        Waiting::Close(order) => return Err(Reason::Ordered(order)),
                    }
                    self.write_frame()?;
                }
                event = self.wire.event(is_reading) => self.happened(event)?,
                finished = self.calls.finished(), if self.calls.is_running() => {
                    self.complete(finished)?;
                }
                () = room, if !is_reading => {}
                due = self.clocks.due(is_reading) => self.due(due)?,
            }
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), Reason> {
        match event {
            Event::Received(chunk) => self.receive(&chunk),
            Event::Flushed => {
                let (messages, bytes) = std::mem::take(&mut self.on_the_way);
                self.caller.outbox().sent(messages, bytes);
                self.clocks.send_finished();
                self.write_frame()
            }
            Event::Closed => Err(Reason::Closed),
            Event::Failed(Failure::TooLarge) => {
                let bytes_max = self.options.receive_frame_bytes_max;
                Err(Reason::Malformed(error_text::too_large_detail(bytes_max)))
            }
            Event::Failed(failure) => Err(Reason::Broken(failure)),
        }
    }

    /// Writes the next frame of the batch, if there is one.
    fn write_frame(&mut self) -> Result<(), Reason> {
        let Some(Frame { bytes, messages }) = self.batch.next_frame(self.options.send_frame_bytes)
        else {
            self.batch = Batch::default();
            return Ok(());
        };
        self.on_the_way = (messages, bytes.len());
        self.clocks.send_started();
        self.wire.start_send(bytes).map_err(Reason::Broken)
    }

    fn due(&mut self, due: Due) -> Result<(), Reason> {
        match due {
            Due::Ping => self.queue(|codec, out| codec.ping(out)),
            Due::ClientTimeout => Err(Reason::ClientTimeout),
            Due::SendTimeout => Err(Reason::SlowReader),
            Due::TokenExpiry if self.clocks.put_off_expiry(self.caller.expires_at()) => Ok(()),
            Due::TokenExpiry => Err(Reason::TokenExpired),
        }
    }

    fn receive(&mut self, chunk: &[u8]) -> Result<(), Reason> {
        let mut received = false;
        let (caller, calls) = (self.caller, &mut self.calls);
        self.incoming.feed(chunk, |message| {
            received = true;
            match message {
                Some(message) => take(message, caller, calls)?,
                None => debug!(connection = caller.id(), "message of unknown type skipped"),
            }
            Ok::<(), Reason>(())
        })?;
        if received {
            self.clocks.received();
        }
        Ok(())
    }

    /// No call starts while its answer would find the queue full: a client that does not read is
    /// not worked for.
    fn start_calls(&mut self) -> Result<(), Reason> {
        while self.calls.waiting() > 0 && !self.caller.outbox().is_full() {
            match self.calls.start_next() {
                Some(failed) => self.complete(failed)?,
                None => break,
            }
        }
        Ok(())
    }

    fn complete(&self, finished: Finished) -> Result<(), Reason> {
        match finished {
            Finished::Connected(result) => result.map_err(Reason::NotConnected),
            Finished::Call { id: None, .. } => Ok(()),
            Finished::Call {
                id: Some(id),
                answer,
            } => self.queue(|codec, out| codec.completion(out, &id, &answer)),
            Finished::Stream { id, end } => self.queue(|codec, out| match &end {
                Ok(()) => codec.stream_end(out, &id),
                Err(error) => codec.completion(out, &id, &Err(error.clone())),
            }),
        }
    }

    fn queue(&self, write: impl FnOnce(Codec, &mut Vec<u8>)) -> Result<(), Reason> {
        let codec = self.caller.codec();
        match self.caller.outbox().push_own(|out| write(codec, out)) {
            Ok(()) => Ok(()),
            Err(error @ PushError::TooLarge { .. }) => Err(Reason::Malformed(error.to_string())),
            // Only this task shuts the queue, after the loop.
            Err(PushError::Closed | PushError::Full) => Ok(()),
        }
    }

    /// Leaves the hub, and gives what remains to be done: the goodbye and the calls under way.
    /// A client that takes no message takes nothing that was queued either.
    pub(super) fn end(
        self,
        reason: &Reason,
        presence: Presence,
    ) -> (impl Future<Output = ()> + Send, Calls<'a, H>) {
        let unsent = presence.leave();
        let mut last = Vec::new();
        if let Some(close) = reason.message(self.options.detailed_errors) {
            last.extend_from_slice(&self.batch.rest());
            last.extend_from_slice(&unsent);
            let codec = self.caller.codec();
            codec.close(&mut last, close.error.as_deref(), close.allow_reconnect);
        }
        let farewell = ending::farewell(self.wire, reason, last.into(), self.options);
        (farewell, self.calls)
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// Takes one message in. What names a stream or a call that is not known is ignored, and so is
/// what only matters for stateful reconnect.
fn take<H: Hub>(
    message: HubMessage<'_>,
    caller: &Caller<H>,
    calls: &mut Calls<'_, H>,
) -> Result<(), Reason> {
    match message {
        HubMessage::Invocation(call) => {
            calls.add(call.into_owned(), false);
        }
        HubMessage::StreamInvocation(call) => {
            calls.add(call.into_owned(), true);
        }
        HubMessage::Completion(completion) => {
            let id = &*completion.invocation_id;
            if !calls.uploads.end(id, &completion.result) {
                caller.answer(id, completion.result);
            }
        }
        HubMessage::StreamItem(item) => {
            calls
                .uploads
                .item(&item.invocation_id, item.item.into_owned());
        }
        HubMessage::CancelInvocation(cancel) => calls.cancel(&cancel.invocation_id),
        HubMessage::Close(_) => return Err(Reason::Goodbye),
        _ => {}
    }
    Ok(())
}
