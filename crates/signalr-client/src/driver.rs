//! The task behind a connection: reads, writes, pings, and knows when it is over.
//!
//! Reading and writing go on side by side in one task. Reading stops while the consumer is behind; writing does not, so
//! pings still go out and the server keeps the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalr_protocol::{HubMessage, Invocation as Call, RecordSplitter};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::connection::Shared;
use crate::incoming::{Invocation, Reply};
use crate::outbox::Next;
use crate::transport::{Link, Receiver, Sender};
use crate::{Closed, Options, codec};

/// The times the task keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    keep_alive: Duration,
    server_timeout: Duration,
    send_timeout: Duration,
    close_timeout: Duration,
}

impl From<&Options> for Times {
    fn from(options: &Options) -> Self {
        Self {
            // A ticker refuses an interval of zero.
            keep_alive: options.keep_alive_interval.max(Duration::from_millis(1)),
            server_timeout: options.server_timeout,
            send_timeout: options.send_timeout,
            close_timeout: options.close_timeout,
        }
    }
}

/// A connection that has shaken hands.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) link: Link,
    pub(crate) splitter: RecordSplitter,
    /// What came behind the handshake's answer in the same chunk.
    pub(crate) early: Bytes,
}

/// Runs the connection to its end.
pub(crate) async fn run(
    established: Established,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Invocation>,
    times: Times,
) {
    let Established {
        link: Link {
            mut receiver,
            mut sender,
        },
        splitter,
        early,
    } = established;
    let inbound = Inbound {
        shared: &shared,
        incoming,
        splitter,
    };
    let why = tokio::select! {
        why = inbound.read(&mut receiver, early, times.server_timeout) => why,
        why = write(&mut sender, &shared, times) => why,
    };
    tracing::debug!(%why, "the connection ends");
    // Whoever waits to come back need not wait for our goodbye; who asked for the goodbye does.
    if why == Closed::ByClient {
        let goodbye = async {
            sender.close().await;
            while let Ok(Some(_)) = receiver.receive().await {}
        };
        let _ = timeout(times.close_timeout, goodbye).await;
        shared.end(why);
    } else {
        shared.end(why);
        let _ = timeout(times.close_timeout, sender.close()).await;
    }
}

async fn write(sender: &mut Sender, shared: &Shared, times: Times) -> Closed {
    // The first ping follows the handshake at once: it arms the server's timeout, and official clients send it.
    let mut pings = interval_at(Instant::now(), times.keep_alive);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = shared.outbox.next() => next,
            _ = pings.tick() => Next::Send(codec::PING.to_vec()),
        };
        let (frame, is_last) = match next {
            Next::Send(frame) => (frame, false),
            Next::Close => (codec::close(), true),
        };
        match timeout(times.send_timeout, sender.send(frame)).await {
            Err(_) => {
                return Closed::SendTimeout {
                    after: times.send_timeout,
                };
            }
            Ok(Err(why)) => return why,
            Ok(Ok(())) if is_last => return Closed::ByClient,
            Ok(Ok(())) => {}
        }
    }
}

struct Inbound<'a> {
    shared: &'a Arc<Shared>,
    incoming: mpsc::Sender<Invocation>,
    splitter: RecordSplitter,
}

impl Inbound<'_> {
    async fn read(
        mut self,
        receiver: &mut Receiver,
        early: Bytes,
        silence_max: Duration,
    ) -> Closed {
        let mut chunk = early;
        loop {
            if let Err(why) = self.take(&chunk).await {
                return why;
            }
            chunk = match timeout(silence_max, receiver.receive()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    return Closed::Lost {
                        detail: "the server ended it without a word".into(),
                    };
                }
                Ok(Err(why)) => return why,
                Err(_) => return Closed::ServerTimeout { after: silence_max },
            };
        }
    }

    async fn take(&mut self, chunk: &[u8]) -> Result<(), Closed> {
        for record in self.splitter.feed(chunk) {
            let record = record.map_err(broken)?;
            match codec::decode(&record).map_err(broken)? {
                Some(HubMessage::Invocation(call)) => {
                    deliver(self.shared, &self.incoming, call.into_owned()).await;
                }
                Some(HubMessage::Completion(completion)) => {
                    let result = completion.result.into_owned();
                    self.shared
                        .calls
                        .complete(&completion.invocation_id, result);
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
}

/// Waits while the consumer is behind. Without a consumer the call is dropped, which answers it.
async fn deliver(shared: &Arc<Shared>, incoming: &mpsc::Sender<Invocation>, call: Call<'static>) {
    let reply = call
        .invocation_id
        .filter(|id| !id.is_empty())
        .map(|id| Reply::new(id.into_owned(), Arc::clone(shared)));
    let invocation = Invocation::new(call.target.into_owned(), call.arguments, reply);
    let _ = incoming.send(invocation).await;
}

fn broken(error: impl std::fmt::Display) -> Closed {
    Closed::Protocol {
        detail: error.to_string(),
    }
}
