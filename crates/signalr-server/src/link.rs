//! Between the requests of one connection and its session: bytes up, frames down, and the end.
//!
//! Promise: what requests bring waits in a bounded queue, and a request that finds it full waits
//! too; a frame is given to one request; of two polls the newer one is served. Memory is bounded by
//! one frame down and a few bodies up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use signalr_protocol::negotiate::Transport;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// Bodies that wait to be read. Each may be as long as the largest WebSocket message.
const BODIES_WAITING_MAX: usize = 1;

#[derive(Debug)]
pub(crate) struct Link {
    up: mpsc::Sender<Bytes>,
    /// Until the session takes it.
    received: Mutex<Option<mpsc::Receiver<Bytes>>>,
    state: Mutex<State>,
    session: AtomicWaker,
    /// The event stream, when it waits for a frame.
    reader: AtomicWaker,
    /// Signalled when polls, or whoever awaits the end, should look again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// `None` until a request for frames came.
    transport: Option<Transport>,
    frame: Option<Bytes>,
    /// Number of the newest poll.
    poll: u64,
    /// Since when there has been no poll; `None` while there is one, and for an event stream.
    idle_since: Option<Instant>,
    /// The session has ended: behind the frame comes nothing.
    is_ended: bool,
    /// Whoever takes frames was told of the end.
    is_end_told: bool,
    /// The client asked to end the connection.
    is_deleted: bool,
    /// The event stream was given up by its client.
    is_gone: bool,
}

/// What the session finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A frame waits to be taken.
    Offered,
    /// None does.
    Taken,
    /// The client asked to end the connection.
    Deleted,
    /// There is nobody to take a frame.
    Gone,
}

/// What a poll is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Frame(Bytes),
    /// Nothing came in time.
    Nothing,
    /// A newer poll is served instead.
    Superseded,
    /// The connection is over.
    Ended,
}

/// The connection is over.
#[derive(Debug)]
pub(crate) struct Ended;

impl Link {
    pub(crate) fn new() -> Arc<Self> {
        let (up, received) = mpsc::channel(BODIES_WAITING_MAX);
        Arc::new(Self {
            up,
            received: Mutex::new(Some(received)),
            state: Mutex::new(State {
                transport: None,
                frame: None,
                poll: 0,
                idle_since: None,
                is_ended: false,
                is_end_told: false,
                is_deleted: false,
                is_gone: false,
            }),
            session: AtomicWaker::new(),
            reader: AtomicWaker::new(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn transport(&self) -> Option<Transport> {
        self.lock().transport
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_readers(&self) {
        self.reader.wake();
        self.changed.notify_waiters();
    }
}

/// The side of the requests.
impl Link {
    /// Settles what carries frames down. The first poll counts as one that has just ended.
    pub(crate) fn settle(&self, transport: Transport) {
        let mut state = self.lock();
        state.transport = Some(transport);
        state.idle_since = (transport == Transport::LongPolling).then(Instant::now);
    }

    /// Waits for room for a body, while the session reads slower than bodies come. A body is only
    /// read once there is room for it, so that one connection has one in memory.
    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Bytes>, Ended> {
        if self.lock().is_ended {
            return Err(Ended);
        }
        self.up.reserve().await.map_err(|_| Ended)
    }

    /// Nobody attached in time, and nobody will.
    pub(crate) fn abandon(&self) {
        self.end();
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *received = None;
    }

    /// Waits for a frame, for at most `within`.
    pub(crate) async fn poll(&self, within: Duration) -> Polled {
        let until = Instant::now() + within;
        let number = {
            let mut state = self.lock();
            state.poll += 1;
            state.idle_since = None;
            state.poll
        };
        let _polling = Polling { link: self, number };
        // An older poll gives way, and the session may have something.
        self.changed.notify_waiters();
        self.session.wake();
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.poll != number {
                    return Polled::Superseded;
                }
                if let Some(frame) = state.frame.take() {
                    state.idle_since = Some(Instant::now());
                    drop(state);
                    self.session.wake();
                    return Polled::Frame(frame);
                }
                if state.is_ended {
                    state.is_end_told = true;
                    drop(state);
                    self.changed.notify_waiters();
                    return Polled::Ended;
                }
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => return Polled::Nothing,
            }
        }
    }

    /// Ends the connection as its client asked to.
    pub(crate) fn delete(&self) {
        self.lock().is_deleted = true;
        self.session.wake();
    }

    /// Frames as events.
    pub(crate) fn events(self: &Arc<Self>) -> Events {
        Events {
            link: Arc::clone(self),
            is_open: false,
        }
    }
}

/// The side of the session.
impl Link {
    pub(crate) fn take_received(&self) -> mpsc::Receiver<Bytes> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.take().expect("a link has one session")
    }

    pub(crate) fn offer(&self, frame: Bytes) {
        self.lock().frame = Some(frame);
        self.wake_readers();
    }

    pub(crate) fn standing(&self, context: &Context<'_>) -> Standing {
        // Registered before looking: a change after the look finds the waker.
        self.session.register(context.waker());
        let state = self.lock();
        match state.frame {
            _ if state.is_deleted => Standing::Deleted,
            _ if state.is_gone => Standing::Gone,
            Some(_) => Standing::Offered,
            None => Standing::Taken,
        }
    }

    /// Whether a poll, or the event stream, waits for a frame.
    pub(crate) fn is_awaited(&self) -> bool {
        self.lock().idle_since.is_none()
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.lock().idle_since
    }

    /// Nothing comes behind the frame that is offered, and nothing is read any more.
    pub(crate) fn end(&self) {
        self.lock().is_ended = true;
        self.wake_readers();
    }

    /// Waits until whoever takes frames was told of the end. One who ended the connection himself
    /// need not be told, nor one who is gone.
    pub(crate) async fn until_ended(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.is_end_told || state.is_deleted || state.is_gone {
                    return;
                }
            }
            changed.await;
        }
    }
}

