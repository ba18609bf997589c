//! countersign: one executable for the hub, the APIs, the agent and the operator's commands.
//!
//! Only this crate names the roles together: it reads the configuration, opens the stores, wires
//! effects to the roles that carry them out, and turns every outcome into an exit code.

// Both panic when the reader has gone: see `output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod client;
mod commands;
mod config;
mod durations;
mod exit;
mod files;
mod output;
mod roles;

use clap::Parser;
use cli::{Cli, Command};
use output::Output;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json, cli.quiet);
    match run(cli.command, output) {
        Ok(code) => output::ended_with(code),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

fn run(command: Command, output: Output) -> exit::Outcome {
    match command {
        Command::Dev(args) => commands::dev::run(&args, output),
        Command::Serve(args) => commands::serve::run(&args, output),
        Command::Agent(args) => commands::agent::run(args, output),
        Command::Send(args) => commands::send::run(&args, output),
        Command::Messages(args) => commands::messages::run(&args, output),
        Command::DeadLetters(args) => commands::letters::run(&args, output),
        Command::Operations(args) => commands::operations::run(&args, output),
        Command::Agents(args) => commands::agents::run(&args, output),
        Command::Groups(args) => commands::groups::run(&args, output),
        Command::Token(args) => commands::token::run(args, output),
        Command::Keys(args) => commands::keys::run(&args, output),
        Command::Config(args) => commands::config::run(&args, output),
        Command::Bench(args) => commands::bench::run(&args, output),
        Command::Verify(args) => commands::verify::run(&args, output),
        Command::Acks(args) => commands::acks::run(&args, output),
        Command::Backup(args) => commands::backup::backup(&args, output),
        Command::Restore(args) => commands::backup::restore(&args, output),
        Command::Store(args) => commands::store::run(&args, output),
        Command::BackOffice(args) => commands::back_office::run(&args, output),
    }
}
