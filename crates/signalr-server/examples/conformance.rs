//! A hub with the methods that a SignalR conformance harness calls. It shows most of what a hub
//! can do.
//!
//! Two hubs with the same methods: `/conformance` for everybody, `/conformance-authorized` for
//! bearers of an HS256 token signed with the secret. Started as
//! `conformance --listen 127.0.0.1:5000 --jwt-secret SECRET`. Timers are short, as the harness
//! expects them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _, stream};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::{Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use signalr_server::{
    AnyValue as Any, Caller, ConnectionHandle, Hub, HubError, HubServer, Identity, Methods,
    Refusal, TokenVerifier, Upload,
};

/// How long a client may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Conformance {
    notes: Arc<Mutex<HashMap<String, Vec<Any>>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Complex {
    id: String,
    text: String,
    count: i32,
    ratio: f64,
    flag: bool,
    nothing: Option<String>,
    bytes: Binary,
    numbers: Vec<i32>,
    tags: BTreeMap<String, String>,
    child: Child,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    text: String,
    numbers: Vec<i32>,
}

/// Base64 text in JSON, binary in MessagePack.
struct Binary(Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&STANDARD.encode(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Binary;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes, or base64 text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Binary, E> {
                STANDARD.decode(text).map(Binary).map_err(E::custom)
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Binary, E> {
                Ok(Binary(bytes.to_vec()))
            }
        }

        deserializer.deserialize_any(Bytes)
    }
}

type This = Arc<Conformance>;
type From = Caller<Conformance>;
type Outcome<T> = Result<T, HubError>;

impl Hub for Conformance {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        let methods = values(methods);
        let methods = calls(methods);
        let methods = groups(methods);
        let methods = streams(methods);
        about_the_connection(methods)
    }
}

fn values(methods: Methods<Conformance>) -> Methods<Conformance> {
    methods
        .on("Echo", async |_: This, _: From, value: Any| Ok(value))
        .on("EchoBytes", async |_: This, _: From, bytes: Binary| {
            Ok(bytes)
        })
        .on(
            "EchoThree",
            async |_: This, _: From, three: (Any, Any, Any)| Ok(three),
        )
        .on("EchoComplex", async |_: This, _: From, complex: Complex| {
            Ok(complex)
        })
        .on("MakeComplex", async |_: This, _: From, ()| Ok(a_complex()))
        .on("Add", async |_: This, _: From, (a, b): (i32, i32)| {
            Ok(a.wrapping_add(b))
        })
        .on("DoNothing", async |_: This, _: From, ()| Ok(()))
        .on("ReturnNull", async |_: This, _: From, ()| {
            Ok(None::<String>)
        })
        .on("Throw", async |_: This, _: From, text: String| {
            Err::<(), _>(HubError::internal(text))
        })
        .on("ThrowHubError", async |_: This, _: From, text: String| {
            Err::<(), _>(HubError::new(text))
        })
        .on("Slow", async |_: This, _: From, (ms, value): (u64, Any)| {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(value)
        })
        .on(
            "Note",
            async |hub: This, _: From, (list, value): (String, Any)| {
                hub.note(list, value);
                Ok(())
            },
        )
        .on("Notes", async |hub: This, _: From, list: String| {
            Ok(hub
                .notes
                .lock()
                .expect("no note code panics")
                .get(&list)
                .cloned()
                .unwrap_or_default())
        })
        .on("MakeLarge", async |_: This, _: From, length: usize| {
            Ok("x".repeat(length))
        })
        .on("Length", async |_: This, _: From, text: String| {
            Ok(text.chars().count())
        })
}

