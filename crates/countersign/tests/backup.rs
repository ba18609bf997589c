//! Backup and restore over real processes: taken under load, restored after a kill, proved by
//! `verify`; and what is refused.

#[path = "support/run.rs"]
mod run;
mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use support::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// Centre, ack API, agent and back office in one process; killed when dropped.
struct Running {
    process: Child,
    home: PathBuf,
}

impl Running {
    fn start(home: &Path, port: u16) -> Self {
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
        }
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        command(&self.home, words)
    }

    fn json(&self, words: &[&str]) -> Value {
        let (code, told, failed) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {failed}");
        serde_json::from_str(&told).expect("it is JSON")
    }

    /// Sends one message and waits for its end; its id.
    fn delivered(&self, key: &str) -> String {
        let told = self.json(&[
            "--json",
            "send",
            "--to",
            "clinic-001",
            "--type",
            "document.insert",
            "{\"number\":\"1\"}",
            "--id",
            key,
            "--wait",
        ]);
        told["id"].as_str().expect("it has an id").to_owned()
    }

    fn kill(mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it is gone");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(home: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    let command = command
        .args(words)
        .env("COUNTERSIGN_CONTEXT", home.join("dev.json"))
        .env_remove("COUNTERSIGN_CONFIG")
        .env_remove("COUNTERSIGN_URL")
        .env_remove("COUNTERSIGN_TOKEN");
    run::run(command)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

/// What the back office holds, in the form that `verify` reads.
fn effects(port: u16, into: &Path) -> Vec<String> {
    let url = format!("http://127.0.0.1:{}/documents", port + 3);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let list: Value = runtime.expect("a runtime starts").block_on(async {
        let answer = reqwest::get(url).await.expect("it answers");
        serde_json::from_str(&answer.text().await.expect("it is text")).expect("it is JSON")
    });
    let rows = list["documents"].as_array().expect("a list");
    let ids: Vec<_> = rows
        .iter()
        .map(|row| row["message_id"].as_str().expect("an id").to_owned())
        .collect();
    let lines: String = ids
        .iter()
        .map(|id| format!("{{\"message_id\":\"{id}\",\"generation\":1}}\n"))
        .collect();
    std::fs::write(into, lines).expect("it is written");
    ids
}

#[test]
fn a_centre_restored_from_a_backup_under_load_loses_nothing_in_silence_and_repeats_no_effect() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, copy) = (home.path().join("data"), home.path().join("copy"));
    let port = free_ports();
    let running = Running::start(home.path(), port);
    let before: BTreeSet<_> = (0..5)
        .map(|n| running.delivered(&format!("before-{n}")))
        .collect();

    // The backup is taken while messages go on.
    let done = AtomicBool::new(false);
    let meanwhile = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut ids = BTreeSet::new();
            while !done.load(Ordering::SeqCst) || ids.is_empty() {
                ids.insert(running.delivered(&format!("meanwhile-{}", ids.len())));
            }
            ids
        });
        let (code, told, failed) = running.run(&["backup", text(&data), "--into", text(&copy)]);
        done.store(true, Ordering::SeqCst);
        assert_eq!(code, 0, "{failed}");
        assert!(
            told.contains("centre: ") && told.contains("acks: "),
            "{told}"
        );
        load.join().expect("the load ends well")
    });
    let after: BTreeSet<_> = (0..5)
        .map(|n| running.delivered(&format!("after-{n}")))
        .collect();
    let (code, told, _) = running.run(&["store", "check", text(&copy), text(&data)]);
    assert_eq!(code, 0, "{told}");

    // A running store is not written over.
    let (code, _, told) = running.run(&["restore", text(&copy), "--into", text(&data)]);
    assert!(code == 9 && told.contains("E-STORE-LOCKED"), "{told}");

    running.kill();
    let lost = home.path().join("lost");
    std::fs::rename(data.join("centre"), &lost).expect("it is moved away");
    let (code, told, failed) = command(
        home.path(),
        &[
            "restore",
            text(&copy.join("centre")),
            "--into",
            text(&data.join("centre")),
        ],
    );
    assert!(code == 0 && told.contains("new epoch"), "{told}{failed}");

    let running = Running::start(home.path(), port);
    for id in &before {
        let message = running.json(&["--json", "messages", "get", id]);
        assert_eq!(message["state"], "acknowledged", "{message}");
    }
    // Sent again with its key, a lost message is a new one: the agent knows neither.
    let again = running.delivered("after-0");
    assert!(!after.contains(&again));
    let listed = running.json(&["--json", "acks", "orphans"]);
    let listed = listed["orphans"].as_array().expect("a list").clone();
    let is_lost = |one: &&Value| one["why"] == "accepted_after_the_backup";
    let orphans: BTreeSet<_> = listed
        .iter()
        .filter(is_lost)
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(orphans.is_superset(&after), "{listed:?}");
    assert!(orphans.is_disjoint(&before), "{listed:?}");
    assert!(
        orphans
            .iter()
            .all(|id| after.contains(id) || meanwhile.contains(id)),
        "{listed:?}"
    );

    let rows = effects(port, &home.path().join("effects"));
    let unique: BTreeSet<_> = rows.iter().collect();
    assert_eq!(unique.len(), rows.len(), "no effect is repeated");
    running.kill();
    let (code, told, failed) = command(
        home.path(),
        &[
            "--json",
            "verify",
            text(&data),
            "--effects",
            text(&home.path().join("effects")),
        ],
    );
    assert_eq!(code, 0, "{told}{failed}");
    let told: Value = serde_json::from_str(&told).expect("it is JSON");
    let judged = told["invariants"].as_array().expect("a list");
    let restored = judged.iter().find(|one| one["invariant"] == "I29");
    assert_eq!(restored.expect("it is judged")["verdict"], "held", "{told}");
}

