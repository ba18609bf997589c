//! Reconnect storm: every client of a SignalR server comes back at once after the server was killed and started again.
//!
//! Each client negotiates over a TCP connection of its own, with a token made that moment, then opens its WebSocket and
//! shakes hands; when an attempt fails it waits as the official clients do by default (0, 2, 10 and 30 s), and then gives up.
//! `--spread MS` puts off each client's first attempt by a random part of that time, as a client with jitter does.
use crate::{cpu_s, Args};
use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Frames of the client, mask zero.
const HANDSHAKE: &[u8] = b"\x81\xA0\0\0\0\0{\"protocol\":\"json\",\"version\":1}\x1e";

struct Storm {
    addr: String,
    path: String,
    secret: String,
    delays_ms: Vec<u64>,
    spread_ms: u64,
    attempts: AtomicU64,
    refused: AtomicU64,
    /// Answers of 503, which ask to come again.
    busy: AtomicU64,
    connected: AtomicU64,
    given_up: AtomicU64,
}

pub async fn run(a: Args) {
    let conns = a.num("conns", 5000);
    let storm = Arc::new(Storm {
        addr: a.get("addr", "127.0.0.1:5000"),
        path: a.get("path", "/hub"),
        secret: a.get("hs256", ""),
        delays_ms: a.get("delays", "0,2000,10000,30000").split(',').map(|delay| delay.parse().unwrap()).collect(),
        spread_ms: a.num("spread", 0),
        attempts: 0.into(),
        refused: 0.into(),
        busy: 0.into(),
        connected: 0.into(),
        given_up: 0.into(),
    });
    let command = a.get("server", "");
    let mut server = storm.start(&command).await;
    let (killed, is_killed) = watch::channel(false);
    let mut clients = Vec::new();
    for first in 0..conns {
        let mut socket = storm.connect(first).await.expect("the first connect of a client to an idle server");
        let (storm, mut is_killed) = (storm.clone(), is_killed.clone());
        clients.push(tokio::spawn(async move {
            let mut end = [0; 4096];
            while matches!(socket.read(&mut end).await, Ok(n) if n > 0) {}
            // A client knows no more than that its connection is gone; the storm is counted from the kill on.
            let _ = is_killed.wait_for(|is_killed| *is_killed).await;
            storm.come_back(first).await
        }));
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let begun = Instant::now();
    killed.send_replace(true);
    tokio::time::sleep(Duration::from_millis(a.num("down", 200))).await;
    let mut server = storm.start(&command).await;
    let listening = begun.elapsed();
    let mut back = Vec::new();
    let mut kept = Vec::new();
    for client in clients {
        if let Some((socket, at)) = client.await.unwrap() {
            back.push(at.duration_since(begun).as_secs_f64());
            kept.push(socket);
        }
    }
    back.sort_by(f64::total_cmp);
    let cpu = cpu_s(server.id() as u64);
    let at = |part: f64| back.get(((back.len() as f64 * part) as usize).min(back.len().saturating_sub(1))).map(|s| (s * 1e3).round() / 1e3);
    println!("{}", serde_json::json!({"job": "storm", "label": a.get("label", ""), "conns": conns, "back": back.len(), "given_up": storm.given_up.load(Relaxed),
        "listening_s": listening.as_secs_f64(), "half_back_s": at(0.5), "all_back_s": at(1.0), "attempts": storm.attempts.load(Relaxed),
        "not_listening": storm.refused.load(Relaxed), "busy_503": storm.busy.load(Relaxed), "server_cpu_us_per_connect": (cpu / conns as f64 * 1e6).round()}));
    server.kill().unwrap();
    server.wait().unwrap();
    std::process::exit(if back.len() as u64 == conns { 0 } else { 1 });
}

impl Storm {
    /// Starts the server and waits until it listens.
    async fn start(&self, command: &str) -> Child {
        let mut words = command.split_whitespace();
        let program = words.next().expect("--server COMMAND starts the server");
        let child = Command::new(program).args(words).stdout(Stdio::null()).spawn().expect("the server starts");
        while TcpStream::connect(&self.addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child
    }

    async fn come_back(&self, client: u64) -> Option<(TcpStream, Instant)> {
        let first = if self.spread_ms > 0 { random(client) % self.spread_ms } else { 0 };
        tokio::time::sleep(Duration::from_millis(first)).await;
        for delay in &self.delays_ms {
            tokio::time::sleep(Duration::from_millis(*delay)).await;
            self.attempts.fetch_add(1, Relaxed);
            match self.connect(client).await {
                Ok(socket) => {
                    self.connected.fetch_add(1, Relaxed);
                    return Some((socket, Instant::now()));
                }
                Err(error) => {
                    if error.to_string().contains(" 503 ") {
                        self.busy.fetch_add(1, Relaxed);
                    } else if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) {
                        self.refused.fetch_add(1, Relaxed);
                    } else {
                        eprintln!("client {client}: {error}");
                    }
                }
            }
        }
        self.given_up.fetch_add(1, Relaxed);
        None
    }

    async fn connect(&self, client: u64) -> Outcome<TcpStream> {
        let token = self.token(client);
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let mut negotiation = self.dial().await?;
        let request = format!("POST {}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: l\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n", self.path);
        negotiation.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        negotiation.read_to_string(&mut answer).await?;
        let id = answer.split("\"connectionToken\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let id = id.ok_or_else(|| answer.lines().next().unwrap_or("no answer").to_owned() + " ")?;
        let mut socket = self.dial().await?;
        let request = format!("GET {}?id={id} HTTP/1.1\r\nHost: l\r\n{authorization}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n", self.path);
        socket.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        let end = until(&mut socket, &mut read, b"\r\n\r\n").await?;
        if !read.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&read[..end]).lines().next().unwrap_or_default().to_owned().into());
        }
        read.drain(..end);
        socket.write_all(HANDSHAKE).await?;
        until(&mut socket, &mut read, b"\x1e").await?;
        match read.windows(3).any(|bytes| bytes == b"{}\x1e") {
            true => Ok(socket),
            false => Err(String::from_utf8_lossy(&read).into_owned().into()),
        }
    }

    async fn dial(&self) -> Outcome<TcpStream> {
        let socket = TcpStream::connect(&self.addr).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// A token that nobody has seen before.
    fn token(&self, client: u64) -> String {
        if self.secret.is_empty() {
            return String::new();
        }
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
        let nonce = random(client);
        let claims = format!("{{\"sub\":\"client-{client}\",\"exp\":{expires},\"jti\":\"{nonce:x}\"}}");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// Reads until `mark` has come; says where it ends.
async fn until(socket: &mut TcpStream, read: &mut Vec<u8>, mark: &[u8]) -> Outcome<usize> {
    loop {
        if let Some(at) = read.windows(mark.len()).position(|bytes| bytes == mark) {
            return Ok(at + mark.len());
        }
        if socket.read_buf(read).await? == 0 {
            return Err("the connection ended".into());
        }
    }
}

fn random(salt: u64) -> u64 {
    let mut x = crate::now_ns() ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}
