//! The task behind a connection: reads, writes, pings, and knows when it is over.
//!
//! Reading and writing go on side by side in one task. Reading stops while the consumer is behind; writing does not, so
//! pings still go out and the server keeps the connection. While a call waits for its answer a little is read past the
//! consumer, because the consumer may be the one that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalr_protocol::{HubMessage, Invocation as Call, Replay};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{self, Permit};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::codec::{Codec, Splitter};
use crate::connect::Redial;
use crate::connection::Shared;
use crate::incoming::{Invocation, Reply};
use crate::outbox::{Frame, Next};
use crate::refresh::Refresher;
use crate::resume::Resumption;
use crate::transport::{Link, Receiver, Sender};
use crate::{Closed, Options, Transport};

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

/// What keeps a connection alive beyond its socket and its token.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) redial: Option<Redial>,
    pub(crate) refresh: Option<Refresher>,
}

/// Runs the connection to its end.
pub(crate) async fn run(
    established: Established,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Invocation>,
    limits: Limits,
    upkeep: Upkeep,
) {
    let Established {
        mut link,
        mut early,
    } = established;
    let mut inbound = Inbound::new(Arc::clone(&shared), limits.receive_bytes_max);
    let mut again = None;
    let mut refreshing = std::pin::pin!(keep_fresh(upkeep.refresh));
    let why = loop {
        let Link { receiver, sender } = &mut link;
        let why = tokio::select! {
            why = inbound.read(receiver, &incoming, std::mem::take(&mut early), limits.server_timeout) => why,
            why = write(sender, &shared, limits, again.take()) => why,
            why = &mut refreshing => why,
        };
        let why = match why {
            // The server's answer may overtake the end of our goodbye; it is no less ours.
            Closed::ByServer { error: None, .. } | Closed::Lost { .. }
                if shared.outbox.says_goodbye() =>
            {
                break Closed::ByClient;
            }
            why => why,
        };
        match resume(&why, &shared, upkeep.redial.as_ref()).await {
            Some(other) => {
                // The old socket is dropped without a goodbye, which would end the connection at the server.
                link = other;
                inbound.start_anew(limits.receive_bytes_max);
                // Before anything can come in on it, so that its first message is known for what it is.
                again = shared.resumption.as_ref().map(Resumption::take_over);
            }
            None => break why,
        }
    };
    let Link {
        mut receiver,
        mut sender,
    } = link;
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

/// Another socket for one that was lost; `None` when the connection is over.
async fn resume(why: &Closed, shared: &Shared, redial: Option<&Redial>) -> Option<Link> {
    let redial = redial?;
    let was_lost = matches!(
        why,
        Closed::Lost { .. } | Closed::ServerTimeout { .. } | Closed::SendTimeout { .. }
    );
    if !was_lost {
        return None;
    }
    let resumed = tokio::select! {
        resumed = redial.run() => resumed,
        () = shared.outbox.closing() => return None,
    };
    match resumed {
        Ok(link) => {
            tracing::debug!(%why, "another socket takes over");
            Some(link)
        }
        Err(error) => {
            tracing::debug!(%why, %error, "no other socket could take over");
            None
        }
    }
}

/// Never says why the connection should end: a token that cannot be refreshed is the server's business.
async fn keep_fresh(refresh: Option<Refresher>) -> Closed {
    if let Some(refresh) = refresh {
        refresh.run().await;
    }
    std::future::pending().await
}

async fn write(
    sender: &mut Sender,
    shared: &Shared,
    limits: Limits,
    again: Option<Replay<Frame>>,
) -> Closed {
    match write_all(sender, shared, limits, again).await {
        Ok(()) => Closed::ByClient,
        Err(why) => why,
    }
}

/// Ends when everything was sent and the connection is to be closed.
async fn write_all(
    sender: &mut Sender,
    shared: &Shared,
    limits: Limits,
    again: Option<Replay<Frame>>,
) -> Result<(), Closed> {
    let resumption = shared.resumption.as_ref();
    if let Some(again) = again {
        send_again(sender, shared.codec, again, limits).await?;
    }
    // The first ping follows the handshake at once: it arms the server's timeout, and official clients send it.
    let mut pings = limits.keep_alive.map(ticker);
    let mut acks = resumption.map(|_| ticker(ACK_INTERVAL));
    loop {
        let is_full = resumption.is_some_and(Resumption::is_full);
        tokio::select! {
            next = shared.outbox.next(), if !is_full => match next {
                Next::Send(frame) => {
                    if let Some(resumption) = resumption {
                        resumption.keep(&frame);
                    }
                    send(sender, frame.bytes, limits).await?;
                }
                Next::Close => return send_goodbye(sender, shared, limits).await,
            },
            () = acknowledged(resumption), if is_full => {}
            // What the server does not acknowledge must not keep a connection from being closed.
            () = shared.outbox.closing(), if is_full => {
                return send_goodbye(sender, shared, limits).await;
            }
            () = tick(&mut pings) => send(sender, shared.codec.ping(), limits).await?,
            () = tick(&mut acks) => {
                if let Some(number) = resumption.and_then(Resumption::due_ack) {
                    send(sender, shared.codec.ack(number), limits).await?;
                }
            }
        }
    }
}

async fn send_goodbye(sender: &mut Sender, shared: &Shared, limits: Limits) -> Result<(), Closed> {
    shared.outbox.begin_goodbye();
    send(sender, shared.codec.close(), limits).await
}

/// The first that a server hears on a socket which takes over.
async fn send_again(
    sender: &mut Sender,
    codec: Codec,
    again: Replay<Frame>,
    limits: Limits,
) -> Result<(), Closed> {
    send(sender, codec.sequence(again.first), limits).await?;
    for frame in again.frames {
        send(sender, frame.bytes, limits).await?;
    }
    Ok(())
}

async fn send(sender: &mut Sender, bytes: Vec<u8>, limits: Limits) -> Result<(), Closed> {
    let after = limits.send_timeout;
    let sent = timeout(after, sender.send(bytes)).await;
    sent.unwrap_or(Err(Closed::SendTimeout { after }))
}

async fn acknowledged(resumption: Option<&Resumption>) {
    match resumption {
        Some(resumption) => resumption.acknowledged().await,
        None => std::future::pending().await,
    }
}

/// Ticks at once, and then at this pace.
fn ticker(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// What comes from the server, on its way to the consumer.
struct Inbound {
    shared: Arc<Shared>,
    splitter: Splitter,
    /// Read, but the consumer has no room for it yet. Grows only by what shared a chunk, and by what has to be read
    /// past to find the answer of a call: a consumer may be waiting for just that.
    surplus: VecDeque<Invocation>,
    surplus_bytes: usize,
}

impl Inbound {
    fn new(shared: Arc<Shared>, receive_bytes_max: usize) -> Self {
        Self {
            splitter: shared.codec.splitter(receive_bytes_max),
            shared,
            surplus: VecDeque::new(),
            surplus_bytes: 0,
        }
    }

    /// Another socket takes over: what the old one left unfinished comes again as a whole.
    fn start_anew(&mut self, receive_bytes_max: usize) {
        self.splitter = self.shared.codec.splitter(receive_bytes_max);
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
        for body in self.splitter.feed(chunk) {
            let body = body?;
            let Some(message) = self.shared.codec.decode(&body)? else {
                continue;
            };
            if !is_due(&self.shared, &message)? {
                continue;
            }
            match message {
                HubMessage::Invocation(call) => {
                    let invocation = invocation(&self.shared, call.into_owned());
                    self.surplus_bytes += weight(&invocation);
                    self.surplus.push_back(invocation);
                }
                HubMessage::Completion(completion) => {
                    let result = completion.result.into_owned();
                    self.shared
                        .calls
                        .complete(&completion.invocation_id, result);
                }
                HubMessage::StreamItem(item) => {
                    let value = item.item.into_owned();
                    self.shared.calls.item(&item.invocation_id, value);
                }
                HubMessage::Close(close) => {
                    return Err(Closed::ByServer {
                        error: close.error.map(|error| error.into_owned()),
                        allow_reconnect: close.allow_reconnect,
                    });
                }
                // A ping has done its work by arriving; the rest is not for us.
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

/// Keeps the books of stateful reconnect. False: the message came before, or belongs to those books alone.
fn is_due(shared: &Shared, message: &HubMessage<'_>) -> Result<bool, Closed> {
    match &shared.resumption {
        Some(resumption) => resumption.is_due(message),
        None => Ok(true),
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

/// How much may be read past to find an answer, in bytes. Beyond it a consumer that waits for an answer
/// instead of consuming waits in vain.
const SURPLUS_BYTES_MAX: usize = 1024 * 1024;

/// A server whose buffer is full answers a post late, and is not gone for that. The official clients wait as long.
const POST_TIMEOUT: Duration = Duration::from_secs(100);

/// How often the server is told what has arrived, when there is news. The official peers take the same.
const ACK_INTERVAL: Duration = Duration::from_secs(1);
