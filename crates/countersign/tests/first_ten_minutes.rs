//! The first minutes of a newcomer, as real processes: `dev`, a document delivered, an agent away and
//! back, a document the back office cannot take, and a kill in between.

#[path = "support/run.rs"]
mod run;
mod support;

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

    fn send(&self, body: &str, rest: &[&str]) -> (i32, String, String) {
        let mut words = vec![
            "send",
            "--to",
            "clinic-001",
            "--type",
            "document.insert",
            body,
        ];
        words.extend(rest);
        self.run(&words)
    }

    /// Message ids of the back office's documents, in the order of insertion, with their digests.
    fn documents(&self) -> Vec<(String, String)> {
        let url = format!("http://127.0.0.1:{}/documents", self.port + 3);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let text = runtime.expect("a runtime starts").block_on(async {
            reqwest::get(url)
                .await
                .expect("it answers")
                .text()
                .await
                .expect("it is text")
        });
        let list: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let documents = list["documents"].as_array().expect("it is a list");
        let field = |document: &serde_json::Value, name: &str| {
            document[name].as_str().unwrap_or_default().to_owned()
        };
        documents
            .iter()
            .map(|d| (field(d, "message_id"), field(d, "sha256")))
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sha256_hex(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("the example is there");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn a_newcomer_delivers_a_document_loses_nothing_to_a_kill_and_sees_what_was_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(home.path());

    // A real document stands in the back office with the digest it was sent with.
    let invoice =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/documents/invoice-1001.xml");
    let (exit, said, why) = dev.send(&format!("@{}", invoice.display()), &["--wait"]);
    assert_eq!(exit, 0, "{said}{why}");
    for state in ["accepted", "waiting", "pushed", "stored", "acknowledged"] {
        assert!(said.contains(state), "{state} is missing:\n{said}");
    }
    assert_eq!(dev.documents()[0].1, sha256_hex(&invoice));

    // No SDK is needed.
    let (exit, curl, _) = dev.send("{\"number\":\"7\"}", &["--print-curl"]);
    assert_eq!(exit, 0);
    assert!(
        curl.starts_with("curl ") && curl.contains("Idempotency-Key"),
        "{curl}"
    );

    // A document that the back office stumbles over ends visibly.
    let (exit, said, _) = dev.send("{\"number\":\"bad\"}", &["--wait"]);
    assert_eq!(exit, 7, "{said}");
    assert!(said.contains("dead"), "{said}");

    // With the agent away messages wait, and survive a kill of everything.
    assert_eq!(dev.run(&["agent", "stop", "clinic-001"]).0, 0);
    let waiting: Vec<String> = (0..3)
        .map(|number| {
            let (exit, id, why) = dev.send(&format!("{{\"number\":\"{number}\"}}"), &["--quiet"]);
            assert_eq!(exit, 0, "{why}");
            id.trim().to_owned()
        })
        .collect();
    let (exit, said, _) = dev.send("{\"number\":\"3\"}", &["--wait", "--timeout", "1s"]);
    assert_eq!(exit, 6, "{said}");
    assert!(said.contains("agent offline"), "{said}");
    drop(dev);

    // Everything comes back with the data, and each waiting message arrives once, in order.
    let dev = Dev::start(home.path());
    let (exit, said, why) = dev.send("{\"number\":\"4\"}", &["--wait"]);
    assert_eq!(exit, 0, "{said}{why}");
    let inserted: Vec<String> = dev.documents().into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        inserted.len(),
        6,
        "one invoice, four that waited, one after the restart"
    );
    assert_eq!(inserted[1..4], waiting[..]);
}

#[test]
fn what_a_user_gets_wrong_is_said_in_one_sentence_with_a_stable_code() {
    let home = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(home.path());
    let unknown = dev.run(&["send", "--to", "nobody", "--type", "document.insert", "{}"]);
    assert_eq!(unknown.0, 8, "{}", unknown.2);
    assert!(unknown.2.contains("E-UNKNOWN-RECIPIENT"), "{}", unknown.2);

    let not_json = dev.send("{not json", &[]);
    assert_eq!(not_json.0, 2, "{}", not_json.2);

    assert_eq!(dev.send("{\"a\":1}", &["--id", "k"]).0, 0);
    let reused = dev.send("{\"a\":2}", &["--id", "k"]);
    assert_eq!(reused.0, 9, "{}", reused.2);
    assert!(reused.2.contains("E-KEY-REUSED"), "{}", reused.2);

    let large = home.path().join("large.json");
    std::fs::write(&large, format!("\"{}\"", "x".repeat(300 * 1024))).expect("it is written");
    let sent = dev.send(&format!("@{}", large.display()), &["--wait"]);
    assert_eq!(sent.0, 0, "its body goes first: {}{}", sent.1, sent.2);

    let foreign = dev.send("{}", &["--token", "not-a-token"]);
    assert_eq!(foreign.0, 5, "{}", foreign.2);

    let port = dev.port.to_string();
    let busy = dev.run(&["dev", "--port", &port]);
    assert_eq!(busy.0, 4, "{}", busy.2);
    assert!(busy.2.contains("E-PORT-IN-USE"), "{}", busy.2);
}
