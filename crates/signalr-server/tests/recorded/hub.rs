//! The hub methods of the server that was recorded, as far as their types have a counterpart here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _, stream};
use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use signalr_server::{AnyValue as Any, Caller, Hub, HubError, Methods, Upload};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub(crate) enum OnConnect {
    Nothing,
    Fail,
    FailAloud,
    Close,
    Push,
}

pub(crate) struct Recorded {
    on_connect: OnConnect,
    notes: Mutex<HashMap<String, Vec<String>>>,
}

impl Recorded {
    pub(crate) fn new(on_connect: OnConnect) -> Self {
        Self {
            on_connect,
            notes: Mutex::default(),
        }
    }
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
        struct Bytes {
            are_base64: bool,
        }

        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = Binary;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes, or base64 text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Binary, E> {
                match self.are_base64 {
                    true => STANDARD.decode(text).map(Binary).map_err(E::custom),
                    false => Ok(Binary(text.as_bytes().to_vec())),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Binary, A::Error> {
                if self.are_base64 {
                    return Err(serde::de::Error::custom("a list where text was expected"));
                }
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Binary(bytes))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Binary, E> {
                Ok(Binary(bytes.to_vec()))
            }
        }

        let are_base64 = deserializer.is_human_readable();
        deserializer.deserialize_any(Bytes { are_base64 })
    }
}

pub(crate) type This = Arc<Recorded>;
pub(crate) type From = Caller<Recorded>;
type Outcome<T> = Result<T, HubError>;

impl Hub for Recorded {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        let methods = plain(methods);
        let methods = failures(methods);
        let methods = calls(methods);
        let methods = streams(methods);
        let methods = uploads(methods);
        let methods = about_the_connection(methods);
        let methods = shapes(methods);
        let methods = taken(methods);
        super::types::taken(super::types::given(methods))
    }

    async fn on_connected(&self, caller: &From) -> Outcome<()> {
        match self.on_connect {
            OnConnect::Nothing => Ok(()),
            OnConnect::Fail => Err(HubError::internal("conn boom")),
            OnConnect::FailAloud => Err(HubError::new("conn hub boom")),
            OnConnect::Close => {
                caller.close(None, false);
                Ok(())
            }
            OnConnect::Push => {
                caller.push("hello", &1)?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                caller.push("hello", &2)?;
                Ok(())
            }
        }
    }
}

fn plain(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .on("Echo", async |_: This, _: From, value: Any| Ok(value))
        .on("Add", async |_: This, _: From, (a, b): (i32, i32)| {
            Ok(a.wrapping_add(b))
        })
        .on("Length", async |_: This, _: From, text: String| {
            Ok(text.encode_utf16().count())
        })
        .on("MakeLarge", async |_: This, _: From, n: usize| {
            Ok("x".repeat(n))
        })
        .on("Str", async |_: This, _: From, n: usize| Ok("a".repeat(n)))
        .on("ABool", async |_: This, _: From, ()| Ok(true))
        .on("DoNothing", async |_: This, _: From, ()| Ok(()))
        .on("DoNothingAsync", async |_: This, _: From, ()| Ok(()))
        .on("ReturnNull", async |_: This, _: From, ()| {
            Ok(None::<String>)
        })
        .on("ReturnNullInt", async |_: This, _: From, ()| {
            Ok(None::<i32>)
        })
        .on("Slow", async |_: This, _: From, (ms, value): (u64, Any)| {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(value)
        })
        .on(
            "Note",
            async |hub: This, _: From, (list, text): (String, String)| {
                hub.notes
                    .lock()
                    .unwrap()
                    .entry(list)
                    .or_default()
                    .push(text);
                Ok(())
            },
        )
        .on("Notes", async |hub: This, _: From, list: String| {
            Ok(hub
                .notes
                .lock()
                .unwrap()
                .get(&list)
                .cloned()
                .unwrap_or_default())
        })
        .on("renamed.method", async |_: This, _: From, ()| Ok(7))
        .on("Defaulted", async |_: This, _: From, (a, b): (i32, i32)| {
            Ok(a + b)
        })
        .on("WithService", async |_: This, _: From, n: i32| Ok(n))
        // A method of .NET counts its token among the arguments.
        .on("WithToken", async |_: This, _: From, (n, _): (i32, Any)| {
            Ok(n)
        })
}