#[test]
fn damage_is_told_with_the_messages_it_is_about_and_a_damaged_backup_is_not_restored() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, copy) = (home.path().join("data"), home.path().join("copy"));
    let running = Running::start(home.path(), free_ports());
    running.delivered("one");
    let id = running.delivered("two");
    running.kill();
    let run = |words: &[&str]| command(home.path(), words);
    let (code, _, failed) = run(&["backup", text(&data), "--into", text(&copy)]);
    assert_eq!(code, 0, "{failed}");
    let (code, _, failed) = run(&["backup", text(&data), "--into", text(&copy)]);
    assert!(
        code == 9 && failed.contains("E-BACKUP-NOT-EMPTY"),
        "{failed}"
    );

    // A bit of the body of the second message.
    let segment = copy.join("centre/segment-00000000000000000001");
    let bytes = std::fs::read(&segment).expect("it is read");
    let body = b"{\"number\":\"1\"}";
    let at = bytes.windows(body.len()).rposition(|bytes| bytes == body);
    let at = at.expect("it stands there") as u64;
    let file = std::fs::OpenOptions::new().write(true).open(&segment);
    let file = file.expect("it opens");
    file.write_all_at(b"!", at).expect("it is written");
    let (code, told, _) = run(&["store", "check", text(&copy)]);
    assert_eq!(code, 11, "{told}");
    assert!(told.contains("DAMAGED") && told.contains(&id), "{told}");
    let target = home.path().join("other");
    let (code, _, failed) = run(&["restore", text(&copy), "--into", text(&target)]);
    assert!(
        code == 11 && failed.contains("E-BACKUP-DAMAGED"),
        "{failed}"
    );
    assert!(!target.join("centre").exists(), "nothing is left half made");

    for (words, exit, code) in [
        (vec!["store", "check", "nowhere"], 8, "E-STORE-NONE"),
        (vec!["restore", "nowhere", "--into", "x"], 8, "E-STORE-NONE"),
        (
            vec!["restore", text(&data), "--into", text(&copy)],
            8,
            "E-STORE-NONE",
        ),
    ] {
        let (found, _, told) = run(&words);
        assert!(found == exit && told.contains(code), "{words:?}: {told}");
    }
}
