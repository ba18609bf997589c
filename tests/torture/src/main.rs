//! Real processes, and every fault that can be put to them from outside.
//!
//! Centre (send API and hub), token service, ack API, agent and back office run as processes of their
//! own; the agent reaches the others through proxies of ours, and each store lies on a small disk of
//! its own. Senders send and repeat what they got no answer to, with the same idempotency key, while
//! processes are killed and held still, disks fill up, connections are cut, clocks jump, and the
//! agent's store is lost. Then everything runs in peace until nothing is pending, and the back
//! office's database is compared with what was sent, and `countersign verify` judges the journals.

mod clocks;
mod disks;
mod faults;
mod judge;
mod process;
mod proxy;
mod sender;
mod site;
mod torment;
mod twins;

use anyhow::{Context, Result, bail};
use clap::Parser;
use faults::{Fault, Injected};
use process::{Kind, World};
use rand::Rng;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What to do to the processes.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// The binary under test.
    #[arg(long, env = "COUNTERSIGN_BIN")]
    binary: PathBuf,
    /// Kinds of faults, with commas between; all that this machine allows when absent.
    #[arg(long = "faults", value_delimiter = ',')]
    chosen: Vec<Fault>,
    #[arg(skip)]
    faults: BTreeSet<Fault>,
    /// Messages to send. When absent: 10,000, or as many as are taken in the duration.
    #[arg(long)]
    messages: Option<u64>,
    /// How long faults are injected, such as 90s, 20m or 1h, instead of a number of each.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// SIGKILLs, spread evenly over the processes.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Faults of each other kind.
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Seconds for which only the ack API is down, and then only the centre. None without kills.
    #[arg(long, default_value_t = 10)]
    outage_s: u64,
    /// Messages a second at most. When absent: spread over the time that the faults take, or, without
    /// faults, as fast as the lanes allow.
    #[arg(long)]
    rate: Option<u64>,
    /// Life of every token, unless they are to be short.
    #[arg(long, default_value = "1h")]
    token_ttl: String,
    /// Lanes of the agent; messages of one lane are sent one after the other.
    #[arg(long, default_value_t = 32)]
    lanes: u64,
    /// Seed of all random choices; a new one when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the data directory.
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let mut args = Args::parse();
    args.faults = match args.chosen.is_empty() {
        true => Fault::available(),
        false => args.chosen.iter().copied().collect(),
    };
    if args.kills == 0 {
        args.faults.remove(&Fault::Kill);
    }
    if args.messages.is_none() && args.duration.is_none() {
        args.messages = Some(MESSAGES);
    }
    let seconds = match args.duration {
        Some(duration) => duration.as_secs(),
        None => torment::seconds(&args),
    };
    if let (None, Some(messages), 1..) = (args.rate, args.messages, seconds) {
        args.rate = Some((messages / seconds).max(1));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        tokio::select! {
            done = run(args) => done,
            // Ends here and not by the signal, so that processes end and disks are unmounted.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })
}

async fn run(args: Args) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    let faults: Vec<_> = args.faults.iter().map(ToString::to_string).collect();
    println!("seed {seed}, faults {}", faults.join(","));
    let home = tempfile::Builder::new()
        .prefix("countersign-torture-")
        .tempdir()?;
    let path = home.path().to_owned();
    if args.keep {
        println!("data {}", home.keep().display());
        return play(&args, &path, seed).await;
    }
    play(&args, &path, seed).await
}

async fn play(args: &Args, home: &std::path::Path, seed: u64) -> Result<ExitCode> {
    let begun = Instant::now();
    let site = Arc::new(site::prepare(args, home).await?);
    let world = Arc::new(World::start(&site).await?);
    let injected = Injected::default();
    site.wait_until_agent_is_known().await?;
    let watched = Arc::clone(&site);
    let watching = tokio::spawn(async move { watched.watch_pending().await });
    let senders = sender::start(args, &site);
    let torment = torment::Torment::new(args, &world, &site, &injected, seed);
    torment.run().await?;
    let sent = senders.finish().await?;
    watching.abort();
    println!(
        "sent {} in {:.0} s; now in peace",
        sent.len(),
        begun.elapsed().as_secs_f64()
    );
    world.heal().await;
    site.wait_until_nothing_is_pending(Duration::from_secs(180))
        .await?;
    let documents = judge::documents(&site).await?;
    let verdict = judge::judge(&site, &sent, &documents).await?;
    world.end().await;
    let proved = judge::verify(&site, &sent, &documents)?;
    if args.faults.contains(&Fault::Tokens) {
        let issued = site.tokens_issued.load(Ordering::Relaxed);
        injected.add(Fault::Tokens, "of 5 s given to senders", issued);
    }
    println!("faults: {injected}");
    let ended = world.ended_by_themselves();
    if !ended.is_empty() {
        println!("ended by themselves: {ended:?}");
    }
    println!("{verdict}");
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    injected.each_of(&args.faults)?;
    enough_kills(args, &world)?;
    Ok(
        if verdict.is_good(args.messages.unwrap_or(sent.len() as u64)) && proved {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}

fn enough_kills(args: &Args, world: &World) -> Result<()> {
    let kills = world.kills();
    let is_spared = |kind: &Kind| kills.get(kind).is_none_or(|kills| *kills < 40);
    let many = args.faults.contains(&Fault::Kill) && args.kills >= 200 && args.duration.is_none();
    if many && Kind::ALL.iter().any(is_spared) {
        bail!("a process was killed fewer than 40 times: this run shows less than it says");
    }
    Ok(())
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number
        .parse()
        .context("a duration is a number and s, m or h")?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        _ => bail!("a duration ends with s, m or h"),
    }
}

/// Messages of a run that is told neither how many nor how long.
const MESSAGES: u64 = 10_000;