fn failures(methods: Methods<Recorded>) -> Methods<Recorded> {
    let aloud = async |_: This, _: From, text: String| Err::<(), _>(HubError::new(text));
    methods
        .on("Throw", async |_: This, _: From, text: String| {
            Err::<(), _>(HubError::internal(text))
        })
        .on("ThrowHub", aloud)
        .on("ThrowHubInner", aloud)
        .on("ThrowSub", aloud)
        .on("ThrowHubNoText", async |_: This, _: From, ()| {
            Err::<(), _>(HubError::new(""))
        })
}

fn calls(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .on(
            "CallMe",
            async |_: This, from: From, (target, arguments): (String, Any)| {
                Ok(from.push_array(&target, arguments.raw().to_json())?)
            },
        )
        .on(
            "CallMany",
            async |_: This, from: From, (target, n, ms): (String, u32, u64)| {
                for index in 0..n {
                    from.push(&target, &index)?;
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                Ok(())
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
            "AskMe",
            async |_: This, from: From, (target, value): (String, Any)| {
                let answer = from
                    .ask::<_, Option<String>>(&target, &value, ANSWER_TIMEOUT)
                    .await;
                answer.map_err(|error| HubError::new(error.to_string()))
            },
        )
        .on(
            "AskMeInt",
            async |_: This, from: From, (target, value): (String, Any)| {
                let answer = from.ask::<_, i32>(&target, &value, ANSWER_TIMEOUT).await;
                answer.map_err(|error| HubError::new(error.to_string()))
            },
        )
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

fn streams(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .stream("Counter", async |_: This, _: From, (n, ms): (u64, u64)| {
            Ok(counter(n, ms))
        })
        .stream(
            "CounterThenThrow",
            async |_: This, _: From, (n, text): (u64, String)| {
                Ok(counter(n, 0).chain(stream::once(async { Err(HubError::internal(text)) })))
            },
        )
        .stream(
            "CounterThenThrowHub",
            async |_: This, _: From, (n, text): (u64, String)| {
                Ok(counter(n, 0).chain(stream::once(async { Err(HubError::new(text)) })))
            },
        )
        .stream("Endless", async |_: This, _: From, (ms, _): (u64, Any)| {
            Ok(counter(u64::MAX, ms))
        })
        .stream("Chan", async |_: This, _: From, n: u32| {
            let item = |index| (index != 1).then(|| format!("s{index}"));
            Ok(stream::iter(0..n).map(move |index| Ok::<_, HubError>(item(index))))
        })
        .stream(
            "ThrowBeforeStream",
            async |_: This, _: From, text: String| {
                Err::<stream::Empty<Outcome<i32>>, _>(HubError::internal(text))
            },
        )
        .stream(
            "ThrowHubBeforeStream",
            async |_: This, _: From, text: String| {
                Err::<stream::Empty<Outcome<i32>>, _>(HubError::new(text))
            },
        )
}

fn uploads(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .on_upload(
            "UploadSum",
            async |_: This, _: From, (), numbers: Upload<i32>| sum(numbers).await,
        )
        .on_upload(
            "UploadTwo",
            async |_: This, _: From, text: String, two: (Upload<i32>, Upload<i32>)| {
                let first = sum(two.0).await?;
                Ok((text, first, sum(two.1).await?))
            },
        )
        .stream_upload(
            "UploadEcho",
            async |_: This, _: From, (), items: Upload<Any>| {
                Ok(items.map(|item| item.map_err(HubError::internal)))
            },
        )
        .on_upload(
            "UploadEarly",
            async |_: This, _: From, (), mut items: Upload<i32>| {
                Ok(items.next().await.transpose()?)
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

async fn sum(mut numbers: Upload<i32>) -> Outcome<i32> {
    let mut sum = 0_i32;
    while let Some(number) = numbers.next().await {
        let number = number.map_err(|error| HubError::new(error.to_string()))?;
        sum = sum.wrapping_add(number);
    }
    Ok(sum)
}

fn about_the_connection(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .on("Abort", async |_: This, from: From, ()| {
            from.close(None, false);
            Ok(())
        })
        .on("GetConnectionId", async |_: This, from: From, ()| {
            Ok(from.id().to_owned())
        })
        .on("GetUserId", async |_: This, from: From, ()| {
            Ok(from.identity().user_id().map(str::to_owned))
        })
        .on("GetTransport", async |_: This, from: From, ()| {
            Ok(from.transport().name())
        })
}

/// One value each.
fn shapes(methods: Methods<Recorded>) -> Methods<Recorded> {
    const TEXTS: [&str; 3] = [
        "<>&'\"+`=/\\",
        "é漢😀",
        "\u{1e}\0\u{7}\u{8}\u{c}\n\r\t\u{7f}\u{85}\u{2028}",
    ];
    const DOUBLES: [f64; 11] = [
        2.0,
        1.5,
        1e21,
        0.1,
        -0.0,
        1e-7,
        // As .NET has it.
        -f64::NAN,
        f64::INFINITY,
        f64::MAX,
        1.2345678901234568e17,
        1e16,
    ];
    const LONGS: [i64; 17] = [
        9_007_199_254_740_993,
        i64::MIN,
        127,
        128,
        -32,
        -33,
        65_535,
        65_536,
        4_294_967_295,
        4_294_967_296,
        -128,
        -129,
        -32_768,
        -32_769,
        -2_147_483_648,
        -2_147_483_649,
        i64::MAX,
    ];
    methods
        .on("Text", async |_: This, _: From, at: usize| {
            Ok(TEXTS.get(at).copied().unwrap_or_default())
        })
        .on("ADouble", async |_: This, _: From, at: usize| {
            Ok(DOUBLES[at])
        })
        .on("ALong", async |_: This, _: From, at: usize| Ok(LONGS[at]))
        .on("AUlong", async |_: This, _: From, ()| Ok(u64::MAX))
        .on("AFloat", async |_: This, _: From, ()| Ok(1.5_f32))
        .on("Ints", async |_: This, _: From, n: u32| {
            Ok((0..n).collect::<Vec<_>>())
        })
        .on("Bytes", async |_: This, _: From, is_null: bool| {
            Ok((!is_null).then(|| Binary(vec![1, 2, 255])))
        })
        .on("Mem", async |_: This, _: From, ()| {
            Ok(Binary(vec![1, 2, 255]))
        })
        .on("ByteList", async |_: This, _: From, ()| Ok([1_u8, 2, 255]))
        .on("DictS", async |_: This, _: From, ()| {
            Ok(BTreeMap::from([("KeyA", 1), ("b c", 2)]))
        })
        .on("DictI", async |_: This, _: From, ()| {
            Ok(BTreeMap::from([(1, "one"), (300, "x")]))
        })
}

/// One value of the type in the name, given back as text.
fn taken(methods: Methods<Recorded>) -> Methods<Recorded> {
    fn text<T: ToString>(value: Option<T>) -> Outcome<String> {
        Ok(value.map_or_else(|| "null".to_owned(), |value| value.to_string()))
    }
    methods
        .on("InInt", async |_: This, _: From, n: i32| text(Some(n)))
        .on("InNInt", async |_: This, _: From, n: Option<i32>| text(n))
        .on("InLong", async |_: This, _: From, n: i64| text(Some(n)))
        .on("InByte", async |_: This, _: From, n: u8| text(Some(n)))
        .on("InDouble", async |_: This, _: From, n: f64| text(Some(n)))
        .on("InFloat", async |_: This, _: From, n: f32| {
            text(Some(n)).map(|text| text.replace("inf", "Infinity"))
        })
        .on("InBool", async |_: This, _: From, is: bool| {
            text(Some(if is { "True" } else { "False" }))
        })
        .on("InStr", async |_: This, _: From, value: Option<String>| {
            text(value)
        })
        .on("InInts", async |_: This, _: From, list: Vec<i32>| {
            Ok(list
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","))
        })
        .on(
            "InBytes",
            async |_: This, _: From, bytes: Option<Binary>| {
                text(bytes.map(|Binary(bytes)| {
                    bytes
                        .iter()
                        .map(|byte| format!("{byte:02X}"))
                        .collect::<String>()
                }))
            },
        )
}
