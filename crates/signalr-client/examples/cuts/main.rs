//! TCP connections cut at random bytes, amid traffic both ways, under stateful reconnect.
//!
//! As long as the client resumes, nothing may be lost, repeated or reordered; where it cannot, it must be told. Half of
//! the connections speak JSON, half MessagePack. Any server with the conformance hub will do. The seed is printed: with
//! it the same cuts are drawn again, though not the same instants.

mod line;
mod tally;
mod traffic;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Parser;
use signalr_client::Encoding;

use crate::line::{Cuts, Line};
use crate::tally::{Tally, get};
use crate::traffic::Traffic;

/// What to cut, and how often.
#[derive(Debug, Parser)]
struct Args {
    /// The server's root.
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    /// Cuts in all.
    #[arg(long, default_value_t = 1000)]
    cuts: u32,
    /// Connections at once.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Seed of all random choices; a new one when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Lets every third cut leave the server's side standing, deaf and dumb. ASP.NET Core resumes none of these.
    #[arg(long)]
    half_open: bool,
    /// How many connections may end, told, before the run counts as failed: a server that always resumes ends none.
    #[arg(long)]
    told_max: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (tally, cuts) = (Arc::new(Tally::default()), Arc::new(Cuts::default()));
    let begun = Instant::now();
    if let Err(error) = play(&args, seed, &tally, &cuts).await {
        eprintln!("the line cannot be laid: {error}");
        return ExitCode::FAILURE;
    }
    report(&tally, &cuts, begun);
    match tally.faults() == 0 && args.told_max.is_none_or(|max| tally.times_told() <= max) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn play(args: &Args, seed: u64, tally: &Arc<Tally>, cuts: &Arc<Cuts>) -> std::io::Result<()> {
    let server = args.url.trim_end_matches('/').to_owned();
    let address = server.trim_start_matches("http://").to_owned();
    let count = args.connections.max(1);
    let mut all = Vec::new();
    for number in 0..count {
        let share = args.cuts / count + u32::from(number < args.cuts % count);
        let seed = seed.wrapping_add(number.into());
        let traffic = Traffic {
            server: server.clone(),
            line: Line::start(&address, share, seed, args.half_open, Arc::clone(cuts)).await?,
            encoding: match number % 2 {
                0 => Encoding::Json,
                _ => Encoding::MessagePack,
            },
            tally: Arc::clone(tally),
            seed,
        };
        all.push(traffic.run());
    }
    futures_util::future::join_all(all).await;
    Ok(())
}

fn report(tally: &Tally, cuts: &Cuts, begun: Instant) {
    let count = |count: &std::sync::atomic::AtomicU32| count.load(Ordering::Relaxed);
    let (up, down, resets) = (count(&cuts.up), count(&cuts.down), count(&cuts.resets));
    let half_open = count(&cuts.half_open);
    println!(
        "{} cuts in {:.0?}: {up} going up, {down} going down; {resets} resets, {half_open} half open",
        up + down,
        begun.elapsed()
    );
    println!(
        "{} connections, resumed {} times, {} ended and were told",
        get(&tally.connections),
        get(&tally.resumed),
        tally.times_told()
    );
    for (why, times) in tally.reasons() {
        println!("  {times} times: {why}");
    }
    println!(
        "{} messages up and {} down; {} lost, repeated, reordered or untold",
        get(&tally.up),
        get(&tally.down),
        tally.faults()
    );
}
