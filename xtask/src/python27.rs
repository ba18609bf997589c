//! A CPython 2.7 for what runs under no other: Debian 11's, unpacked below cargo's target directory.
//!
//! Promise: nothing is installed on the machine, and every package has the checksum that stands here.
//! Left out on purpose: other systems than Linux on x86-64, and those without apt.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::conformance::python_with;
use crate::steps::{must_run, succeeds, target_directory};

/// The packages, below the pool of the mirror that apt uses here, and their SHA-256: the interpreter, and the libraries that a newer system no longer has.
const PACKAGES: [(&str, &str); 5] = [
    (
        "p/python2.7/python2.7-minimal_2.7.18-8+deb11u1_amd64.deb",
        "44f0cdc1a343303d31c55fcb3a6402cfe326adf749ec30e375e6e0c0c5f7c1f7",
    ),
    (
        "p/python2.7/libpython2.7-minimal_2.7.18-8+deb11u1_amd64.deb",
        "85833c92314011b89bbead6f9a5a7a360b5ee4f9b95e001225afead4ebf9f7d3",
    ),
    (
        "p/python2.7/libpython2.7-stdlib_2.7.18-8+deb11u1_amd64.deb",
        "3e627d6d8992b853e000b8a4c09dda613fb767cdb711a2eac20ebc9f867b593c",
    ),
    (
        "o/openssl/libssl1.1_1.1.1w-0+deb11u1_amd64.deb",
        "aadf8b4b197335645b230c2839b4517aa444fd2e8f434e5438c48a18857988f7",
    ),
    (
        "libf/libffi/libffi7_3.3-6_amd64.deb",
        "30ca89bfddae5fa6e0a2a044f22b6e50cd17c4bc6bc850c579819aeab7101f0f",
    ),
];

/// Downloads a file and checks its sum; apt brings it.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// An environment with a Python 2.7 and what was asked for.
#[derive(Debug)]
pub(crate) struct Environment(PathBuf);

impl Environment {
    /// A command of one of the installed programs.
    pub(crate) fn command(&self, program: &str) -> Command {
        with_libraries(Command::new(self.0.join("bin").join(program)))
    }
}

/// Whether this machine is of the kind that the packages are for.
pub(crate) fn is_possible() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64")) && Path::new(APT_HELPER).is_file()
}

/// The environment called `name`: made by the virtualenv that the file `virtualenv` pins, holding `requirements`.
pub(crate) fn environment(
    name: &str,
    virtualenv: &Path,
    requirements: &Path,
) -> Result<Environment> {
    let python = interpreter()?;
    let maker = python_with("virtualenv", virtualenv)?;
    let environment = Environment(target_directory().join(format!("python2.7-{name}")));
    if !succeeds(
        environment
            .command("python")
            .args(["-m", "pip", "--version"]),
    ) {
        let mut create = with_libraries(Command::new(maker));
        create.args(["-m", "virtualenv", "--quiet", "--clear", "--python"]);
        must_run(create.arg(python).arg(&environment.0))?;
    }
    let mut install = environment.command("python");
    // It says at each start that its Python is old.
    install.args(["-W", "ignore", "-m", "pip", "install", "--quiet"]);
    install.args(["--no-python-version-warning", "--disable-pip-version-check"]);
    must_run(install.arg("--requirement").arg(requirements))?;
    Ok(environment)
}

/// The interpreter itself, unpacked if it is not there yet.
fn interpreter() -> Result<PathBuf> {
    let python = root().join("usr/bin/python2.7");
    if !python.is_file() {
        ensure!(
            is_possible(),
            "a Python 2.7 can be had on Linux x86-64 with apt only"
        );
        unpack()?;
    }
    ensure!(
        succeeds(with_libraries(Command::new(&python)).args(["-c", "import ssl, ctypes"])),
        "{} does not run; remove its folder and try again",
        python.display()
    );
    Ok(python)
}

/// Unpacks beside the place and moves it there whole, so that a run that is cut short leaves no half of it.
fn unpack() -> Result<()> {
    let beside = target_directory().join(format!("python2.7-{}", std::process::id()));
    std::fs::create_dir_all(&beside)?;
    let package = beside.join("package.deb");
    let mirrors = mirrors()?;
    for (path, sum) in PACKAGES {
        download(&mirrors, path, sum, &package)?;
        let mut open = Command::new("dpkg-deb");
        must_run(open.arg("--extract").arg(&package).arg(&beside))?;
        std::fs::remove_file(&package)?;
    }
    std::fs::rename(&beside, root()).context("the interpreter cannot be moved to its place")
}

/// Brings a package from the first of the mirrors that still has it.
fn download(mirrors: &[String], path: &str, sum: &str, package: &Path) -> Result<()> {
    let has_come = mirrors.iter().any(|mirror| {
        let mut download = Command::new(APT_HELPER);
        download.args(["download-file", &format!("{mirror}pool/main/{path}")]);
        succeeds(download.arg(package).arg(format!("SHA256:{sum}")))
    });
    ensure!(
        has_come,
        "none of apt's mirrors gives {path} with the right checksum: {mirrors:?}"
    );
    Ok(())
}

/// The mirrors that apt is told to use: old packages stay in their pools for years.
fn mirrors() -> Result<Vec<String>> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)"]);
    let listed = targets.arg("Created-By: Packages").output()?;
    let listed = String::from_utf8(listed.stdout).context("apt names its mirrors in UTF-8")?;
    let mut mirrors: Vec<String> = listed.lines().map(str::to_owned).collect();
    mirrors.sort();
    mirrors.dedup();
    ensure!(
        !mirrors.is_empty(),
        "apt has no mirror: name one in its sources"
    );
    Ok(mirrors)
}

fn root() -> PathBuf {
    target_directory().join("python2.7")
}

fn with_libraries(mut command: Command) -> Command {
    command.env("LD_LIBRARY_PATH", root().join("usr/lib/x86_64-linux-gnu"));
    command
}
