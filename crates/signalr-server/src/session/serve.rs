//! The loop of a connection: read, run, write, keep time, until there is a reason to stop.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use bytes::Bytes;
use signalr_protocol::{HubMessage, SequenceAhead, error_text};
use tokio::select;
use tracing::debug;

use super::calls::{Calls, Finished};
use super::clocks::{Clocks, Due};
use super::ending::{self, Reason};
use super::resume::{Resuming, Resumption};
use crate::codec::{Codec, Incoming, Malformed};
use crate::outbox::{Batch, Waiting};
use crate::registry::Presence;
use crate::server::Shared;
use crate::takeover::Takeover;
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
    /// Set when another WebSocket may take over.
    resumption: Option<Box<Resumption>>,
}

impl<'a, H: Hub> Session<'a, H> {
    /// Takes over from the handshake, whose answer is still to be flushed.
    pub(super) fn new(
        shared: &'a Shared<H>,
        caller: &'a Caller<H>,
        wire: Wire,
        takeover: Option<Arc<Takeover>>,
    ) -> Self {
        let mut clocks = Clocks::start(&shared.options, wire.transport(), caller.expires_at());
        clocks.send_started();
        let resumption = takeover.map(|takeover| {
            let bytes_max = shared.options.stateful_bytes_max.max(1);
            Box::new(Resumption::new(takeover, caller.codec(), bytes_max))
        });
        Self {
            caller,
            options: &shared.options,
            wire,
            incoming: Incoming::new(caller.codec(), shared.options.receive_bytes_max),
            calls: Calls::new(shared, caller),
            clocks,
            batch: Batch::default(),
            on_the_way: (0, 0),
            resumption,
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
            let is_taking = self.calls.is_taking(self.options.waiting_invocations_max);
            let is_reading = is_taking && !self.wire.is_lost();
            let outbox = self.caller.outbox();
            let room = self.calls.uploads.taken();
            let is_stalled = self.is_stalled();
            let waiting = poll_fn(|context| match is_stalled {
                true => outbox.poll_close(context).map(Waiting::Close),
                false => outbox.poll_take(context),
            });
            select! {
                waiting = waiting, if !self.wire.is_flushing() => {
                    match waiting {
                        Waiting::Messages(batch) => self.batch = batch,
                        Waiting::Close(order) => return Err(Reason::Ordered(order)),
                    }
                    self.write_frame()?;
                }
                resuming = next_resuming(&mut self.resumption) => self.resuming(resuming)?,
                event = self.wire.event(is_reading) => self.happened(event)?,
                finished = self.calls.finished(), if self.calls.is_running() => {
                    self.complete(finished)?;
                }
                () = room, if !is_taking => {}
                due = self.clocks.due(is_reading) => self.due(due)?,
            }
        }
    }

    /// Whether nothing may be taken from the queue, although nothing is being written: the client
    /// is away or between two polls, or has to acknowledge something first.
    fn is_stalled(&self) -> bool {
        let is_full = || self.resumption.as_ref().is_some_and(|r| r.is_full());
        !self.wire.is_ready() || !self.batch.is_empty() || is_full()
    }

    fn happened(&mut self, event: Event) -> Result<(), Reason> {
        match event {
            Event::Received(chunk) => self.receive(&chunk),
            Event::Flushed => {
                self.sent();
                self.write_frame()
            }
            Event::Closed => Err(Reason::Closed),
            Event::Deleted => Err(Reason::Deleted),
            Event::Failed(Failure::TooLarge) => {
                let bytes_max = self.options.receive_frame_bytes_max;
                Err(Reason::Malformed(error_text::too_large_detail(bytes_max)))
            }
            Event::Failed(failure) => self.failed(failure),
        }
    }

    /// What was written last has gone to the network, or is kept to be written again.
    fn sent(&mut self) {
        let (messages, bytes) = std::mem::take(&mut self.on_the_way);
        self.caller.outbox().sent(messages, bytes);
        self.clocks.send_finished();
    }

    fn failed(&mut self, failure: Failure) -> Result<(), Reason> {
        match &mut self.resumption {
            Some(resumption) if failure == Failure::Lost => {
                debug!(connection = self.caller.id(), "WebSocket lost");
                resumption.lost(self.options.attach_timeout);
                self.wire = Wire::lost();
                self.sent();
                Ok(())
            }
            _ => Err(Reason::Broken(failure)),
        }
    }

