//! One exchange against a fresh server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::entry::{Entry, Payload, Step};
use super::wire::{Received, Socket, request};
use super::{compare, endpoints};

/// Within it comes what comes at all, beyond the time that the original took.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long nothing more may come.
const QUIET: Duration = Duration::from_millis(100);
/// So long the recorder waited for an answer that did not come.
const NO_ANSWER: Duration = Duration::from_millis(500);

struct Replay {
    address: SocketAddr,
    endpoint: String,
    /// Placeholders and what stands for them.
    known: BTreeMap<&'static str, String>,
    sockets: BTreeMap<u32, Socket>,
}

pub(crate) fn knows_setup(entry: &Entry) -> bool {
    let Some(setup) = entry.setup.as_deref() else {
        return true;
    };
    let known = [
        "negotiate",
        "WebSocket",
        "json handshake version 1",
        "messagepack handshake version 1",
    ];
    setup.split(", ").all(|part| known.contains(&part))
}

/// Whether a negotiation offers more than WebSockets.
pub(crate) async fn serves_all_transports() -> bool {
    let server = endpoints::serve().await;
    let head = "POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (answer, _) = request(server.address, head, b"").await;
    String::from_utf8_lossy(&answer.body).contains("LongPolling")
}

/// Plays what the client sent and compares what comes back.
pub(crate) async fn replay(entry: &Entry) -> Result<(), String> {
    let server = endpoints::serve().await;
    let mut replay = Replay {
        address: server.address,
        endpoint: entry.endpoint.clone(),
        known: BTreeMap::from([("{HOST}", server.address.to_string())]),
        sockets: BTreeMap::new(),
    };
    replay.set_up(entry).await?;
    let begun = Instant::now();
    for (at, step) in entry.steps.iter().enumerate() {
        if step.is_sent() {
            let due = begun + Duration::from_millis(step.ms);
            tokio::time::sleep_until(due.into()).await;
            replay.play(step, &entry.steps[at + 1..]).await?;
        }
    }
    let took = entry.steps.last().map_or(0, |step| step.ms);
    let deadline = begun + Duration::from_millis(took) + PATIENCE;
    replay.await_answers(entry, deadline).await
}

impl Replay {
    async fn set_up(&mut self, entry: &Entry) -> Result<(), String> {
        let setup = entry.setup.as_deref().unwrap_or("");
        let asks = |step: &Step| {
            let target = step.target.as_deref().unwrap_or("");
            target.contains("{TOKEN}") || target.contains("{ID}")
        };
        if setup.starts_with("negotiate") || entry.steps.iter().any(asks) {
            self.negotiate().await?;
        }
        if setup.contains("WebSocket") {
            let target = format!("{}?id={}", self.endpoint, self.known["{TOKEN}"]);
            self.upgrade(1, &target, "").await?;
        }
        for (name, opcode) in [("json", 1), ("messagepack", 2)] {
            if setup.contains(&format!("{name} handshake")) {
                let text = format!("{{\"protocol\":\"{name}\",\"version\":1}}\x1e");
                let socket = self.sockets.get_mut(&1).ok_or("no socket")?;
                socket.send(opcode, true, true, text.as_bytes()).await;
                let begun = Instant::now();
                while socket.received().payload != b"{}\x1e" {
                    if begun.elapsed() > PATIENCE {
                        return Err(format!("no handshake: {:?}", socket.received()));
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                socket.forget_received();
            }
        }
        Ok(())
    }

    async fn negotiate(&mut self) -> Result<(), String> {
        let head = format!(
            "POST {}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer u.60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.endpoint, self.address
        );
        let (answer, _) = request(self.address, &head, b"").await;
        let body: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| format!("no negotiation: {answer:?}"))?;
        for (placeholder, name) in [("{ID}", "connectionId"), ("{TOKEN}", "connectionToken")] {
            let value = body[name].as_str().ok_or(format!("no {name}"))?;
            self.known.insert(placeholder, value.to_owned());
        }
        Ok(())
    }

    async fn upgrade(
        &mut self,
        number: u32,
        target: &str,
        headers: &str,
    ) -> Result<super::wire::Answer, String> {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n",
            self.address
        );
        let (answer, socket) = request(self.address, &head, b"").await;
        if let Some(socket) = socket {
            self.sockets.insert(number, socket);
        }
        Ok(answer)
    }

