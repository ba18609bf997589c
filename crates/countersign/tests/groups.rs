//! A send to a group over real HTTP: who gets it, when it is done, and that a kill changes nothing.

#[path = "support/run.rs"]
mod run;
mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// A running `countersign dev`; killed when dropped.
struct Dev {
    process: Child,
    home: PathBuf,
}

impl Dev {
    fn start(home: &Path) -> Self {
        let mut process = Command::new(BINARY)
            .args(["dev", "--data"])
            .arg(home.join("data"))
            .args(["--port", &free_ports().to_string()])
            .env("COUNTERSIGN_CONTEXT", home.join("dev.json"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let ready = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("next: "));
        assert!(ready.is_some(), "dev ended before it was ready");
        let home = home.to_owned();
        Self { process, home }
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(BINARY);
        let command = command
            .args(words)
            .env("COUNTERSIGN_CONTEXT", self.home.join("dev.json"))
            .env_remove("COUNTERSIGN_URL")
            .env_remove("COUNTERSIGN_TOKEN");
        run::run(command)
    }

    fn ask(&self, words: &[&str]) -> Value {
        let (exit, said, why) = self.run(words);
        assert_eq!(exit, 0, "{words:?}: {said}{why}");
        serde_json::from_str(&said).expect("it is JSON")
    }

    /// Makes an agent known that never connects.
    fn register(&self, agent: &str) {
        let context = std::fs::read_to_string(self.home.join("dev.json")).expect("it is there");
        let context: Value = serde_json::from_str(&context).expect("it is JSON");
        let text = |name: &str| context[name].as_str().expect("it is a text").to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let answer = runtime.block_on(
            reqwest::Client::new()
                .put(format!("{}/v1/agents/{agent}", text("url")))
                .bearer_auth(text("token"))
                .send(),
        );
        assert!(answer.expect("it answers").status().is_success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const SEND: [&str; 6] = [
    "--json",
    "send",
    "--to",
    "group:north",
    "--type",
    "document.insert",
];

fn send<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let mut words = SEND.to_vec();
    words.extend(rest);
    words
}

#[test]
fn a_send_to_a_group_of_three_is_done_at_its_quorum_names_who_is_not_and_survives_a_kill() {
    let home = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(home.path());
    let unknown = dev.run(&send(&["{}"]));
    assert_eq!(unknown.0, 8, "{}", unknown.2);
    assert!(unknown.2.contains("E-UNKNOWN-GROUP"), "{}", unknown.2);
    for away in ["clinic-002", "clinic-003"] {
        dev.register(away);
    }
    let members = ["clinic-001", "clinic-002", "clinic-003"];
    let mut add = vec!["--json", "groups", "add", "north"];
    add.extend(members);
    assert_eq!(dev.ask(&add)["version"], 3);

    // One of three is there: that is the quorum.
    let reached = dev.ask(&send(&[
        "{\"number\":\"1\"}",
        "--quorum",
        "30%",
        "--deadline",
        "10m",
        "--wait",
    ]));
    assert_eq!(reached["state"], "reached", "{reached}");
    assert_eq!(reached["version"], 3);
    assert_eq!(reached["counts"]["acknowledged"], 1);
    assert_eq!(reached["counts"]["waiting"], 2);

    // Two of three are not, and are named when the deadline has come.
    let body = "{\"number\":\"2\"}";
    let missed = dev.run(&send(&[body, "--deadline", "3s", "--wait"]));
    assert_eq!(missed.0, 7, "{}{}", missed.1, missed.2);
    let missed: Value = serde_json::from_str(&missed.1).expect("it is JSON");
    assert_eq!(missed["state"], "missed", "{missed}");
    let id = missed["id"].as_str().expect("it has an id").to_owned();

    dev.ask(&["--json", "groups", "remove", "north", "clinic-003"]);
    drop(dev);
    let dev = Dev::start(home.path());
    let group = dev.ask(&["--json", "groups", "get", "north"]);
    assert_eq!(
        (&group["version"], group["members"].as_array().map(Vec::len)),
        (&4.into(), Some(2))
    );
    let after = dev.ask(&["--json", "messages", "get", &id]);
    assert_eq!(after["missing"], missed["missing"]);
    assert_eq!(after["quorum"]["missed_at"], missed["quorum"]["missed_at"]);
    let missing = dev.ask(&["--json", "messages", "children", &id, "--missing"]);
    let missing = missing["children"].as_array().expect("it is a list");
    let names: Vec<_> = missing
        .iter()
        .map(|child| child["agent"].as_str())
        .collect();
    assert_eq!(names, [Some(members[1]), Some(members[2])]);
    let child = missing[0]["id"].as_str().expect("it has an id");
    assert_eq!(
        dev.ask(&["--json", "messages", "get", child])["parent"],
        id.as_str()
    );

    // The journals prove that whoever was a member was addressed.
    let data = home.path().join("data");
    let report = dev.run(&["verify", data.to_str().expect("it is text")]);
    assert_eq!(report.0, 0, "{}{}", report.1, report.2);
    let held = report.1.lines().find(|line| line.contains("I26"));
    assert!(
        held.is_some_and(|line| line.contains("held")),
        "{}",
        report.1
    );
}