/// One poll that waits.
struct Polling<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if state.poll == self.number {
            state.idle_since = Some(Instant::now());
            drop(state);
            self.link.session.wake();
        }
    }
}

/// The body of an event stream.
#[derive(Debug)]
pub(crate) struct Events {
    link: Arc<Link>,
    is_open: bool,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let events = self.get_mut();
        if !events.is_open {
            events.is_open = true;
            // A comment, so that the client sees the stream begin.
            return Poll::Ready(Some(Ok(Bytes::from_static(b":\r\n"))));
        }
        let link = &events.link;
        link.reader.register(context.waker());
        let mut state = link.lock();
        if let Some(frame) = state.frame.take() {
            drop(state);
            link.session.wake();
            return Poll::Ready(Some(Ok(event(&frame))));
        }
        if state.is_ended {
            state.is_end_told = true;
            drop(state);
            link.changed.notify_waiters();
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.link.lock().is_gone = true;
        self.link.session.wake();
        self.link.changed.notify_waiters();
    }
}

/// A frame as one event: a line for each of its lines, which the client joins again.
fn event(frame: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(frame.len() + 16);
    for line in frame.split(|byte| *byte == b'\n') {
        event.put_slice(b"data: ");
        event.put_slice(line.strip_suffix(b"\r").unwrap_or(line));
        event.put_slice(b"\r\n");
    }
    event.put_slice(b"\r\n");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _};

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_event_has_a_line_for_each_line_of_its_frame() {
        assert_eq!(event(b"{}\x1e"), &b"data: {}\x1e\r\n\r\n"[..]);
        let event = event(b"[1,\r\n2]\x1e");
        assert_eq!(event, &b"data: [1,\r\ndata: 2]\x1e\r\n\r\n"[..]);
    }

    #[tokio::test]
    async fn the_newer_of_two_polls_is_served() {
        let link = Link::new();
        let older = tokio::spawn({
            let link = Arc::clone(&link);
            async move { link.poll(LONG).await }
        });
        tokio::task::yield_now().await;
        let newer = tokio::spawn({
            let link = Arc::clone(&link);
            async move { link.poll(LONG).await }
        });
        assert_eq!(older.await.unwrap(), Polled::Superseded);
        link.offer(Bytes::from_static(b"x"));
        assert_eq!(
            newer.await.unwrap(),
            Polled::Frame(Bytes::from_static(b"x"))
        );
    }

    #[tokio::test]
    async fn behind_the_last_frame_comes_the_end() {
        let link = Link::new();
        link.offer(Bytes::from_static(b"x"));
        link.end();
        assert!(matches!(link.poll(LONG).await, Polled::Frame(_)));
        assert_eq!(link.poll(LONG).await, Polled::Ended);
        link.until_ended().await;
        assert!(link.room().await.is_err());
    }

    #[tokio::test]
    async fn a_body_waits_until_the_one_before_it_was_read_or_nobody_will_read() {
        let link = Link::new();
        link.room().await.unwrap().send(Bytes::from_static(b"1"));
        let mut second = std::pin::pin!(link.room());
        assert!(second.as_mut().now_or_never().is_none());
        link.abandon();
        assert!(second.await.is_err());
    }

    #[tokio::test]
    async fn a_poll_without_a_frame_ends_in_time() {
        let link = Link::new();
        assert_eq!(link.poll(Duration::ZERO).await, Polled::Nothing);
        assert!(link.idle_since().is_some());
    }

    #[tokio::test]
    async fn a_stream_that_was_given_up_is_gone() {
        let link = Link::new();
        link.settle(Transport::ServerSentEvents);
        let mut events = link.events();
        assert_eq!(events.next().await.unwrap().unwrap(), &b":\r\n"[..]);
        drop(events);
        link.until_ended().await;
        assert!(link.lock().is_gone);
    }
}
