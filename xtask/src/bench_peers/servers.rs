//! Starts the two servers on free loopback ports and ends them when the comparison is over.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The longest a server may take until it listens, preallocation of its log included.
const START_MAX: Duration = Duration::from_secs(30);

/// A running server; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) label: &'static str,
    /// What tells the driver where it is and how to speak to it.
    pub(super) driver_arguments: Vec<String>,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The least a server can do: one thread, one flush for all that waits, no tokens.
    pub(super) fn floor(driver: &Path, folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(driver);
        command.args(["floor-server", "--listen", &address.to_string(), "--log"]);
        command.arg(folder.join("floor.log"));
        let driver_arguments = words(&["--peer", "http", "--addr", &address.to_string()]);
        Self {
            label: "floor",
            driver_arguments,
            process: start(command)?,
        }
        .listening(&[address])
    }

    /// Our product: send API, hub, ack API and token service in one process, over an empty store.
    pub(super) fn countersign(binary: &Path, folder: &Path, consumers: u64) -> Result<Self> {
        let home = folder.join("countersign");
        if home.exists() {
            fs::remove_dir_all(&home).context("the store of the last run cannot be removed")?;
        }
        let tokens = home.join("tokens");
        fs::create_dir_all(&tokens)?;
        let (centre, acks, token) = (free_address()?, free_address()?, free_address()?);
        let config = home.join("countersign.toml");
        fs::write(
            &config,
            format!(
                "[hub]\nlisten = \"{centre}\"\n[acks]\nlisten = \"{acks}\"\n[token]\nlisten = \"{token}\"\n[log]\nlevel = \"warn\"\n"
            ),
        )?;
        let countersign = || {
            let mut command = Command::new(binary);
            command
                .current_dir(&home)
                .env("COUNTERSIGN_CONFIG", &config);
            command
        };
        succeed(countersign().args(["keys", "new"]))?;
        let mut server = countersign();
        server.args(["serve", "--roles", "api,hub,acks,token"]);
        let process = start(server)?;
        let (api, hub, ack) = (centre.to_string(), centre.to_string(), acks.to_string());
        let mut driver_arguments = words(&["--peer", "countersign", "--api", &api]);
        driver_arguments.extend(words(&["--hub", &hub, "--ack", &ack, "--tokens"]));
        driver_arguments.push(tokens.display().to_string());
        let server = Self {
            label: "countersign",
            driver_arguments,
            process,
        }
        .listening(&[centre, acks])?;
        let mint = |name: String, who: &[&str]| -> Result<()> {
            let mut command = countersign();
            command
                .args(["token", "new", "--ttl", "6h", "--quiet"])
                .args(who);
            fs::write(tokens.join(name), succeed(&mut command)?)?;
            Ok(())
        };
        mint("send.jwt".into(), &["--scope", "send"])?;
        for consumer in 0..consumers {
            mint(
                format!("agent-{consumer}.jwt"),
                &["--agent", &format!("bench-{consumer}")],
            )?;
        }
        Ok(server)
    }

    /// Waits until every one of `addresses` takes connections.
    fn listening(mut self, addresses: &[SocketAddr]) -> Result<Self> {
        let begun = Instant::now();
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.process.try_wait()? {
                    bail!("{} ended with {status} instead of listening", self.label);
                }
                ensure!(
                    begun.elapsed() < START_MAX,
                    "{} does not listen on {address}",
                    self.label
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(self)
    }
}

fn start(mut command: Command) -> Result<Child> {
    let program = command.get_program().display().to_string();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{program} does not start"))
}

/// What `command` prints; on failure also what it complains of.
fn succeed(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    if !output.status.success() {
        std::io::stderr().write_all(&output.stderr)?;
        bail!("{command:?} ended with {}", output.status);
    }
    Ok(output.stdout)
}

/// A loopback address nobody listens on at the moment.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port is free")?;
    Ok(listener.local_addr()?)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
