//! The process is killed while it inserts: what it answered it still has, and no key inserts twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use countersign_back_office::{BackOffice, Options, serve};

const DATABASE: &str = "BACK_OFFICE_UNDER_TEST";
const ADDRESS_FOLLOWS: &str = "listening on ";
const WRITERS: usize = 4;
const KEYS_PER_WRITER: usize = 200;
const KILLS: usize = 5;

/// Not a test of its own: the process that the test below starts and kills.
#[test]
fn serves_when_started_as_the_back_office_under_test() {
    let Some(database) = std::env::var_os(DATABASE) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let office = BackOffice::open(&Options::at(Path::new(&database))).unwrap();
        println!("\n{ADDRESS_FOLLOWS}{}", listener.local_addr().unwrap());
        serve(listener, office, std::future::pending())
            .await
            .unwrap();
    });
}

#[test]
fn a_killed_back_office_keeps_what_it_answered_and_honours_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("office.db");
    let mut answered: Vec<String> = Vec::new();
    for _ in 0..KILLS {
        let (mut office, address) = start(&database);
        let (told, hear) = channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let told = told.clone();
                std::thread::spawn(move || insert_all(address, writer, &told))
            })
            .collect();
        drop(told);
        // The kill falls where the writers happen to be; the first answers show that they are at it.
        answered.extend(hear.iter().take(50));
        office.kill().unwrap();
        office.wait().unwrap();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        answered.extend(hear.iter());
    }

    let (mut office, address) = start(&database);
    let (told, hear) = channel();
    (0..WRITERS).for_each(|writer| insert_all(address, writer, &told));
    drop(told);
    assert_eq!(
        hear.iter().count(),
        WRITERS * KEYS_PER_WRITER,
        "every key is answered at last"
    );
    for key in answered {
        let attempts = get(address, &format!("/attempts/{key}"));
        assert!(attempts.contains("\"inserted\":true"), "{key}: {attempts}");
    }
    let count = get(address, "/documents/count");
    let wanted = format!("\"documents\":{}", WRITERS * KEYS_PER_WRITER);
    assert!(count.contains(&wanted), "each key inserted once: {count}");
    office.kill().unwrap();
    office.wait().unwrap();
}

/// Inserts all keys of `writer` in turn, tells which were answered, and stops at the first that was not.
fn insert_all(address: SocketAddr, writer: usize, told: &Sender<String>) {
    for number in 0..KEYS_PER_WRITER {
        let key = format!("key-{writer}-{number}");
        let head = format!(
            "POST /documents HTTP/1.1\r\nHost: office\r\nIdempotency-Key: {key}\r\nX-Message-Id: {key}\r\n\
             X-Message-Type: t\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            key.len()
        );
        match exchange(address, &format!("{head}{key}")) {
            Ok(answer) if answer.starts_with("HTTP/1.1 201") => told.send(key).unwrap(),
            _ => return,
        }
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: office\r\nConnection: close\r\n\r\n");
    exchange(address, &request).unwrap()
}

fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn start(database: &Path) -> (Child, SocketAddr) {
    let mut office = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "serves_when_started_as_the_back_office_under_test",
            "--nocapture",
        ])
        .env(DATABASE, database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(office.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix(ADDRESS_FOLLOWS).map(str::to_owned));
    (
        office,
        address.expect("it says where it listens").parse().unwrap(),
    )
}
