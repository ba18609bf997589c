//! The task behind a connection: reads, writes, pings, and knows when it is over.
//!
//! Reading and writing go on side by side in one task. Reading stops while the consumer is behind; writing does not, so
//! pings still go out and the server keeps the connection. While a call waits for its answer a little is read past the
//! consumer, because the consumer may be the one that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalr_protocol::{HubMessage, Invocation as Call, RecordSplitter};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{self, Permit};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::connection::Shared;
use crate::incoming::{Invocation, Reply};
use crate::outbox::Next;
use crate::refresh::Refresher;
use crate::transport::{Link, Receiver, Sender};
use crate::{Closed, Options, Transport, codec};

/// The limits the task keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `None` where nobody pings: the polls of long polling show by themselves that both sides live, and a ping would
    /// make the server expect more of them.
    keep_alive: Option<Duration>,
    server_timeout: Option<Duration>,
    send_timeout: Duration,
    close_timeout: Duration,
    /// Largest hub message.
    receive_bytes_max: usize,
}

impl Limits {
    pub(crate) fn new(options: &Options, transport: Transport) -> Self {
        let pings = transport != Transport::LongPolling;
        let send_timeout = match transport {
            Transport::WebSockets => options.send_timeout,
            _ => options.send_timeout.max(POST_TIMEOUT),
        };
        Self {
            // A ticker refuses an interval of zero.
            keep_alive: pings.then(|| options.keep_alive_interval.max(Duration::from_millis(1))),
            server_timeout: pings.then_some(options.server_timeout),
            send_timeout,
            close_timeout: options.close_timeout,
            receive_bytes_max: options.receive_bytes_max,
        }
    }
}

/// A connection that has shaken hands.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) link: Link,
    /// What came behind the handshake's answer in the same chunk.
    pub(crate) early: Bytes,
}

/// Runs the connection to its end.
pub(crate) async fn run(
    established: Established,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Invocation>,
    limits: Limits,
    refresh: Option<Refresher>,
) {
    let Established {
        link: Link {
            mut receiver,
            mut sender,
        },
        early,
    } = established;
    let mut inbound = Inbound::new(Arc::clone(&shared), limits.receive_bytes_max);
    let why = tokio::select! {
        why = inbound.read(&mut receiver, &incoming, early, limits.server_timeout) => why,
        why = write(&mut sender, &shared, limits) => why,
        why = keep_fresh(refresh) => why,
    };
    tracing::debug!(%why, "the connection ends");
    // Whoever waits to come back need not wait for our goodbye; who asked for the goodbye does.
    if why == Closed::ByClient {
        let goodbye = async {
            sender.close().await;
            while let Ok(Some(_)) = receiver.receive().await {}
        };
        let _ = timeout(limits.close_timeout, goodbye).await;
        shared.end(why);
    } else {
        shared.end(why);
        let _ = timeout(limits.close_timeout, sender.close()).await;
        inbound.hand_over_all(&incoming).await;
    }
}

/// Never says why the connection should end: a token that cannot be refreshed is the server's business.
async fn keep_fresh(refresh: Option<Refresher>) -> Closed {
    if let Some(refresh) = refresh {
        refresh.run().await;
    }
    std::future::pending().await
}

