//! Very many rooms: how soon a server with them is there, what a page and a search cost, and what the
//! thread that orders pays for those who follow the list.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Verdict;
use crate::fan_out::make_room;
use crate::process::Program;
use crate::socket::{self, Reader};

const ROOMS: usize = 100_000;
const MAKERS: usize = 64;

/// Requests of each kind that are measured.
const ASKED: u32 = 100;

const LIVELY: usize = 1_000;
const PAGES: usize = 2_000;

/// Rooms that each page shows.
const SHOWN: usize = 50;

/// For how long rooms are lively: each gets a message a second.
const LIVELY_FOR: Duration = Duration::from_secs(10);

const OPTIONS: [&str; 4] = ["--room-rate", "0", "--message-rate", "0"];

pub(crate) async fn measure(server: &Path) -> Result<Vec<Verdict>> {
    rlimit::increase_nofile_limit(8_192)?;
    let data = tempfile::tempdir()?;
    let program = Program::server_with(server, data.path(), &OPTIONS)?;
    println!("rooms: making {ROOMS}");
    let mut makers = JoinSet::new();
    for maker in 0..MAKERS {
        makers.spawn(make(program.address, (maker..ROOMS).step_by(MAKERS)));
    }
    while let Some(made) = makers.join_next().await {
        made??;
    }
    drop(program);
    // What the last run left in the write-ahead log is copied by the first start.
    drop(Program::server_with(server, data.path(), &OPTIONS)?);
    let begin = Instant::now();
    let program = Program::server_with(server, data.path(), &OPTIONS)?;
    let start = begin.elapsed();
    let mut verdicts = vec![Verdict {
        what: "the start with 100,000 rooms",
        figure: format!("{:.0} ms", start.as_secs_f64() * 1e3),
        target: "under 1 s",
        is_reached: start < Duration::from_secs(1),
    }];
    for (what, path, status, cpu_max_ms, bytes_max, target) in [
        (
            "the list's page",
            "/chat/room",
            "200",
            15.0,
            170_000,
            "under 15 ms of processor time, and 170 KB",
        ),
        (
            "a search by a part of the name, in a page",
            "/chat/room?q=7%EB%B0%A9%2077",
            "200",
            50.0,
            170_000,
            "under 50 ms of processor time",
        ),
        (
            "a search by the API, that finds nothing",
            "/chat/rooms?q=nothing",
            "200",
            50.0,
            170_000,
            "under 50 ms of processor time",
        ),
        (
            "a page of a path that names nothing",
            "/chat/nothing",
            "404",
            15.0,
            60_000,
            "under 60 KB",
        ),
    ] {
        verdicts.push(ask(&program, what, path, status, cpu_max_ms, bytes_max, target).await?);
    }
    drop(program);
    verdicts.push(follow(server).await?);
    Ok(verdicts)
}

/// Makes rooms of these numbers, one after the other on one connection.
async fn make(address: SocketAddr, numbers: impl Iterator<Item = usize>) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut buffer = vec![0; 4_096];
    for number in numbers {
        let body = format!("{{\"roomName\":\"모임 {number}방 {}\"}}", number % 1_000);
        let request = format!(
            "POST /chat/room HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the server hung up");
            answer.extend_from_slice(&buffer[..read]);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "a room was refused");
    }
    Ok(())
}

/// Asks for a path again and again: what one answer costs and weighs.
async fn ask(
    program: &Program,
    what: &'static str,
    path: &str,
    status: &str,
    cpu_max_ms: f64,
    bytes_max: usize,
    target: &'static str,
) -> Result<Verdict> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        program.address
    );
    let mut bytes = 0;
    let cpu = program.cpu()?;
    let begin = Instant::now();
    for _ in 0..ASKED {
        let mut stream = TcpStream::connect(program.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()) {
            bail!("{path}: {}", String::from_utf8_lossy(&answer));
        }
        bytes = answer.len();
    }
    let each = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(ASKED);
    let (wall, cpu) = (each(begin.elapsed()), each(program.cpu()? - cpu));
    let figure = format!("{cpu:.1} ms of processor time, {wall:.1} ms, {bytes} bytes uncompressed");
    println!("  {what}: {figure}");
    Ok(Verdict {
        what,
        figure,
        target,
        is_reached: cpu < cpu_max_ms && bytes < bytes_max,
    })
}

