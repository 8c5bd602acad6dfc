//! The memory that is left after a load: many rooms at full speed, then nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Verdict;
use crate::fan_out::{Shape, strain};
use crate::process::Program;

const SHAPE: Shape = Shape {
    rooms: 100,
    readers: 1,
};

/// How long the load takes.
const LOAD: Duration = Duration::from_secs(10);

/// How long the server may take to come back.
const REST: Duration = Duration::from_secs(60);

const RATIO_MAX: f64 = 1.5;

pub(crate) async fn measure(server: &Path) -> Result<Verdict> {
    rlimit::increase_nofile_limit(4_096)?;
    let data = tempfile::tempdir()?;
    let program = Program::server(server, data.path())?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = program.resident()?;
    let mut most = before;
    let deliveries = {
        let mut straining = std::pin::pin!(strain(program.address, &SHAPE, LOAD));
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                deliveries = &mut straining => break deliveries?,
                _ = ticks.tick() => most = most.max(program.resident()?),
            }
        }
    };
    let end = Instant::now();
    let mut after = program.resident()?;
    print!(
        "memory: {deliveries} deliveries in {} rooms; MiB at",
        SHAPE.rooms
    );
    for seconds in [1, 5, 15, 30, REST.as_secs()] {
        tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(end.elapsed())).await;
        after = program.resident()?;
        print!(" {seconds} s: {:.1}", mib(after));
    }
    println!();
    println!(
        "memory: {:.1} MiB before, {:.1} at most, {:.1} after",
        mib(before),
        mib(most),
        mib(after)
    );
    let ratio = after as f64 / before as f64;
    Ok(Verdict {
        what: "resident memory a minute after a load, of that before",
        figure: format!("{ratio:.2}"),
        target: "at most 1.50",
        is_reached: ratio <= RATIO_MAX,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