fn calls(methods: Methods<Conformance>) -> Methods<Conformance> {
    methods
        .on(
            "CallMe",
            async |_: This, from: From, (target, arguments): (String, Any)| {
                Ok(from.push_args(&target, &arguments)?)
            },
        )
        .on(
            "CallMany",
            async |_: This, from: From, (target, count, ms): (String, u32, u64)| {
                for index in 0..count {
                    from.push(&target, &index)?;
                    if ms > 0 {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                    }
                }
                Ok(())
            },
        )
        .on(
            "AskMe",
            async |_: This, from: From, (target, value): (String, Any)| {
                ask(from.connection(), &target, &value).await
            },
        )
        .on(
            "AskClient",
            async |_: This, from: From, (id, target, value): (String, String, Any)| {
                let asked = from.hub_handle().connection(&id);
                let asked = asked.ok_or_else(|| HubError::new("no such connection"))?;
                ask(&asked, &target, &value).await
            },
        )
        .on(
            "Broadcast",
            async |_: This, from: From, (target, value): (String, Any)| {
                from.hub_handle().all().push(&target, &value);
                Ok(())
            },
        )
        .on(
            "BroadcastOthers",
            async |_: This, from: From, (target, value): (String, Any)| {
                from.others().push(&target, &value);
                Ok(())
            },
        )
        .on(
            "SendToUser",
            async |_: This, from: From, (user, target, value): (String, String, Any)| {
                from.hub_handle().user(user).push(&target, &value);
                Ok(())
            },
        )
        .on(
            "SendToConnection",
            async |_: This, from: From, (id, target, value): (String, String, Any)| {
                from.hub_handle().client(id).push(&target, &value);
                Ok(())
            },
        )
}

fn groups(methods: Methods<Conformance>) -> Methods<Conformance> {
    methods
        .on("JoinGroup", async |_: This, from: From, group: String| {
            from.join(&group);
            Ok(())
        })
        .on("LeaveGroup", async |_: This, from: From, group: String| {
            from.leave(&group);
            Ok(())
        })
        .on(
            "SendToGroup",
            async |_: This, from: From, (group, target, value): (String, String, Any)| {
                from.hub_handle().group(group).push(&target, &value);
                Ok(())
            },
        )
        .on(
            "SendToGroupExceptMe",
            async |_: This, from: From, (group, target, value): (String, String, Any)| {
                from.others_in(group).push(&target, &value);
                Ok(())
            },
        )
}

fn about_the_connection(methods: Methods<Conformance>) -> Methods<Conformance> {
    methods
        .on("GetConnectionId", async |_: This, from: From, ()| {
            Ok(from.id().to_owned())
        })
        .on("GetTransport", async |_: This, caller: From, ()| {
            Ok(caller.transport().name())
        })
        .on("GetHeader", async |_: This, from: From, name: String| {
            Ok(from.header(&name).map(str::to_owned))
        })
        .on("GetQuery", async |_: This, from: From, name: String| {
            Ok(from.query(&name).map(str::to_owned))
        })
        .on("GetUserId", async |_: This, from: From, ()| {
            Ok(from.identity().user_id().map(str::to_owned))
        })
        .on("GetClaims", async |_: This, from: From, ()| {
            Ok(from
                .identity()
                .claims::<Map<String, Value>>()
                .cloned()
                .unwrap_or_default())
        })
        .on("IsConnected", async |_: This, from: From, id: String| {
            Ok(from.hub_handle().connection(&id).is_some())
        })
        .on("Abort", async |_: This, from: From, ()| {
            from.close(None, false);
            Ok(())
        })
        .on(
            "CloseMe",
            async |_: This, from: From, (error, allow): (Option<String>, bool)| {
                from.close(error.as_deref(), allow);
                Ok(())
            },
        )
}

fn streams(methods: Methods<Conformance>) -> Methods<Conformance> {
    methods
        .stream("Counter", async |_: This, _: From, (n, ms): (u64, u64)| {
            Ok(counter(n, ms))
        })
        .stream(
            "CounterThenThrow",
            async |_: This, _: From, (n, text): (u64, String)| {
                let failure = stream::once(async { Err(HubError::new(text)) });
                Ok(counter(n, 0).chain(failure))
            },
        )
        .stream(
            "Endless",
            async |_: This, from: From, (ms, tag): (u64, Any)| {
                let told = ToldOnDrop { from, tag };
                Ok(counter(u64::MAX, ms).inspect(move |_| {
                    let _ = &told;
                }))
            },
        )
        .on_upload(
            "UploadSum",
            async |_: This, _: From, (), numbers: Upload<i64>| sum(numbers).await,
        )
        .on_upload(
            "UploadTwo",
            async |_: This, _: From, text: String, two: (Upload<i64>, Upload<i64>)| {
                let (first, second) = futures_util::future::join(sum(two.0), sum(two.1)).await;
                Ok((text, first?, second?))
            },
        )
        .stream_upload(
            "UploadEcho",
            async |_: This, _: From, (), items: Upload<Any>| {
                Ok(items.map(|item| item.map_err(|error| HubError::new(error.to_string()))))
            },
        )
        .on_upload(
            "UploadNote",
            async |hub: This, _: From, (), mut items: Upload<Any>| {
                let Some(list) = items.next().await else {
                    return Ok(());
                };
                let list: String = list?.raw().read()?;
                while let Some(item) = items.next().await {
                    hub.note(list.clone(), item?);
                }
                Ok(())
            },
        )
}

