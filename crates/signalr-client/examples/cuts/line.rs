//! A TCP proxy that cuts its connections, each at a random byte.
//!
//! Promise: up to the cut every byte is carried in order; a cut falls at any byte, in the middle of an HTTP request, of
//! an upgrade or of a WebSocket frame. Half of the cuts are resets, which also destroy what is under way. Where it is
//! wanted, every third leaves the server's side standing, deaf and dumb, as a network does that went away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// The proxy. Its connections end with the runtime.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    left: Arc<AtomicU32>,
}

/// What was cut, for all lines together.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    pub(crate) up: AtomicU32,
    pub(crate) down: AtomicU32,
    pub(crate) resets: AtomicU32,
    pub(crate) half_open: AtomicU32,
}

/// Where one connection is cut.
#[derive(Debug, Clone, Copy)]
struct Plan {
    is_up: bool,
    is_reset: bool,
    is_half_open: bool,
    /// How long it lives in peace, and how many bytes it carries that way after it.
    peace: Duration,
    bytes: u64,
}

impl Plan {
    fn draw(random: &mut StdRng, half_open: bool) -> Self {
        let peace = match random.random_range(0..10) {
            0..2 => 0,
            // Long enough for an acknowledgement, which comes once a second.
            9 => random.random_range(1000..1500),
            _ => random.random_range(0..300),
        };
        let bytes_max = [64, 1024, 16 * 1024][random.random_range(0..3)];
        Self {
            is_up: random.random(),
            is_reset: random.random(),
            is_half_open: half_open && random.random_range(0..3) == 0,
            peace: Duration::from_millis(peace),
            bytes: random.random_range(0..bytes_max),
        }
    }
}

impl Line {
    /// Carries to `server` (host and port), and cuts so many connections before it carries in peace.
    pub(crate) async fn start(
        server: &str,
        cuts_max: u32,
        seed: u64,
        half_open: bool,
        cuts: Arc<Cuts>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let line = Self {
            address: listener.local_addr()?,
            left: Arc::new(AtomicU32::new(cuts_max)),
        };
        let (server, left) = (server.to_owned(), Arc::clone(&line.left));
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while let Ok((client, _)) = listener.accept().await {
                let plan = Plan::draw(&mut random, half_open);
                let carrying = carry(
                    client,
                    server.clone(),
                    plan,
                    Arc::clone(&left),
                    Arc::clone(&cuts),
                );
                tokio::spawn(carrying);
            }
        });
        Ok(line)
    }

    /// How many cuts are still to come.
    pub(crate) fn cuts_left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }
}

async fn carry(
    client: TcpStream,
    server: String,
    plan: Plan,
    left: Arc<AtomicU32>,
    cuts: Arc<Cuts>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        // Or small writes wait for each other, and cuts fall where they never would.
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (up, down) = match plan.is_up {
        true => (Some(plan), None),
        false => (None, Some(plan)),
    };
    let was_cut = tokio::select! {
        was_cut = pump(&mut from_client, &mut to_server, up, &left) => was_cut,
        was_cut = pump(&mut from_server, &mut to_client, down, &left) => was_cut,
    };
    if !was_cut {
        return;
    }
    if plan.is_reset {
        cuts.resets.fetch_add(1, Ordering::Relaxed);
        for half in [&to_server, &to_client] {
            let _ = half.as_ref().set_zero_linger();
        }
    }
    let count = if plan.is_up { &cuts.up } else { &cuts.down };
    count.fetch_add(1, Ordering::Relaxed);
    if plan.is_half_open {
        cuts.half_open.fetch_add(1, Ordering::Relaxed);
        drop((from_client, to_client));
        // The server may give it up whenever it likes; nothing says so on the way.
        sleep(HALF_OPEN).await;
    }
}

/// Carries until an end, or until the cut: true.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    plan: Option<Plan>,
    left: &AtomicU32,
) -> bool {
    let begun = Instant::now();
    let mut bytes_left = plan.map(|plan| plan.bytes);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let is_due = plan.is_some_and(|plan| begun.elapsed() >= plan.peace);
        let keep = match &mut bytes_left {
            Some(bytes_left) if is_due && *bytes_left < count as u64 => *bytes_left as usize,
            Some(bytes_left) if is_due => {
                *bytes_left -= count as u64;
                count
            }
            _ => count,
        };
        if to.write_all(&buffer[..keep]).await.is_err() {
            return false;
        }
        let takes_one = |left: u32| left.checked_sub(1);
        if keep < count {
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes_one)
                .is_ok()
            {
                return true;
            }
            bytes_left = None;
            if to.write_all(&buffer[keep..count]).await.is_err() {
                return false;
            }
        }
    }
    false
}

/// Longer than a server waits for another socket.
const HALF_OPEN: Duration = Duration::from_secs(30);