    fn resuming(&mut self, resuming: Resuming) -> Result<(), Reason> {
        match (resuming, &mut self.resumption) {
            (Resuming::With(socket), Some(resumption)) => {
                debug!(
                    connection = self.caller.id(),
                    "taken over by another WebSocket"
                );
                resumption.resume();
                self.wire = Wire::socket(socket);
                if self.caller.codec() == Codec::MessagePack {
                    self.wire.become_binary();
                }
                self.sent();
                // Half a message of the old one is sent again whole.
                self.incoming = Incoming::new(self.caller.codec(), self.options.receive_bytes_max);
                self.clocks.received();
            }
            (Resuming::Acknowledge, Some(resumption)) => resumption.acknowledge(),
            (Resuming::Gone, _) => return Err(Reason::Broken(Failure::Lost)),
            (_, None) => {}
        }
        self.write_on()
    }

    /// Writes the next frame if nothing is being written.
    fn write_on(&mut self) -> Result<(), Reason> {
        match self.wire.is_flushing() || self.wire.is_lost() {
            true => Ok(()),
            false => self.write_frame(),
        }
    }

    /// Writes the next frame, if there is one.
    fn write_frame(&mut self) -> Result<(), Reason> {
        let bytes_max = self.options.send_frame_bytes;
        let frame = match &mut self.resumption {
            None => self.batch.next_frame(bytes_max),
            Some(resumption) => {
                if let Some(frame) = resumption.next_frame() {
                    return self.write(frame);
                }
                if resumption.is_full() {
                    return Ok(());
                }
                resumption.kept_frame(&mut self.batch, bytes_max)
            }
        };
        let Some(frame) = frame else {
            self.batch = Batch::default();
            return Ok(());
        };
        self.on_the_way = (frame.messages, frame.bytes.len());
        self.write(frame.bytes)
    }

    fn write(&mut self, frame: Bytes) -> Result<(), Reason> {
        self.clocks.send_started();
        match self.wire.start_send(frame) {
            Ok(()) => Ok(()),
            Err(failure) => self.failed(failure),
        }
    }

    fn due(&mut self, due: Due) -> Result<(), Reason> {
        match due {
            Due::Ping => self.ping(),
            Due::ClientTimeout => Err(Reason::ClientTimeout),
            // The client may find that its network is dead, and come back.
            Due::SendTimeout if self.resumption.is_some() => self.failed(Failure::Lost),
            Due::SendTimeout => Err(Reason::SlowReader),
            Due::TokenExpiry if self.clocks.put_off_expiry(self.caller.expires_at()) => Ok(()),
            Due::TokenExpiry => Err(Reason::TokenExpired),
        }
    }

    fn ping(&mut self) -> Result<(), Reason> {
        match &mut self.resumption {
            Some(resumption) => {
                resumption.ping();
                self.write_on()
            }
            None => self.queue(|codec, out| codec.ping(out)),
        }
    }

    fn receive(&mut self, chunk: &[u8]) -> Result<(), Reason> {
        let (mut received, mut pinged) = (false, false);
        let (caller, calls, resumption) = (self.caller, &mut self.calls, &mut self.resumption);
        self.incoming.feed(chunk, |message| {
            received = true;
            pinged |= matches!(message, Some(HubMessage::Ping));
            if let (Some(message), Some(resumption)) = (&message, &mut *resumption)
                && !resumption.receive(message)?
            {
                return Ok(());
            }
            match message {
                Some(message) => take(message, caller, calls)?,
                None => debug!(connection = caller.id(), "message of unknown type skipped"),
            }
            Ok::<(), Reason>(())
        })?;
        if received {
            self.clocks.received();
        }
        if pinged {
            self.clocks.pinged();
        }
        match &self.resumption {
            // An acknowledgement may have made room.
            Some(_) => self.write_on(),
            None => Ok(()),
        }
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
                ..
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
            let mut resumption = self.resumption;
            while let Some(frame) = resumption.as_mut().and_then(|r| r.next_frame()) {
                last.extend_from_slice(&frame);
            }
            last.extend_from_slice(&self.batch.rest());
            last.extend_from_slice(&unsent);
            let codec = self.caller.codec();
            codec.close(&mut last, close.error.as_deref(), close.allow_reconnect);
        }
        let farewell = ending::farewell(self.wire, reason, last.into(), self.options);
        (farewell, self.calls)
    }
}

impl From<SequenceAhead> for Reason {
    fn from(ahead: SequenceAhead) -> Self {
        Self::Malformed(ahead.to_string())
    }
}

/// Never for a connection that cannot be resumed.
async fn next_resuming(resumption: &mut Option<Box<Resumption>>) -> Resuming {
    match resumption {
        Some(resumption) => resumption.next().await,
        None => std::future::pending().await,
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// Takes one message in. What names a stream or a call that is not known is ignored, and so is
/// what only matters to a connection that can be resumed.
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
