//! What a connection keeps so that another WebSocket can take it over (SignalR hub protocol,
//! version 2: Ack and Sequence).
//!
//! Promise: as long as the client comes back in time, nothing is lost, repeated or reordered in
//! either direction. Pings and acknowledgements go around the books, so they go on while so much
//! is kept that nothing else may.
//!
//! Left out on purpose: what came over the old WebSocket and was no whole message; its sender
//! sends it again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use signalr_protocol::{HubMessage, Incoming, SequenceAhead, Sequences};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::codec::Codec;
use crate::outbox::{Batch, Frame};
use crate::takeover::Takeover;

/// How long an acknowledgement may wait for more to acknowledge.
const ACK_DELAY: Duration = Duration::from_secs(1);

/// Largest frame, where messages allow it: a cut inside a longer one breaks the official .NET
/// client, which reads frames in pieces of that size.
const FRAME_BYTES_MAX: usize = 4096;

/// What a connection that can be resumed has beyond others. Boxed by its owner: most have none.
pub(super) struct Resumption {
    takeover: Arc<Takeover>,
    codec: Codec,
    sequences: Sequences<Bytes>,
    bytes_max: usize,
    /// Goes out before anything else: what a new WebSocket begins with.
    replay: VecDeque<Bytes>,
    /// A ping or an acknowledgement; goes out before what waits in the queue.
    aside: Vec<u8>,
    ack_at: Option<Instant>,
    /// When the client has been without a WebSocket for too long.
    gone_at: Option<Instant>,
    /// Goes off at the earlier of the two.
    timer: Pin<Box<Sleep>>,
}

/// What there is to do.
pub(super) enum Resuming {
    /// The client came back.
    With(Box<WebSocket>),
    /// It is to be told what has come.
    Acknowledge,
    /// The client did not come back in time.
    Gone,
}

impl Resumption {
    pub(super) fn new(takeover: Arc<Takeover>, codec: Codec, bytes_max: usize) -> Self {
        Self {
            takeover,
            codec,
            sequences: Sequences::default(),
            bytes_max,
            replay: VecDeque::new(),
            aside: Vec::new(),
            ack_at: None,
            gone_at: None,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    /// Whether so much waits for the client's acknowledgement that no more may be sent.
    pub(super) fn is_full(&self) -> bool {
        self.sequences.is_full(self.bytes_max)
    }

    /// Puts a message that came before the books: whether it is to be processed. Whoever waits
    /// for room looks again in any case.
    pub(super) fn receive(&mut self, message: &HubMessage<'_>) -> Result<bool, SequenceAhead> {
        let incoming = self.sequences.receive(message)?;
        if message.message_type().is_sequenced() && self.ack_at.is_none() {
            self.ack_at = Some(Instant::now() + ACK_DELAY);
        }
        Ok(incoming == Incoming::New)
    }

    /// What is to be written before what waits in the queue.
    pub(super) fn next_frame(&mut self) -> Option<Bytes> {
        self.next_replayed().or_else(|| {
            let aside = std::mem::take(&mut self.aside);
            (!aside.is_empty()).then(|| aside.into())
        })
    }

    /// As many messages of the replay as fit into one frame.
    fn next_replayed(&mut self) -> Option<Bytes> {
        let mut frame = Vec::from(self.replay.pop_front()?);
        while let Some(next) = self.replay.front()
            && frame.len() + next.len() <= FRAME_BYTES_MAX
        {
            frame.extend_from_slice(next);
            self.replay.pop_front();
        }
        Some(frame.into())
    }

    /// Takes messages that are about to be written out of the queue, and keeps each: only what was
    /// not acknowledged is sent again. Copies, because they may be small parts of a large buffer.
    pub(super) fn kept_frame(&mut self, batch: &mut Batch, bytes_max: usize) -> Option<Frame> {
        let bytes_max = bytes_max.min(FRAME_BYTES_MAX);
        let (mut bytes, mut messages) = (Vec::new(), 0);
        while !self.is_full()
            && (messages == 0 || batch.fits(bytes.len(), bytes_max))
            && let Some(Frame { bytes: message, .. }) = batch.next_frame(0)
        {
            let kept = Bytes::copy_from_slice(&message);
            self.sequences.keep(kept, message.len(), 1);
            bytes.extend_from_slice(&message);
            messages += 1;
        }
        (messages > 0).then(|| Frame {
            bytes: bytes.into(),
            messages,
        })
    }

    /// A ping is not worth being sent twice.
    pub(super) fn ping(&mut self) {
        if self.aside.is_empty() && self.gone_at.is_none() {
            self.codec.ping(&mut self.aside);
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some(sequence_id) = self.sequences.due_ack() {
            let ack = HubMessage::Ack { sequence_id };
            self.codec.message(&mut self.aside, &ack);
        }
    }

    /// The WebSocket is lost. The client may come back within `gap_max`.
    pub(super) fn lost(&mut self, gap_max: Duration) {
        self.forget_socket();
        self.gone_at = Some(Instant::now() + gap_max);
    }

    /// Another WebSocket is there: it begins with Sequence and what was not acknowledged.
    pub(super) fn resume(&mut self) {
        self.forget_socket();
        let replay = self.sequences.take_over();
        let mut first = Vec::new();
        let sequence = HubMessage::Sequence {
            sequence_id: replay.first,
        };
        self.codec.message(&mut first, &sequence);
        self.replay.push_back(first.into());
        self.replay.extend(replay.frames);
        // The last acknowledgement may have gone down with the old one.
        self.ack_at = Some(Instant::now() + ACK_DELAY);
    }

    fn forget_socket(&mut self) {
        self.replay.clear();
        self.aside.clear();
        self.ack_at = None;
        self.gone_at = None;
    }

    /// Waits for something to do. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Resuming {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Resuming> {
        if let Poll::Ready(socket) = self.takeover.poll_take(context) {
            return Poll::Ready(Resuming::With(socket));
        }
        let times = [self.ack_at, self.gone_at].into_iter().flatten();
        let Some(next) = times.min() else {
            return Poll::Pending;
        };
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match self.gone_at {
            Some(at) if at <= next => Resuming::Gone,
            _ => {
                self.ack_at = None;
                Resuming::Acknowledge
            }
        })
    }
}
