//! The house rules as checks: which crate may know which, what a manifest holds, how a source opens.
//!
//! Promise: every rule is proved by a test that plants a violation and sees it found. A finding names
//! file, line and what to do instead.
//! Left out on purpose: what rustfmt, clippy and cargo-deny already decide.

mod arrows;
mod manifests;
mod sources;

use std::fmt;

use anyhow::{Result, bail};

use crate::checkout::{self, TextFile};

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    says: String,
}

impl Finding {
    fn in_file(path: &str, says: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: 0,
            says: says.into(),
        }
    }

    fn at(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            says: says.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.says),
            line => write!(f, "{}:{line}: {}", self.path, self.says),
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let files = checkout::text_files()?;
    let findings = check(&files);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} house rules broken", findings.len());
    }
    println!("   {} files keep the house rules", files.len());
    Ok(())
}

fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        match manifests::Manifest::parse(file) {
            Ok(Some(manifest)) => {
                findings.extend(manifests::check(&manifest));
                findings.extend(arrows::check(&manifest));
            }
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
        findings.extend(sources::check(file));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that keeps every rule.
    fn clean_tree() -> Vec<TextFile> {
        let manifest = "\
[package]
name = \"countersign-driver\"
description = \"The one loop.\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
repository.workspace = true

[dependencies]
countersign-rules.workspace = true
tokio = { workspace = true, features = [\"rt\"] }

[lints]
workspace = true
";
        let file = |path: &str, text: &str| TextFile {
            path: path.into(),
            text: text.into(),
        };
        vec![
            file("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
            file("crates/driver/Cargo.toml", manifest),
            file(
                "crates/driver/src/lib.rs",
                "//! The loop.\n\npub mod batch;\n",
            ),
            file("crates/driver/src/batch.rs", "//! Batches.\n"),
        ]
    }

    #[test]
    fn a_clean_tree_has_no_findings() {
        assert_eq!(check(&clean_tree()), []);
    }

    #[test]
    fn a_violation_in_a_manifest_and_one_in_a_source_are_both_reported() {
        let mut tree = clean_tree();
        tree[1].text = tree[1]
            .text
            .replace("countersign-rules", "countersign-role-api");
        tree[3].text.clear();
        let says: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(says.len(), 2, "{says:?}");
        assert!(
            says[0].starts_with("crates/driver/Cargo.toml: "),
            "{says:?}"
        );
        assert!(
            says[1].starts_with("crates/driver/src/batch.rs: "),
            "{says:?}"
        );
    }

    #[test]
    fn a_manifest_that_does_not_parse_is_a_finding() {
        let mut tree = clean_tree();
        tree[1].text.push_str("[broken");
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn this_checkout_keeps_its_own_rules() {
        let files = checkout::text_files().expect("the tests run in a checkout");
        let own: Vec<TextFile> = files
            .into_iter()
            .filter(|file| file.path.starts_with("xtask/"))
            .collect();
        assert!(own.len() > 5, "the walk finds the files of this crate");
        assert_eq!(check(&own), []);
    }
}
