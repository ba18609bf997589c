//! What goes wrong around a server, as real processes: tokens, locks, ports, configurations, a full disk
//! and a shutdown. Each is told with a stable code, and nothing that was answered is lost.

#![cfg(unix)]

#[path = "support/run.rs"]
mod run;
mod support;

use countersign_access::{Grant, Issuer, KeySet, Scopes, SigningKey};
use countersign_archive::DiskArchive;
use countersign_rules::delivery::Archive as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A configuration with keys, as `config init` makes it.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Self { directory };
        let out = home.path("");
        let made = run(Command::new(BINARY)
            .args(["config", "init", "--agent", "lyon", "--out"])
            .arg(out));
        assert_eq!(made.exit, 0, "{}", made.stderr);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command on this configuration, listening at `port` and the two behind it.
    fn command(&self, words: &[&str], port: u16) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .env("COUNTERSIGN_CONFIG", self.path("countersign.toml"))
            .env("COUNTERSIGN_HUB__LISTEN", format!("127.0.0.1:{port}"))
            .env(
                "COUNTERSIGN_ACKS__LISTEN",
                format!("127.0.0.1:{}", port + 1),
            )
            .env(
                "COUNTERSIGN_TOKEN__LISTEN",
                format!("127.0.0.1:{}", port + 2),
            )
            .env("COUNTERSIGN_HUB__DRAIN", "1ms")
            .env("COUNTERSIGN_DELIVERY__STRICT_TARGETS", "false")
            .env_remove("RUST_LOG");
        command
    }

    fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    fn serve_with(&self, variables: &[(&str, &str)]) -> Server {
        let port = free_ports();
        let mut command = self.command(&["serve"], port);
        command
            .envs(variables.iter().copied())
            .stderr(Stdio::null());
        let mut server = Server {
            process: command.spawn().expect("the binary starts"),
            port,
        };
        let begun = Instant::now();
        while server.get("/healthz", "").is_none() {
            let ended = server.process.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A token given out so long ago, for a minute.
    fn token(&self, scopes: &str, agent: Option<&str>, ago: Duration) -> String {
        let pem = std::fs::read_to_string(self.path("keys/signing-key.pem")).expect("it is there");
        let key = SigningKey::from_pem(&pem).expect("it is a key");
        let issuer = Issuer {
            keys: KeySet::new().with_signing_key(key),
            issuer: "http://127.0.0.1:7422".to_owned(),
            audience: "countersign".to_owned(),
        };
        let grant = Grant {
            subject: "the test".to_owned(),
            tenant: "default".to_owned(),
            agent: agent.map(str::to_owned),
            scopes: Scopes::parse(scopes).expect("they are scopes"),
            ttl: Duration::from_secs(600),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is after 1970") - ago;
        let now = i64::try_from(now.as_secs()).expect("it is this century");
        issuer.issue(&grant, now).expect("it is signed").token
    }

    fn sender(&self) -> String {
        self.token("send read", None, Duration::ZERO)
    }
}

/// A running `countersign serve`; killed when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn get(&self, path: &str, token: &str) -> Option<(u16, String)> {
        request(self.port, "GET", path, token, None)
    }

    fn send(&self, token: &str) -> (u16, String) {
        let body = r#"{"to":{"agent":"lyon"},"type":"doc.insert","data":{"n":1}}"#;
        let answer = request(self.port, "POST", "/v1/messages", token, Some(body));
        answer.expect("the send API answers")
    }

    fn acknowledge(&self, token: &str, agent: &str) -> (u16, String) {
        let id = "01980000-0000-7000-8000-000000000001";
        let body = format!(
            r#"{{"acks":[{{"message_id":"{id}","stage":"stored","attempt":1,"agent":"{agent}"}}]}}"#
        );
        let answer = request(self.port + 1, "POST", "/acks/v1/acks", token, Some(&body));
        answer.expect("the ack API answers")
    }

    /// Ends it as a service manager does; tells its exit code.
    fn terminate(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.expect("kill is there").success());
        self.process.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Ran {
    let (exit, stdout, stderr) = run::run(command);
    Ran {
        exit,
        stdout,
        stderr,
    }
}

/// Status and body; `None` when nobody answers.
fn request(
    port: u16,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&str>,
) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(async {
        let method = method.parse().expect("it is a method");
        let url = format!("http://127.0.0.1:{port}{path}");
        let mut request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.text().await.ok()?))
    })
}

fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).expect("it is there");
    std::fs::write(path, before + text).expect("it is written");
}

