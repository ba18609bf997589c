//! Servers, most with the conformance hub, started for one piece of work and ended after it.
//!
//! Promise: however the work ends, its server ends with it; no two of them share a port.
//! Left out on purpose: what a server says about itself; a case that fails tells more.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{cargo, must_run, target_directory};

/// Signs the tokens of a run; it guards nothing.
pub(crate) const SECRET: &str = "only-for-the-cases-of-the-clients-0123456789";

/// A first start reads a runtime from disk.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a server with the conformance hub and does `work`, see [`serve_with`].
pub(crate) fn serve(program: &Path, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    serve_with(program, &["--jwt-secret", SECRET], work)
}

/// Starts the server, waits until it listens, and ends it when `work`, which is told its URL, is done.
pub(crate) fn serve_with(
    program: &Path,
    arguments: &[&str],
    work: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    let address = free_address()?;
    let child = Command::new(program)
        .args(["--listen", &address.to_string()])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", program.display()))?;
    let mut server = Server(child);
    server.await_listening(address)?;
    work(&format!("http://{address}"))
}

/// The settings that a client's cases take from the environment.
pub(crate) fn settings<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
    command
        .env("SIGNALR_URL", url)
        .env("SIGNALR_JWT_SECRET", SECRET)
}

/// Ends with its holder, however that ends.
#[derive(Debug)]
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

/// Builds the example `conformance` of `signalr-server`, unoptimised, and says where it is.
pub(crate) fn build_ours() -> Result<PathBuf> {
    build_example("signalr-server", "conformance")
}

/// Builds an example, unoptimised, and says where it is.
pub(crate) fn build_example(package: &str, name: &str) -> Result<PathBuf> {
    must_run(&mut cargo([
        "build",
        "--locked",
        "--package",
        package,
        "--example",
        name,
    ]))?;
    let program = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(target_directory().join("debug/examples").join(program))
}
