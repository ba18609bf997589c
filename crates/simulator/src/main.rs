//! The simulator on the command line.

use clap::Parser;
use countersign_simulator::planted::{PLANTED, PlantedBug};
use countersign_simulator::{Run, Scenario, Stats, run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs the whole product in one thread from one seed, many times, and breaks whatever can break.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Messages sent in each run; the seed decides otherwise.
    #[arg(long)]
    steps: Option<usize>,
    /// Print the scenario and every event; one seed at a time.
    #[arg(long)]
    verbose: bool,
    /// Plant this bug and expect its promise to be broken.
    #[arg(long)]
    planted: Option<String>,
    /// List the bugs that can be planted.
    #[arg(long)]
    list_planted: bool,
    /// Run every seed, also behind one that breaks a promise; each of those is named.
    #[arg(long)]
    keep_going: bool,
    /// Seeds run side by side. All cores otherwise.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_planted {
        for bug in PLANTED {
            println!(
                "{:<24} {:?}: {}",
                bug.name,
                bug.breaks,
                bug.breaks.promise()
            );
        }
        return ExitCode::SUCCESS;
    }
    let bug = match arguments
        .planted
        .as_deref()
        .map(|name| (name, PlantedBug::named(name)))
    {
        Some((name, None)) => {
            eprintln!("no bug is called {name}; --list-planted names them");
            return ExitCode::from(2);
        }
        Some((_, bug)) => bug,
        None => None,
    };
    run_seeds(&arguments, bug)
}

/// What the threads share.
struct Shared {
    next: AtomicU64,
    stats: Mutex<Stats>,
    /// The lowest seed that broke a promise.
    broken: Mutex<Option<(u64, Run)>>,
}

fn run_seeds(arguments: &Arguments, bug: Option<&'static PlantedBug>) -> ExitCode {
    let (start, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.start, arguments.seeds),
    };
    if arguments.verbose && count == 1 {
        println!("{:#?}", Scenario::of(start, arguments.steps));
    }
    let begun = Instant::now();
    let shared = Shared {
        next: AtomicU64::new(start),
        stats: Mutex::new(Stats::default()),
        broken: Mutex::new(None),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments
        .threads
        .unwrap_or(cores)
        .clamp(1, count.max(1) as usize);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&shared, start + count, arguments, bug));
        }
    });
    let stats = shared.stats.into_inner().expect("no thread panicked");
    let took = begun.elapsed().as_secs_f64();
    println!("{stats}");
    println!("figures        {}", stats.figures());
    println!(
        "speed          {:.1} seeds/s, {took:.1} s",
        stats.runs as f64 / took
    );
    let broken = shared.broken.into_inner().expect("no thread panicked");
    conclude(arguments, bug, &stats, broken)
}

fn work(shared: &Shared, end: u64, arguments: &Arguments, bug: Option<&'static PlantedBug>) {
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        let stops =
            !arguments.keep_going && shared.broken.lock().expect("no thread panicked").is_some();
        if seed >= end || stops {
            return;
        }
        let caught =
            std::panic::catch_unwind(|| run(seed, arguments.steps, bug, arguments.verbose));
        let Ok(run) = caught else {
            eprintln!("\nPANICKED       seed {seed}");
            eprintln!("repeat with    {} --verbose", command(seed, arguments, bug));
            std::process::exit(1);
        };
        shared
            .stats
            .lock()
            .expect("no thread panicked")
            .add(&run.stats);
        if let Some((violation, _)) = &run.violation {
            if arguments.keep_going {
                eprintln!("BROKEN         seed {seed}: {violation}");
            }
            let mut broken = shared.broken.lock().expect("no thread panicked");
            if broken.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                *broken = Some((seed, run));
            }
        }
    }
}

fn conclude(
    arguments: &Arguments,
    bug: Option<&'static PlantedBug>,
    stats: &Stats,
    broken: Option<(u64, Run)>,
) -> ExitCode {
    let Some((seed, run)) = broken else {
        return match bug {
            Some(bug) => {
                println!(
                    "NOT CAUGHT     {} went unseen by {:?}",
                    bug.name, bug.breaks
                );
                ExitCode::FAILURE
            }
            None if stats.faults_injected() == 0 && stats.runs > stats.quiet_runs => {
                println!("FAILED         nothing was broken, so nothing was proved");
                ExitCode::FAILURE
            }
            None => {
                println!(
                    "held           every promise, in {} runs: lost 0, reordered 0, stuck 0, served wrong 0",
                    stats.runs
                );
                ExitCode::SUCCESS
            }
        };
    };
    let Some((violation, witness)) = run.violation else {
        return ExitCode::FAILURE;
    };
    println!("\nVIOLATED       {violation}");
    println!("seed           {seed}");
    println!("witness\n{witness}");
    let again = command(seed, arguments, bug);
    println!("repeat with    {again} --verbose");
    match bug {
        // It was planted to be caught.
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// The command that repeats one seed.
fn command(seed: u64, arguments: &Arguments, bug: Option<&'static PlantedBug>) -> String {
    let mut again = format!("cargo run --release -p countersign-simulator -- --seed {seed}");
    if let Some(steps) = arguments.steps {
        again += &format!(" --steps {steps}");
    }
    if let Some(bug) = bug {
        again += &format!(" --planted {}", bug.name);
    }
    again
}
