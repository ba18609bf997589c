//! Our product as its users meet it: `POST /v1/messages`, a plain SignalR connection to `/hub?ready=auto`, and
//! `POST /acks/v1/acks`; a bearer token on each, everything durable, one message and one acknowledgement a request.
use crate::{pool::Pool, sent_at, Args, Stat};
use futures::{SinkExt, StreamExt};
use std::{path::Path, sync::Arc};
use tokio_tungstenite::{connect_async_with_config, tungstenite::Message};

const TYPE: &str = "bench.message";
const PING: &str = "{\"type\":6}\u{1e}";

pub struct Sender {
    api: Pool,
    authorization: String,
}

impl Sender {
    pub async fn publish(&self, k: u64, body: &[u8], due: u64, st: &Stat) {
        let body = std::str::from_utf8(body).unwrap();
        let message =
            format!("{{\"to\":{{\"agent\":\"bench-{k}\"}},\"type\":\"{TYPE}\",\"data\":{{\"body\":\"{body}\"}}}}");
        let (status, answer) = self
            .api
            .send("/v1/messages", &self.authorization, message.as_bytes())
            .await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(status, 202, "the send API refused: {answer}");
        let id = text_after(&answer, "\"id\":\"").expect("an accepted message has an id");
        st.ledger.answered(due, number(id));
    }
}

/// Opens the senders' connections and the consumers `bench-0` to `bench-<n-1>`.
pub async fn connect(a: &Args, n: u64, st: Arc<Stat>) -> Sender {
    let tokens = a.get("tokens", "tokens");
    let token = |name: String| {
        let file = Path::new(&tokens).join(name);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.trim().to_owned()
    };
    let conns = a.num("conns", 64);
    let acks = Pool::new(&a.get("ack", "127.0.0.1:7421"), conns).await;
    let hub = a.get("hub", "127.0.0.1:7420");
    for k in 0..n {
        consume(&hub, &token(format!("agent-{k}.jwt")), acks.clone(), st.clone()).await;
    }
    let api = Pool::new(&a.get("api", "127.0.0.1:7420"), conns).await;
    Sender {
        api,
        authorization: bearer(&token("send.jwt".into())),
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

async fn consume(hub: &str, token: &str, acks: Pool, st: Arc<Stat>) {
    let url = format!("ws://{hub}/hub?ready=auto&access_token={token}");
    let (socket, _) = connect_async_with_config(url, None, true)
        .await
        .expect("the hub takes the agent");
    let (mut out, mut inward) = socket.split();
    out.send(Message::Text("{\"protocol\":\"json\",\"version\":1}\u{1e}".into()))
        .await
        .unwrap();
    let authorization: Arc<str> = bearer(token).into();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = inward.next().await {
            let Message::Text(text) = frame else { continue };
            for record in text.as_str().split_terminator('\u{1e}') {
                if record.starts_with("{\"type\":6") {
                    out.send(Message::Text(PING.into())).await.unwrap();
                } else if record.contains("\"bench.message\"") {
                    tokio::spawn(acknowledge(
                        received(record, &st),
                        acks.clone(),
                        authorization.clone(),
                        st.clone(),
                    ));
                } else {
                    assert!(
                        !record.starts_with("{\"type\":7"),
                        "the hub closed a consumer: {record}"
                    );
                }
            }
        }
    });
}

struct Received {
    id: String,
    attempt: String,
    due: u64,
}

/// Reads the one argument of the invocation: the envelope.
fn received(record: &str, st: &Stat) -> Received {
    let envelope = text_from(record, "\"arguments\":[").expect("an invocation has arguments");
    let id = text_after(envelope, "\"id\":\"")
        .expect("an envelope has an id")
        .to_owned();
    let body = text_from(envelope, "\"body\":\"").expect("an envelope carries what was sent");
    let attempt = text_from(envelope, "\"attempt\":").unwrap_or("1");
    let attempt = attempt.chars().take_while(char::is_ascii_digit).collect();
    let due = sent_at(body.as_bytes());
    st.on_recv(body.as_bytes());
    st.ledger.pushed(due, number(&id));
    Received { id, attempt, due }
}

async fn acknowledge(message: Received, acks: Pool, authorization: Arc<str>, st: Arc<Stat>) {
    let Received { id, attempt, due } = message;
    let body = format!("{{\"acks\":[{{\"message_id\":\"{id}\",\"stage\":\"acknowledged\",\"attempt\":{attempt}}}]}}");
    let (status, answer) = acks.send("/acks/v1/acks", &authorization, body.as_bytes()).await;
    assert_eq!(status, 200, "the ack API refused: {}", String::from_utf8_lossy(&answer));
    st.on_acked(due);
}

fn text_from<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.find(mark).map(|at| &text[at + mark.len()..])
}

/// What stands between `mark` and the next quotation mark.
fn text_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text_from(text, mark)?.split('"').next()
}

/// A UUID as a number; its hyphens do not count.
fn number(id: &str) -> u128 {
    id.bytes()
        .filter_map(|b| (b as char).to_digit(16))
        .fold(0, |n, digit| n << 4 | u128::from(digit))
}
