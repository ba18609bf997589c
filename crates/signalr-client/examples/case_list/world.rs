//! What the cases have in common: the server, tokens, connections, values.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{EncodingKey, Header};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use signalr_client::{CallError, Connection, Encoding, Incoming, Invocation, Options, Transport};
use tokio::time::timeout;

/// A transport with an encoding that it carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) transport: Transport,
    pub(crate) encoding: Encoding,
}

pub(crate) const WAYS: &[Way] = &[
    way(Transport::WebSockets, Encoding::Json),
    way(Transport::ServerSentEvents, Encoding::Json),
    way(Transport::LongPolling, Encoding::Json),
    way(Transport::WebSockets, Encoding::MessagePack),
    way(Transport::LongPolling, Encoding::MessagePack),
];

const fn way(transport: Transport, encoding: Encoding) -> Way {
    Way {
        transport,
        encoding,
    }
}

impl Way {
    pub(crate) fn name(&self) -> String {
        format!("{}/{:?}", self.transport.name(), self.encoding)
    }
}

/// The server as one case sees it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) way: Way,
    pub(crate) root: String,
    secret: String,
}

/// A connection with what it hears.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) incoming: Incoming,
}

impl World {
    pub(crate) fn new(way: Way) -> Self {
        let variable = |name, default: &str| std::env::var(name).unwrap_or(default.to_owned());
        Self {
            way,
            root: variable("SIGNALR_URL", "http://127.0.0.1:5000"),
            secret: variable("SIGNALR_JWT_SECRET", ""),
        }
    }

    /// The same server behind another address.
    pub(crate) fn through(&self, address: SocketAddr) -> Self {
        Self {
            root: format!("http://{address}"),
            ..self.clone()
        }
    }

    /// The hub that is open to all.
    pub(crate) fn options(&self) -> Options {
        self.at("/conformance")
    }

    /// The hub for users, with a token of this one.
    pub(crate) fn as_user(&self, user: &str, lifetime: Duration) -> Options {
        let (world, user) = (self.clone(), user.to_owned());
        self.at("/conformance-authorized").token(move || {
            let token = world.mint(&user, lifetime);
            async move { Ok::<_, String>(token) }
        })
    }

    pub(crate) fn at(&self, path: &str) -> Options {
        let options = Options::new(&format!("{}{path}", self.root)).unwrap();
        options.with(|options| {
            options.transports = vec![self.way.transport];
            options.encoding = self.way.encoding;
        })
    }

    pub(crate) async fn connect(&self) -> Peer {
        connect(self.options()).await
    }

    pub(crate) fn mint(&self, user: &str, lifetime: Duration) -> String {
        #[derive(Serialize)]
        struct Claims<'a> {
            sub: &'a str,
            exp: u64,
        }
        assert!(!self.secret.is_empty(), "SIGNALR_JWT_SECRET is not set");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = Claims {
            sub: user,
            exp: (now + lifetime).as_secs(),
        };
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
    }
}

pub(crate) async fn connect(options: Options) -> Peer {
    let (connection, incoming) = soon(Connection::connect(options)).await.unwrap();
    Peer {
        connection,
        incoming,
    }
}

impl Peer {
    pub(crate) fn id(&self) -> String {
        self.connection.id().unwrap().to_owned()
    }

    /// The next call of this method; what else is called before it goes unheard.
    pub(crate) async fn hears(&mut self, target: &str) -> Invocation {
        soon(async {
            loop {
                let invocation = self.incoming.next().await.expect("the connection ended");
                if invocation.target() == target {
                    return invocation;
                }
            }
        })
        .await
    }

    pub(crate) async fn hears_value<T: DeserializeOwned>(&mut self, target: &str) -> T {
        self.hears(target).await.bind().unwrap()
    }
}

/// The text of a call that the server refused.
pub(crate) fn failure<T: std::fmt::Debug>(got: Result<T, CallError>) -> String {
    match got {
        Err(CallError::Failed(text)) => text,
        other => panic!("it should have failed: {other:?}"),
    }
}

/// What does not happen within this time does not happen.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work)
        .await
        .expect("it takes too long")
}

/// A name that no other case uses, in this run or another.
pub(crate) fn unique(what: impl Display) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{what}-{}-{count}", now.as_nanos())
}

/// The table's value with everything in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Complex {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) count: i32,
    pub(crate) ratio: f64,
    pub(crate) flag: bool,
    pub(crate) nothing: Option<bool>,
    pub(crate) bytes: Binary,
    pub(crate) numbers: Vec<i32>,
    pub(crate) tags: std::collections::BTreeMap<String, String>,
    pub(crate) child: Child,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Child {
    pub(crate) text: String,
    pub(crate) numbers: Vec<i32>,
}

/// Bytes as SignalR carries them: base64 text in JSON, as they are in MessagePack.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Binary(pub(crate) Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&BASE64_STANDARD.encode(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(BinaryVisitor),
            false => deserializer.deserialize_bytes(BinaryVisitor),
        }
    }
}

struct BinaryVisitor;

impl Visitor<'_> for BinaryVisitor {
    type Value = Binary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes, or base64 text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Binary, E> {
        BASE64_STANDARD.decode(text).map(Binary).map_err(E::custom)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Binary, E> {
        Ok(Binary(bytes.to_vec()))
    }
}

impl Complex {
    /// What `MakeComplex` gives.
    pub(crate) fn of_the_server() -> Self {
        Self {
            id: "00010203-0405-0607-0706-050403020100".into(),
            text: "made by the server".into(),
            count: 7,
            ratio: 1.5,
            flag: false,
            nothing: None,
            bytes: Binary(vec![1, 2, 3]),
            numbers: vec![1, 2, 3],
            tags: [("k".into(), "v".into())].into(),
            child: Child {
                text: "child".into(),
                numbers: vec![9],
            },
        }
    }
}
