//! The hub methods of the recorded server that give or take one value of a type of .NET, as far as an application would
//! have such a type here: how it looks in each encoding is told by its serde implementation.

use std::collections::BTreeMap;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::json;
use signalr_server::{HubError, Methods};

use super::hub::{From, Recorded, This};

/// What is written in JSON, and what in MessagePack.
struct Written<J, M>(J, M);

impl<J: Serialize, M: Serialize> Serialize for Written<J, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => self.0.serialize(serializer),
            false => self.1.serialize(serializer),
        }
    }
}

/// What is read from JSON, or from MessagePack.
enum Read<J, M> {
    Json(J),
    MessagePack(M),
}

impl<'de, J: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for Read<J, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => J::deserialize(deserializer).map(Self::Json),
            false => M::deserialize(deserializer).map(Self::MessagePack),
        }
    }
}

/// 36 characters, and nothing else.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Guid(String);

impl TryFrom<String> for Guid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<_> = text.split('-').map(str::len).collect();
        match parts == [8, 4, 4, 4, 12] {
            true => Ok(Self(text)),
            false => Err("no Guid"),
        }
    }
}

#[derive(Debug, Deserialize)]
enum Color {
    Red,
    Green,
    DarkBlue,
}

fn name(color: &Read<i32, Color>) -> String {
    match color {
        Read::Json(0) => "Red".to_owned(),
        Read::Json(5) => "Green".to_owned(),
        Read::Json(7) => "DarkBlue".to_owned(),
        Read::Json(other) => other.to_string(),
        Read::MessagePack(color) => format!("{color:?}"),
    }
}

#[derive(Deserialize)]
struct Lower {
    #[serde(default)]
    a: i32,
    #[serde(default)]
    b: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Upper {
    #[serde(default)]
    a: i32,
    #[serde(default)]
    b: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Poco {
    name: &'static str,
    count: i32,
    is_on: bool,
    nothing: Option<i32>,
    child: Option<Child>,
    color: &'static str,
    #[serde(rename = "URLValue")]
    url_value: &'static str,
    #[serde(rename = "readOnlyField")]
    read_only_field: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    text: &'static str,
    numbers: [i32; 2],
}

fn poco(count: i32, child: Option<Child>, color: &'static str) -> Poco {
    Poco {
        name: "n",
        count,
        is_on: count > 0,
        nothing: None,
        child,
        color,
        url_value: "u",
        read_only_field: 9,
    }
}

pub(crate) fn given(methods: Methods<Recorded>) -> Methods<Recorded> {
    macro_rules! give {
        ($methods:ident: $($name:literal => $json:expr, $messagepack:expr;)*) => {
            $methods$(.on($name, async |_: This, _: From, ()| Ok(Written($json, $messagepack))))*
        };
    }
    let methods = give! { methods:
        "Span" => "1.02:03:04.0050000", 937_840_050_000_i64;
        "DOnly" => "2024-02-29", 738_944;
        "TOnly" => "12:34:56", 452_960_000_000_i64;
        "AGuid" => "00010203-0405-0607-0706-050403020100", "00010203-0405-0607-0706-050403020100";
        "AUri" => "http://x.example/a?b=c", "http://x.example/a?b=c";
        "AVersion" => "1.2.3", "1.2.3";
        "AChar" => 'x', 120;
        "ABits" => 3, "A, B";
        "DictE" => json!({"DarkBlue": 1}), json!({"DarkBlue": 1});
        "DictO" => json!({"A": 1, "B": null, "C": [1, "x", true]}), json!({"A": 1, "B": null, "C": [1, "x", true]});
        "Anon" => json!({"firstName": "a", "x": 1}), json!({"FirstName": "a", "x": 1});
        "ARec" => json!({"a": 1, "b": "b"}), json!({"A": 1, "B": "b"});
        "APt" => json!({"x": 1, "y": 2}), json!({"X": 1, "Y": 2});
        "ATuple" => json!({}), (1, "a");
        "RTuple" => json!({"item1": 1, "item2": "a"}), (1, "a");
        "Kvp" => json!({"key": "k", "value": 1}), ("k", 1);
        "Enumer" => [0, 1, 2], [0, 1, 2];
        "Multi" => [[1, 2], [3, 4]], (2, 2, [1, 2, 3, 4]);
        "APoco" => json!({
            "name": "n", "count": 3, "isOn": true, "nothing": null,
            "child": {"text": "c", "numbers": [1, 2]}, "color": 7, "urlValue": "u",
        }), poco(3, Some(Child { text: "c", numbers: [1, 2] }), "DarkBlue");
        "ObjPoco" => json!({
            "name": "n", "count": 0, "isOn": false, "nothing": null,
            "child": null, "color": 0, "urlValue": "u",
        }), poco(0, None, "Red");
    };
    methods
        .on("AColor", async |_: This, _: From, color: i32| {
            Ok(Written(color, name(&Read::Json(color))))
        })
        .on("NColor", async |_: This, _: From, is_null: bool| {
            Ok((!is_null).then_some(Written(7, "DarkBlue")))
        })
        .on("Dec", async |_: This, _: From, at: usize| {
            let numbers = [1.5, 79_228_162_514_264_337_593_543_950_335.0, -0.1];
            let texts = ["1.50", "79228162514264337593543950335", "-0.1"];
            Ok(Written(numbers[at], texts[at]))
        })
}

/// One value, given back as text.
pub(crate) fn taken(methods: Methods<Recorded>) -> Methods<Recorded> {
    methods
        .on(
            "InDec",
            async |_: This, _: From, number: Read<f64, String>| {
                Ok(match number {
                    Read::Json(number) => number.to_string(),
                    Read::MessagePack(text) => text,
                })
            },
        )
        .on("InGuid", async |_: This, _: From, Guid(text): Guid| {
            Ok(text)
        })
        .on(
            "InColor",
            async |_: This, _: From, color: Read<i32, Color>| Ok(name(&color)),
        )
        .on(
            "InNColor",
            async |_: This, _: From, color: Option<Read<i32, Color>>| {
                Ok(color.map_or_else(|| "null".to_owned(), |color| name(&color)))
            },
        )
        .on(
            "InSpan",
            async |_: This, _: From, span: Read<String, i64>| {
                Ok(match span {
                    Read::Json(text) => text,
                    Read::MessagePack(ticks) => {
                        let (seconds, ticks) = (ticks / 10_000_000, ticks % 10_000_000);
                        let (minutes, hours) = (seconds / 60, seconds / 3600);
                        let (days, hours) = (hours / 24, hours % 24);
                        let (minutes, seconds) = (minutes % 60, seconds % 60);
                        format!("{days}.{hours:02}:{minutes:02}:{seconds:02}.{ticks:07}")
                    }
                })
            },
        )
        .on(
            "InDictI",
            async |_: This, _: From, texts: BTreeMap<i32, String>| {
                let pairs = texts
                    .iter()
                    .map(|(number, text)| format!("{number}={text}"));
                Ok(pairs.collect::<Vec<_>>().join(","))
            },
        )
        .on("InChar", async |_: This, _: From, unit: Read<char, u16>| {
            Ok(match unit {
                Read::Json(unit) => unit.to_string(),
                Read::MessagePack(unit) => String::from_utf16(&[unit])?,
            })
        })
        .on(
            "InRec",
            async |_: This, _: From, record: Read<Lower, Upper>| {
                let (a, b) = match record {
                    Read::Json(Lower { a, b }) | Read::MessagePack(Upper { a, b }) => (a, b),
                };
                Ok::<_, HubError>(format!("Rec {{ A = {a}, B = {b} }}"))
            },
        )
}
