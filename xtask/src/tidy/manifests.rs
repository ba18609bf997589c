//! What the manifest of a crate holds: inherited versions, inherited lints, a description.
//!
//! Promise: a version, an edition or a lint level stands in the root manifest and nowhere else.

use toml::{Table, Value};

use super::Finding;
use crate::checkout::TextFile;

/// Whether a dependency serves the code or only its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Tests,
}

/// One line under a dependency table.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// `workspace = true`.
    pub(super) inherited: bool,
}

/// The manifest of one crate of the workspace.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) document: Table,
}

impl Manifest {
    /// Reads `file` if it is the manifest of a crate of the workspace.
    pub(super) fn parse(file: &TextFile) -> Result<Option<Self>, Finding> {
        let in_workspace = file.path.starts_with("crates/") || file.path.starts_with("xtask/");
        if !in_workspace || !file.path.ends_with("/Cargo.toml") {
            return Ok(None);
        }
        let document: Table = file.text.parse().map_err(|error: toml::de::Error| {
            Finding::in_file(&file.path, format!("does not parse: {}", error.message()))
        })?;
        let name = document
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
            .ok_or_else(|| Finding::in_file(&file.path, "has no package name"))?
            .to_owned();
        let dependencies = all_dependencies(&document);
        Ok(Some(Self {
            path: file.path.clone(),
            name,
            dependencies,
            document,
        }))
    }
}

/// Those of every table, those for single targets included.
fn all_dependencies(document: &Table) -> Vec<Dependency> {
    let targets = document.get("target").and_then(Value::as_table);
    let per_target = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(document)
        .chain(per_target)
        .flat_map(|holder| {
            [
                ("dependencies", Kind::Code),
                ("build-dependencies", Kind::Code),
                ("dev-dependencies", Kind::Tests),
            ]
            .into_iter()
            .flat_map(move |(table, kind)| {
                let lines = holder.get(table).and_then(Value::as_table);
                lines
                    .into_iter()
                    .flatten()
                    .map(move |(name, value)| Dependency {
                        name: name.clone(),
                        kind,
                        inherited: is_inherited(Some(value)),
                    })
            })
        })
        .collect()
}

fn is_inherited(value: Option<&Value>) -> bool {
    value
        .and_then(|value| value.get("workspace"))
        .and_then(Value::as_bool)
        == Some(true)
}

pub(super) fn check(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |says: String| findings.push(Finding::in_file(&manifest.path, says));
    if !is_inherited(manifest.document.get("lints")) {
        found("lints are not inherited: add `[lints]` with `workspace = true`".into());
    }
    let package = manifest.document.get("package");
    let field = |name: &str| package.and_then(|package| package.get(name));
    for name in [
        "version",
        "edition",
        "rust-version",
        "license",
        "repository",
    ] {
        if !is_inherited(field(name)) {
            found(format!(
                "`{name}` is not inherited: write `{name}.workspace = true`"
            ));
        }
    }
    if field("description")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        found("has no `description`".into());
    }
    for dependency in manifest
        .dependencies
        .iter()
        .filter(|dependency| !dependency.inherited)
    {
        let name = &dependency.name;
        found(format!(
            "`{name}` names its own version: put it into the root manifest and write `{name}.workspace = true`"
        ));
    }
    for name in same_in_both(manifest) {
        found(format!(
            "`{name}` stands under dependencies and under dev-dependencies"
        ));
    }
    findings
}

/// Test dependencies that add nothing, because the code has them already.
fn same_in_both(manifest: &Manifest) -> Vec<&str> {
    let table = |name: &str| manifest.document.get(name).and_then(Value::as_table);
    let Some((code, tests)) = table("dependencies").zip(table("dev-dependencies")) else {
        return Vec::new();
    };
    tests
        .iter()
        .filter(|(name, line)| code.get(*name) == Some(line))
        .map(|(name, _)| name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"countersign-access\"
description = \"Tokens.\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
repository.workspace = true
[dependencies]
serde.workspace = true
[dev-dependencies]
tempfile.workspace = true
[lints]
workspace = true
";

    fn findings(text: &str) -> Vec<String> {
        let file = TextFile {
            path: "crates/access/Cargo.toml".into(),
            text: text.into(),
        };
        let manifest = Manifest::parse(&file)
            .expect("it parses")
            .expect("it is a crate's");
        check(&manifest).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_that_inherits_everything_passes() {
        assert_eq!(findings(GOOD), Vec::<String>::new());
    }

    #[test]
    fn lints_that_are_not_inherited_are_found() {
        let found = findings(&GOOD.replace("[lints]\nworkspace = true\n", ""));
        assert!(found[0].contains("lints are not inherited"), "{found:?}");
    }

    #[test]
    fn a_version_of_its_own_is_found_in_package_and_in_every_dependency_table() {
        let found = findings(&GOOD.replace(
            "version.workspace = true\nedition",
            "version = \"1.0.0\"\nedition",
        ));
        assert!(found[0].contains("`version`"), "{found:?}");
        let found = findings(&GOOD.replace("serde.workspace = true", "serde = \"1\""));
        assert!(found[0].contains("`serde`"), "{found:?}");
        let found = findings(&GOOD.replace(
            "tempfile.workspace = true",
            "tempfile = { version = \"3\" }",
        ));
        assert!(found[0].contains("`tempfile`"), "{found:?}");
        let found = findings(&format!(
            "{GOOD}[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n"
        ));
        assert!(found[0].contains("`libc`"), "{found:?}");
    }

    #[test]
    fn a_missing_description_is_found() {
        let found = findings(&GOOD.replace("description = \"Tokens.\"\n", ""));
        assert!(found[0].contains("description"), "{found:?}");
    }

    #[test]
    fn a_dependency_named_twice_is_found() {
        let found = findings(&GOOD.replace("tempfile", "serde"));
        assert!(found[0].contains("`serde` stands under"), "{found:?}");
    }

    #[test]
    fn manifests_outside_the_workspace_have_no_rules() {
        let file = TextFile {
            path: "bench/peers/Cargo.toml".into(),
            text: "[package]".into(),
        };
        assert!(Manifest::parse(&file).is_ok_and(|manifest| manifest.is_none()));
    }
}
