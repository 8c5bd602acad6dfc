//! What `cargo xtask bench` runs: fan-out against a bare copier, the memory of idle connections and
//! after a load, the weight of the first page, the decoder against another, hostile clients, people who
//! come and go, and very many rooms. Speed is told as ratios: both sides run here, in turns.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

mod copier;
mod decoder;
mod fan_out;
mod hostile;
mod idle;
mod memory;
mod page;
mod presence;
mod process;
mod rooms;
mod socket;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures a server's binary")]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// The server's binary
    #[arg(long, default_value = "target/release/sarangbang")]
    server: PathBuf,
    /// Measure this alone
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Seconds that each side is measured for in each round of fan-out
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds of fan-out and of the decoder, each with all sides
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Exit with 1 when a target is missed
    #[arg(long)]
    check: bool,
}

#[derive(Subcommand)]
enum Part {
    /// The bare copier: what one sends, all others of its room get
    #[command(hide = true)]
    Copier,
    /// Who means harm: others' latencies and the resident memory, for each kind; takes minutes
    Hostile(hostile::Options),
    /// People who come and go in a room of two thousand
    Presence,
    /// A hundred thousand rooms, and pages that follow a thousand lively ones
    Rooms,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Only {
    Decoder,
    FanOut,
    Idle,
    Memory,
    Page,
}

/// A figure held against its target.
struct Verdict {
    what: &'static str,
    figure: String,
    target: &'static str,
    is_reached: bool,
}

fn main() -> ExitCode {
    perform(&Options::parse()).unwrap_or_else(|error| {
        println!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn perform(options: &Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match &options.part {
        Some(Part::Copier) => {
            runtime.block_on(copier::serve())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Part::Hostile(hostile)) => {
            let verdicts = runtime.block_on(hostile::measure(&options.server, hostile))?;
            return Ok(conclude(&verdicts, options.check));
        }
        Some(Part::Rooms) => {
            let verdicts = runtime.block_on(rooms::measure(&options.server))?;
            return Ok(conclude(&verdicts, options.check));
        }
        Some(Part::Presence) => {
            let verdicts = runtime.block_on(presence::measure(&options.server))?;
            return Ok(conclude(&verdicts, options.check));
        }
        None => {}
    }
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut verdicts = Vec::new();
    if wanted(Only::Page) {
        verdicts.push(page::measure(&options.server)?);
    }
    if wanted(Only::Decoder) {
        verdicts.push(decoder::measure(options.rounds)?);
    }
    if wanted(Only::Idle) {
        verdicts.push(runtime.block_on(idle::measure(&options.server))?);
    }
    if wanted(Only::Memory) {
        verdicts.push(runtime.block_on(memory::measure(&options.server))?);
    }
    if wanted(Only::FanOut) {
        let verdict = fan_out::measure(&options.server, options.rounds, options.seconds);
        verdicts.push(runtime.block_on(verdict)?);
    }
    Ok(conclude(&verdicts, options.check))
}

/// Prints what was found, and how the program ends.
fn conclude(verdicts: &[Verdict], is_checked: bool) -> ExitCode {
    println!();
    for Verdict {
        what,
        figure,
        target,
        is_reached,
    } in verdicts
    {
        let word = if *is_reached { "reached" } else { "MISSED" };
        println!("{word:8} {what}: {figure} (target: {target})");
    }
    let is_missed = verdicts.iter().any(|verdict| !verdict.is_reached);
    if is_checked && is_missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