async fn write(sender: &mut Sender, shared: &Shared, limits: Limits) -> Closed {
    // The first ping follows the handshake at once: it arms the server's timeout, and official clients send it.
    let mut pings = limits.keep_alive.map(|every| {
        let mut pings = interval_at(Instant::now(), every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings
    });
    loop {
        let next = tokio::select! {
            next = shared.outbox.next() => next,
            () = tick(&mut pings) => Next::Send(codec::ping()),
        };
        let (frame, is_last) = match next {
            Next::Send(frame) => (frame, false),
            Next::Close => (codec::close(), true),
        };
        match timeout(limits.send_timeout, sender.send(frame)).await {
            Err(_) => {
                return Closed::SendTimeout {
                    after: limits.send_timeout,
                };
            }
            Ok(Err(why)) => return why,
            Ok(Ok(())) if is_last => return Closed::ByClient,
            Ok(Ok(())) => {}
        }
    }
}

async fn tick(pings: &mut Option<Interval>) {
    match pings {
        Some(pings) => drop(pings.tick().await),
        None => std::future::pending().await,
    }
}

/// What comes from the server, on its way to the consumer.
struct Inbound {
    shared: Arc<Shared>,
    splitter: RecordSplitter,
    /// Read, but the consumer has no room for it yet. Grows only by what shared a chunk, and by what has to be read
    /// past to find the answer of a call: a consumer may be waiting for just that.
    surplus: VecDeque<Invocation>,
    surplus_bytes: usize,
}

impl Inbound {
    fn new(shared: Arc<Shared>, receive_bytes_max: usize) -> Self {
        Self {
            shared,
            splitter: RecordSplitter::new(Some(receive_bytes_max)),
            surplus: VecDeque::new(),
            surplus_bytes: 0,
        }
    }

    async fn read(
        &mut self,
        receiver: &mut Receiver,
        incoming: &mpsc::Sender<Invocation>,
        early: Bytes,
        silence_max: Option<Duration>,
    ) -> Closed {
        if let Err(why) = self.take(&early) {
            return why;
        }
        let new_deadline = || silence_max.map(|silence_max| Instant::now() + silence_max);
        let mut deadline = new_deadline();
        let mut has_listened = true;
        loop {
            self.hand_over_what_fits(incoming);
            let may_read = self.may_read();
            if may_read && !has_listened {
                // The silence was ours for as long as we did not listen.
                deadline = new_deadline();
            }
            has_listened = may_read;
            tokio::select! {
                permit = incoming.reserve(), if !self.surplus.is_empty() => self.hand_over(permit),
                // Somebody began to wait for an answer, or read from a stream.
                () = self.shared.calls.changed(), if !may_read => {}
                chunk = receiver.receive(), if may_read => match chunk {
                    Ok(Some(chunk)) => {
                        if let Err(why) = self.take(&chunk) {
                            return why;
                        }
                        deadline = new_deadline();
                    }
                    Ok(None) => {
                        return Closed::Lost { detail: "the server ended it without a word".into() };
                    }
                    Err(why) => return why,
                },
                after = silence(deadline, silence_max), if may_read => {
                    return Closed::ServerTimeout { after };
                }
            }
        }
    }

    /// Not while somebody is behind, unless another waits for an answer: then a little is read past the slow one.
    fn may_read(&self) -> bool {
        let unread = self.shared.calls.unread_bytes();
        let excess = unread.saturating_sub(self.shared.stream_bytes_max);
        if self.surplus.is_empty() && excess == 0 {
            return true;
        }
        self.surplus_bytes + excess < SURPLUS_BYTES_MAX && self.shared.calls.are_waiting()
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Closed> {
        for record in self.splitter.feed(chunk) {
            let record = record.map_err(broken)?;
            match codec::decode(&record).map_err(broken)? {
                Some(HubMessage::Invocation(call)) => {
                    let invocation = invocation(&self.shared, call.into_owned());
                    self.surplus_bytes += weight(&invocation);
                    self.surplus.push_back(invocation);
                }
                Some(HubMessage::Completion(completion)) => {
                    let result = completion.result.into_owned();
                    self.shared
                        .calls
                        .complete(&completion.invocation_id, result);
                }
                Some(HubMessage::StreamItem(item)) => {
                    let value = item.item.into_owned();
                    self.shared.calls.item(&item.invocation_id, value);
                }
                Some(HubMessage::Close(close)) => {
                    return Err(Closed::ByServer {
                        error: close.error.map(|error| error.into_owned()),
                        allow_reconnect: close.allow_reconnect,
                    });
                }
                // A ping has done its work by arriving; the rest is not for us, or of a type unknown.
                _ => {}
            }
        }
        Ok(())
    }

    fn hand_over_what_fits(&mut self, incoming: &mpsc::Sender<Invocation>) {
        while !self.surplus.is_empty() {
            match incoming.try_reserve() {
                Ok(permit) => self.hand_over(Ok(permit)),
                Err(TrySendError::Full(())) => return,
                Err(TrySendError::Closed(())) => self.hand_over(Err(SendError(()))),
            }
        }
    }

    /// Hands over what came before the end, for as long as there is a consumer.
    async fn hand_over_all(&mut self, incoming: &mpsc::Sender<Invocation>) {
        while !self.surplus.is_empty() {
            self.hand_over(incoming.reserve().await);
        }
    }

    /// Hands over the oldest. Without a consumer all are dropped, which answers them.
    fn hand_over(&mut self, permit: Result<Permit<'_, Invocation>, SendError<()>>) {
        let Ok(permit) = permit else {
            self.surplus.clear();
            self.surplus_bytes = 0;
            return;
        };
        if let Some(invocation) = self.surplus.pop_front() {
            self.surplus_bytes -= weight(&invocation);
            permit.send(invocation);
        }
    }
}

/// Ends, with the limit, when nothing came until the deadline.
async fn silence(deadline: Option<Instant>, silence_max: Option<Duration>) -> Duration {
    match (deadline, silence_max) {
        (Some(deadline), Some(silence_max)) => {
            sleep_until(deadline).await;
            silence_max
        }
        _ => std::future::pending().await,
    }
}

fn invocation(shared: &Arc<Shared>, call: Call<'static>) -> Invocation {
    let reply = call
        .invocation_id
        .filter(|id| !id.is_empty())
        .map(|id| Reply::new(id.into_owned(), Arc::clone(shared)));
    Invocation::new(call.target.into_owned(), call.arguments, reply)
}

/// What it costs to hold one, so that many small ones are bounded as few large ones are.
fn weight(invocation: &Invocation) -> usize {
    size_of::<Invocation>() + invocation.target().len() + invocation.arguments().as_bytes().len()
}

fn broken(error: impl std::fmt::Display) -> Closed {
    Closed::Protocol {
        detail: error.to_string(),
    }
}

/// How much may be read past to find an answer, in bytes. Beyond it a consumer that waits for an answer
/// instead of consuming waits in vain.
const SURPLUS_BYTES_MAX: usize = 1024 * 1024;

/// A server whose buffer is full answers a post late, and is not gone for that. The official clients wait as long.
const POST_TIMEOUT: Duration = Duration::from_secs(100);
