//! How a source file opens, what it may not say, and how long it may be.
//!
//! Promise: every module tells its promise in its first lines; nothing unfinished is committed; no
//! text names a folder of one machine; the crates that must stay pure cannot name a clock.

use super::Finding;
use crate::checkout::TextFile;

/// Where a newcomer gets lost. Most files should stay below half of it.
const LINES_MAX: usize = 900;

/// The crates that decide and never act: no clock, no socket, no file, no chance.
const PURE: &[&str] = &["crates/rules/", "crates/signalr-protocol/"];

/// Names a pure crate cannot have a use for outside its tests.
const IMPURE: &[&str] = &[
    "extern crate std",
    "std::time",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "rand::",
    "getrandom",
    "tokio",
];

/// Marks of unfinished work, put together here so that this file does not carry them itself.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
    concat!("dbg", "!"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

/// Folders that exist on somebody's machine only.
const MACHINE_FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("C:\\Us", "ers\\"),
];

pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = forbidden_words(file);
    if is_workspace_source(&file.path) {
        findings.extend(opening(file));
        findings.extend(length(file));
    }
    if PURE.iter().any(|folder| file.path.starts_with(folder)) {
        findings.extend(purity(file));
    }
    findings
}

fn is_workspace_source(path: &str) -> bool {
    path.ends_with(".rs") && (path.starts_with("crates/") || path.starts_with("xtask/"))
}

fn forbidden_words(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Lock files are written by tools, licences by others.
    if file.path.ends_with(".lock") || file.path.ends_with("-lock.json") {
        return findings;
    }
    for (line, text) in numbered(&file.text) {
        if let Some(mark) = UNFINISHED.iter().find(|mark| holds_word(text, mark)) {
            let says = format!("says {mark}: finish it, or open an issue and leave the mark out");
            findings.push(Finding::at(&file.path, line, says));
        }
        if let Some(folder) = MACHINE_FOLDERS
            .iter()
            .find(|folder| holds_folder(text, folder))
        {
            let says = format!("names {folder}, a folder of one machine");
            findings.push(Finding::at(&file.path, line, says));
        }
    }
    findings
}

fn opening(file: &TextFile) -> Option<Finding> {
    let mut lines = file.text.lines().map(str::trim);
    let first = lines
        .find(|line| !line.is_empty() && !line.starts_with("#!["))
        .unwrap_or("");
    let says = "does not open with `//!`: say what the module promises and what it leaves out";
    (!first.starts_with("//!")).then(|| Finding::in_file(&file.path, says))
}

fn length(file: &TextFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let says = || format!("has {lines} lines, {LINES_MAX} are the limit: split it by job");
    (lines > LINES_MAX).then(|| Finding::in_file(&file.path, says()))
}

fn purity(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path.ends_with("/src/lib.rs")
        && !file.text.lines().any(|line| line.trim() == "#![no_std]")
    {
        findings.push(Finding::in_file(
            &file.path,
            "a pure crate carries `#![no_std]`",
        ));
    }
    if !file.path.contains("/src/") || is_test_module(&file.path) {
        return findings;
    }
    for (line, text) in outside_tests(&file.text) {
        if let Some(name) = IMPURE.iter().find(|name| holds_word(text, name)) {
            let says = format!("a pure crate names {name}: take what it gives as an argument");
            findings.push(Finding::at(&file.path, line, says));
        }
    }
    findings
}

fn is_test_module(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The lines of code, without comments, without the test module that ends a file, and without single
/// items for tests.
fn outside_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut for_tests = false;
    let mut ended = false;
    numbered(text).filter(move |(_, line)| {
        let line = line.trim();
        ended |= for_tests && line.starts_with("mod ") && line.ends_with('{');
        let skipped = ended || for_tests || line.starts_with("//");
        for_tests = line == "#[cfg(test)]";
        !skipped
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// True when `word` stands in `text` and is not the middle of a longer word.
fn holds_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let goes_on = |next: Option<char>| next.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let last_is_letter = word.ends_with(|c: char| c.is_alphanumeric());
        !(goes_on(before) || last_is_letter && goes_on(after))
    })
}

