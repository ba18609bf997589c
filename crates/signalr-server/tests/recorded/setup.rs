//! What was done before the first step of an exchange, and stands there in words.

use std::time::Instant;

use serde_json::Value;

use super::entry::{Entry, Step};
use super::replay::{PATIENCE, Replay};
use super::wire::Exchange;

/// Whose bearer opens a connection, and how it shakes hands: with which protocol in which version.
type Connection = (&'static str, Option<(&'static str, u8)>);

/// The body of the POST that is sent in two parts.
pub(crate) const SLOW_BODY: &[u8] =
    b"{\"type\":1,\"invocationId\":\"9\",\"target\":\"ABool\",\"arguments\":[]}\x1e";

/// A token lasts so many seconds; the exchanges about its end leave it three.
fn bearer(entry: &Entry) -> &'static str {
    let setup = entry.setup.as_deref().unwrap_or("");
    let is_first_of_two = [
        "longpoll_user_changes",
        "websocket_other_user_than_negotiate",
    ];
    if entry.name.starts_with("auth_expiry") {
        "u.3"
    } else if setup.contains("u1.60") || is_first_of_two.contains(&entry.name.as_str()) {
        "u1.60"
    } else {
        "u.60"
    }
}

/// The WebSockets that are open when the first step is taken.
fn connections(entry: &Entry) -> Vec<Connection> {
    let setup = entry.setup.as_deref().unwrap_or("");
    let json = Some(("json", 1));
    let messagepack = Some(("messagepack", 1));
    match (setup, entry.name.as_str()) {
        ("three WebSockets", _) => vec![("u1.60", json), ("u1.60", json), ("U1.60", json)],
        ("two WebSockets", "object_messagepack_to_json") => {
            vec![("u.60", messagepack), ("u.60", json)]
        }
        ("two WebSockets", _) => vec![("u.60", json), ("u.60", messagepack)],
        (two, _) if two.starts_with("two WebSockets") => vec![("u.60", json); 2],
        (one, _) if one.contains("WebSocket") => {
            let version = if one.contains("version 2") { 2 } else { 1 };
            let protocols = ["json", "messagepack"];
            let shakes = |name: &&&str| one.contains(&format!("{name} handshake"));
            let protocol = protocols.iter().find(shakes);
            vec![(bearer(entry), protocol.map(|name| (*name, version)))]
        }
        _ => Vec::new(),
    }
}

impl Replay {
    pub(crate) async fn set_up(&mut self, entry: &Entry) -> Result<(), String> {
        let setup = entry.setup.as_deref().unwrap_or("");
        let path = ["/hub", "/auth"]
            .into_iter()
            .find(|path| setup.contains(&format!("on {path}")))
            .unwrap_or(&entry.endpoint);
        let authorization = format!("Authorization: Bearer {}\r\n", bearer(entry));
        let connections = connections(entry);
        let asks = |step: &Step| {
            let target = step.target.as_deref().unwrap_or("");
            target.contains("{TOKEN}") || target.contains("{ID}")
        };
        // There the server says which id it has drawn.
        let has_own_id = entry.name == "http_ws_without_id";
        if !has_own_id
            && connections.is_empty()
            && (setup.starts_with("negotiate") || entry.steps.iter().any(asks))
        {
            self.negotiate(path, entry, &authorization).await?;
        }
        for (number, (bearer, shakes)) in (1..).zip(connections) {
            let authorization = format!("Authorization: Bearer {bearer}\r\n");
            self.negotiate(path, entry, &authorization).await?;
            let numbered = format!("{{ID{number}}}");
            self.known.insert(numbered, self.known["{ID}"].clone());
            let target = format!("{path}?id={}", self.known["{TOKEN}"]);
            self.upgrade(number, &target, &authorization).await;
            if let Some((protocol, version)) = shakes {
                self.shake(number, protocol, version).await?;
            }
        }
        if setup.contains("first poll") {
            self.start_polling(path, &authorization).await?;
        }
        let is_slow =
            |step: &Step| step.note.as_deref() == Some("first POST completes its body now");
        if entry.steps.iter().any(is_slow) {
            let target = format!("{path}?id={}", self.known["{TOKEN}"]);
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                SLOW_BODY.len()
            );
            let post = Exchange::begin(self.server.address, &head, &SLOW_BODY[..1]).await;
            self.slow_post = Some(post);
        }
        // Frames that break the WebSocket protocol are not listed among the steps.
        let opcode = match entry.name.as_str() {
            "ws_reserved_opcode" => 3,
            "ws_rsv1_set" => 0x41,
            _ => return Ok(()),
        };
        let socket = self.sockets.get_mut(&1).ok_or("no socket")?;
        socket.send(opcode, true, true, b"{}").await;
        Ok(())
    }

    async fn negotiate(
        &mut self,
        path: &str,
        entry: &Entry,
        authorization: &str,
    ) -> Result<(), String> {
        let stateful = match entry.is_stateful() {
            true => "&useStatefulReconnect=true",
            false => "",
        };
        let target = format!("{path}/negotiate?negotiateVersion=1{stateful}");
        let body = self.settled("POST", &target, authorization, b"").await?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| "no negotiation".to_owned())?;
        for (placeholder, name) in [("{ID}", "connectionId"), ("{TOKEN}", "connectionToken")] {
            let value = body[name].as_str().ok_or(format!("no {name}"))?;
            self.known.insert(placeholder.to_owned(), value.to_owned());
        }
        Ok(())
    }

    async fn shake(&mut self, number: u32, protocol: &str, version: u8) -> Result<(), String> {
        let text = format!("{{\"protocol\":\"{protocol}\",\"version\":{version}}}\x1e");
        let socket = self.sockets.get_mut(&number).ok_or("no socket")?;
        let opcode = if protocol == "json" { 1 } else { 2 };
        socket.send(opcode, true, true, text.as_bytes()).await;
        let begun = Instant::now();
        while socket.received().payload != b"{}\x1e" {
            if begun.elapsed() > PATIENCE {
                return Err(format!("no handshake: {:?}", socket.received()));
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        socket.forget_received();
        Ok(())
    }

    async fn start_polling(&self, path: &str, authorization: &str) -> Result<(), String> {
        let target = format!("{path}?id={}", self.known["{TOKEN}"]);
        self.settled("GET", &target, authorization, b"").await?;
        let handshake = b"{\"protocol\":\"json\",\"version\":1}\x1e";
        self.settled("POST", &target, authorization, handshake)
            .await?;
        match self.settled("GET", &target, authorization, b"").await? {
            answer if answer == b"{}\x1e" => Ok(()),
            answer => Err(format!("no handshake: {}", answer.escape_ascii())),
        }
    }

    /// The body of an answer that is 200.
    async fn settled(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, String> {
        let asked = self.request(method, target, headers, body).await;
        let begun = Instant::now();
        while !asked.reply().is_answered() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        match asked.reply() {
            reply if reply.status == 200 => Ok(reply.body),
            reply => Err(format!("{method} in the setup: {}", reply.status)),
        }
    }
}