#[test]
fn a_token_that_has_expired_or_is_for_something_else_is_refused_with_the_reason() {
    let home = Home::new();
    let server = home.serve();
    let expired = home.token("send", None, Duration::from_secs(7200));
    let (status, why) = server.send(&expired);
    assert_eq!(status, 401, "{why}");
    assert!(why.contains("E-TOKEN-EXPIRED"), "{why}");

    let for_the_hub = home.token("hub ack", Some("lyon"), Duration::ZERO);
    let (status, why) = server.send(&for_the_hub);
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("E-TOKEN-SCOPE"), "{why}");

    let (status, why) = server.acknowledge(&for_the_hub, "nice");
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("E-OTHER-AGENT"), "{why}");

    let stranger = Home::new().sender();
    let (status, why) = server.send(&stranger);
    assert_eq!(status, 401, "{why}");
    assert!(why.contains("E-TOKEN-"), "{why}");
}

#[test]
fn a_data_directory_and_a_port_belong_to_one_process() {
    let home = Home::new();
    let server = home.serve();
    let second = run(&mut home.command(&["serve"], free_ports()));
    assert_eq!(second.exit, 9, "{}", second.stderr);
    assert!(
        second.stderr.contains("E-STORE-LOCKED"),
        "{}",
        second.stderr
    );

    let other = Home::new();
    let same_port = run(&mut other.command(&["serve"], server.port));
    assert_eq!(same_port.exit, 4, "{}", same_port.stderr);
    assert!(
        same_port.stderr.contains("E-PORT-IN-USE"),
        "{}",
        same_port.stderr
    );
    assert!(
        !other.path("countersign-data").exists(),
        "a port in use changes nothing on disk"
    );
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_place_and_what_to_do() {
    let home = Home::new();
    let file = home.path("countersign.toml");
    let good = std::fs::read_to_string(&file).expect("it is there");
    append(&file, "\n[delivery]\nwindow_mesages = 7\n");
    let line = std::fs::read_to_string(&file).expect("it is there");
    let line = line.lines().count();
    for words in [&["serve"][..], &["config", "check"]] {
        let typo = run(&mut home.command(words, free_ports()));
        assert_eq!(typo.exit, 3, "{}", typo.stderr);
        let place = format!("countersign.toml:{line}:");
        assert!(typo.stderr.contains(&place), "{}", typo.stderr);
        let meant = "did you mean `window_messages`?";
        assert!(typo.stderr.contains(meant), "{}", typo.stderr);
    }

    std::fs::write(&file, format!("{good}\n[delivery]\nbody_max = \"32MiB\"\n")).expect("written");
    for words in [&["serve"][..], &["config", "check"]] {
        let large = run(&mut home.command(words, free_ports()));
        assert_eq!(large.exit, 3, "{}", large.stderr);
        assert!(
            large.stderr.contains("E-CONFIG-VALUE") && large.stderr.contains("delivery.body_max"),
            "{}",
            large.stderr
        );
    }

    std::fs::write(&file, good).expect("it is written");
    let key = home.path("keys/signing-key.pem");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("it is ours");
    for words in [&["serve"][..], &["config", "check"]] {
        let open = run(&mut home.command(words, free_ports()));
        assert_eq!(open.exit, 3, "{}", open.stderr);
        assert!(
            open.stderr.contains("E-KEY-FILE-READABLE") && open.stderr.contains("chmod 600"),
            "{}",
            open.stderr
        );
    }
}

#[test]
fn a_full_disk_refuses_sends_while_acks_are_taken_and_sends_go_on_once_there_is_room() {
    let home = Home::new();
    let server = home.serve_with(&[("COUNTERSIGN_STORE__RESERVE", "1000000GiB")]);
    let (token, agent) = (
        home.sender(),
        home.token("hub ack", Some("lyon"), Duration::ZERO),
    );
    // The first look at the disk comes with the first write.
    let begun = Instant::now();
    let why = loop {
        let (status, why) = server.send(&token);
        if status == 507 {
            break why;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}: {why}");
    };
    assert!(
        why.contains("E-FULL") || why.contains("E-NO-SPACE"),
        "{why}"
    );
    let (status, why) = server.acknowledge(&agent, "lyon");
    assert_eq!(status, 200, "{why}");
    let ready = server.get("/readyz", "").expect("it answers");
    assert_eq!(ready.0, 503, "{}", ready.1);
    assert_eq!(server.terminate(), Some(0));

    let server = home.serve();
    let (status, why) = server.send(&token);
    assert!((200..300).contains(&status), "{status}: {why}");
}

#[test]
fn a_server_asked_to_end_exits_with_0_and_keeps_everything() {
    let home = Home::new();
    let server = home.serve();
    let token = home.sender();
    let sent: Vec<String> = (0..20)
        .map(|_| {
            let (status, body) = server.send(&token);
            assert!((200..300).contains(&status), "{status}: {body}");
            let body: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
            body["id"].as_str().expect("it has an id").to_owned()
        })
        .collect();
    assert_eq!(server.terminate(), Some(0));
    let server = home.serve();
    for id in sent {
        let path = format!("/v1/messages/{id}");
        let (status, body) = server.get(&path, &token).expect("it answers");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#""state":"waiting""#), "{body}");
    }
}

#[test]
fn the_curl_line_that_send_prints_sends_the_message() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("left out: there is no curl on this machine");
        return;
    }
    let home = Home::new();
    let server = home.serve();
    let token = home.sender();
    let words = [
        "send",
        "--to",
        "lyon",
        "--type",
        "doc.insert",
        "--id",
        "it's mine",
        "--print-curl",
        r#"{"name":"d'Artagnan $HOME `id`"}"#,
    ];
    let mut print = home.command(&words, server.port);
    let url = format!("http://127.0.0.1:{}", server.port);
    let printed = run(print
        .env("COUNTERSIGN_URL", url)
        .env("COUNTERSIGN_TOKEN", &token));
    assert_eq!(printed.exit, 0, "{}", printed.stderr);
    let sent = run(Command::new("sh").arg("-c").arg(&printed.stdout));
    assert_eq!(sent.exit, 0, "{}", sent.stderr);
    let body = sent.stdout.lines().last().expect("it answers");
    let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    let id = body["id"].as_str().expect("it has an id");
    let path = format!("/v1/messages/{id}/data");
    let (_, data) = server.get(&path, &token).expect("it answers");
    assert_eq!(data, r#"{"name":"d'Artagnan $HOME `id`"}"#);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_nobody_reads_is_no_failure_and_one_that_cannot_be_written_is() {
    let home = Home::new();
    let check = || home.command(&["config", "check"], 1);
    let mut unread = check();
    let mut unread = unread
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(unread.stdout.take());
    let ended = unread.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), complaint.as_ref()), (Some(0), ""));

    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut unwritten = check();
    unwritten
        .stdout(full.expect("it is there"))
        .stderr(Stdio::piped());
    let unwritten = unwritten.spawn().expect("the binary starts");
    let ended = unwritten.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("cannot be written"), "{complaint}");
}

