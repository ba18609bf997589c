//! Which crate may depend on which: the arrows of ARCHITECTURE.md, as a table.
//!
//! Promise: an arrow that is not in the table is a finding, and so is a crate that has no row.
//! Tests may reach further (a server's tests need a client), but never from role to role, never
//! from the SignalR crates to the product, and never out of a crate that knows nothing of ours.

use super::Finding;
use super::manifests::{Kind, Manifest};

/// Each crate of ours and those of ours that its code may use.
///
/// Absences are the point: no role names another, `rules` names nobody, only `driver` (and what
/// works on the journal itself: the simulator, the read model, the binary's store commands) names
/// `journal`, and only the binary names roles together.
const ARROWS: &[(&str, &[&str])] = &[
    ("signalr-protocol", &[]),
    ("signalr-server", &["signalr-protocol"]),
    ("signalr-client", &["signalr-protocol"]),
    ("countersign-rules", &[]),
    ("countersign-journal", &[]),
    ("countersign-checker", &["countersign-rules"]),
    ("countersign-archive", &["countersign-rules"]),
    (
        "countersign-claims",
        &["countersign-journal", "countersign-rules"],
    ),
    (
        "countersign-driver",
        &["countersign-journal", "countersign-rules"],
    ),
    (
        "countersign-index",
        &["countersign-journal", "countersign-rules"],
    ),
    ("countersign-access", &[]),
    (
        "countersign-role-api",
        &[
            "countersign-claims",
            "countersign-driver",
            "countersign-rules",
            "countersign-access",
            "countersign-index",
        ],
    ),
    (
        "countersign-role-hub",
        &[
            "countersign-driver",
            "countersign-rules",
            "countersign-access",
            "signalr-server",
            "signalr-protocol",
        ],
    ),
    (
        "countersign-role-ack",
        &[
            "countersign-driver",
            "countersign-rules",
            "countersign-access",
        ],
    ),
    ("countersign-role-token", &["countersign-access"]),
    (
        "countersign-role-dashboard",
        &[
            "countersign-driver",
            "countersign-rules",
            "countersign-index",
        ],
    ),
    (
        "countersign-role-agent",
        &[
            "countersign-claims",
            "countersign-driver",
            "countersign-rules",
            "countersign-access",
            "signalr-client",
            "signalr-protocol",
        ],
    ),
    ("countersign-back-office", &[]),
    (
        "countersign-simulator",
        &[
            "countersign-rules",
            "countersign-checker",
            "countersign-driver",
            "countersign-journal",
        ],
    ),
    (
        "countersign",
        &[
            "countersign-rules",
            "countersign-checker",
            "countersign-journal",
            "countersign-archive",
            "countersign-claims",
            "countersign-driver",
            "countersign-index",
            "countersign-access",
            "countersign-role-api",
            "countersign-role-hub",
            "countersign-role-ack",
            "countersign-role-token",
            "countersign-role-dashboard",
            "countersign-role-agent",
            "countersign-back-office",
            "signalr-client",
            "signalr-protocol",
        ],
    ),
    ("countersign-torture", &["signalr-client"]),
    ("xtask", &[]),
];

/// Crates whose tests, too, use nothing of the product.
const ALONE: &[&str] = &["countersign-back-office", "xtask"];

pub(super) fn check(manifest: &Manifest) -> Vec<Finding> {
    let name = manifest.name.as_str();
    let Some((_, may_use)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        let says = format!(
            "the crate {name} has no arrows: give it a row in xtask/src/tidy/arrows.rs and in ARCHITECTURE.md"
        );
        return vec![Finding::in_file(&manifest.path, says)];
    };
    let ours = manifest
        .dependencies
        .iter()
        .filter(|dependency| is_ours(&dependency.name));
    ours.filter_map(|dependency| {
        let to = dependency.name.as_str();
        let trouble = match dependency.kind {
            Kind::Tests => forbidden_to_tests(name, to)?,
            Kind::Code if may_use.contains(&to) => return None,
            Kind::Code => "the arrow is not in ARCHITECTURE.md section \"arrows\"",
        };
        Some(Finding::in_file(
            &manifest.path,
            format!("{name} may not use {to}: {trouble}"),
        ))
    })
    .collect()
}

