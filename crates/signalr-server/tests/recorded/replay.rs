//! One exchange against a fresh server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::entry::{Entry, Payload, Step};
use super::wire::{Exchange, Received, Reply, Socket, upgrade};
use super::{compare, endpoints};

/// Within it comes what comes at all, beyond the time that the original took.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// So long nothing more may come.
const QUIET: Duration = Duration::from_millis(100);
/// So long the recorder waited for an answer that did not come.
const NO_ANSWER: Duration = Duration::from_millis(500);

/// What came of it.
pub(crate) struct Outcome {
    /// What is not as it was recorded.
    pub(crate) differences: Vec<String>,
    /// All that came, ids replaced by their placeholders.
    pub(crate) lines: Vec<String>,
}

pub(crate) struct Replay {
    pub(crate) server: endpoints::Server,
    /// Placeholders and what stands for them.
    pub(crate) known: BTreeMap<String, String>,
    pub(crate) sockets: BTreeMap<u32, Socket>,
    asked: Vec<(String, Exchange)>,
    /// A request whose body is sent in two parts, not listed among the steps.
    pub(crate) slow_post: Option<Exchange>,
    /// Why a step could not be played.
    troubles: Vec<String>,
}

/// Plays what the client sent and compares what comes back. What is `listed` is waited for instead of what was recorded.
pub(crate) async fn replay(entry: &Entry, listed: Option<&[String]>) -> Outcome {
    let server = endpoints::serve().await;
    let mut replay = Replay {
        known: BTreeMap::from([("{HOST}".to_owned(), server.address.to_string())]),
        server,
        sockets: BTreeMap::new(),
        asked: Vec::new(),
        slow_post: None,
        troubles: Vec::new(),
    };
    if let Err(trouble) = replay.set_up(entry).await {
        return Outcome {
            differences: vec![trouble.clone()],
            lines: vec![trouble],
        };
    }
    let begun = Instant::now();
    let mut answers = 0;
    for (at, step) in entry.steps.iter().enumerate() {
        if step.is_received() {
            answers += usize::from(step.is_answer());
            continue;
        }
        let due = begun + Duration::from_millis(step.ms);
        tokio::time::sleep_until(due.into()).await;
        // That the client leaves its event stream is not listed among the steps.
        if entry.name == "sse_client_gone" && answers == 2 {
            replay.asked.iter_mut().for_each(|(_, asked)| asked.cut());
            tokio::time::sleep(NO_ANSWER).await;
        }
        replay.until_answered(answers).await;
        replay.until_received(&entry.steps[..at], entry).await;
        if let Err(trouble) = replay.play(step, &entry.steps[at + 1..]).await {
            replay.troubles.push(trouble);
        }
    }
    // What comes later than recorded, or does not come, is seen then.
    let took = entry.steps.last().map_or(0, |step| step.ms);
    tokio::time::sleep_until((begun + Duration::from_millis(took)).into()).await;
    let deadline = Instant::now() + PATIENCE;
    replay.outcome(entry, listed, deadline).await
}

impl Replay {
    async fn play(&mut self, step: &Step, later: &[Step]) -> Result<(), String> {
        match step.kind.as_str() {
            "frame" => self.send_frame(step, usize::MAX).await,
            "http" => self.ask(step).await,
            "upgrade" => self.ask_upgrade(step).await,
            "end" => {
                let socket = self.sockets.get_mut(&step.socket.unwrap_or(1));
                let resets = step
                    .note
                    .as_deref()
                    .is_some_and(|note| note.contains("reset"));
                match socket {
                    Some(socket) => socket.cut(resets).await,
                    // The only other thing that a client ends is its event stream.
                    None => self.asked.iter_mut().for_each(|(_, asked)| asked.cut()),
                }
                Ok(())
            }
            "note" => self.act(step.note.as_deref().unwrap_or(""), later).await,
            _ => Ok(()),
        }
    }

