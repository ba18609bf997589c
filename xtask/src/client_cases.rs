//! Clients against servers with the conformance hub: our own case list, the official Java client, the Go client.
//!
//! Promise: each server is started for the run and ended after it, and a server or a client that is left out is
//! announced loudly. The servers: the example `conformance` of `signalr-server`, and the original, ASP.NET Core, where
//! `COUNTERSIGN_DOTNET_PEERS` names the folder it was unpacked into.
//! Left out on purpose: the official JavaScript and .NET clients, which bring runs of their own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;
use crate::steps::{Steps, cargo, must_run, succeeds, target_directory};

/// Signs the tokens of a run; it guards nothing.
const SECRET: &str = "only-for-the-cases-of-the-clients-0123456789";

/// A first start reads a runtime from disk.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::begin();
    run_steps(&mut steps)?;
    steps.finish();
    Ok(())
}

/// The same as part of a longer list.
pub(crate) fn run_steps(steps: &mut Steps) -> Result<()> {
    steps.step("tools: Java and Go", install_tools)?;
    steps.step("clients: build", build)?;
    match original() {
        Some(program) => against(steps, "the original", &program)?,
        None => {
            println!(
                "!! CLIENTS NOT RUN AGAINST THE ORIGINAL: COUNTERSIGN_DOTNET_PEERS names no folder with it."
            );
        }
    }
    match ours()? {
        Some(program) => against(steps, "ours", &program),
        None => {
            println!(
                "!! CLIENTS NOT RUN AGAINST OUR SERVER: its example `conformance` has WebSockets alone."
            );
            Ok(())
        }
    }
}

/// Runs every client against one server, each against a fresh process of it.
fn against(steps: &mut Steps, whose: &str, program: &Path) -> Result<()> {
    let case_list = example("case_list");
    steps.step(&format!("case list against {whose}"), || {
        serve(program, |url| {
            must_run(settings(&mut Command::new(&case_list), url))
        })
    })?;
    steps.step(&format!("Java client against {whose}"), || {
        serve(program, |url| {
            must_run(settings(maven().arg("exec:java"), url))
        })
    })?;
    steps.step(&format!("Go client against {whose}"), || {
        serve(program, |url| {
            must_run(settings(go().args(["run", "."]), url))
        })
    })
}

fn settings<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
    command
        .env("SIGNALR_URL", url)
        .env("SIGNALR_JWT_SECRET", SECRET)
}

/// Starts the server, waits until it listens, and ends it when `work` is done.
fn serve(program: &Path, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let address = free_address()?;
    let child = Command::new(program)
        .args(["--listen", &address.to_string(), "--jwt-secret", SECRET])
        .stdout(std::process::Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", program.display()))?;
    let mut server = Server(child);
    server.await_listening(address)?;
    work(&format!("http://{address}"))
}

/// Ends with its holder, however that ends.
struct Server(Child);

impl Server {
    fn await_listening(&mut self, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("the server ended with {status} before it listened");
            }
            ensure!(
                begun.elapsed() < START_TIMEOUT,
                "the server does not listen on {address}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn original() -> Option<PathBuf> {
    let folder = std::env::var_os("COUNTERSIGN_DOTNET_PEERS")?;
    let program = PathBuf::from(folder).join("server");
    program.is_file().then_some(program)
}

/// The example asks its connections for their transport since it has every one; before that there is nothing to aim the
/// cases at.
fn ours() -> Result<Option<PathBuf>> {
    let examples = checkout::root().join("crates/signalr-server/examples");
    let sources = ["conformance.rs", "conformance/main.rs"];
    let is_complete = sources.iter().any(|name| {
        let source = std::fs::read_to_string(examples.join(name));
        source.is_ok_and(|text| text.contains(".transport()"))
    });
    if !is_complete {
        return Ok(None);
    }
    must_run(&mut cargo([
        "build",
        "--locked",
        "--package",
        "signalr-server",
        "--example",
        "conformance",
    ]))?;
    Ok(Some(example("conformance")))
}

fn build() -> Result<()> {
    let case_list = [
        "build",
        "--locked",
        "--package",
        "signalr-client",
        "--example",
        "case_list",
    ];
    must_run(&mut cargo(case_list))?;
    must_run(maven().arg("compile"))?;
    must_run(go().args(["build", "-o", "target/"]).arg("."))
}

fn example(name: &str) -> PathBuf {
    let program = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    target_directory().join("debug/examples").join(program)
}

fn install_tools() -> Result<()> {
    for (program, version, package) in [
        ("mvn", "--version", "maven"),
        ("go", "version", "golang-go"),
    ] {
        if !succeeds(Command::new(program).arg(version)) {
            must_run(Command::new("apt-get").args(["update", "--quiet"]))?;
            must_run(Command::new("apt-get").args(["install", "--yes", "--quiet", package]))?;
        }
    }
    Ok(())
}

fn maven() -> Command {
    let mut command = Command::new("mvn");
    command
        .args(["--quiet", "--batch-mode"])
        .current_dir(checkout::root().join("tests/official/java"));
    command
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(checkout::root().join("tests/official/go"));
    command
}
