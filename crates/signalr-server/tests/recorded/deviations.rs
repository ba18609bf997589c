//! Where this server answers otherwise on purpose: `deviations.txt`.
//!
//! A reason stands over the exchanges that it is true of, each by its name; below the name, each line indented, is all
//! that this server answers. With `RECORDED_WRITE` set the lines are written anew from what came.

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) struct Deviation {
    pub(crate) name: String,
    reason: String,
    /// What comes, line by line.
    pub(crate) lines: Vec<String>,
}

/// What stands over exchanges that nobody gave a reason for yet.
const NO_REASON: &str = "No reason yet.";

const INDENT: &str = "    ";

pub(crate) fn listed() -> Vec<Deviation> {
    let mut reason = String::new();
    let mut is_in_reason = false;
    let mut list: Vec<Deviation> = Vec::new();
    for line in include_str!("deviations.txt").lines() {
        if let Some(text) = line.strip_prefix("# ") {
            reason = match is_in_reason {
                true => format!("{reason}\n{text}"),
                false => text.to_owned(),
            };
            is_in_reason = true;
            continue;
        }
        is_in_reason = false;
        match (line.strip_prefix(INDENT), list.last_mut()) {
            (Some(line), Some(deviation)) => deviation.lines.push(line.to_owned()),
            _ if line.is_empty() => {}
            _ => list.push(Deviation {
                name: line.to_owned(),
                reason: reason.clone(),
                lines: Vec::new(),
            }),
        }
    }
    list
}

/// Writes what came of the exchanges that differ, under the reasons that are known.
pub(crate) fn write(known: &[Deviation], mut came: BTreeMap<String, Vec<String>>) {
    let mut text = String::new();
    let mut reason = "";
    let mut add = |own_reason: &'static str, name: &str, lines: &[String]| {
        if own_reason != reason {
            let lines: Vec<_> = own_reason.lines().map(|line| format!("# {line}")).collect();
            let gap = if text.is_empty() { "" } else { "\n" };
            writeln!(text, "{gap}{}", lines.join("\n")).unwrap();
            reason = own_reason;
        }
        writeln!(text, "{name}").unwrap();
        for line in lines {
            writeln!(text, "{INDENT}{line}").unwrap();
        }
    };
    for deviation in known {
        if let Some(lines) = came.remove(&deviation.name) {
            add(deviation.reason.clone().leak(), &deviation.name, &lines);
        }
    }
    for (name, lines) in came {
        add(NO_REASON, &name, &lines);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/deviations.txt");
    std::fs::write(path, text).unwrap();
}

impl Deviation {
    pub(crate) fn has_reason(&self) -> bool {
        !self.reason.is_empty() && self.reason != NO_REASON
    }
}
