//! Times and limits that both official implementations start with.
//!
//! Change one only together with the other end: each timeout must stay at least twice the ping
//! interval of the peer.

use core::time::Duration;

/// How often each side sends a ping, whatever else it sends.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long each side bears the silence of the other.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take to shake hands.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a negotiated connection waits for somebody to attach to it.
pub const ATTACH_TIMEOUT: Duration = Duration::from_secs(15);

/// How long one send to the network may stall before the connection is given up.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the side that closes first waits for the Close frame of the other.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest message a server receives, in bytes, framing included.
pub const RECEIVE_BYTES_MAX: usize = 32 * 1024;

/// Deepest nesting of a JSON message; the message object is the first level.
pub const JSON_DEPTH_MAX: usize = 64;

/// Deepest nesting of a MessagePack value that is bound to a type. The official server bears 200
/// levels and refuses 600.
pub const MESSAGEPACK_DEPTH_MAX: usize = 256;

/// Pauses before the attempts of an automatic reconnect, after which a client gives up.
pub const RECONNECT_DELAYS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How many redirects a client follows during negotiation.
pub const REDIRECTS_MAX: usize = 100;
