//! Dead letters as an operator meets them, over real processes: what a back office refused is grouped
//! by its cause, tried dry, done once more, put away and taken back.

#[path = "support/run.rs"]
mod run;
mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// A running `countersign dev`; killed when dropped.
struct Dev {
    process: Child,
    home: PathBuf,
    port: u16,
}

impl Dev {
    fn start(home: &Path) -> Self {
        let port = free_ports();
        let mut process = Command::new(BINARY)
            .args(["dev", "--data"])
            .arg(home.join("data"))
            .args(["--port", &port.to_string()])
            .env("COUNTERSIGN_CONTEXT", home.join("dev.json"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let ready = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("next: "));
        assert!(ready.is_some(), "dev ended before it was ready");
        Self {
            process,
            home: home.to_owned(),
            port,
        }
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

    /// The answer of a command as a document, and its exit code.
    fn ask(&self, words: &[&str]) -> (i32, Value) {
        let (code, out, err) = self.run(&[words, &["--json"]].concat());
        let document = serde_json::from_str(&out);
        (
            code,
            document.unwrap_or_else(|_| panic!("{words:?}: {out}{err}")),
        )
    }

    /// Sends a document and waits for its end; tells its id.
    fn send(&self, body: &str) -> String {
        let words = ["send", "--to", "clinic-001", "--type", "document.insert"];
        let (_, out, err) = self.run(
            &[
                &words[..],
                &[body, "--max-attempts", "1", "--wait", "--json"],
            ]
            .concat(),
        );
        let ids = out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut id = ids.filter_map(|line| line["id"].as_str().map(str::to_owned));
        id.next_back()
            .unwrap_or_else(|| panic!("no id in {out}{err}"))
    }

    /// Tells the demo back office how to behave.
    fn back_office(&self, behaviour: &Value) {
        let url = format!("http://127.0.0.1:{}/control", self.port + 3);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime starts").block_on(async {
            let answer = reqwest::Client::new()
                .post(url)
                .json(behaviour)
                .send()
                .await;
            let answer = answer.expect("it answers");
            assert!(answer.status().is_success(), "{}", answer.status());
        });
    }

    /// Looks until the message is in this state.
    fn wait_until(&self, id: &str, state: &str) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.state(id) != state {
            assert!(std::time::Instant::now() < until, "{id} is not {state}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn state(&self, id: &str) -> Value {
        self.ask(&["messages", "get", id]).1["state"].clone()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn dead_letters_are_grouped_tried_dry_done_once_more_and_put_away() {
    let home = tempfile::tempdir().expect("there is room for a directory");
    let dev = Dev::start(home.path());
    assert_eq!(
        dev.ask(&["dead-letters", "list"]).1["dead_letters"],
        json!([])
    );

    dev.back_office(&json!({ "mode": "fail" }));
    let ids = [1, 2, 3].map(|number| dev.send(&json!({ "number": number }).to_string()));
    for id in &ids {
        assert_eq!(dev.state(id), "dead");
    }
    let (_, groups) = dev.ask(&["dead-letters", "groups"]);
    let groups = groups["groups"].as_array().expect("it is a list").clone();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0]["count"], 3);
    assert_eq!(groups[0]["type"], "document.insert");
    assert_eq!(groups[0]["agents"], json!(["clinic-001"]));
    let (_, page) = dev.ask(&["dead-letters", "list", "--limit", "2"]);
    assert_eq!(page["dead_letters"].as_array().map(Vec::len), Some(2));
    let next = page["next"]
        .as_str()
        .expect("there is another page")
        .to_owned();
    let (_, rest) = dev.ask(&["dead-letters", "list", "--cursor", &next]);
    assert_eq!(rest["dead_letters"].as_array().map(Vec::len), Some(1));
    let (_, one) = dev.ask(&["dead-letters", "get", &ids[0]]);
    let steps = one["timeline"]["steps"].as_array().expect("it is a list");
    assert_eq!(steps.last().expect("it ended")["step"], "dead");

    // One is put away, seen nowhere, and taken back.
    let discard = [
        "dead-letters",
        "discard",
        &ids[2],
        "--reason",
        "a test",
        "--yes",
    ];
    assert_eq!(dev.ask(&discard).1["done"], 1);
    let of_code = ["dead-letters", "list", "--type", "document.insert"];
    assert_eq!(
        dev.ask(&of_code).1["dead_letters"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        dev.ask(&["dead-letters", "restore", &ids[2], "--yes"]).1["done"],
        1
    );
    assert_eq!(dev.state(&ids[2]), "dead");

    let (code, price) = dev.ask(&["dead-letters", "replay", "--dry-run"]);
    assert_eq!((code, &price["count"]), (0, &json!(3)));
    assert_eq!(
        price["recipients"],
        json!([{ "agent": "clinic-001", "count": 3 }])
    );
    assert_eq!(price["expected_duplicates"], 0);
    // Nobody can be asked here, so that nothing is done.
    let (code, _, err) = dev.run(&["dead-letters", "replay"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--yes"), "{err}");

    dev.back_office(&json!({ "mode": "ok" }));
    let (code, operation) = dev.ask(&["dead-letters", "replay", "--yes"]);
    assert_eq!(code, 0, "{operation}");
    assert_eq!(
        (&operation["state"], &operation["done"]),
        (&json!("done"), &json!(3))
    );
    for id in &ids {
        let (_, message) = dev.ask(&["messages", "get", id]);
        assert_eq!(message["generation"], 2);
    }
    for id in &ids {
        dev.wait_until(id, "acknowledged");
    }
    assert_eq!(
        dev.ask(&["dead-letters", "list"]).1["dead_letters"],
        json!([])
    );

    let operation = operation["id"].as_str().expect("it has an id").to_owned();
    let (_, shown) = dev.ask(&["operations", "get", &operation, "--results"]);
    let results = shown["messages"].as_array().expect("it is a list");
    assert!(
        results.iter().all(|one| one["result"] == "done"),
        "{results:?}"
    );
    let (_, all) = dev.ask(&["operations", "list"]);
    assert_eq!(all["operations"].as_array().map(Vec::len), Some(3));
    // What was done once more is no dead letter now: it is left alone, and the exit code says so.
    let (code, again) = dev.ask(&[
        "dead-letters",
        "discard",
        &ids[0],
        "--reason",
        "late",
        "--yes",
    ]);
    assert_eq!((code, &again["skipped"]), (10, &json!(1)));
}
