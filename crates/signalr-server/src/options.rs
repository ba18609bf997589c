//! What can be set on a hub, and why the defaults are what they are.

use std::num::NonZeroU32;
use std::time::Duration;

use signalr_protocol::defaults;
use signalr_protocol::negotiate::Transport;

/// Times and limits of one hub. The defaults are those of the official server where it has them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How often each connection is pinged, whatever else is sent. Default: 15 s; clients give a
    /// server up after 30 s of silence. Zero is taken for one millisecond.
    pub keep_alive_interval: Duration,
    /// How long a client may be silent. Default: 30 s; clients ping every 15 s.
    pub client_timeout: Duration,
    /// How long a connection may take to shake hands. Default: 15 s.
    pub handshake_timeout: Duration,
    /// The transports offered, the preferred one first. Default: WebSockets, server-sent events,
    /// long polling, so that a client gets through whatever stands in between.
    pub transports: Vec<Transport>,
    /// How long a negotiated connection waits for its transport, one over long polling for its next
    /// poll, and one that can be resumed for its next WebSocket. Default: 15 s.
    pub attach_timeout: Duration,
    /// How long a poll waits for something to send. Default: 45 s, because proxies commonly cut
    /// requests after a minute; clients wait for 100 s.
    pub poll_timeout: Duration,
    /// Whether a client may resume a connection over another WebSocket when it asked for that.
    /// Default: false, because what may have to be sent again is kept in memory.
    pub stateful_reconnect: bool,
    /// How many bytes of messages sent and not acknowledged one connection that can be resumed
    /// keeps before it sends no more than pings and acknowledgements. Default: 100,000, as the
    /// official server. It is looked at before each message, so one message more may be kept.
    pub stateful_bytes_max: usize,
    /// How long one send may stall before a slow reader is dropped. Default: 10 s. A connection
    /// that can be resumed loses its WebSocket only, and its client may come back. The TCP
    /// connection below an event stream is the HTTP server's, and ends when that gives it up.
    pub send_timeout: Duration,
    /// How long the server waits for the client's answer to its Close frame. Default: 5 s.
    pub close_timeout: Duration,
    /// Largest hub message received, in bytes, separator included. Default: 32 KiB.
    pub receive_bytes_max: usize,
    /// Largest WebSocket message, or body of a POST, received, in bytes: a client may put several hub
    /// messages into one. Default: 2 MiB, because the official .NET client puts up to 1 MiB and one
    /// message more into one. Never less than [`Options::receive_bytes_max`].
    pub receive_frame_bytes_max: usize,
    /// Most messages that wait to be sent on one connection. Default: 8,192.
    pub outbox_messages_max: usize,
    /// Most bytes that wait to be sent on one connection. Default: 1 MiB. A single message may be
    /// larger while nothing else waits, up to [`Options::message_bytes_max`].
    pub outbox_bytes_max: usize,
    /// Largest hub message sent, in bytes. Default: 16 MiB.
    pub message_bytes_max: usize,
    /// How many bytes of whole messages are put into one WebSocket frame. Default: 16 KiB, which
    /// is some fifty messages to a system call. Each connection keeps a buffer of the largest
    /// frame it sent, so with more, connections that were busy once would hold much memory. On
    /// connections that can be resumed at most 4 KiB: a cut inside a longer frame breaks the
    /// resumption of the official .NET client.
    pub send_frame_bytes: usize,
    /// How many calls of one connection run at once. Default: 1, so that calls take effect in the
    /// order in which they were sent. With more, they start in that order. Zero is taken for one.
    /// Calls that take or give streams start in that order too, and then run beside the others; of
    /// those that take them, at most as many as may wait.
    pub parallel_invocations: usize,
    /// How many calls of one connection wait for their turn before nothing more is read from it.
    /// Default: 64. While nothing is read, a call that asks its own client waits in vain until its
    /// time is up, because the answer stands behind the calls that wait.
    pub waiting_invocations_max: usize,
    /// How many streams to one client run at once, beside its calls. Default: 1,000; one more is
    /// refused, or a client could make the server hold any number.
    pub streams_max: usize,
    /// How many bytes of stream items sent by one client wait for the methods that take them
    /// before nothing more is read from it. Default: 256 KiB. An item counts 64 bytes more than it
    /// is long.
    pub upload_bytes_max: usize,
    /// Whether texts of internal errors reach the client. Default: false, because they may tell
    /// secrets.
    pub detailed_errors: bool,
    /// Whether a connection ends when its token runs out. Default: true.
    pub close_on_token_expiry: bool,
    /// Whether `POST {hub}/refresh` takes newer tokens for connections that live, and negotiation
    /// tells clients how long theirs lasts. Default: false, because an application may have kept
    /// more of the first token than its time. With it an application reads the identity anew where
    /// it needs it, or hears of the newer one in [`Hub::on_auth_refreshed`](crate::Hub).
    pub token_refresh: bool,
    /// Whether [`ConnectionHandle::header`](crate::ConnectionHandle::header) and
    /// [`ConnectionHandle::query`](crate::ConnectionHandle::query) give the bearer token of the
    /// opening request too. Default: false, because whoever holds it can pass for its user.
    pub keep_token: bool,
    /// Oldest version of negotiation served. Default: 0.
    pub negotiate_version_min: i32,
    /// Most negotiated connections that wait for their transport. Default: 65,536; beyond it
    /// negotiation is answered with 503.
    pub unattached_max: usize,
    /// Most connections that the hub has, those that wait for their transport included. Default:
    /// none but the process's own, its open files. Beyond it new ones are answered with 503;
    /// connections that are resumed are not new.
    pub connections_max: usize,
    /// How many new connections a second come in, with one second's worth at once. Default: as many
    /// as ask. Beyond it they are answered with 503 and a `Retry-After` that spreads a crowd over time.
    /// Clients that do not read it, the official ones among them, follow their own reconnect policy.
    pub admissions_per_second: Option<NonZeroU32>,
    /// Origins, such as `https://app.example`, whose pages may connect with credentials. Default:
    /// none. When any is given, a WebSocket of another origin is refused, unless it is the
    /// server's own.
    pub allowed_origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive_interval: defaults::KEEP_ALIVE_INTERVAL,
            client_timeout: defaults::PEER_TIMEOUT,
            handshake_timeout: defaults::HANDSHAKE_TIMEOUT,
            transports: vec![
                Transport::WebSockets,
                Transport::ServerSentEvents,
                Transport::LongPolling,
            ],
            attach_timeout: defaults::ATTACH_TIMEOUT,
            poll_timeout: Duration::from_secs(45),
            stateful_reconnect: false,
            stateful_bytes_max: 100_000,
            send_timeout: defaults::SEND_TIMEOUT,
            close_timeout: defaults::CLOSE_TIMEOUT,
            receive_bytes_max: defaults::RECEIVE_BYTES_MAX,
            receive_frame_bytes_max: 2 * 1024 * 1024,
            outbox_messages_max: 8192,
            outbox_bytes_max: 1024 * 1024,
            message_bytes_max: 16 * 1024 * 1024,
            send_frame_bytes: 16 * 1024,
            parallel_invocations: 1,
            waiting_invocations_max: 64,
            streams_max: 1000,
            upload_bytes_max: 256 * 1024,
            detailed_errors: false,
            close_on_token_expiry: true,
            token_refresh: false,
            keep_token: false,
            negotiate_version_min: 0,
            unattached_max: 65_536,
            connections_max: usize::MAX,
            admissions_per_second: None,
            allowed_origins: Vec::new(),
        }
    }
}
