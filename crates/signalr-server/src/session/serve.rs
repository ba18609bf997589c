//! The loop of a connection: read, run, write, keep time, until there is a reason to stop.

use std::future::{Future, poll_fn};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use signalr_protocol::{HubMessage, Incoming as Counted, error_text};
use tokio::select;
use tokio::time::Instant;
use tracing::debug;

use super::calls::{Calls, Finished};
use super::clocks::{Clocks, Due};
use super::ending::{self, Reason};
use super::resume::{FRAME_BYTES_MAX, Resume};
use crate::codec::{Codec, Incoming, Malformed};
use crate::outbox::{Batch, Waiting};
use crate::registry::Presence;
use crate::server::Shared;
use crate::wire::{Event, Failure, Wire};
use crate::{Caller, Hub, Options, PushError};

pub(super) struct Session<'a, H: Hub> {
    caller: &'a Caller<H>,
    options: &'a Options,
    wire: Wire,
    /// What makes it possible to go on over another socket, where that was agreed.
    resume: Option<Box<Resume>>,
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
    pub(super) fn new(
        shared: &'a Shared<H>,
        caller: &'a Caller<H>,
        wire: Wire,
        resume: Option<Box<Resume>>,
    ) -> Self {
        let mut clocks = Clocks::start(&shared.options, wire.transport(), caller.expires_at());
        clocks.send_started();
        Self {
            caller,
            options: &shared.options,
            wire,
            resume,
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
            let is_open = self.resume.as_ref().is_none_or(|resume| resume.is_open());
            let is_writing = !self.wire.is_flushing() && is_open && self.batch.is_empty();
            select! {
                waiting = poll_fn(|context| outbox.poll_take(context)), if is_writing => {
                    match waiting {
                        Waiting::Messages(batch) => self.batch = batch,
                        Waiting::Close(order) => return Err(Reason::Ordered(order)),
                    }
                    self.write_frame()?;
                }
                socket = Resume::taken_over(self.resume.as_deref()) => self.taken_over(socket)?,
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
            Event::Deleted => Err(Reason::Deleted),
            Event::Failed(Failure::TooLarge) => {
                let bytes_max = self.options.receive_frame_bytes_max;
                Err(Reason::Malformed(error_text::too_large_detail(bytes_max)))
            }
            Event::Failed(failure) => self.broke(failure),
        }
    }

    /// A connection that can be resumed outlives its socket, for a while.
    fn broke(&mut self, failure: Failure) -> Result<(), Reason> {
        if self.resume.is_none() || failure != Failure::Lost {
            return Err(Reason::Broken(failure));
        }
        debug!(connection = self.caller.id(), "socket lost");
        self.detach();
        self.clocks.abandoned_at = Instant::now().checked_add(self.options.attach_timeout);
        Ok(())
    }

    /// Drops the socket, without a word; what it did not carry to its end is kept.
    fn detach(&mut self) {
        self.wire = Wire::lost();
        if let Some(resume) = &mut self.resume {
            resume.detach();
        }
        // Half a message is worth nothing: the whole one comes again.
        self.incoming = Incoming::new(self.caller.codec(), self.options.receive_bytes_max);
        let (messages, bytes) = std::mem::take(&mut self.on_the_way);
        self.caller.outbox().sent(messages, bytes);
        self.clocks.send_finished();
        self.clocks.ack_at = None;
    }

    /// Goes on over another socket, even if the old one seems to live: its client knows better.
    fn taken_over(&mut self, socket: WebSocket) -> Result<(), Reason> {
        debug!(connection = self.caller.id(), "resumed");
        self.detach();
        self.clocks.abandoned_at = None;
        let codec = self.caller.codec();
        self.wire = Wire::socket(socket);
        if codec == Codec::MessagePack {
            self.wire.become_binary();
        }
        if let Some(resume) = &mut self.resume {
            resume.attach(codec);
        }
        self.write_frame()
    }

    /// Writes the next frame, if there is one that may be written.
    fn write_frame(&mut self) -> Result<(), Reason> {
        if self.wire.is_flushing() {
            return Ok(());
        }
        let Some(resume) = &mut self.resume else {
            let Some(frame) = self.batch.next_frame(self.options.send_frame_bytes) else {
                self.batch = Batch::default();
                return Ok(());
            };
            return self.send(frame.bytes, frame.messages);
        };
        if let Some(bytes) = resume.next_frame() {
            return self.send(bytes, 0);
        }
        let bytes_max = self.options.send_frame_bytes.min(FRAME_BYTES_MAX);
        let (mut frame, mut messages) = (Vec::new(), 0);
        while resume.is_open()
            && (messages == 0 || self.batch.fits(frame.len(), bytes_max))
            && let Some(message) = self.batch.next_message()
        {
            frame.extend_from_slice(&message);
            messages += 1;
            resume.keep(&message);
        }
        if messages == 0 {
            return Ok(());
        }
        self.send(frame.into(), messages)
    }

    /// Writes a frame with so many messages of the queue.
    fn send(&mut self, bytes: Bytes, messages: usize) -> Result<(), Reason> {
        let queued_bytes = if messages == 0 { 0 } else { bytes.len() };
        self.on_the_way = (messages, queued_bytes);
        self.clocks.send_started();
        match self.wire.start_send(bytes) {
            Ok(()) => Ok(()),
            Err(failure) => self.broke(failure),
        }
    }

    fn due(&mut self, due: Due) -> Result<(), Reason> {
        match due {
            Due::Ping => match &mut self.resume {
                None => self.queue(|codec, out| codec.ping(out)),
                Some(resume) => {
                    resume.control(|out| self.caller.codec().ping(out));
                    self.write_frame()
                }
            },
            Due::Ack => self.acknowledge(),
            Due::Abandoned => Err(Reason::Broken(Failure::Lost)),
            Due::ClientTimeout => Err(Reason::ClientTimeout),
            Due::SendTimeout => Err(Reason::SlowReader),
            Due::TokenExpiry if self.clocks.put_off_expiry(self.caller.expires_at()) => Ok(()),
            Due::TokenExpiry => Err(Reason::TokenExpired),
        }
    }

    /// Tells the client of a connection that can be resumed what came.
    fn acknowledge(&mut self) -> Result<(), Reason> {
        self.clocks.ack_at = None;
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        if let Some(sequence_id) = resume.sequences.due_ack() {
            let codec = self.caller.codec();
            resume.control(|out| codec.message(out, &HubMessage::Ack { sequence_id }));
        }
        self.write_frame()
    }

    fn receive(&mut self, chunk: &[u8]) -> Result<(), Reason> {
        let (mut received, mut pinged, mut made_room) = (false, false, false);
        let (caller, calls, resume) = (self.caller, &mut self.calls, &mut self.resume);
        self.incoming.feed(chunk, |message| {
            received = true;
            let Some(message) = message else {
                debug!(connection = caller.id(), "message of unknown type skipped");
                return Ok(());
            };
            pinged |= matches!(message, HubMessage::Ping);
            if let Some(resume) = resume {
                let counted = resume.sequences.receive(&message);
                match counted.map_err(|ahead| Reason::Malformed(ahead.to_string()))? {
                    Counted::New => {}
                    Counted::PassOver => return Ok(()),
                    Counted::Acknowledged => {
                        made_room = true;
                        return Ok(());
                    }
                }
            }
            take(message, caller, calls)
        })?;
        if made_room {
            self.write_frame()?;
        }
        if received && self.resume.is_some() && self.clocks.ack_at.is_none() {
            self.clocks.ack_at = Instant::now().checked_add(ACK_INTERVAL);
        }
        if received {
            self.clocks.received();
        }
        if pinged {
            self.clocks.pinged();
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

/// How long after something came it is acknowledged, as the official server does.
const ACK_INTERVAL: Duration = Duration::from_secs(1);

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
