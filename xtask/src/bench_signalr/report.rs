//! From figures to ratios within a round: median, smallest and largest over the rounds.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::loads::{Load, Measured};
use super::servers::Who;
use crate::bench_peers::report::Spread;

/// All rounds, load by load.
#[derive(Debug, Default)]
pub(super) struct Report {
    loads: Vec<(&'static Load, Vec<Round>)>,
}

/// One load on each server within one round.
type Round = Vec<(Who, Measured)>;

/// What was measured in a round, for whoever watches.
pub(super) fn line(load: &Load, round: &[(Who, Measured)]) -> String {
    let one = |(who, measured): &(Who, Measured)| {
        let figures = load.figures.iter().zip(measured);
        let figures: Vec<_> = figures
            .map(|(figure, value)| format!("{value:.2} {}", figure.name))
            .collect();
        format!("{} {}", who.label(), figures.join(", "))
    };
    round.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Report {
    pub(super) fn add(&mut self, load: &'static Load, round: Round) {
        match self
            .loads
            .iter_mut()
            .find(|(known, _)| known.name == load.name)
        {
            Some((_, rounds)) => rounds.push(round),
            None => self.loads.push((load, vec![round])),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text =
            String::from("\nours : peer, median (smallest to largest) of ratios within a round\n");
        self.each(|load, figure, peer, ours, ratio| {
            let Spread { median, min, max } = ratio;
            writeln!(
                text,
                "  {load:<15} {figure:<22} {peer:<11} {median:.2} ({min:.2} to {max:.2}), ours {:.2}",
                ours.median
            )
            .expect("a String takes all");
        });
        text
    }

    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        self.each(|load, figure, peer, ours, ratio| {
            let entry = all.entry(load).or_insert_with(|| json!({}));
            entry[figure]["ours"] = ours.json();
            entry[figure][format!("ratio_to_{peer}")] = ratio.json();
        });
        all.into()
    }

    fn each(&self, mut take: impl FnMut(&str, &str, &str, &Spread, &Spread)) {
        for (load, rounds) in &self.loads {
            for (index, figure) in load.figures.iter().enumerate() {
                let of = |round: &Round, who: Who| {
                    let found = round.iter().find(|(other, _)| *other == who);
                    found.map(|(_, measured)| measured[index])
                };
                for peer in [Who::AspNetCore, Who::Ws] {
                    let ratio = |round| Some(of(round, Who::Ours)? / of(round, peer)?);
                    let ratio = Spread::of(rounds.iter().filter_map(ratio));
                    let ours = Spread::of(rounds.iter().filter_map(|round| of(round, Who::Ours)));
                    if let (Some(ours), Some(ratio)) = (ours, ratio) {
                        take(load.name, figure.name, peer.label(), &ours, &ratio);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::loads::LOADS;
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round_and_for_the_peers_that_were_there() {
        let load = &LOADS[0];
        let mut report = Report::default();
        for (ours, peer) in [(20.0, 10.0), (30.0, 10.0), (80.0, 20.0)] {
            report.add(
                load,
                vec![
                    (Who::AspNetCore, vec![peer, 1.0]),
                    (Who::Ours, vec![ours, 1.0]),
                ],
            );
        }
        let figure = &report.json()["broadcast-100"]["deliveries/s"];
        assert_eq!(figure["ratio_to_aspnetcore"]["median"], 3.0);
        assert_eq!(figure["ours"]["max"], 80.0);
        assert_eq!(figure["ratio_to_ws"], Value::Null);
        assert!(
            report.text().contains("3.00 (2.00 to 4.00), ours 30.00"),
            "{}",
            report.text()
        );
    }
}