fn counter(n: u64, ms: u64) -> impl Stream<Item = Outcome<u64>> + Send {
    stream::iter(0..n).then(move |index| async move {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Ok(index)
    })
}

async fn sum(mut numbers: Upload<i64>) -> Outcome<i64> {
    let mut sum = 0_i64;
    while let Some(number) = numbers.next().await {
        let number = number.map_err(|error| HubError::new(error.to_string()))?;
        sum = sum.wrapping_add(number);
    }
    Ok(sum)
}

/// Tells the caller when its stream is dropped, as it is when it was cancelled.
struct ToldOnDrop {
    from: From,
    tag: Any,
}

impl Drop for ToldOnDrop {
    fn drop(&mut self) {
        // It may have been dropped because the caller is gone.
        let _ = self.from.push("StreamCanceled", &self.tag);
    }
}

impl Conformance {
    fn note(&self, list: String, value: Any) {
        let mut notes = self.notes.lock().expect("no note code panics");
        notes.entry(list).or_default().push(value);
    }
}

async fn ask(connection: &ConnectionHandle, target: &str, value: &Any) -> Outcome<Any> {
    let answer = connection
        .ask::<_, Any>(target, value, ANSWER_TIMEOUT)
        .await;
    answer.map_err(|error| HubError::new(error.to_string()))
}

fn a_complex() -> Complex {
    Complex {
        id: "00010203-0405-0607-0706-050403020100".to_owned(),
        text: "made by the server".to_owned(),
        count: 7,
        ratio: 1.5,
        flag: false,
        nothing: None,
        bytes: Binary(vec![1, 2, 3]),
        numbers: vec![1, 2, 3],
        tags: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        child: Child {
            text: "child".to_owned(),
            numbers: vec![9],
        },
    }
}

struct SharedSecret {
    key: DecodingKey,
    validation: Validation,
}

impl SharedSecret {
    fn new(secret: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        Self {
            key: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }
}

impl TokenVerifier for SharedSecret {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let decoded =
            jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation)
                .map_err(|error| {
                    Refusal::unauthenticated(format!("The token is not good: {error}."))
                })?;
        let claims = decoded.claims;
        let user = claims
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let expiry = claims.get("exp").and_then(Value::as_u64).unwrap_or(0);
        let expires_at = UNIX_EPOCH + Duration::from_secs(expiry);
        Ok(Identity::user(user)
            .expiring_at(expires_at)
            .with_claims(claims))
    }
}

fn server() -> HubServer<Conformance> {
    HubServer::new(Conformance::default()).with(|options| {
        options.keep_alive_interval = Duration::from_secs(1);
        options.client_timeout = Duration::from_secs(4);
        options.handshake_timeout = Duration::from_secs(2);
        options.parallel_invocations = 32;
        options.token_refresh = true;
        options.stateful_reconnect = true;
        options.keep_token = true;
        options.outbox_bytes_max = 4 * 1024 * 1024;
        options.allowed_origins = vec!["http://allowed.example".to_owned()];
    })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let secret = option("--jwt-secret").unwrap_or_default();
    let address = option("--listen").unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let app: axum::Router = server()
        .auth_optional(SharedSecret::new(&secret))
        .router("/conformance")
        .merge(
            server()
                .auth(SharedSecret::new(&secret))
                .router("/conformance-authorized"),
        );
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!(
        "{}",
        json!({ "listening": listener.local_addr()?.to_string() })
    );
    axum::serve(listener, app).await
}

/// The value behind an option of the command line.
fn option(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}
