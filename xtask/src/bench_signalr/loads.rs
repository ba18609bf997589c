//! What is put on the servers, and what their clients say of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::servers::{Programs, Server, Who};

/// One load, and the figures by which servers are compared under it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    kind: Kind,
    pub(super) figures: &'static [Figure],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// `rate` broadcasts a second, 0 for as fast as it goes.
    Broadcast { conns: u32, count: u32, rate: u32 },
    /// Calls that the server answers, `inflight` on each connection.
    Echo { conns: u32, inflight: u32 },
    /// Connections that do nothing.
    Idle { conns: u32 },
    /// All come back at once after a restart.
    Storm { conns: u32 },
}

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Where the client's line has it.
    key: &'static str,
}

/// The numbers of one run, in the order of the load's figures.
pub(super) type Measured = Vec<f64>;

const DELIVERIES: Figure = figure("deliveries/s", "deliveries_s");
const CPU: Figure = figure("server CPU us", "server_cpu_us");
const CALLS: Figure = figure("calls/s", "per_s");
const P50: Figure = figure("p50 ms", "p50_ms");
const P99: Figure = figure("p99 ms", "p99_ms");

pub(super) const LOADS: [Load; 8] = [
    broadcast("broadcast-100", 100, 5_000),
    broadcast("broadcast-1000", 1_000, 500),
    broadcast("broadcast-5000", 5_000, 200),
    Load {
        name: "paced-1000",
        kind: Kind::Broadcast {
            conns: 1_000,
            count: 100,
            rate: 20,
        },
        figures: &[CPU, P99],
    },
    echo("echo-1", 1),
    echo("echo-100", 100),
    Load {
        name: "idle-10000",
        kind: Kind::Idle { conns: 10_000 },
        figures: &[figure("KiB per connection", "kib_per_idle_conn")],
    },
    Load {
        name: "storm-5000",
        kind: Kind::Storm { conns: 5_000 },
        figures: &[
            figure("s until all are back", "all_back_s"),
            figure("server CPU us", "server_cpu_us_per_connect"),
        ],
    },
];

const fn figure(name: &'static str, key: &'static str) -> Figure {
    Figure { name, key }
}

const fn broadcast(name: &'static str, conns: u32, count: u32) -> Load {
    Load {
        name,
        kind: Kind::Broadcast {
            conns,
            count,
            rate: 0,
        },
        figures: &[DELIVERIES, CPU],
    }
}

const fn echo(name: &'static str, conns: u32) -> Load {
    Load {
        name,
        kind: Kind::Echo { conns, inflight: 1 },
        figures: &[CALLS, CPU, P50],
    }
}

impl Load {
    /// A server of plain frames has no calls to answer and no tokens to check.
    pub(super) fn is_for(&self, who: Who) -> bool {
        who != Who::Ws || !matches!(self.kind, Kind::Storm { .. })
    }

    pub(super) fn measure(&self, programs: &Programs, who: Who) -> Result<Measured> {
        let mut said = match self.kind {
            Kind::Broadcast { conns, count, rate } => {
                let server = Server::start(programs, who, false)?;
                // The first thousands of messages of a runtime that compiles as it goes are not its speed.
                said(fanout(programs, &server, 100, 1_000, 0))?;
                said(fanout(programs, &server, conns, count, rate))?
            }
            Kind::Idle { conns } => {
                let server = Server::start(programs, who, false)?;
                said(fanout(programs, &server, conns, 0, 0))?
            }
            Kind::Echo { conns, inflight } => {
                let server = Server::start(programs, who, true)?;
                said(echoes(programs, &server, conns, inflight))?
            }
            Kind::Storm { conns } => said(storm(programs, who, conns)?)?,
        };
        if let Some(lost) = said.get("lost").and_then(Value::as_u64) {
            ensure!(
                lost == 0 || matches!(self.kind, Kind::Idle { .. }),
                "{lost} messages were lost: {said}"
            );
        }
        said["server_cpu_us"] = cpu_us(&said).into();
        let number = |figure: &Figure| {
            let number = said[figure.key].as_f64();
            number.with_context(|| format!("the client's line has no {}: {said}", figure.key))
        };
        self.figures.iter().map(number).collect()
    }
}

/// Microseconds of one core that the server spent on a delivery or a call; of nothing when the line does not say.
fn cpu_us(line: &Value) -> Option<f64> {
    let number = |key: &str| line[key].as_f64();
    match number("server_cores") {
        Some(cores) => Some(cores * 1e6 / number("deliveries_s")?),
        None => Some(number("server_user_us")? + number("server_system_us")?),
    }
}

fn fanout(programs: &Programs, server: &Server, conns: u32, count: u32, rate: u32) -> Command {
    let mut command = Command::new(&programs.driver);
    command.args([
        "fanout",
        "--peer",
        server.peer(),
        "--addr",
        &server.address.to_string(),
    ]);
    command.args([
        "--path",
        server.path(),
        "--pid",
        &server.pid().to_string(),
        "--size",
        "256",
    ]);
    for (name, value) in [("--conns", conns), ("--count", count), ("--rate", rate)] {
        command.arg(name).arg(value.to_string());
    }
    command
}

fn echoes(programs: &Programs, server: &Server, conns: u32, inflight: u32) -> Command {
    let mut command = Command::new("node");
    command.arg(programs.sources.join("clients/echo.mjs"));
    command.args([
        "--url",
        &format!("http://{}{}", server.address, server.path()),
    ]);
    command.args([
        "--pid",
        &server.pid().to_string(),
        "--size",
        "256",
        "--warm",
        "3",
        "--secs",
        "4",
    ]);
    command.args([
        "--conns",
        &conns.to_string(),
        "--inflight",
        &inflight.to_string(),
    ]);
    if server.who == Who::Ws {
        command.arg("--plain");
    }
    command
}

/// The driver starts and ends this server itself.
fn storm(programs: &Programs, who: Who, conns: u32) -> Result<Command> {
    let address = Server::free_address()?;
    let secret = "only-for-the-storm-of-a-comparison-0123456789";
    let server = match who {
        Who::Ours => format!("{} --listen {address}", programs.ours.display()),
        _ => format!(
            "{} {}",
            programs.original("aspnetcore")?.display(),
            address.port()
        ),
    };
    let mut command = Command::new(&programs.driver);
    command.args([
        "storm",
        "--addr",
        &address.to_string(),
        "--conns",
        &conns.to_string(),
        "--hs256",
        secret,
    ]);
    command.args(["--server", &format!("{server} --jwt-secret {secret}")]);
    Ok(command)
}

/// The one line that a client prints.
fn said(mut command: Command) -> Result<Value> {
    let output = command
        .output()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let troubles = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the client failed: {said}{troubles}"
    );
    serde_json::from_str(said.trim())
        .with_context(|| format!("the client printed no JSON line: {said}{troubles}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cpu_is_taken_per_delivery_and_per_call() {
        assert_eq!(
            cpu_us(&json!({"server_cores": 0.5, "deliveries_s": 100_000.0})),
            Some(5.0)
        );
        assert_eq!(
            cpu_us(&json!({"server_user_us": 3.0, "server_system_us": 4.0})),
            Some(7.0)
        );
        assert_eq!(cpu_us(&json!({"all_back_s": 1.0})), None);
    }

    #[test]
    fn names_of_loads_are_unique() {
        let mut names = LOADS.map(|load| load.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
