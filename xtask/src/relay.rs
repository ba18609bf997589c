//! A relay before a server on loopback, which delays what the server says, as every real network does.
//!
//! Promise: no byte is lost, changed or reordered; each arrives [`DELAY`] after the server wrote it, not before, and so
//! does the end of what it writes. The relay ends with its holder.
//! Left out on purpose: a delay of what the client says, which no client can notice apart from the other one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Much longer than a ready thread waits for its turn on a busy machine, much shorter than what any case waits for.
pub(crate) const DELAY: Duration = Duration::from_millis(100);

/// How many pieces of one connection may be under way.
const PIECES_MAX: usize = 256;

/// A piece of what the server says, and when the client may have it.
type Piece = (Instant, Vec<u8>);

/// Runs `work`, which is told the URL of a relay before the server at `url`.
pub(crate) fn delayed(url: &str, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let server = url
        .strip_prefix("http://")
        .context("servers here speak HTTP")?;
    let relay = Relay::before(server.parse()?)?;
    let worked = work(&format!("http://{}", relay.address));
    relay.end()?;
    worked
}

#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let accepting = spawn(move || accept(&listener, server, &seen));
        Ok(Self {
            address,
            is_over,
            accepting,
        })
    }

    /// Connections that are still open end with the server or the client.
    fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Release);
        // What the accepting thread waits for; it may have ended by itself.
        let _ = TcpStream::connect(self.address);
        ensure!(self.accepting.join().is_ok(), "the relay broke");
        Ok(())
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, is_over: &AtomicBool) {
    for client in listener.incoming() {
        if is_over.load(Ordering::Acquire) {
            return;
        }
        // A client whose connection fails sees it end, and its case tells.
        if let Ok(client) = client {
            let _ = join(client, server);
        }
    }
}

/// Joins the client to the server until either has had enough.
fn join(client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    spawn(move || forward(from_client, to_server));
    let (pieces, due) = sync_channel(PIECES_MAX);
    spawn(move || collect(server, &pieces));
    spawn(move || release(client, &due));
    Ok(())
}

/// What the client says goes on at once.
fn forward(mut client: TcpStream, mut server: TcpStream) {
    let ended = std::io::copy(&mut client, &mut server);
    // After a clean end the server may go on speaking; a broken connection is broken for both.
    let _ = server.shutdown(Shutdown::Write);
    if ended.is_err() {
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}

fn collect(mut server: TcpStream, pieces: &SyncSender<Piece>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match server.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        // An empty piece is the end of what the server says.
        let piece = buffer.get(..length).unwrap_or_default().to_vec();
        if pieces.send((Instant::now() + DELAY, piece)).is_err() || length == 0 {
            return;
        }
    }
}

fn release(mut client: TcpStream, due: &Receiver<Piece>) {
    while let Ok((when, piece)) = due.recv() {
        sleep(when.saturating_duration_since(Instant::now()));
        if piece.is_empty() {
            let _ = client.shutdown(Shutdown::Write);
            return;
        }
        if client.write_all(&piece).is_err() {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server for one connection: it says the whole of what it heard, once that has ended, and ends.
    fn mirror() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let serving = spawn(move || {
            let (mut client, _) = listener.accept().expect("a client comes");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).expect("its bytes end");
            client.write_all(&heard).expect("it listens");
        });
        (address, serving)
    }

    #[test]
    fn every_byte_comes_back_in_its_place_and_not_before_the_delay() {
        let (server, serving) = mirror();
        let sent: Vec<u8> = (0_u32..300_000).flat_map(u32::to_be_bytes).collect();
        let mut came = Vec::new();
        delayed(&format!("http://{server}"), |url| {
            let address = url.strip_prefix("http://").expect("it is a URL");
            let mut client = TcpStream::connect(address)?;
            client.write_all(&sent)?;
            client.shutdown(Shutdown::Write)?;
            let spoken = Instant::now();
            client.read_to_end(&mut came)?;
            ensure!(spoken.elapsed() >= DELAY, "it came at once");
            Ok(())
        })
        .expect("the relay works");
        assert!(came == sent, "{} bytes came, of {}", came.len(), sent.len());
        serving.join().expect("the server is well");
    }

    #[test]
    fn what_fails_behind_the_relay_fails() {
        let (server, _serving) = mirror();
        let failed = delayed(&format!("http://{server}"), |_| {
            anyhow::bail!("a case failed")
        });
        assert!(failed.is_err());
    }
}
