//! A suite of cases that another program runs: its lines, its totals, its exit status.
//!
//! Promise: passed means that every case of the suite ran and passed; one left out counts as failed.
//! Left out on purpose: the lines of cases that passed; a run has more than a thousand of them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs `command`, shows what it says about everything but passed cases, and demands `cases` passed cases and no other.
pub(crate) fn must_pass(command: &mut Command, cases: usize) -> Result<()> {
    let program = command.get_program().display().to_string();
    println!("   $ {program}, {cases} cases");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{program}` does not start"))?;
    let output = child.stdout.take().expect("it was piped a moment ago");
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("a suite speaks UTF-8")?;
        if !line.trim_start().starts_with("ok ") {
            println!("     {line}");
            lines.push(line);
        }
    }
    let status = child.wait()?;
    judge(&lines, cases)?;
    ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}

/// The last line has to name `cases` passed and none failed; one that counts skipped cases would stand before it.
fn judge(lines: &[String], cases: usize) -> Result<()> {
    let said = lines.iter().rev().map(|line| line.trim());
    let mut said = said.filter(|line| !line.is_empty());
    let totals = said.next().unwrap_or("nothing");
    let before = said.next().unwrap_or("");
    ensure!(!before.ends_with(" skipped"), "{before}, {totals}");
    let wanted = format!("{cases} passed, 0 failed");
    ensure!(totals == wanted, "wanted {wanted}; it says: {totals}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> bool {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        judge(&lines, 3).is_ok()
    }

    #[test]
    fn all_cases_passed_is_the_only_way_to_pass() {
        assert!(judged(&["3 passed, 0 failed"]));
        assert!(!judged(&["FAIL  one", "2 passed, 1 failed"]));
        assert!(!judged(&["2 passed, 0 failed"]), "a case is missing");
        assert!(!judged(&[]), "it ended without its totals");
    }

    #[test]
    fn a_skipped_case_counts_as_failed() {
        assert!(!judged(&["1 skipped", "3 passed, 0 failed"]));
    }
}
