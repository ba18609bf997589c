//! Real processes, killed at random times.
//!
//! Centre (send API, hub, token service), ack API, agent and back office run as processes of their
//! own. Senders send and repeat what they got no answer to, with the same idempotency key; every
//! process is killed with SIGKILL again and again and started anew; for a while only the ack API is
//! down, and for a while only the centre. Then everything runs in peace until nothing is pending, and the
//! back office's database is compared with what was sent, and `countersign verify` judges the journals.

mod judge;
mod process;
mod sender;
mod site;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use process::{Kind, World};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to do to the processes.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// The binary under test.
    #[arg(long, env = "COUNTERSIGN_BIN")]
    binary: PathBuf,
    /// Messages to send.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// SIGKILLs, spread evenly over the four processes.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Seconds for which only the ack API is down, and then only the centre. None without kills.
    #[arg(long, default_value_t = 10)]
    outage_s: u64,
    /// Messages a second at most. When absent: spread over the time that the kills take, or, without
    /// kills, as fast as the lanes allow.
    #[arg(long)]
    rate: Option<u64>,
    /// Life of every token.
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
    if args.rate.is_none() && args.kills > 0 {
        let seconds = u64::from(args.kills) * KILL_EVERY_MS / 1000 + 2 * args.outage_s + SLOW_S;
        args.rate = Some((args.messages / seconds.max(1)).max(1));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}");
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
    site.wait_until_agent_is_known().await?;
    let senders = sender::start(args, &site);
    let mut random = StdRng::seed_from_u64(seed);
    torment(args, &world, &site, &mut random).await?;
    let sent = senders.finish().await?;
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
    let kills = world.kills();
    world.end().await;
    let proved = judge::verify(&site, &sent, &documents)?;
    println!(
        "kills {}",
        kills
            .iter()
            .map(|(kind, n)| format!("{kind:?} {n}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    println!("{verdict}");
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    if args.kills >= 160 && kills.iter().any(|(_, kills)| *kills < 40) {
        bail!("a process was killed fewer than 40 times: this run shows less than it says");
    }
    Ok(if verdict.is_good(args.messages) && proved {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn torment(args: &Args, world: &World, site: &site::Site, random: &mut StdRng) -> Result<()> {
    if args.kills == 0 {
        return Ok(());
    }
    let each = args.kills.div_ceil(4);
    let mut victims: Vec<Kind> = Kind::ALL
        .iter()
        .flat_map(|kind| std::iter::repeat_n(*kind, each as usize))
        .collect();
    victims.shuffle(random);
    victims.truncate(args.kills as usize);
    let (first, second) = victims.split_at(victims.len() / 2);
    kill_one_by_one(world, first, random).await;
    world.heal().await;
    outage(args, world, Kind::Acks, site).await?;
    outage(args, world, Kind::Centre, site).await?;
    kill_one_by_one(world, second, random).await;
    Ok(())
}

async fn kill_one_by_one(world: &World, victims: &[Kind], random: &mut StdRng) {
    for victim in victims {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..700))).await;
        let down = Duration::from_millis(random.random_range(0..400));
        world.kill(*victim, down).await;
    }
}

/// Only this process is down, while the others go on.
async fn outage(args: &Args, world: &World, kind: Kind, site: &site::Site) -> Result<()> {
    if kind == Kind::Centre {
        // Without work in the agent's inbox no acks would arrive while nothing can be sent.
        site.slow_back_office(SLOW_S + args.outage_s).await?;
        tokio::time::sleep(Duration::from_secs(SLOW_S)).await;
    }
    let before = site.ack_records().await?;
    println!("{kind:?} alone is down for {} s", args.outage_s);
    world.kill(kind, Duration::from_secs(args.outage_s)).await;
    tokio::time::sleep(Duration::from_secs(args.outage_s)).await;
    if kind == Kind::Centre {
        let after = site
            .ack_records()
            .await
            .context("the ack API must answer while the centre is down")?;
        println!("acks taken while the centre was down: {}", after - before);
        ensure!(
            after > before,
            "no ack arrived while the centre was down: this run shows nothing"
        );
    }
    world.heal().await;
    Ok(())
}

/// About how long a kill takes, with the pause before it and half of the time down.
const KILL_EVERY_MS: u64 = 480;
/// How long the back office is slow before the centre goes down.
const SLOW_S: u64 = 5;