    async fn play(&mut self, step: &Step, later: &[Step]) -> Result<(), String> {
        match step.kind.as_str() {
            "frame" => self.send_frame(step).await,
            "http" | "upgrade" => self.ask(step, later).await,
            "end" => {
                self.sockets.remove(&step.socket.unwrap_or(1));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn send_frame(&mut self, step: &Step) -> Result<(), String> {
        let opcode = match step.opcode.as_deref() {
            Some("continuation") => 0,
            Some("text") => 1,
            Some("close") => 8,
            Some("ping") => 9,
            Some("pong") => 10,
            _ => 2,
        };
        let number = step.socket.unwrap_or(1);
        let payload = match (step.payload(), step.code) {
            (Payload::Text(text), None) => self.filled(&text, number).await?.into_bytes(),
            (Payload::Bytes(bytes), None) => bytes,
            (_, Some(code)) => code.to_be_bytes().to_vec(),
        };
        let socket = self.sockets.get_mut(&number).ok_or("no socket")?;
        let (fin, masked) = (step.fin.unwrap_or(true), step.masked.unwrap_or(true));
        socket.send(opcode, fin, masked, &payload).await;
        Ok(())
    }

    async fn ask(&mut self, step: &Step, later: &[Step]) -> Result<(), String> {
        let target = self
            .filled(step.target.as_deref().unwrap_or("/"), 1)
            .await?;
        let mut headers = String::new();
        for (name, value) in step.headers.iter().filter_map(Value::as_object).flatten() {
            headers += &format!("{name}: {}\r\n", value.as_str().unwrap_or_default());
        }
        let answer = if step.kind == "upgrade" {
            self.upgrade(step.socket.unwrap_or(1), &target, &headers)
                .await?
        } else {
            let body = match step.payload() {
                Payload::Text(text) => text.into_bytes(),
                Payload::Bytes(bytes) => bytes,
            };
            let head = format!(
                "{} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
                step.method.as_deref().unwrap_or("GET"),
                self.address,
                body.len(),
            );
            request(self.address, &head, &body).await.0
        };
        let is_answer =
            |step: &&Step| step.is_received() && ["http", "upgrade"].contains(&step.kind.as_str());
        let Some(recorded) = later.iter().find(is_answer) else {
            return Ok(());
        };
        if answer.status == 101 && recorded.status == Some(101) {
            return Ok(());
        }
        let wanted = match recorded.payload() {
            Payload::Text(text) => self.filled(&text, 1).await?,
            Payload::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        compare::answers(recorded, &wanted, &answer)
    }

    /// Puts what is known in the place of the placeholders; `{S}` is read from what the server asked.
    async fn filled(&self, text: &str, socket: u32) -> Result<String, String> {
        let mut text = text.to_owned();
        for (placeholder, value) in &self.known {
            text = text.replace(placeholder, value);
        }
        if text.contains("{S}") {
            text = text.replace("{S}", &self.question(socket).await?);
        }
        Ok(text)
    }

    /// The id of the newest question that the server asked.
    async fn question(&self, socket: u32) -> Result<String, String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let received = self
                .sockets
                .get(&socket)
                .map(Socket::received)
                .unwrap_or_default();
            let records = compare::records(&received.payload).unwrap_or_default();
            let mut questions = records.iter().rev().filter(|record| record["type"] == 1);
            if let Some(id) = questions.find_map(|record| record["invocationId"].as_str()) {
                return Ok(id.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("the server asked nothing".to_owned())
    }

    async fn await_answers(&self, entry: &Entry, deadline: Instant) -> Result<(), String> {
        let expects_frames = entry
            .steps
            .iter()
            .any(|step| step.is_received() && step.kind == "frame");
        if !expects_frames {
            let waits = if self.sockets.is_empty() {
                Duration::ZERO
            } else {
                NO_ANSWER
            };
            tokio::time::sleep(waits).await;
            return self.compare(entry);
        }
        loop {
            let result = self.compare(entry);
            if result.is_ok() {
                tokio::time::sleep(QUIET).await;
                return self.compare(entry);
            }
            if Instant::now() > deadline {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn compare(&self, entry: &Entry) -> Result<(), String> {
        for (number, socket) in &self.sockets {
            let mut recorded = Vec::new();
            let mut code = None;
            let mut ends = false;
            for step in &entry.steps {
                let is_here = step.is_received() && step.socket.unwrap_or(1) == *number;
                match step.kind.as_str() {
                    "frame" if is_here && step.opcode.as_deref() == Some("close") => {
                        code = step.code
                    }
                    "frame" if is_here && step.opcode.as_deref() == Some("pong") => {}
                    "frame" if is_here => recorded.push(self.known_filled(step.payload())),
                    "end" if is_here => ends = true,
                    _ => {}
                }
            }
            let received: Received = socket.received();
            compare::payloads(&recorded, &received.payload)?;
            if received.code != code {
                return Err(format!(
                    "wanted the close code {code:?}, got {:?}",
                    received.code
                ));
            }
            // Behind a Close frame, when the connection goes is up to either side.
            if code.is_none() && ends != received.has_ended {
                return Err(format!(
                    "wanted it to end: {ends}; it ended: {}",
                    received.has_ended
                ));
            }
        }
        Ok(())
    }

    fn known_filled(&self, payload: Payload) -> Payload {
        let Payload::Text(mut text) = payload else {
            return payload;
        };
        for (placeholder, value) in &self.known {
            text = text.replace(placeholder, value);
        }
        Payload::Text(text)
    }
}
