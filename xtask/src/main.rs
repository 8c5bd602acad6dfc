//! The project's front door: `cargo xtask serve | build | test | ci | fuzz | bench`.
//!
//! Each step says what it does before it does it; one that fails says what to do.

mod browser;
mod clients;
mod fuzz;
mod run;
mod site;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::run::{Step, say};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Builds, runs, tests and measures Sarangbang"
)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the web client and the server, and serve http://127.0.0.1:8080
    Serve {
        /// Build optimised
        #[arg(long)]
        release: bool,
        /// Options of the server, such as --listen 127.0.0.1:0 --data-dir ./data
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build the web client and the server that holds it
    Build {
        /// Build optimised: target/release/sarangbang
        #[arg(long)]
        release: bool,
    },
    /// Pass every test, the browser's too
    Test {
        /// Only the browser's tests, with these arguments for Playwright
        #[arg(long, num_args = 0.., allow_hyphen_values = true)]
        browser: Option<Vec<String>>,
    },
    /// What continuous integration runs: format, clippy, then exactly what `test` runs
    Ci,
    /// Attack the decoder and the server's half of STOMP with made-up input
    Fuzz {
        /// Seconds for each target
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Only this target
        target: Option<String>,
    },
    /// Make up histories of the log from seeds, with faults, and hold each against what it promises
    Simulate {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        histories: u64,
        /// The seed of the first; with --histories 1 each of its steps is told
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure: fan-out against a bare copier, idle connections, the first page, the decoder, hostile
    /// clients, people who come and go, very many rooms
    Bench {
        /// Arguments of the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Xtask::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Serve { release, options } => {
            let program = build(release)?;
            say("serving");
            Step::new(program)
                .args(options)
                .run("see what the server says above")
        }
        Task::Build { release } => {
            let program = build(release)?;
            say(&format!("built {}", program.display()));
            Ok(())
        }
        Task::Test {
            browser: Some(arguments),
        } => test_browser(&arguments),
        Task::Test { browser: None } => test(),
        Task::Ci => {
            check()?;
            test()
        }
        Task::Fuzz { seconds, target } => fuzz::run(target.as_deref(), seconds),
        Task::Simulate { histories, seed } => Step::cargo()
            .args(["test", "--release", "--package", "server", "--lib"])
            .args(["simulation", "--", "--nocapture"])
            .env("SARANGBANG_HISTORIES", histories.to_string())
            .env("SARANGBANG_SEED", seed.to_string())
            .run("replay the history that fails above by its seed: --histories 1 --seed N"),
        Task::Bench { options } => {
            let program = build(true)?;
            say("measuring");
            Step::cargo()
                .args(["run", "--release", "--package", "bench", "--", "--server"])
                .arg(program)
                .args(options)
                .run("see what the benchmark says above")
        }
    }
}

/// Builds everything; gives the server's program.
fn build(release: bool) -> Result<PathBuf> {
    let site = site::build()?;
    say("building the server");
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    Step::cargo()
        .args(["build", "--package", "server"])
        .args(profile)
        .env("SARANGBANG_SITE", site)
        .run("mend what the compiler says above")?;
    let folder = if release { "release" } else { "debug" };
    let name = format!("sarangbang{}", std::env::consts::EXE_SUFFIX);
    Ok(run::target_dir().join(folder).join(name))
}

fn check() -> Result<()> {
    toolchain::component("rustfmt")?;
    toolchain::component("clippy")?;
    say("checking the format");
    Step::cargo()
        .args(["fmt", "--all", "--check"])
        .run("run `cargo fmt --all`")?;
    Step::cargo()
        .args(["fmt", "--manifest-path", fuzz::MANIFEST, "--check"])
        .run("run `cargo fmt --manifest-path fuzz/Cargo.toml`")?;
    say("running clippy");
    let warnings = ["--", "-D", "warnings"];
    Step::cargo()
        .args(["clippy", "--workspace", "--all-targets"])
        .args(warnings)
        .run("mend what clippy says above")?;
    Step::cargo()
        .args(["clippy", "--manifest-path", fuzz::MANIFEST])
        .args(["--no-default-features", "--target-dir"])
        .arg(run::target_dir().join("fuzz"))
        .args(warnings)
        .run("mend what clippy says above")?;
    if toolchain::has_std() || toolchain::add_std() {
        say("running clippy on the web client");
        Step::cargo()
            .args([
                "clippy",
                "--package",
                "client",
                "--lib",
                "--no-default-features",
            ])
            .args(["--features", "hydrate", "--target", toolchain::WASM])
            .args(warnings)
            .run("mend what clippy says above")?;
    } else {
        say("leaving out clippy on the web client: it needs the std of its target");
    }
    Ok(())
}

fn test() -> Result<()> {
    // Node comes first: with it the web client is made as small as its test wants it.
    browser::packages()?;
    let site = site::build()?;
    say("running the tests of the crates");
    Step::cargo()
        .args(["test", "--workspace"])
        .env("SARANGBANG_SITE", site)
        .run("mend the test that fails above")?;
    test_browser(&[])
}

fn test_browser(arguments: &[String]) -> Result<()> {
    browser::packages()?;
    let program = build(false)?;
    let chromium = browser::chromium()?;
    let (python, maven) = (clients::python(), clients::maven());
    say("running the browser's tests, and those of somebody else's clients");
    let mut step = Step::new(browser::npx()?)
        .dir(browser::folder())
        .args(["--no-install", "playwright", "test"])
        .args(arguments)
        .env("SARANGBANG_BIN", program);
    for (name, program) in [
        ("CHROMIUM", chromium),
        ("SARANGBANG_PYTHON", python),
        ("SARANGBANG_MAVEN", maven),
    ] {
        if let Some(program) = program {
            step = step.env(name, program);
        }
    }
    step.run("mend the spec that fails above")
}