    /// Some of what happened stands in words.
    async fn act(&mut self, note: &str, later: &[Step]) -> Result<(), String> {
        match note {
            "shutdown begins" => {
                // What was sent just before has come by then.
                tokio::time::sleep(QUIET).await;
                self.server.shut_down();
            }
            "first POST completes its body now" => {
                if let Some(post) = &mut self.slow_post {
                    post.finish(&super::setup::SLOW_BODY[1..]).await;
                }
            }
            "first 9000 bytes of a frame of 20065 bytes sent" => {
                let is_it = |step: &&Step| step.bytes == Some(20_065);
                let step = later.iter().find(is_it).ok_or("no such frame")?;
                let mut step = step.clone();
                step.socket = Some(1);
                self.send_frame(&step, 9_000).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn send_frame(&mut self, step: &Step, bytes_max: usize) -> Result<(), String> {
        let opcode = match step.opcode.as_deref() {
            Some("continuation") => 0,
            Some("text") => 1,
            Some("close") => 8,
            Some("ping") => 9,
            Some("pong") => 10,
            Some(other) => other
                .strip_prefix("opcode ")
                .map_or(2, |n| n.parse().unwrap_or(2)),
            None => 2,
        };
        let number = step.socket.unwrap_or(1);
        let payload = match (step.payload(), step.code) {
            (Payload::Text(text), None) => self.filled(&text, number).await?.into_bytes(),
            (Payload::Bytes(bytes), None) => self.addressed(bytes),
            (_, Some(code)) => code.to_be_bytes().to_vec(),
        };
        let socket = self.sockets.get_mut(&number).ok_or("no socket")?;
        let (fin, masked) = (step.fin.unwrap_or(true), step.masked.unwrap_or(true));
        socket
            .send_part(opcode, fin, masked, &payload, bytes_max)
            .await;
        Ok(())
    }

    /// Bytes have no placeholders: the id of the connection that they name is as long as ours are.
    fn addressed(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        const RECORDED: &[u8] = b"QruIzDOIiuBvfykZL78MCg";
        let at = bytes
            .windows(RECORDED.len())
            .position(|part| part == RECORDED);
        if let (Some(at), Some(id)) = (at, self.known.get("{ID2}")) {
            bytes[at..at + RECORDED.len()].copy_from_slice(id.as_bytes());
        }
        bytes
    }

    /// What is shown of a request, its target and its headers.
    async fn head(&mut self, step: &Step) -> Result<(String, String, String), String> {
        let listed = step.target.as_deref().unwrap_or("/");
        let mut headers = String::new();
        for (name, value) in step.headers.iter().filter_map(Value::as_object).flatten() {
            headers += &format!("{name}: {}\r\n", value.as_str().unwrap_or_default());
        }
        let method = step.method.as_deref().unwrap_or("GET");
        let shown = format!("{method} {listed}");
        if listed.contains("{ID}") && !self.known.contains_key("{ID}") {
            let told = self.sockets.get(&1).and_then(newest_result);
            self.known.insert("{ID}".to_owned(), told.ok_or("no id")?);
        }
        Ok((shown, self.filled(listed, 1).await?, headers))
    }

    async fn ask(&mut self, step: &Step) -> Result<(), String> {
        let (shown, target, headers) = self.head(step).await?;
        let body = match step.payload() {
            Payload::Text(text) => text.into_bytes(),
            Payload::Bytes(bytes) => bytes,
        };
        let method = step.method.as_deref().unwrap_or("GET");
        let asked = self.request(method, &target, &headers, &body).await;
        self.asked.push((shown, asked));
        Ok(())
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> Exchange {
        let address = self.server.address;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len(),
        );
        Exchange::begin(address, &head, body).await
    }

    async fn ask_upgrade(&mut self, step: &Step) -> Result<(), String> {
        let (shown, target, headers) = self.head(step).await?;
        let number = step.socket.unwrap_or(1);
        let reply = self.upgrade(number, &target, &headers).await;
        self.asked.push((shown, Exchange::done(reply)));
        Ok(())
    }

    pub(crate) async fn upgrade(&mut self, number: u32, target: &str, headers: &str) -> Reply {
        let address = self.server.address;
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n",
        );
        let (reply, socket) = upgrade(address, &head).await;
        if let Some(socket) = socket {
            self.sockets.insert(number, socket);
        }
        reply
    }

    /// The client goes on when it has so many answers.
    async fn until_answered(&self, count: usize) {
        let begun = Instant::now();
        while self.replies().len() < count && begun.elapsed() < 2 * NO_ANSWER {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A server that is slower than the original was is waited for, within reason: some steps answer what it sent.
    async fn until_received(&self, earlier: &[Step], entry: &Entry) {
        let begun = Instant::now();
        let has_come = |number: u32, socket: &Socket| {
            let recorded = self.recorded(earlier, number);
            let drops_acks = entry.is_stateful();
            let count = |payload: &[u8]| compare::messages(payload, drops_acks).len();
            let received = socket.received();
            let is_closed = received.code.is_some() || received.has_ended;
            is_closed
                || recorded.code.is_none() && count(&recorded.payload) <= count(&received.payload)
        };
        while begun.elapsed() < NO_ANSWER
            && !self
                .sockets
                .iter()
                .all(|(number, socket)| socket.is_cut() || has_come(*number, socket))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What came over one WebSocket in these steps.
    fn recorded(&self, steps: &[Step], number: u32) -> Received {
        let mut recorded = Received::default();
        for step in steps {
            if !step.is_received() || step.socket.unwrap_or(1) != number {
                continue;
            }
            match (step.kind.as_str(), step.opcode.as_deref()) {
                ("frame", Some("close")) => recorded.code = Some(step.code.unwrap_or(1005)),
                ("frame", Some("pong")) => {}
                ("frame", _) => match step.payload() {
                    Payload::Text(text) => recorded
                        .payload
                        .extend(self.known_filled(&text).into_bytes()),
                    Payload::Bytes(bytes) => recorded.payload.extend(bytes),
                },
                ("end", _) => recorded.has_ended = true,
                _ => {}
            }
        }
        recorded
    }

    fn replies(&self) -> Vec<Reply> {
        let replies = self.asked.iter().map(|(_, asked)| asked.reply());
        replies.filter(Reply::is_answered).collect()
    }

    /// Puts what is known in the place of the placeholders; `{S}` is read from what the server asked.
    async fn filled(&self, text: &str, socket: u32) -> Result<String, String> {
        let mut text = self.known_filled(text);
        if text.contains("{S}") {
            text = text.replace("{S}", &self.question(socket).await?);
        }
        Ok(text)
    }

    fn known_filled(&self, text: &str) -> String {
        let known = self.known.iter();
        known.fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    }

    /// The id of the newest question that the server asked on this socket, or else on any.
    async fn question(&self, socket: u32) -> Result<String, String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let own = self.sockets.get(&socket).and_then(newest_question);
            let any = || self.sockets.values().find_map(newest_question);
            if let Some(id) = own.or_else(any) {
                return Ok(id);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("the server asked nothing".to_owned())
    }

    async fn outcome(
        &self,
        entry: &Entry,
        listed: Option<&[String]>,
        deadline: Instant,
    ) -> Outcome {
        let expects_more = entry
            .steps
            .iter()
            .any(|step| step.is_received() && !step.is_answer());
        let quiet = match (listed, expects_more || self.sockets.is_empty()) {
            (None, true) => QUIET,
            _ => NO_ANSWER,
        };
        loop {
            let outcome = Outcome {
                differences: self.differences(entry),
                lines: self.lines(entry),
            };
            let is_settled = match listed {
                Some(listed) => outcome.lines == listed,
                None => outcome.differences.is_empty(),
            };
            if is_settled {
                tokio::time::sleep(quiet).await;
            }
            if is_settled || Instant::now() > deadline {
                return Outcome {
                    differences: self.differences(entry),
                    lines: self.lines(entry),
                };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn differences(&self, entry: &Entry) -> Vec<String> {
        let mut differences = self.troubles.clone();
        differences.extend(self.different_answers(entry));
        differences.extend(self.different_events(entry));
        for (number, socket) in &self.sockets {
            differences.extend(self.different_frames(entry, *number, socket));
        }
        differences
    }

    /// In the order of the requests; or in any, where several were under way at once.
    fn different_answers(&self, entry: &Entry) -> Vec<String> {
        let recorded: Vec<&Step> = entry.steps.iter().filter(|s| s.is_answer()).collect();
        let mut replies = self.replies();
        let mut differences = Vec::new();
        // Of some answers only this was taken down.
        let noted = entry
            .steps
            .iter()
            .find_map(|step| step.note.as_deref()?.strip_prefix("status "));
        if let (Some(noted), [reply]) = (noted, &*replies) {
            let got = format!(
                "{} {}",
                reply.status,
                reply.header("content-type").unwrap_or("")
            );
            return Vec::from_iter((noted != got).then(|| format!("wanted {noted}, got {got}")));
        }
        if recorded.len() != replies.len() {
            let (wanted, got) = (recorded.len(), replies.len());
            differences.push(format!("wanted {wanted} answers, got {got}"));
        }
        for step in recorded {
            let wanted = match step.payload() {
                Payload::Text(text) => self.known_filled(&text),
                Payload::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            };
            let compared = |reply: &Reply| compare::answers(step, &wanted, reply);
            let fits = replies.iter().position(|reply| compared(reply).is_ok());
            let at = match entry.has_requests_at_once() {
                true => fits.unwrap_or(0),
                false => 0,
            };
            if at < replies.len()
                && let Err(difference) = compared(&replies.remove(at))
            {
                differences.push(difference);
            }
        }
        differences
    }

    fn different_events(&self, entry: &Entry) -> Option<String> {
        let Some(reply) = self.replies().into_iter().find(Reply::is_stream) else {
            let events = entry.steps.iter().any(|step| step.kind == "sse");
            return events.then(|| "wanted an event stream".to_owned());
        };
        let of_stream = |step: &&Step| step.kind == "sse" || step.is_answer();
        let mut wanted = String::new();
        for step in entry.steps.iter().filter(of_stream) {
            match step.payload() {
                Payload::Text(text) if step.kind == "sse" || text.starts_with(':') => {
                    wanted += &text
                }
                _ => {}
            }
        }
        let wanted = compare::event_data(&self.known_filled(&wanted));
        let got = compare::event_data(&String::from_utf8_lossy(&reply.body));
        let (Some(wanted), Some(got)) = (wanted, got) else {
            return Some(format!("no events: {}", reply.body.escape_ascii()));
        };
        let ends = entry
            .steps
            .iter()
            .any(|step| step.note.as_deref() == Some("response ended"));
        if ends != reply.has_ended {
            return Some(format!("wanted the stream to end: {ends}"));
        }
        compare::difference(
            &compare::messages(wanted.as_bytes(), false),
            &compare::messages(got.as_bytes(), false),
        )
    }

    fn different_frames(&self, entry: &Entry, number: u32, socket: &Socket) -> Vec<String> {
        let Received {
            payload,
            code,
            has_ended: ends,
        } = self.recorded(&entry.steps, number);
        let received = socket.received();
        let mut wanted = compare::messages(&payload, entry.is_stateful());
        let mut came = compare::messages(&received.payload, entry.is_stateful());
        if entry.is_about_time() {
            compare::forget_items(&mut wanted);
            compare::forget_items(&mut came);
        }
        if entry.has_calls_at_once() {
            compare::order(&mut wanted);
            compare::order(&mut came);
        }
        let mut differences = Vec::from_iter(compare::difference(&wanted, &came));
        let got = received.code;
        if got != code {
            differences.push(format!("wanted the close code {code:?}, got {got:?}"));
        }
        // Behind a Close frame, when the connection goes is up to either side.
        if code.is_none() && !socket.is_cut() && ends != received.has_ended {
            differences.push(format!("wanted it to end: {ends}"));
        }
        differences
    }

    fn lines(&self, entry: &Entry) -> Vec<String> {
        let mut lines = self.troubles.clone();
        for (shown, asked) in &self.asked {
            let reply = asked.reply();
            lines.push(match reply.is_answered() {
                true => format!("{shown} {}", compare::show_answer(&reply)),
                false => format!("{shown} is not answered"),
            });
            if reply.is_stream() {
                let body = String::from_utf8_lossy(&reply.body);
                let data = compare::event_data(&body).unwrap_or_else(|| body.into_owned());
                let events = compare::messages(data.as_bytes(), false);
                lines.extend(
                    events
                        .iter()
                        .map(|message| format!("event {}", compare::show(message))),
                );
                lines.extend(reply.has_ended.then(|| "events end".to_owned()));
            }
        }
        for (number, socket) in &self.sockets {
            let received = socket.received();
            let mut messages = compare::messages(&received.payload, entry.is_stateful());
            if entry.has_calls_at_once() {
                compare::order(&mut messages);
            }
            let messages = messages.iter().map(compare::show);
            lines.extend(messages.map(|message| format!("{number} {message}")));
            match received.code {
                Some(code) => lines.push(format!("{number} close {code}")),
                None if received.has_ended && !socket.is_cut() => {
                    lines.push(format!("{number} ends"))
                }
                None => {}
            }
        }
        for (name, value) in &self.known {
            for line in &mut lines {
                *line = line.replace(value, name);
            }
        }
        lines
    }
}

fn newest_result(socket: &Socket) -> Option<String> {
    let messages = compare::messages(&socket.received().payload, false);
    messages.iter().rev().find_map(|message| match message {
        compare::Message::Json(record) => record["result"].as_str().map(str::to_owned),
        compare::Message::Bytes(_) => None,
    })
}

fn newest_question(socket: &Socket) -> Option<String> {
    let messages = compare::messages(&socket.received().payload, false);
    messages.iter().rev().find_map(|message| match message {
        compare::Message::Json(record) if record["type"] == 1 => {
            record["invocationId"].as_str().map(str::to_owned)
        }
        _ => None,
    })
}
