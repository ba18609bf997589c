//! Runs a list of commands one after the other, saying what runs and what it took.
//!
//! Promise: the first failure ends the list, and its command is printed so that it can be pasted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::checkout;

/// Counts and times the steps of one chore.
#[derive(Debug)]
pub(crate) struct Steps {
    started: Instant,
    taken: Vec<(String, u64)>,
}

impl Steps {
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            taken: Vec::new(),
        }
    }

    /// Runs `work` as the step called `name`.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        println!("== {name}");
        work().with_context(|| format!("step `{name}` failed"))?;
        self.taken
            .push((name.to_owned(), begun.elapsed().as_secs()));
        Ok(())
    }

    /// Prints what each step took.
    pub(crate) fn finish(self) {
        println!(
            "\nall steps passed in {} s",
            self.started.elapsed().as_secs()
        );
        for (name, seconds) in self.taken {
            println!("  {seconds:>5} s  {name}");
        }
    }
}

/// Runs `command` in the checkout's root, output going where ours goes.
pub(crate) fn must_run(command: &mut Command) -> Result<()> {
    println!("   $ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("`{}` does not start", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// True when `command` runs and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Installs a package of the system, where the system is Debian or one like it.
pub(crate) fn install_package(name: &str) -> Result<()> {
    must_run(Command::new("apt-get").args(["update", "--quiet"]))?;
    must_run(Command::new("apt-get").args(["install", "--yes", "--quiet", name]))
}

/// A cargo command in the checkout's root, with the cargo that runs us.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(checkout::root());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    checkout::root().join(named)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
