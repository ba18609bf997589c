//! HTTP requests under a session: a frame waits until a request takes it away.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use signalr_protocol::negotiate::Transport;
use tokio::sync::mpsc;
use tokio::time::{self, Sleep};

use super::{Event, Failure};
use crate::link::{Link, Standing};

pub(super) struct HttpWire {
    link: Arc<Link>,
    received: mpsc::Receiver<Bytes>,
    is_flushing: bool,
    /// The session knows that somebody waits for a frame.
    is_ready: bool,
    /// Longest time without a poll.
    idle_max: Duration,
    idle_timer: Pin<Box<Sleep>>,
}

impl HttpWire {
    pub(super) fn new(link: Arc<Link>, idle_max: Duration) -> Self {
        Self {
            received: link.take_received(),
            link,
            is_flushing: false,
            is_ready: false,
            idle_max,
            idle_timer: Box::pin(time::sleep(idle_max)),
        }
    }

    pub(super) fn transport(&self) -> Transport {
        self.link.transport().unwrap_or(Transport::LongPolling)
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.is_flushing
    }

    /// Whether a frame would be taken at once. Before a poll comes there may be more for it.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn start_send(&mut self, frame: Bytes) {
        debug_assert!(!self.is_flushing, "one frame at a time");
        self.is_flushing = true;
        self.link.offer(frame);
    }

    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        is_reading: bool,
    ) -> Poll<Event> {
        match self.link.standing(context) {
            Standing::Deleted => return Poll::Ready(Event::Deleted),
            Standing::Gone => return Poll::Ready(Event::Failed(Failure::Lost)),
            Standing::Taken if self.is_flushing => {
                self.is_flushing = false;
                self.is_ready = self.link.is_awaited();
                return Poll::Ready(Event::Flushed);
            }
            Standing::Taken if self.is_ready != self.link.is_awaited() => {
                self.is_ready = !self.is_ready;
                return Poll::Ready(Event::Flushed);
            }
            Standing::Taken | Standing::Offered => {}
        }
        if let Some(since) = self.link.idle_since() {
            self.idle_timer.as_mut().reset(since + self.idle_max);
            if self.idle_timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Event::Failed(Failure::Lost));
            }
        }
        if !is_reading {
            return Poll::Pending;
        }
        match self.received.poll_recv(context) {
            Poll::Ready(Some(chunk)) => Poll::Ready(Event::Received(chunk)),
            // The link holds a sender, so the channel never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Leaves `last` for whoever comes for it, and then the end.
    pub(super) async fn close(
        mut self,
        last: Bytes,
        send_timeout: Duration,
        close_timeout: Duration,
    ) {
        let is_taken = time::timeout(send_timeout, self.flush()).await;
        if matches!(is_taken, Ok(true)) && !last.is_empty() {
            self.start_send(last);
        }
        self.link.end();
        let _ = time::timeout(close_timeout, self.link.until_ended()).await;
    }

    /// Waits until the frame that was offered is taken. False: nobody will take it.
    async fn flush(&mut self) -> bool {
        if self.is_flushing {
            let event = poll_fn(|context| self.poll_event(context, false)).await;
            return matches!(event, Event::Flushed);
        }
        true
    }
}

/// However the session ends, requests do not wait for it.
impl Drop for HttpWire {
    fn drop(&mut self) {
        self.link.end();
    }
}
