//! The inputs that fuzzing begins with, and those that it leaves behind.
//!
//! `fuzz/corpus/TARGET.hex` holds one input a line, so that a thousand of them are one readable file. The vectors of
//! `signalr-protocol` are added at every run and are not kept twice.
//! Promise: what was kept is run again by the next run, in the same order.
//! Left out on purpose: inputs that broke something; each becomes a test of its crate.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::checkout;
use crate::steps::target_directory;

/// Writes the kept inputs and the vectors, one file each, into the target's working folder, and says where it is. What an
/// earlier run found there stays.
pub(super) fn lay_out(target: &str) -> Result<PathBuf> {
    let folder = target_directory().join("fuzz-inputs").join(target);
    std::fs::create_dir_all(&folder)?;
    let kept = std::fs::read_to_string(file(target)).unwrap_or_default();
    for (number, line) in kept.lines().enumerate() {
        let bytes = unhex(line).with_context(|| format!("{target}.hex, line {}", number + 1))?;
        std::fs::write(folder.join(format!("kept-{number}")), bytes)?;
    }
    for (number, bytes) in vectors(target)?.iter().enumerate() {
        std::fs::write(folder.join(format!("vector-{number}")), bytes)?;
    }
    Ok(folder)
}

/// Makes the inputs in `folder` the kept ones.
pub(super) fn keep(target: &str, folder: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        lines.push(hex(&std::fs::read(entry?.path())?));
    }
    lines.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    lines.push(String::new());
    println!("   {} inputs kept", lines.len() - 1);
    Ok(std::fs::write(file(target), lines.join("\n"))?)
}

fn file(target: &str) -> PathBuf {
    let corpus = checkout::root().join("fuzz/corpus");
    corpus.join(format!("{target}.hex"))
}

/// The recorded bytes of the official packages, in the form that the target takes.
fn vectors(target: &str) -> Result<Vec<Vec<u8>>> {
    let files: &[&str] = match target {
        "json" | "records" => &["json", "json-malformed"],
        "messagepack" | "frames" => &["messagepack", "messagepack-malformed"],
        "arguments" => &["json", "messagepack"],
        "handshake" => &["handshake"],
        _ => &[],
    };
    let folder = checkout::root().join("crates/signalr-protocol/tests/vectors");
    let mut all = Vec::new();
    for name in files {
        let text = std::fs::read_to_string(folder.join(format!("{name}.json")))?;
        let file: Value = serde_json::from_str(&text)?;
        let entries = file.get("entries").unwrap_or(&file).as_array();
        let bytes = entries.into_iter().flatten().filter_map(recorded);
        all.extend(bytes.map(|bytes| shaped(target, name, bytes)));
    }
    Ok(all)
}

fn recorded(entry: &Value) -> Option<Vec<u8>> {
    match (entry.get("bytes_hex"), entry.get("text")) {
        (Some(Value::String(digits)), _) => unhex(digits),
        (_, Some(Value::String(text))) => Some(text.clone().into_bytes()),
        _ => None,
    }
}

/// Splitters take two bytes of settings first; the others one message without its framing.
fn shaped(target: &str, file: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    if matches!(target, "records" | "frames") {
        bytes.splice(0..0, [1, 0]);
    } else if file.starts_with("messagepack") {
        let prefix = bytes.iter().position(|byte| byte & 0x80 == 0);
        bytes.drain(..prefix.map_or(0, |last| last + 1));
    } else if bytes.last() == Some(&0x1e) {
        bytes.pop();
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_survives_being_kept() {
        let bytes = vec![0x00, 0x1e, 0xff];
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
    }

    #[test]
    fn the_vectors_come_without_their_framing_where_a_message_is_wanted() {
        assert_eq!(shaped("json", "json", b"{}\x1e".to_vec()), b"{}");
        assert_eq!(
            shaped("messagepack", "messagepack", vec![0x02, 0x91, 0x06]),
            [0x91, 0x06]
        );
        assert_eq!(shaped("frames", "messagepack", vec![0x00]), [1, 0, 0x00]);
    }
}
