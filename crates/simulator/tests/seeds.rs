//! Every promise holds over many worlds, and the same seed gives the same world.

use countersign_simulator::{Stats, run};

#[test]
fn every_promise_holds_in_forty_worlds_with_faults_and_without() {
    let mut stats = Stats::default();
    for seed in 1..=40 {
        let run = run(seed, None, None, false);
        stats.add(&run.stats);
        if let Some((violation, witness)) = run.violation {
            panic!("seed {seed}: {violation}\n{witness}");
        }
    }
    println!("{stats}");
    assert!(
        stats.faults_injected() > 100,
        "nothing was broken, so nothing was proved"
    );
    assert!(stats.quiet_runs == 10 && stats.confirmed > 1000);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 5, 6] {
        let first = run(seed, None, None, false);
        let again = run(seed, None, None, false);
        assert_eq!(
            first.stats.to_string(),
            again.stats.to_string(),
            "seed {seed}"
        );
        assert_eq!(first.digest, again.digest, "seed {seed}");
    }
}

#[test]
fn a_seed_divisible_by_four_breaks_nothing_on_purpose() {
    let run = run(8, None, None, false);
    assert_eq!(run.stats.faults_injected(), 0);
    assert_eq!(run.stats.confirmed + run.stats.refused, run.stats.sent);
    assert!(run.violation.is_none());
}