/// True when `folder` stands in `text` as the start of a path, not inside a longer one.
fn holds_folder(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}$~".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let file = TextFile {
            path: path.into(),
            text: text.into(),
        };
        check(&file).iter().map(ToString::to_string).collect()
    }

    const LIB: &str = "crates/driver/src/lib.rs";

    #[test]
    fn a_source_that_keeps_the_rules_passes() {
        assert!(findings(LIB, "//! Promise.\nfn f() {}\n").is_empty());
        assert!(findings(LIB, "#![allow(dead_code)]\n//! Promise.\n").is_empty());
    }

    #[test]
    fn a_module_without_its_promise_is_found() {
        let found = findings("crates/driver/src/batch.rs", "use std::fmt;\n");
        assert!(found[0].contains("does not open with"), "{found:?}");
    }

    #[test]
    fn each_mark_of_unfinished_work_is_found_with_its_line() {
        for mark in UNFINISHED {
            let found = findings(LIB, &format!("//! Promise.\n// {mark} later\n"));
            assert!(
                found[0].starts_with("crates/driver/src/lib.rs:2: "),
                "{mark}: {found:?}"
            );
        }
        let found = findings(
            "README.md",
            &format!("# Title\n{}: write this\n", UNFINISHED[4]),
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_mark_inside_a_longer_word_is_no_mark() {
        let longer = format!("//! PHO{}UE\n", UNFINISHED[4]);
        assert!(findings(LIB, &longer).is_empty());
    }

    #[test]
    fn a_folder_of_one_machine_is_found_in_any_text() {
        for folder in MACHINE_FOLDERS {
            for path in ["docs/storage.md", "tests/official/delivery.mjs", LIB] {
                let found = findings(path, &format!("//! see `{folder}alice/x`\n"));
                assert_eq!(found.len(), 1, "{path} {folder}");
            }
        }
        let relative = format!(
            "//! see docs{}x and ${{X}}{}y\n",
            MACHINE_FOLDERS[0], MACHINE_FOLDERS[2]
        );
        assert!(findings(LIB, &relative).is_empty());
    }

    #[test]
    fn a_file_over_the_limit_is_found_and_one_at_the_limit_is_not() {
        let lines = |count: usize| "//! Promise.\n".repeat(count);
        assert!(findings(LIB, &lines(LINES_MAX)).is_empty());
        let found = findings(LIB, &lines(LINES_MAX + 1));
        assert!(found[0].contains("901 lines"), "{found:?}");
    }

    #[test]
    fn a_pure_crate_without_no_std_is_found() {
        for folder in PURE {
            let path = format!("{folder}src/lib.rs");
            assert!(findings(&path, "//! Promise.\n#![no_std]\n").is_empty());
            let found = findings(&path, "//! Promise.\n");
            assert!(found[0].contains("no_std"), "{found:?}");
        }
    }

    #[test]
    fn a_pure_crate_that_names_a_clock_or_chance_is_found_outside_its_tests() {
        let path = "crates/rules/src/retry.rs";
        for name in IMPURE {
            let text = format!("//! Promise.\nuse {name};\n");
            assert_eq!(findings(path, &text).len(), 1, "{name}");
            let in_tests = format!("//! P.\n#[cfg(test)]\nmod tests {{\nuse {name};\n}}\n");
            assert!(findings(path, &in_tests).is_empty(), "{name}");
        }
        assert!(
            findings(
                path,
                "//! No std::time here.\n/// Nor SystemTime.\nfn f() {}\n"
            )
            .is_empty()
        );
        assert!(
            findings(
                "crates/rules/tests/model.rs",
                "//! Model.\nuse std::time;\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn the_benchmark_and_scripts_are_held_to_words_only() {
        assert!(findings("bench/peers/src/main.rs", "fn main() {}\n").is_empty());
    }
}
