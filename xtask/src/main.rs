//! The project's chores, one command each: `cargo xtask <command>`.
//!
//! Promise: a command that exits 0 has done everything it names; what it leaves out it prints.
//! Left out on purpose: anything a user of the product would run (that is the `countersign` binary).

mod autobahn;
mod backlog;
mod bench_peers;
mod bench_signalr;
mod checkout;
mod client_cases;
mod conformance;
mod cuts;
mod dotnet_peers;
mod end_to_end;
mod fuzz;
mod large_body;
mod python27;
mod relay;
mod servers;
mod steps;
mod suite;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test           everything fast: format, lints, house rules, tests, licences, end to end
  tidy           the house rules only: arrows between crates, manifests, sources
  e2e            end-to-end tests of real processes and of the official SignalR client
                 [--release]  test the optimised binary
  conformance    the conformance harness and the official .NET client against our server; the original and that client
                 are those of the folder COUNTERSIGN_DOTNET_PEERS, or of dotnet-peers-linux-x64.tar.xz near the checkout
                 [javascript] [python] [dotnet]  only these
  client-cases   our client, the official Java one and the Go one against our server; against the original too
                 where it is found, as above
  autobahn       Autobahn's fuzzing client, all cases but compression, against WebSockets as signalr-server sets them up
  cuts           connections cut at random bytes under stateful reconnect; nothing may be lost, repeated or reordered
                 [--url URL]  this server instead of ours  [--cuts 1000] [--half-open]
                 [--connections 4] [--seed N] [--told-max N]
  bench-peers    our product and the least a server can do, in turn, as ratios
                 [--rounds 5] [--secs 5] [--window 256] [--consumers 10] [--size 256] [--json]
  bench-signalr  signalr-server, the original and the `ws` package in turn, as ratios: broadcasts, echo, idle memory,
                 reconnect storm; the original where COUNTERSIGN_DOTNET_PEERS names the folder it was unpacked into
                 [--rounds 5] [--only NAME]... [--json]
  fuzz           every parser, guided by coverage, from the inputs kept in fuzz/corpus
                 [--seconds 60] for each target  [--keep] the smallest inputs with all coverage  [TARGET]...
  large-body     a document of one gigabyte, server and agent killed on its way; prints the peak memory of each process
                 [--mib 1024]
  torture        real processes killed and held still, full disks, cut and stalled connections, clocks that jump,
                 lost stores, short tokens, second connections; nothing may be lost, repeated or reordered
                 [--faults kill,disk,pause,proxy,clock,store,tokens,twins] [--messages 10000] [--kills 200] [--rounds 6]
                 [--duration 1h] [--token-ttl 1h] [--rate N] [--seed N] [--keep]
  backlog        what messages that wait for absent agents cost: throughput, latency, memory and restart, side by side
                 [--waiting 0,1000,100000] [--rounds 3] [--away 1] [--duration 10s] [--rate N] [--data DIR] [--json]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => return usage("no command given"),
    };
    let done = match command {
        "test" => test::run(),
        "tidy" => tidy::run(),
        "e2e" => end_to_end::run(rest),
        "conformance" => conformance::run(rest),
        "client-cases" => client_cases::run(),
        "cuts" => cuts::run(rest),
        "bench-peers" => bench_peers::run(rest),
        "bench-signalr" => bench_signalr::run(rest),
        "autobahn" => autobahn::run(rest),
        "fuzz" => fuzz::run(rest),
        "large-body" => large_body::run(rest),
        "torture" => torture::run(rest),
        "backlog" => backlog::run(rest),
        _ => return usage(&format!("no command is called `{command}`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(trouble: &str) -> ExitCode {
    eprintln!("{trouble}\n\n{USAGE}");
    ExitCode::from(2)
}
