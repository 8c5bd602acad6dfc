//! People who come and go: two thousand in one room, of which two hundred reload at once, and then as
//! many leave while others come. Told are what each of those who stay is sent for it, others' latencies
//! meanwhile, and how much the log has grown.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::Verdict;
use crate::fan_out::make_room;
use crate::hostile::honest::Honest;
use crate::process::Program;
use crate::socket::{self, Reader};

const STAYING: usize = 1_800;
const MOVING: usize = 200;

/// From the reload on: longer than the grace.
const AFTER: Duration = Duration::from_secs(15);

const P99_MAX: Duration = Duration::from_millis(50);
const FRAMES_MAX: f64 = 5.0;

/// What all who stay were sent.
#[derive(Default)]
struct Sent {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// Somebody in the room, until told to go.
struct Member {
    leave: oneshot::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

pub(crate) async fn measure(server: &Path) -> Result<Vec<Verdict>> {
    rlimit::increase_nofile_limit(8_192)?;
    let data = tempfile::tempdir()?;
    let program = Program::server(server, data.path())?;
    let room = make_room(program.address, "people").await?;
    let (sent, nobody) = (Arc::<Sent>::default(), Arc::<Sent>::default());
    let staying = enter(program.address, &room, 0..STAYING, &sent).await?;
    let moving = enter(program.address, &room, STAYING..STAYING + MOVING, &nobody).await?;
    println!(
        "presence: {} people in one room, of which {MOVING} move",
        STAYING + MOVING
    );
    // What is gathered of their coming is sent by then.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let begin = Figures::of(program.address, &room, &sent).await?;
    let honest = Honest::start(program.address)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    honest.begin();
    end(moving, false).await?;
    let moving = enter(program.address, &room, STAYING..STAYING + MOVING, &nobody).await?;
    tokio::time::sleep(AFTER).await;
    let reload = honest.end()?;
    let after_reload = Figures::of(program.address, &room, &sent).await?;

    let honest = Honest::start(program.address)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    honest.begin();
    end(moving, true).await?;
    let others = STAYING + MOVING..STAYING + 2 * MOVING;
    let moving = enter(program.address, &room, others, &nobody).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let change = honest.end()?;
    let after_change = Figures::of(program.address, &room, &sent).await?;
    end(moving, true).await?;
    end(staying, true).await?;

    let told = |from: &Figures, to: &Figures| {
        let frames = (to.frames - from.frames) as f64 / STAYING as f64;
        let bytes = (to.bytes - from.bytes) as f64 / STAYING as f64;
        let rows = to.rows - from.rows;
        (frames, bytes, rows)
    };
    let (frames, bytes, rows) = told(&begin, &after_reload);
    let words = format!(
        "{frames:.2} frames and {bytes:.0} bytes for each who stays, {rows} rows in the log; {reload}"
    );
    println!("  {MOVING} reload:          {words}");
    let mut verdicts = vec![Verdict {
        what: "200 of 2,000 people reload at once",
        figure: words,
        target: "at most 5 frames each, no row, p99 under 50 ms",
        is_reached: frames <= FRAMES_MAX && rows == 0 && reload.p99() < P99_MAX,
    }];
    let (frames, bytes, rows) = told(&after_reload, &after_change);
    let words = format!(
        "{frames:.2} frames and {bytes:.0} bytes for each who stays, {rows} rows in the log; {change}"
    );
    println!("  {MOVING} leave, {MOVING} come: {words}");
    verdicts.push(Verdict {
        what: "200 of 2,000 people leave, and as many come",
        figure: words,
        target: "at most 5 frames each, p99 under 50 ms",
        is_reached: frames <= FRAMES_MAX && change.p99() < P99_MAX,
    });
    Ok(verdicts)
}

struct Figures {
    frames: u64,
    bytes: u64,
    rows: u64,
}

impl Figures {
    async fn of(address: SocketAddr, room: &str, sent: &Sent) -> Result<Self> {
        Ok(Figures {
            frames: sent.frames.load(Ordering::Relaxed),
            bytes: sent.bytes.load(Ordering::Relaxed),
            rows: newest(address, room).await?,
        })
    }
}

/// The `seq` of the room's newest message.
async fn newest(address: SocketAddr, room: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /chat/room/{room}/messages?limit=1 HTTP/1.1\r\nhost: {address}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let seq = answer.rsplit_once("\"seq\":").map(|(_, rest)| rest);
    let digits = seq.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("no message: {answer}"))
}

/// Lets people enter, some at a time, and stay.
async fn enter(
    address: SocketAddr,
    room: &str,
    numbers: std::ops::Range<usize>,
    sent: &Arc<Sent>,
) -> Result<Vec<Member>> {
    let mut members = Vec::with_capacity(numbers.len());
    let mut entering = JoinSet::new();
    for number in numbers {
        let (room, sent) = (room.to_owned(), Arc::clone(sent));
        entering.spawn(async move { Member::enter(address, &room, number, sent).await });
        if entering.len() >= 100
            && let Some(member) = entering.join_next().await
        {
            members.push(member??);
        }
    }
    while let Some(member) = entering.join_next().await {
        members.push(member??);
    }
    Ok(members)
}

/// Lets them go, with LEAVE or without a word.
async fn end(members: Vec<Member>, says: bool) -> Result<()> {
    let mut tasks = Vec::with_capacity(members.len());
    for Member { leave, task } in members {
        // One that has ended by itself has an error to tell.
        let _ = leave.send(says);
        tasks.push(task);
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

impl Member {
    async fn enter(
        address: SocketAddr,
        room: &str,
        number: usize,
        sent: Arc<Sent>,
    ) -> Result<Self> {
        let mut reader = Reader::new(socket::open(address, "/ws/chat").await?);
        let act = |kind: &str| {
            format!(
                "SEND\ndestination:/app/chat/sendMessage\nreceipt:{kind}\n\n\
                 {{\"type\":\"{kind}\",\"roomId\":\"{room}\",\"sender\":\"member {number}\"}}\0"
            )
        };
        let frames = [
            "CONNECT\naccept-version:1.2\nhost:bench\n\n\0".to_owned(),
            format!("SUBSCRIBE\nid:0\ndestination:/topic/chat/room/{room}/participants\n\n\0"),
            act("ENTER"),
        ];
        say(&mut reader, &frames).await?;
        reader.expect(b"RECEIPT\n").await?;
        let farewell = act("LEAVE");
        let (leave, mut left) = oneshot::channel();
        let task = tokio::spawn(async move {
            let says = loop {
                tokio::select! {
                    says = &mut left => break says.unwrap_or(false),
                    more = reader.read(|message| {
                        if message.starts_with(b"MESSAGE\n") {
                            sent.frames.fetch_add(1, Ordering::Relaxed);
                            sent.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
                        }
                        Ok(())
                    }) => anyhow::ensure!(more?, "a member's connection ended"),
                }
            };
            if says {
                say(&mut reader, &[farewell]).await?;
                reader.expect(b"RECEIPT\n").await?;
            }
            Ok(())
        });
        Ok(Member { leave, task })
    }
}

async fn say(reader: &mut Reader, frames: &[String]) -> Result<()> {
    let mut out = Vec::new();
    for frame in frames {
        socket::mask(frame.as_bytes(), &mut out);
    }
    Ok(reader.stream().write_all(&out).await?)
}
