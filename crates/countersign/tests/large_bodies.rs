//! A large document as real processes: the server is killed while it arrives, the agent is killed while
//! it fetches, and what stands at the back office is what was sent.

#![cfg(unix)]

#[path = "support/run.rs"]
mod run;
mod support;

use aws_lc_rs::digest::{Context, SHA256, digest};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(600);
const BYTES: usize = 5 << 20;
/// Where the server and the agent are killed, about.
const CUT: usize = 2 << 20;

/// A process that is killed when dropped.
struct Process(Child);

impl Process {
    /// The most memory it has had, in KiB.
    fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A centre and an agent with a folder as its back office; the agent reaches the hub through a line
/// that can be stopped.
struct Site {
    home: PathBuf,
    port: u16,
    line: Line,
}

impl Site {
    fn new(home: &Path) -> Self {
        let port = free_ports();
        let line = Line::open(port);
        let (exit, _, why) = run::run(
            Command::new(BINARY)
                .args(["config", "init", "--agent", "lyon", "--out"])
                .arg(home),
        );
        assert_eq!(exit, 0, "{why}");
        let config = home.join("countersign.toml");
        let text = std::fs::read_to_string(&config).expect("it was written");
        let agent = format!(
            "\n[agent]\nname = \"lyon\"\nhub_url = \"http://127.0.0.1:{}/hub\"\n\
             ack_url = \"http://127.0.0.1:{}/acks/v1/acks\"\n\
             token_url = \"http://127.0.0.1:{}/oauth2/token\"\nclient_id = \"lyon\"\n\
             client_secret_file = \"secrets/lyon.secret\"\ndata_dir = \"agent\"\nreserve = \"1MiB\"\n\
             [agent.sink]\nkind = \"folder\"\npath = \"office\"\n",
            line.port,
            port + 1,
            port + 2
        );
        std::fs::write(&config, text + &agent).expect("it is written");
        let home = home.to_owned();
        Self { home, port, line }
    }

    fn command(&self, words: &[&str]) -> Command {
        let at = |offset: u16| format!("127.0.0.1:{}", self.port + offset);
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .current_dir(&self.home)
            .env("COUNTERSIGN_CONFIG", self.home.join("countersign.toml"))
            .env("COUNTERSIGN_HUB__LISTEN", at(0))
            .env("COUNTERSIGN_ACKS__LISTEN", at(1))
            .env("COUNTERSIGN_TOKEN__LISTEN", at(2))
            .env("COUNTERSIGN_STORE__RESERVE", "1MiB")
            .env("COUNTERSIGN_DELIVERY__STRICT_TARGETS", "false")
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn serve(&self) -> Process {
        let mut process = Process(self.command(&["serve"]).spawn().expect("the binary starts"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = process.0.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn agent(&self) -> Process {
        let config = self.home.join("countersign.toml");
        let mut command = self.command(&["agent", "run", "--config"]);
        Process(command.arg(config).spawn().expect("the binary starts"))
    }

    fn token(&self) -> String {
        let mut command = self.command(&["token", "new", "--scope", "send,read", "--quiet"]);
        let (exit, token, why) = run::run(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        assert_eq!(exit, 0, "{why}");
        token.trim().to_owned()
    }

    /// The digest of the only document at the back office, when it is there.
    fn delivered(&self) -> Option<String> {
        let entries = std::fs::read_dir(self.home.join("office")).ok()?;
        let mut files = entries.filter_map(Result::ok).map(|entry| entry.path());
        let whole = files.find(|path| path.extension().is_some_and(|end| end == "bin"))?;
        Some(hex_of(&whole))
    }
}

/// A line to the hub. It carries so many bytes to the agent and then nothing more, until it is mended.
struct Line {
    port: u16,
    carried: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Line {
    fn open(hub: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (carried, most) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicU64::new(u64::MAX)),
        );
        let (count, limit) = (Arc::clone(&carried), Arc::clone(&most));
        std::thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                let Ok(hub) = TcpStream::connect(("127.0.0.1", hub)) else {
                    continue;
                };
                let pair = |stream: &TcpStream| stream.try_clone().expect("it is open");
                let (from_agent, to_hub) = (pair(&agent), pair(&hub));
                std::thread::spawn(move || carry(from_agent, to_hub, None));
                let meter = (Arc::clone(&count), Arc::clone(&limit));
                std::thread::spawn(move || carry(hub, agent, Some(meter)));
            }
        });
        Self {
            port,
            carried,
            most,
        }
    }

    fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }
}

type Meter = (Arc<AtomicU64>, Arc<AtomicU64>);

fn carry(mut from: TcpStream, mut to: TcpStream, meter: Option<Meter>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if let Some((carried, most)) = &meter {
            while carried.load(Ordering::SeqCst) >= most.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            carried.fetch_add(read as u64, Ordering::SeqCst);
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn document() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..BYTES).map(next).collect()
}

/// How much of a body is in this store.
fn stored(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    sizes.map(|about| about.len()).sum()
}

fn hex_of(path: &Path) -> String {
    let mut file = std::fs::File::open(path).expect("it is there");
    let (mut sum, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).expect("it is read");
        if read == 0 {
            break;
        }
        sum.update(&buffer[..read]);
    }
    let digest = sum.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One request over a connection of its own; the body may be cut short of `length`.
fn begin_request(port: u16, head: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server answers");
    let head =
        format!("{head}\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it is taken");
    stream.write_all(body).expect("it is taken");
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is text");
    text
}

/// The value of a header in an answer.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let lines = answer.lines();
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("no {name} in {answer}")).1
}