/// A send with a key; the message's id, and whether the key was known.
fn send_keyed(server: &Server, token: &str, key: usize) -> (String, bool) {
    let body =
        format!(r#"{{"to":{{"agent":"lyon"}},"type":"doc.insert","data":{key},"id":"k{key}"}}"#);
    let answer = request(server.port, "POST", "/v1/messages", token, Some(&body));
    let (status, answer) = answer.expect("the send API answers");
    assert!(status == 202 || status == 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
    let id = answer["id"].as_str().expect("it has an id");
    (id.to_owned(), status == 200)
}

#[test]
fn what_has_ended_is_known_from_disk_after_a_kill_and_without_its_file() {
    let home = Home::new();
    let few = [("COUNTERSIGN_STORE__REMEMBERED_MESSAGES", "2")];
    let token = home.token("send read operate", None, Duration::ZERO);
    let server = home.serve_with(&few);
    let sent: Vec<String> = (0..20)
        .map(|key| send_keyed(&server, &token, key).0)
        .collect();
    for id in &sent {
        let path = format!("/v1/messages/{id}/cancel");
        let (status, why) = request(server.port, "POST", &path, &token, None).expect("it answers");
        assert_eq!(status, 200, "{why}");
    }
    let all_is_known = |server: &Server| {
        for (key, id) in sent.iter().enumerate() {
            assert_eq!(send_keyed(server, &token, key), (id.clone(), true));
            let (status, shown) = server
                .get(&format!("/v1/messages/{id}"), &token)
                .expect("it answers");
            assert!(status == 200 && shown.contains("cancelled"), "{shown}");
        }
    };
    all_is_known(&server);
    assert_eq!(server.terminate(), Some(0));

    // It is in the file, and not in memory alone.
    let file = home.path("countersign-data/centre-ended.sqlite");
    let archive = DiskArchive::open(&file).expect("it opens");
    for id in &sent[..10] {
        let id = id.parse().expect("it is an id");
        assert!(archive.find(id).expect("it is read").is_some(), "{id}");
    }
    drop(archive);

    let server = home.serve_with(&few);
    all_is_known(&server);
    drop(server);
    std::fs::remove_file(&file).expect("it is there");
    all_is_known(&home.serve_with(&few));
}