fn forbidden_to_tests(from: &str, to: &str) -> Option<&'static str> {
    if ALONE.contains(&from) {
        Some("it knows nothing of the product, in its tests either")
    } else if is_role(from) && is_role(to) {
        Some("no role knows another; test them together in crates/countersign/tests")
    } else if from.starts_with("signalr-") && !to.starts_with("signalr-") {
        Some("the SignalR crates know nothing of the product")
    } else if to == "countersign" {
        Some("the binary stands above everything")
    } else {
        None
    }
}

fn is_ours(name: &str) -> bool {
    name == "countersign" || name.starts_with("countersign-") || name.starts_with("signalr-")
}

fn is_role(name: &str) -> bool {
    name.starts_with("countersign-role-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::manifests::Dependency;

    fn findings(from: &str, kind: Kind, to: &str) -> Vec<String> {
        let manifest = Manifest {
            path: "crates/x/Cargo.toml".into(),
            name: from.into(),
            dependencies: vec![Dependency {
                name: to.into(),
                kind,
                inherited: true,
            }],
            document: toml::Table::new(),
        };
        check(&manifest).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        for (from, to) in [
            ("countersign", "countersign-role-hub"),
            ("countersign-role-hub", "signalr-server"),
            ("signalr-server", "signalr-protocol"),
            ("countersign-role-agent", "signalr-client"),
            ("countersign-role-api", "countersign-access"),
            ("countersign-role-ack", "countersign-driver"),
            ("countersign-driver", "countersign-journal"),
            ("countersign-simulator", "countersign-rules"),
        ] {
            assert_eq!(
                findings(from, Kind::Code, to),
                Vec::<String>::new(),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        for (from, to) in [
            ("countersign-role-api", "countersign-role-hub"),
            ("countersign-rules", "countersign-journal"),
            ("countersign-rules", "signalr-protocol"),
            ("signalr-server", "countersign-access"),
            ("signalr-protocol", "signalr-server"),
            ("countersign-role-ack", "signalr-server"),
            ("countersign-role-ack", "countersign-journal"),
            ("countersign-journal", "countersign-rules"),
            ("countersign-driver", "countersign-role-api"),
            ("countersign-back-office", "countersign-rules"),
            ("countersign", "countersign-simulator"),
        ] {
            let found = findings(from, Kind::Code, to);
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(
                found[0].contains(from) && found[0].contains(to),
                "{found:?}"
            );
        }
    }

    #[test]
    fn tests_reach_further_but_not_from_role_to_role() {
        assert!(findings("signalr-server", Kind::Tests, "signalr-client").is_empty());
        assert!(findings("countersign-role-hub", Kind::Tests, "signalr-client").is_empty());
        assert!(findings("countersign-driver", Kind::Tests, "countersign-simulator").is_empty());
        for (from, to) in [
            ("countersign-role-hub", "countersign-role-ack"),
            ("signalr-server", "countersign-rules"),
            ("countersign-back-office", "countersign-driver"),
            ("countersign-role-api", "countersign"),
        ] {
            assert_eq!(findings(from, Kind::Tests, to).len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let found = findings("countersign-common", Kind::Code, "serde");
        assert!(found[0].contains("has no arrows"), "{found:?}");
    }

    #[test]
    fn crates_of_others_are_not_our_concern() {
        assert!(findings("countersign-rules", Kind::Code, "serde").is_empty());
    }

    #[test]
    fn every_arrow_points_at_a_crate_that_has_a_row_itself() {
        for (from, may_use) in ARROWS {
            for to in *may_use {
                assert!(ARROWS.iter().any(|(row, _)| row == to), "{from} -> {to}");
            }
        }
    }
}