#[test]
fn a_document_arrives_whole_although_server_and_agent_are_killed_on_its_way() {
    let home = tempfile::tempdir().expect("a directory");
    let site = Site::new(home.path());
    let (document, token) = (document(), site.token());
    let authorization = format!("Authorization: Bearer {token}");

    // The server is killed while the document arrives.
    let server = site.serve();
    let declared = format!("{{\"bytes\":{BYTES},\"sha256\":\"{}\"}}", hex(&document));
    let head =
        format!("POST /v1/bodies HTTP/1.1\r\nContent-Type: application/json\r\n{authorization}");
    let told = answer(begin_request(
        site.port,
        &head,
        declared.len(),
        declared.as_bytes(),
    ));
    let location = header(&told, "location").to_owned();
    let head = format!("PATCH {location} HTTP/1.1\r\nUpload-Offset: 0\r\n{authorization}");
    let cut = begin_request(site.port, &head, BYTES, &document[..CUT]);
    let part = home.path().join("countersign-data/bodies");
    wait_until("the first bytes are on disk", || {
        stored(&part) > CUT as u64 / 2
    });
    server.kill();
    drop(cut);

    // It goes on where it was cut.
    let server = site.serve();
    let head = format!("HEAD {location} HTTP/1.1\r\n{authorization}");
    let told = answer(begin_request(site.port, &head, 0, &[]));
    let offset: usize = header(&told, "upload-offset").parse().expect("a number");
    assert!((CUT / 2..=CUT).contains(&offset), "{told}");
    let head = format!("PATCH {location} HTTP/1.1\r\nUpload-Offset: {offset}\r\n{authorization}");
    let rest = &document[offset..];
    let told = answer(begin_request(site.port, &head, rest.len(), rest));
    assert_eq!(header(&told, "upload-complete"), "?1", "{told}");
    let id = location.rsplit('/').next().expect("an id");
    let message = format!(
        r#"{{"to":{{"agent":"lyon"}},"type":"a","content_type":"application/pdf","data_ref":{{"id":"{id}"}}}}"#
    );
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nContent-Type: application/json\r\n{authorization}");
    let told = answer(begin_request(
        site.port,
        &head,
        message.len(),
        message.as_bytes(),
    ));
    assert!(told.starts_with("HTTP/1.1 202"), "{told}");

    // A kill behind the 202 costs nothing.
    server.kill();
    let _server = site.serve();

    // The agent is killed while it fetches.
    site.line.most.store(CUT as u64, Ordering::SeqCst);
    let agent = site.agent();
    let fetched = home.path().join("agent/bodies");
    wait_until("the agent fetches", || stored(&fetched) > CUT as u64 / 2);
    agent.kill();
    assert_eq!(
        site.delivered(),
        None,
        "nothing is handed over that is not whole"
    );

    // It goes on where it was, and hands the document over.
    site.line.most.store(u64::MAX, Ordering::SeqCst);
    let before = site.line.carried();
    let _agent = site.agent();
    wait_until("the document is delivered", || site.delivered().is_some());
    assert_eq!(site.delivered(), Some(hex(&document)));
    let again = site.line.carried() - before;
    assert!(
        again < (BYTES - CUT / 2) as u64,
        "{again} bytes were fetched again"
    );

    // What is done needs no body here.
    wait_until("the agent removes the body", || stored(&fetched) == 0);
}