/// What the thread that orders pays for pages that follow the list.
async fn follow(server: &Path) -> Result<Verdict> {
    let alone = lively(server, 0).await?;
    let followed = lively(server, PAGES).await?;
    let more = (followed.ordering.as_secs_f64() / alone.ordering.as_secs_f64() - 1.0) * 100.0;
    let figure = format!(
        "{:.2} s of the thread that orders with nobody, {:.2} s with {PAGES} pages of {SHOWN} rooms \
         ({more:+.0} %), which got {} frames",
        alone.ordering.as_secs_f64(),
        followed.ordering.as_secs_f64(),
        followed.frames
    );
    println!("  {LIVELY} lively rooms: {figure}");
    Ok(Verdict {
        what: "1,000 lively rooms and 2,000 open pages",
        figure,
        target: "at most 5 % more than with nobody",
        is_reached: more <= 5.0,
    })
}

struct Lively {
    ordering: Duration,
    frames: u64,
}

async fn lively(server: &Path, pages: usize) -> Result<Lively> {
    let data = tempfile::tempdir()?;
    let program = Program::server_with(server, data.path(), &OPTIONS)?;
    let address = program.address;
    let mut rooms = Vec::with_capacity(LIVELY);
    for number in 0..LIVELY {
        rooms.push(make_room(address, &format!("lively {number}")).await?);
    }
    let frames = Arc::<AtomicU64>::default();
    let is_over = Arc::<AtomicBool>::default();
    let mut living = JoinSet::<Result<()>>::new();
    for page in 0..pages {
        let shown: Vec<_> = (0..SHOWN)
            .map(|place| rooms[(page * 7 + place * 19) % LIVELY].as_str())
            .collect();
        let mut reader = Reader::new(socket::open(address, "/ws/chat").await?);
        let begin = format!(
            "CONNECT\naccept-version:1.2\nhost:bench\n\n\0SUBSCRIBE\nid:0\nreceipt:s\nx-rooms:{}\n\
             destination:/topic/chat/rooms\n\n\0",
            shown.join(",")
        );
        let mut out = Vec::new();
        socket::mask(begin.as_bytes(), &mut out);
        reader.stream().write_all(&out).await?;
        reader.expect(b"RECEIPT\n").await?;
        let frames = Arc::clone(&frames);
        living.spawn(async move {
            loop {
                let more = reader.read(|message| {
                    let is_message = message.starts_with(b"MESSAGE\n");
                    frames.fetch_add(u64::from(is_message), Ordering::Relaxed);
                    Ok(())
                });
                if !more.await? {
                    bail!("a page was cut off");
                }
            }
        });
    }
    let before = program.cpu_of("log")?;
    let begin = Instant::now();
    let mut sender = Reader::new(socket::open(address, "/ws/chat").await?);
    let mut out = Vec::new();
    socket::mask(b"CONNECT\naccept-version:1.2\nhost:bench\n\n\0", &mut out);
    sender.stream().write_all(&out).await?;
    sender.expect(b"CONNECTED\n").await?;
    // A tenth of the rooms ten times a second.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for tick in 0.. {
        if begin.elapsed() >= LIVELY_FOR {
            break;
        }
        ticks.tick().await;
        let mut out = Vec::new();
        for room in rooms.iter().skip(tick % 10).step_by(10) {
            let frame = format!(
                "SEND\ndestination:/app/chat/sendMessage\n\n\
                 {{\"type\":\"TALK\",\"roomId\":\"{room}\",\"sender\":\"a\",\"message\":\"hello\"}}\0"
            );
            socket::mask(frame.as_bytes(), &mut out);
        }
        sender.stream().write_all(&out).await?;
    }
    is_over.store(true, Ordering::Relaxed);
    let ordering = program
        .cpu_of("log")?
        .checked_sub(before)
        .context("processor time goes on")?;
    living.abort_all();
    Ok(Lively {
        ordering,
        frames: frames.load(Ordering::Relaxed),
    })
}
