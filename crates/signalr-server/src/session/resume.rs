//! What a connection that can be resumed keeps beside the others (SignalR hub protocol, version 2).
//!
//! Promise: whatever socket carries the connection begins with Sequence and what was not
//! acknowledged; pings and acknowledgements go on while so much is kept that nothing else may.

use std::collections::VecDeque;
use std::future::{self, Future, poll_fn};
use std::sync::Arc;

use axum::extract::ws::WebSocket;
use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use signalr_protocol::{HubMessage, Sequences};

use crate::codec::Codec;
use crate::takeover::Takeover;

/// A frame that is cut in the middle must not be larger, or the official .NET client does not
/// resume.
pub(super) const FRAME_BYTES_MAX: usize = 4096;

pub(super) struct Resume {
    takeover: Arc<Takeover>,
    pub(super) sequences: Sequences<Bytes>,
    /// What a new socket begins with.
    replay: VecDeque<Bytes>,
    /// Pings and acknowledgements, which have no number.
    controls: Vec<u8>,
    bytes_max: usize,
    pub(super) is_detached: bool,
}

impl Resume {
    /// Another WebSocket may take over from now on.
    pub(super) fn new(takeover: &Arc<Takeover>, bytes_max: usize) -> Self {
        takeover.open();
        Self {
            takeover: Arc::clone(takeover),
            sequences: Sequences::default(),
            replay: VecDeque::new(),
            controls: Vec::new(),
            bytes_max,
            is_detached: false,
        }
    }

    /// Waits for a WebSocket that takes over.
    pub(super) fn taken_over(resume: Option<&Self>) -> impl Future<Output = WebSocket> {
        match resume {
            None => Either::Left(future::pending()),
            Some(resume) => Either::Right(poll_fn(|context| resume.takeover.poll_take(context))),
        }
    }

    /// Whether messages may be written.
    pub(super) fn is_open(&self) -> bool {
        !self.is_detached && self.replay.is_empty() && !self.sequences.is_full(self.bytes_max)
    }

    /// Keeps a message that is about to be written. A copy, because the message may be a small part
    /// of a large buffer.
    pub(super) fn keep(&mut self, message: &[u8]) {
        let kept = Bytes::copy_from_slice(message);
        self.sequences.keep(kept, message.len(), 1);
    }

    /// Queues what has no number. Without a socket it is worth nothing.
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_detached {
            write(&mut self.controls);
        }
    }

    /// What is to be written before any message.
    pub(super) fn next_frame(&mut self) -> Option<Bytes> {
        if self.is_detached {
            return None;
        }
        if let Some(frame) = self.next_replayed() {
            return Some(frame);
        }
        let controls = std::mem::take(&mut self.controls);
        (!controls.is_empty()).then(|| controls.into())
    }

    /// Some whole messages of the replay.
    fn next_replayed(&mut self) -> Option<Bytes> {
        let first = self.replay.pop_front()?;
        let mut frame = BytesMut::from(first);
        while let Some(next) = self.replay.front()
            && frame.len() + next.len() <= FRAME_BYTES_MAX
        {
            frame.extend_from_slice(next);
            self.replay.pop_front();
        }
        Some(frame.freeze())
    }

    /// The socket is lost; what it was to carry is kept or worth nothing.
    pub(super) fn detach(&mut self) {
        self.is_detached = true;
        self.replay.clear();
        self.controls.clear();
    }

    /// Another socket carries the connection.
    pub(super) fn attach(&mut self, codec: Codec) {
        self.is_detached = false;
        let replay = self.sequences.take_over();
        let mut sequence = Vec::new();
        let sequence_id = replay.first;
        codec.message(&mut sequence, &HubMessage::Sequence { sequence_id });
        self.replay.push_back(sequence.into());
        self.replay.extend(replay.frames);
    }
}

impl Drop for Resume {
    fn drop(&mut self) {
        self.takeover.close();
    }
}