#[test]
fn a_large_file_to_many_is_refused_before_a_byte_of_it_is_sent() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("document.dat");
    write_document(&file, 1 << 20);
    let mut send = Command::new(BINARY);
    // Nobody listens there: whoever asked the server first would say so.
    let send = send.args(["send", "--to", "all", "--type", "a"]).args([
        "--url",
        "http://127.0.0.1:9",
        "--token",
        "none",
    ]);
    let (exit, said, why) = run::run(send.arg(format!("@{}", file.display())));
    assert_eq!((exit, said.as_str()), (2, ""), "{why}");
    assert!(why.contains("E-BODY-TO-MANY"), "{why}");
}

/// One gigabyte, by default: `cargo xtask large-body`.
#[test]
#[ignore = "takes some minutes and a few gigabytes of disk"]
fn a_document_of_a_gigabyte_costs_no_more_memory_than_a_small_one() {
    let size = std::env::var("COUNTERSIGN_LARGE_BODY_MIB");
    let bytes = size.map_or(1024, |text| text.parse::<u64>().expect("a number")) << 20;
    let home = tempfile::tempdir().expect("a directory");
    let site = Site::new(home.path());
    let (file, token) = (home.path().join("document.dat"), site.token());
    write_document(&file, bytes);
    let kept = home.path().join("countersign-data/bodies");
    let fetched = home.path().join("agent/bodies");
    let begun = Instant::now();

    let server = site.serve();
    let mut send = site.command(&["send", "--to", "lyon", "--type", "a"]);
    let url = format!("http://127.0.0.1:{}", site.port);
    let send = send.arg(format!("@{}", file.display()));
    let send = send.args(["--url", &url, "--token", &token]);
    let mut send = Process(send.spawn().expect("the binary starts"));
    wait_until("half of it is sent", || stored(&kept) > bytes / 2);
    let mut peak_centre = server.peak_kib();
    server.kill();
    let server = site.serve();
    let mut peak_send = 0;
    let sent = loop {
        peak_send = peak_send.max(send.peak_kib());
        if let Some(ended) = send.0.try_wait().expect("it can be asked") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(sent.success(), "{sent}");
    println!("sent after {:.1} s", begun.elapsed().as_secs_f64());

    let agent = site.agent();
    wait_until("half of it is fetched", || stored(&fetched) > bytes / 2);
    let mut peak_agent = agent.peak_kib();
    agent.kill();
    let agent = site.agent();
    let office = home.path().join("office");
    wait_until("it is delivered", || {
        let entries = std::fs::read_dir(&office).into_iter().flatten();
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.any(|path| path.extension().is_some_and(|end| end == "bin"))
    });
    println!("delivered after {:.1} s", begun.elapsed().as_secs_f64());
    peak_centre = peak_centre.max(server.peak_kib());
    peak_agent = peak_agent.max(agent.peak_kib());
    println!("peak memory, KiB: centre {peak_centre}, agent {peak_agent}, send {peak_send}");
    assert_eq!(site.delivered(), Some(hex_of(&file)));
    for peak in [peak_centre, peak_agent, peak_send] {
        assert!(peak < 256 * 1024, "{peak} KiB");
    }
}

/// A file of so many bytes, no two blocks of which are the same.
fn write_document(path: &Path, bytes: u64) {
    let mut file = std::fs::File::create(path).expect("there is room");
    let mut block = document();
    let mut written = 0;
    while written < bytes {
        block[..8].copy_from_slice(&written.to_le_bytes());
        let left = usize::try_from(bytes - written).unwrap_or(BYTES);
        let part = left.min(BYTES);
        file.write_all(&block[..part]).expect("there is room");
        written += part as u64;
    }
}
