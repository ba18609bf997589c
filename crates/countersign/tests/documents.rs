//! What stands in documents and examples is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file under `directory`.
fn sources(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).expect("it is a directory") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("it is text"));
        }
    }
}

/// The codes in `text` that stand between two of `quote`.
fn codes(text: &str, quote: char) -> BTreeSet<&str> {
    let is_code = |word: &&str| {
        word.strip_prefix("E-").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '-')
        })
    };
    text.split(quote).filter(is_code).collect()
}

#[test]
fn every_error_code_is_explained_and_every_code_explained_exists() {
    let mut text = String::new();
    for entry in std::fs::read_dir(repository().join("crates")).expect("it is there") {
        sources(
            &entry.expect("it can be read").path().join("src"),
            &mut text,
        );
    }
    let list = std::fs::read_to_string(repository().join("docs/errors.md")).expect("it is there");
    let (known, explained) = (codes(&text, '"'), codes(&list, '`'));
    assert!(known.len() > 50, "{known:?}");
    assert_eq!(known, explained);
}

#[test]
fn the_example_configuration_is_valid() {
    let home = tempfile::tempdir().expect("a directory");
    let example = repository().join("examples/config/countersign.toml");
    let copy = home.path().join("countersign.toml");
    std::fs::copy(example, &copy).expect("it is copied");
    let run = |words: &[&str], path: &Path| {
        let ran = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(words)
            .arg(path)
            .output()
            .expect("the binary starts");
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{words:?}: {told}");
    };
    run(&["keys", "new", "--out"], &home.path().join("keys"));
    run(&["config", "check", "--strict", "--config"], &copy);
}
