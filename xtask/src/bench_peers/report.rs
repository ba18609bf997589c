//! From the driver's lines to ratios: median, smallest and largest over the rounds.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What the driver says of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) messages_per_second: f64,
    /// From the moment a message was due to its confirmed acknowledgement.
    pub(super) done_p50_ms: f64,
    pub(super) done_p99_ms: f64,
    pub(super) done_p999_ms: f64,
    pub(super) server_cores: f64,
}

impl Run {
    pub(super) fn from_driver(line: &Value) -> Result<Self> {
        let number = |pointer: &str| {
            let value = line.pointer(pointer).and_then(Value::as_f64);
            value.with_context(|| format!("the driver's line has no {pointer}: {line}"))
        };
        Ok(Self {
            messages_per_second: number("/msg_s")?,
            done_p50_ms: number("/done_ms/p50")?,
            done_p99_ms: number("/done_ms/p99")?,
            done_p999_ms: number("/done_ms/p999")?,
            server_cores: number("/server_cores")?,
        })
    }

    /// Microseconds of one core that the server spent on a message.
    fn cpu_us(&self) -> f64 {
        self.server_cores * 1e6 / self.messages_per_second
    }

    fn json(&self) -> Value {
        json!({
            "messages_per_second": self.messages_per_second,
            "done_p50_ms": self.done_p50_ms,
            "done_p99_ms": self.done_p99_ms,
            "done_p999_ms": self.done_p999_ms,
            "server_cpu_us_per_message": rounded(self.cpu_us()),
        })
    }
}

/// Both servers under the same load, one right after the other.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ours: Run,
    pub(super) floor: Run,
}

/// One round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) full: Pair,
    pub(super) half: Pair,
    /// The rate of `half`, in messages a second.
    pub(super) rate: u64,
}

impl Round {
    fn throughput(&self) -> f64 {
        self.full.ours.messages_per_second / self.full.floor.messages_per_second
    }

    fn cpu(&self) -> f64 {
        self.full.ours.cpu_us() / self.full.floor.cpu_us()
    }

    fn done_p99(&self) -> f64 {
        self.half.ours.done_p99_ms / self.half.floor.done_p99_ms
    }

    /// A server that did not keep up was overloaded: its latency says nothing.
    fn kept_up(&self) -> bool {
        let kept = |run: &Run| run.messages_per_second >= 0.99 * self.rate as f64;
        kept(&self.half.ours) && kept(&self.half.floor)
    }

    pub(super) fn line(&self) -> String {
        let Pair { ours, floor } = &self.full;
        let overload = if self.kept_up() {
            ""
        } else {
            ", which one of them did not carry"
        };
        format!(
            "full speed {:.0}/s against {:.0}/s = {:.2}; at {}/s{overload} done p99 {:.1} ms against {:.1} ms = {:.2}",
            ours.messages_per_second,
            floor.messages_per_second,
            self.throughput(),
            self.rate,
            self.half.ours.done_p99_ms,
            self.half.floor.done_p99_ms,
            self.done_p99(),
        )
    }
}

/// All rounds.
#[derive(Debug)]
pub(super) struct Report {
    rounds: Vec<Round>,
}

/// Median, smallest, largest.
#[derive(Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max) })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Report {
    pub(super) fn new(rounds: Vec<Round>) -> Self {
        Self { rounds }
    }

    fn ratios(&self) -> [(&'static str, &'static str, Option<Spread>); 3] {
        let all = || self.rounds.iter();
        [
            (
                "throughput",
                "throughput at full speed",
                Spread::of(all().map(Round::throughput)),
            ),
            (
                "done_p99",
                "done p99 at half of our full speed",
                Spread::of(all().filter(|round| round.kept_up()).map(Round::done_p99)),
            ),
            (
                "server_cpu",
                "server CPU per message at full speed",
                Spread::of(all().map(Round::cpu)),
            ),
        ]
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\ncountersign : floor, median (smallest to largest)\n");
        for (_, name, spread) in self.ratios() {
            let line = match spread {
                Some(Spread { median, min, max }) => format!("{median:.2} ({min:.2} to {max:.2})"),
                None => "no round in which both kept up".into(),
            };
            writeln!(text, "  {name:<40} {line}").expect("a String takes all");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let ratios: serde_json::Map<String, Value> = self
            .ratios()
            .into_iter()
            .map(|(key, _, spread)| (key.to_owned(), spread.map_or(Value::Null, |s| s.json())))
            .collect();
        let rounds: Vec<Value> = self
            .rounds
            .iter()
            .map(|round| {
                let pair = |pair: &Pair| json!({ "countersign": pair.ours.json(), "floor": pair.floor.json() });
                json!({
                    "full": pair(&round.full),
                    "half": pair(&round.half),
                    "half_rate": round.rate,
                    "half_kept_up": round.kept_up(),
                })
            })
            .collect();
        json!({ "ratios_to_floor": ratios, "rounds": rounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(messages_per_second: f64, done_p99_ms: f64) -> Run {
        let (done_p50_ms, done_p999_ms) = (1.0, 2.0 * done_p99_ms);
        Run {
            messages_per_second,
            done_p50_ms,
            done_p99_ms,
            done_p999_ms,
            server_cores: 1.0,
        }
    }

    fn round(ours: f64, floor: f64, carried: f64) -> Round {
        Round {
            full: Pair {
                ours: run(ours, 9.0),
                floor: run(floor, 9.0),
            },
            half: Pair {
                ours: run(carried, 6.0),
                floor: run(100.0, 3.0),
            },
            rate: 100,
        }
    }

    #[test]
    fn the_median_and_the_ends_are_those_of_the_sorted_values() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(
            spread(&[3.0, 1.0, 2.0]),
            Some(Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        assert_eq!(
            spread(&[4.0, 1.0]),
            Some(Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let report = Report::new(vec![round(40.0, 100.0, 100.0), round(100.0, 200.0, 100.0)]);
        let ratios = &report.json()["ratios_to_floor"];
        assert_eq!(ratios["throughput"]["median"], 0.45);
        assert_eq!(ratios["done_p99"]["max"], 2.0);
        assert_eq!(ratios["server_cpu"]["max"], 2.5);
    }

    #[test]
    fn a_round_in_which_the_rate_was_not_carried_has_no_latency() {
        let report = Report::new(vec![round(40.0, 100.0, 90.0)]);
        assert_eq!(report.json()["ratios_to_floor"]["done_p99"], Value::Null);
        assert!(report.text().contains("no round in which both kept up"));
    }
}
