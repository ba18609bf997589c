//! The recorded exchanges as they stand in the file.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) group: String,
    pub(crate) exact: bool,
    pub(crate) setup: Option<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) direction: String,
    pub(crate) kind: String,
    pub(crate) socket: Option<u32>,
    pub(crate) opcode: Option<String>,
    pub(crate) fin: Option<bool>,
    pub(crate) masked: Option<bool>,
    pub(crate) code: Option<u16>,
    pub(crate) method: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) headers: Option<Value>,
    text: Option<String>,
    bytes_hex: Option<String>,
    text_parts: Option<Vec<Part>>,
    hex_parts: Option<Vec<Part>>,
    pub(crate) ms: u64,
}

/// A piece of a long payload.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Part {
    Once(String),
    Repeated(String, usize),
}

impl Part {
    fn unfolded(&self) -> String {
        match self {
            Self::Once(text) => text.clone(),
            Self::Repeated(text, times) => text.repeat(*times),
        }
    }
}

/// What a step carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Payload {
    Text(String),
    Bytes(Vec<u8>),
}

impl Step {
    pub(crate) fn is_sent(&self) -> bool {
        self.direction == "c2s"
    }

    pub(crate) fn is_received(&self) -> bool {
        self.direction == "s2c"
    }

    pub(crate) fn payload(&self) -> Payload {
        let joined = |parts: &[Part]| parts.iter().map(Part::unfolded).collect::<String>();
        if let Some(text) = &self.text {
            return Payload::Text(text.clone());
        }
        if let Some(parts) = &self.text_parts {
            return Payload::Text(joined(parts));
        }
        let hex = match (&self.bytes_hex, &self.hex_parts) {
            (Some(hex), _) => hex.clone(),
            (None, Some(parts)) => joined(parts),
            (None, None) => String::new(),
        };
        Payload::Bytes(unhex(&hex))
    }
}

impl Entry {
    /// Whether it is about server-sent events or long polling, or lists them.
    pub(crate) fn needs_other_transports(&self) -> bool {
        let setup_polls = self
            .setup
            .as_deref()
            .is_some_and(|setup| setup.contains("poll"));
        setup_polls
            || self.steps.iter().any(|step| {
                let offers =
                    matches!(step.payload(), Payload::Text(text) if text.contains("LongPolling"));
                let asks = step.kind == "http"
                    && matches!(step.method.as_deref(), Some("GET" | "POST" | "DELETE"))
                    && step
                        .target
                        .as_deref()
                        .is_some_and(|target| !target.contains("/negotiate"));
                offers || asks
            })
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(crate) fn all() -> Vec<Entry> {
    serde_json::from_str(include_str!("aspnetcore-server.json")).unwrap()
}
