//! The recorded exchanges as they stand in the file.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) endpoint: String,
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
    /// How long a long payload is.
    pub(crate) bytes: Option<usize>,
    bytes_hex: Option<String>,
    text_parts: Option<Vec<Part>>,
    hex_parts: Option<Vec<Part>>,
    pub(crate) note: Option<String>,
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

    /// The answer to a request.
    pub(crate) fn is_answer(&self) -> bool {
        let is_http = ["http", "upgrade"].contains(&self.kind.as_str());
        self.is_received() && is_http && self.status.is_some()
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
    /// Whether messages of types 8 and 9 are exchanged: the former follow a tick of the clock.
    pub(crate) fn is_stateful(&self) -> bool {
        self.endpoint.contains("state")
    }

    /// Whether how many items a stream has depends on when it is cancelled.
    pub(crate) fn is_about_time(&self) -> bool {
        self.name.starts_with("json_stream_cancel")
    }

    /// Whether answers to several calls may come in one order or in another.
    pub(crate) fn has_calls_at_once(&self) -> bool {
        const NAMES: [&str; 14] = [
            "json_ask_answer_twice",
            "json_ask_default_parallelism",
            "json_parallel_limit_5",
            "json_stream_and_invoke_beside",
            "json_stream_id_in_use",
            "json_stream_id_in_use_by_invocation_id",
            "json_stream_two_interleaved",
            "json_stream_while_invocation_blocked",
            "json_upload_bad_item",
            "json_upload_bad_item_detailed",
            "json_upload_item_after_end",
            "json_upload_id_in_use",
            "json_upload_id_in_use_default",
            "json_upload_missing_streamids",
        ];
        NAMES.contains(&self.name.as_str())
    }

    /// Whether a request was sent while another waited for its answer.
    pub(crate) fn has_requests_at_once(&self) -> bool {
        let mut waiting = 0_i32;
        let is_http = |step: &&Step| ["http", "upgrade"].contains(&step.kind.as_str());
        self.steps.iter().filter(is_http).any(|step| {
            waiting += if step.is_sent() { 1 } else { -1 };
            waiting > 1
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
