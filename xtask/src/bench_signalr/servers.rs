//! Starts the servers on free loopback ports.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::must_run;

/// A first start reads a runtime from disk.
const START_MAX: Duration = Duration::from_secs(60);

/// The yardstick without SignalR.
const WS: &str = "ws@8.18.3";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Ours,
    AspNetCore,
    Ws,
}

impl Who {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::AspNetCore => "aspnetcore",
            Self::Ws => "ws",
        }
    }
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) driver: PathBuf,
    pub(super) ours: PathBuf,
    /// The folder with the original, if it is here.
    pub(super) original: Option<PathBuf>,
    pub(super) node_modules: PathBuf,
    /// `bench/peers`.
    pub(super) sources: PathBuf,
}

impl Programs {
    pub(super) fn present(&self) -> impl Iterator<Item = Who> {
        let has_original = self.original.is_some();
        let all = [Who::Ours, Who::AspNetCore, Who::Ws];
        all.into_iter()
            .filter(move |who| has_original || *who != Who::AspNetCore)
    }

    pub(super) fn original(&self, program: &str) -> Result<PathBuf> {
        let folder = self.original.as_ref().context("the original is not here")?;
        Ok(folder.join(program))
    }
}

/// A running server; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) who: Who,
    pub(super) address: SocketAddr,
    path: &'static str,
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
    /// Starts a fresh process. The original as it is packed has its `Echo` in another program than its broadcast.
    pub(super) fn start(programs: &Programs, who: Who, is_echo: bool) -> Result<Self> {
        let address = Self::free_address()?;
        let (listen, port) = (address.to_string(), address.port().to_string());
        let mut path = "/hub";
        let mut command = match who {
            Who::Ours => Command::new(&programs.ours),
            Who::AspNetCore if is_echo => Command::new(programs.original("server")?),
            Who::AspNetCore => Command::new(programs.original("aspnetcore")?),
            Who::Ws => Command::new("node"),
        };
        match who {
            Who::Ours => command.args(["--listen", &listen]),
            Who::AspNetCore if is_echo => {
                path = "/conformance";
                command.args([
                    "--listen",
                    &listen,
                    "--jwt-secret",
                    "nobody-has-a-token-here-0123456789",
                ])
            }
            Who::AspNetCore => command.arg(port),
            Who::Ws => {
                path = "/";
                command.env("NODE_PATH", &programs.node_modules);
                command
                    .arg(programs.sources.join("servers/ws.js"))
                    .arg(port)
            }
        };
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.with_context(|| format!("{} does not start", who.label()))?;
        Self {
            who,
            address,
            path,
            process,
        }
        .listening()
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// What the driver calls this way of speaking.
    pub(super) fn peer(&self) -> &'static str {
        match self.who {
            Who::Ours | Who::AspNetCore => "signalr",
            Who::Ws => "ws",
        }
    }

    /// A loopback address nobody listens on at the moment.
    pub(super) fn free_address() -> Result<SocketAddr> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        Ok(listener.local_addr()?)
    }

    fn listening(mut self) -> Result<Self> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "{} ended with {status} instead of listening",
                    self.who.label()
                );
            }
            ensure!(
                begun.elapsed() < START_MAX,
                "{} does not listen",
                self.who.label()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}

/// Installs the `ws` package and says where.
pub(super) fn install_ws(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    // Without a manifest of its own, npm looks for one further up.
    let manifest = folder.join("package.json");
    if !manifest.exists() {
        File::create(&manifest)?;
        std::fs::write(&manifest, "{\"private\":true}\n")?;
    }
    let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", WS])
        .current_dir(folder);
    must_run(&mut npm)?;
    Ok(folder.join("node_modules"))
}
