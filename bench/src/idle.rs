//! The memory of connections that are subscribed to a room and silent.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::Verdict;
use crate::fan_out::make_room;
use crate::process::Program;
use crate::socket::{self, Reader};

const CONNECTIONS: usize = 5_000;
const KIB_MAX: f64 = 12.0;

pub(crate) async fn measure(server: &Path) -> Result<Verdict> {
    rlimit::increase_nofile_limit(2 * CONNECTIONS as u64)?;
    let data = tempfile::tempdir()?;
    let program = Program::server(server, data.path())?;
    let room = make_room(program.address, "idle").await?;
    // What the first connections allocate once is not theirs.
    let warm = connect(&program, &room, 100).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = program.resident()?;
    let idle = connect(&program, &room, CONNECTIONS).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = program.resident()?;
    drop((warm, idle));
    let each = after.saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0;
    println!(
        "idle: {CONNECTIONS} subscribed connections, {} MiB before, {} MiB after",
        before >> 20,
        after >> 20
    );
    Ok(Verdict {
        what: "resident memory of an idle subscribed connection",
        figure: format!("{each:.1} KiB"),
        target: "at most 12 KiB",
        is_reached: each <= KIB_MAX,
    })
}

async fn connect(program: &Program, room: &str, count: usize) -> Result<Vec<Reader>> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = socket::open(program.address, "/ws/chat").await?;
        let mut reader = Reader::new(stream);
        subscribe(&mut reader, room, "60000,60000").await?;
        readers.push(reader);
    }
    Ok(readers)
}

/// Connects a session, subscribes it, and waits until both are done.
pub(crate) async fn subscribe(reader: &mut Reader, room: &str, heart_beat: &str) -> Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let mut out = Vec::new();
    let connect = format!("CONNECT\naccept-version:1.2\nhost:bench\nheart-beat:{heart_beat}\n\n\0");
    let subscribe =
        format!("SUBSCRIBE\nid:0\nreceipt:s\ndestination:/topic/chat/room/{room}\n\n\0");
    socket::mask(connect.as_bytes(), &mut out);
    socket::mask(subscribe.as_bytes(), &mut out);
    reader.stream().write_all(&out).await?;
    reader.expect(b"RECEIPT\n").await
}
