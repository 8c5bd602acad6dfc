//! Who means harm: a thousand hostile connections of a kind at a time, against a server as anybody
//! starts it. Meanwhile honest people talk in rooms of their own and ask `/healthz`; told are their
//! p50 and p99, and the server's resident memory before, at the most, and a minute after.

mod attacks;
pub(crate) mod honest;
mod queue_end;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::task::JoinSet;

use self::attacks::{ATTACKS, Attack, Target};
use self::honest::{Honest, Latencies};
use crate::Verdict;
use crate::process::Program;

/// Hostile connections of a kind.
const CONNECTIONS: usize = 1_000;

/// Who was cut off or refused comes back after so long.
const AGAIN: Duration = Duration::from_secs(1);

const RESIDENT_MIB_MAX: f64 = 500.0;
const KEPT_MIB_MAX: f64 = 16.0;
const P99_MAX: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Options {
    /// Only kinds whose name holds this
    kind: Option<String>,
    /// Seconds that each kind attacks
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds after which the memory must be back
    #[arg(long, default_value_t = 60)]
    rest: u64,
}

/// What one kind did.
struct Harm {
    honest: Latencies,
    before: f64,
    most: f64,
    after: f64,
}

pub(crate) async fn measure(server: &Path, options: &Options) -> Result<Vec<Verdict>> {
    rlimit::increase_nofile_limit(8_192)?;
    let mut verdicts = Vec::new();
    println!(
        "hostile: {CONNECTIONS} connections of a kind for {} s; p50 and p99 of others' messages and \
         requests, MiB resident before, at the most and {} s after",
        options.seconds, options.rest
    );
    let is_asked = |name: &str| {
        let kind = options.kind.as_deref();
        kind.is_none_or(|kind| name.contains(kind))
    };
    if is_asked("queue's end") {
        verdicts.push(queue_end::measure(server).await?);
    }
    for attack in ATTACKS {
        if !is_asked(attack.name) {
            continue;
        }
        let harm = suffer(server, attack, options).await?;
        println!("  {:22} {}", attack.name, harm.words());
        verdicts.push(Verdict {
            what: attack.name,
            figure: harm.words(),
            target: "p99 under 100 ms, under 500 MiB, all but 16 MiB given back",
            is_reached: harm.is_borne(),
        });
    }
    Ok(verdicts)
}

async fn suffer(server: &Path, attack: &'static Attack, options: &Options) -> Result<Harm> {
    let data = tempfile::tempdir()?;
    let program = Program::server_with(server, data.path(), attack.options)?;
    let target = Target::prepare(program.address, attack).await?;
    let honest = Honest::start(program.address)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = mib(program.resident()?);
    honest.begin();
    let begin = Instant::now();
    let mut hostile = JoinSet::new();
    for index in 0..CONNECTIONS {
        let target = target.clone();
        hostile.spawn(async move {
            loop {
                // It ends by being cut off or refused, which is what the server may do.
                let _ = (attack.act)(target.clone(), index).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    let mut most = before;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while begin.elapsed() < Duration::from_secs(options.seconds) {
        ticks.tick().await;
        most = most.max(mib(program.resident()?));
    }
    hostile.shutdown().await;
    let end = Instant::now();
    // What the ends cost counts as well.
    while end.elapsed() < Duration::from_secs(5) {
        ticks.tick().await;
        most = most.max(mib(program.resident()?));
    }
    let honest = honest.end()?;
    tokio::time::sleep(Duration::from_secs(options.rest).saturating_sub(end.elapsed())).await;
    Ok(Harm {
        honest,
        before,
        most,
        after: mib(program.resident()?),
    })
}

impl Harm {
    fn words(&self) -> String {
        format!(
            "{}; {:.0}, {:.0}, {:.0} MiB",
            self.honest, self.before, self.most, self.after
        )
    }

    fn is_borne(&self) -> bool {
        self.honest.p99() <= P99_MAX
            && self.most <= RESIDENT_MIB_MAX
            && self.after <= self.before + KEPT_MIB_MAX
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
