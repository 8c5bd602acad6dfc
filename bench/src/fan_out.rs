//! Fan-out over real sockets: deliveries per second of the program's processor time, the server's
//! held against the bare copier's in each round. Both get the same load: each room's sender keeps so
//! many messages under way that all its readers do not have yet, and each delivery is checked for
//! its order. The server stores each message durably before it delivers it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::Verdict;
use crate::idle::subscribe;
use crate::process::{Program, has_two_cores};
use crate::socket::{self, Reader};

/// The text of a message, in octets.
const TEXT_BYTES: usize = 128;

/// Messages of one room under way.
const WINDOW: u64 = 1_024;

/// Before it is measured, a side runs so long.
const WARM_UP: Duration = Duration::from_secs(1);

/// One message in so many is timed.
const TIMED: u64 = 64;

/// The digits of a message's number, and of the time when it was sent, in nanoseconds.
const DIGITS: usize = 16;

const RATIO_MIN: f64 = 0.5;

/// How many rooms, and readers in each.
pub(crate) struct Shape {
    pub(crate) rooms: usize,
    pub(crate) readers: usize,
}

#[derive(Clone, Copy)]
enum Side {
    Server,
    Copier,
}

/// What one side did in one round.
struct Run {
    per_cpu_second: f64,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

pub(crate) async fn measure(server: &Path, rounds: usize, seconds: u64) -> Result<Verdict> {
    if !has_two_cores() {
        println!("fan-out: there is one core only, which program and load share");
    }
    let mut first = None;
    for shape in [
        Shape {
            rooms: 1,
            readers: 100,
        },
        Shape {
            rooms: 10,
            readers: 10,
        },
        Shape {
            rooms: 1,
            readers: 1_000,
        },
    ] {
        let ratios = compare(server, &shape, rounds, Duration::from_secs(seconds)).await?;
        first.get_or_insert(ratios);
    }
    let [min, median, max] = first.unwrap_or_default();
    Ok(Verdict {
        what: "fan-out 1 x 100, deliveries per CPU second, of the bare copier's",
        figure: format!("{median:.2} (from {min:.2} to {max:.2})"),
        target: "at least 0.50",
        is_reached: median >= RATIO_MIN,
    })
}

/// Runs both sides in turns; least, median and greatest ratio.
async fn compare(server: &Path, shape: &Shape, rounds: usize, time: Duration) -> Result<[f64; 3]> {
    println!(
        "fan-out {} x {}, texts of {TEXT_BYTES} octets:",
        shape.rooms, shape.readers
    );
    let mut ratios = Vec::new();
    for round in 0..rounds.max(1) {
        // Who goes first changes, so that neither has the quieter half.
        let mut sides = [Side::Copier, Side::Server];
        sides.rotate_left(round % 2);
        let mut per_cpu_second = [0.0; 2];
        for side in sides {
            let run = run(server, side, shape, time).await?;
            let name = match side {
                Side::Server => "server",
                Side::Copier => "copier",
            };
            println!(
                "  {name}: {:>9.0} deliveries per CPU second, {:>9.0} per second, \
                 p50 {:.1} ms, p99 {:.1} ms",
                run.per_cpu_second,
                run.per_second,
                run.p50.as_secs_f64() * 1e3,
                run.p99.as_secs_f64() * 1e3
            );
            per_cpu_second[side as usize] = run.per_cpu_second;
        }
        ratios.push(per_cpu_second[0] / per_cpu_second[1]);
    }
    ratios.sort_by(f64::total_cmp);
    let (min, median, max) = (
        ratios[0],
        ratios[ratios.len() / 2],
        ratios[ratios.len() - 1],
    );
    println!("  ratio: min {min:.2}, median {median:.2}, max {max:.2}");
    Ok([min, median, max])
}

/// What a room's sender and readers know of one another.
struct Room {
    /// Messages that each reader has.
    delivered: RefCell<Vec<u64>>,
    sent: Cell<u64>,
    progress: Notify,
}

/// What is counted over all rooms.
struct Count {
    deliveries: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
    begin: Instant,
    is_over: Cell<bool>,
}

impl Default for Count {
    fn default() -> Self {
        Count {
            deliveries: Cell::new(0),
            latencies: RefCell::default(),
            begin: Instant::now(),
            is_over: Cell::new(false),
        }
    }
}

async fn run(server: &Path, side: Side, shape: &Shape, time: Duration) -> Result<Run> {
    rlimit::increase_nofile_limit(4_096)?;
    let data = tempfile::tempdir()?;
    let program = match side {
        Side::Server => Program::server(server, data.path())?,
        Side::Copier => Program::copier()?,
    };
    let count = Rc::new(Count::default());
    let tasks = tokio::task::LocalSet::new();
    let measuring = async {
        let mut running = tokio::task::JoinSet::new();
        for room in 0..shape.rooms {
            let name = match side {
                Side::Server => make_room(program.address, &format!("room {room}")).await?,
                Side::Copier => room.to_string(),
            };
            start(
                &mut running,
                program.address,
                side,
                name,
                shape.readers,
                &count,
            )
            .await?;
        }
        tokio::time::sleep(WARM_UP).await;
        count.latencies.borrow_mut().clear();
        let (begin, cpu, deliveries) = (Instant::now(), program.cpu()?, count.deliveries.get());
        tokio::time::sleep(time).await;
        let (elapsed, cpu) = (begin.elapsed(), program.cpu()? - cpu);
        let deliveries = (count.deliveries.get() - deliveries) as f64;
        count.is_over.set(true);
        // A task that has ended by now has ended by a fault.
        while let Some(ended) = running.try_join_next() {
            ended??;
        }
        if deliveries == 0.0 {
            bail!("nothing was delivered");
        }
        let mut latencies = count.latencies.borrow_mut();
        latencies.sort();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index).copied().unwrap_or_default()
        };
        Ok(Run {
            per_cpu_second: deliveries / cpu.as_secs_f64(),
            per_second: deliveries / elapsed.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
        })
    };
    tasks.run_until(measuring).await
}

/// Puts a server under this load for so long, then closes its connections; what it delivered.
pub(crate) async fn strain(address: SocketAddr, shape: &Shape, time: Duration) -> Result<u64> {
    let count = Rc::new(Count::default());
    let straining = async {
        let mut running = tokio::task::JoinSet::new();
        for room in 0..shape.rooms {
            let name = make_room(address, &format!("room {room}")).await?;
            let side = Side::Server;
            start(&mut running, address, side, name, shape.readers, &count).await?;
        }
        tokio::time::sleep(time).await;
        count.is_over.set(true);
        while let Some(ended) = running.try_join_next() {
            ended??;
        }
        Ok(count.deliveries.get())
    };
    tokio::task::LocalSet::new().run_until(straining).await
}

/// Starts the readers of a room, then its sender.
async fn start(
    running: &mut tokio::task::JoinSet<Result<()>>,
    address: SocketAddr,
    side: Side,
    name: String,
    readers: usize,
    count: &Rc<Count>,
) -> Result<()> {
    let room = Rc::new(Room {
        delivered: RefCell::new(vec![0; readers]),
        sent: Cell::new(0),
        progress: Notify::new(),
    });
    for index in 0..readers {
        let reader = match side {
            Side::Server => {
                let mut reader = Reader::new(socket::open(address, "/ws/chat").await?);
                subscribe(&mut reader, &name, "0,0").await?;
                reader
            }
            Side::Copier => Reader::new(socket::open(address, &format!("/read/{name}")).await?),
        };
        running.spawn_local(read(reader, index, Rc::clone(&room), Rc::clone(count)));
    }
    running.spawn_local(send(address, side, name, room, Rc::clone(count)));
    Ok(())
}

async fn read(mut reader: Reader, index: usize, room: Rc<Room>, count: Rc<Count>) -> Result<()> {
    let mut due = Number::default();
    loop {
        let mut number = room.delivered.borrow()[index];
        let before = number;
        let more = reader.read(|message| {
            // A ping: it takes long to open them all.
            if message.is_empty() {
                return Ok(());
            }
            let at = memchr::memchr(b'#', message).context("a message without its stamp")? + 1;
            if message.get(at..at + DIGITS) != Some(&due.0[..]) {
                let came = String::from_utf8_lossy(message);
                bail!("where {number} was due came {came}");
            }
            if number.is_multiple_of(TIMED) {
                let sent = sent_at(&message[at + DIGITS..]).context("no time in the stamp")?;
                let latency = count.begin.elapsed().saturating_sub(sent);
                count.latencies.borrow_mut().push(latency);
            }
            number += 1;
            due.increment();
            Ok(())
        });
        if !more.await? {
            bail!("a reader's connection ended");
        }
        count
            .deliveries
            .set(count.deliveries.get() + number - before);
        let slowest = {
            let mut delivered = room.delivered.borrow_mut();
            delivered[index] = number;
            delivered.iter().copied().min().unwrap_or(0)
        };
        if room.sent.get() < slowest + WINDOW / 2 {
            room.progress.notify_waiters();
        }
    }
}

async fn send(
    address: SocketAddr,
    side: Side,
    name: String,
    room: Rc<Room>,
    count: Rc<Count>,
) -> Result<()> {
    let path = match side {
        Side::Server => "/ws/chat".to_owned(),
        Side::Copier => format!("/send/{name}"),
    };
    let mut stream = socket::open(address, &path).await?;
    let mut out = Vec::new();
    if matches!(side, Side::Server) {
        socket::mask(b"CONNECT\naccept-version:1.2\nhost:bench\n\n\0", &mut out);
    }
    while !count.is_over.get() {
        let progress = room.progress.notified();
        let slowest = room.delivered.borrow().iter().copied().min().unwrap_or(0);
        while room.sent.get() < slowest + WINDOW {
            let number = room.sent.get();
            let text = text(number, count.begin.elapsed());
            let payload = match side {
                Side::Server => send_frame(&name, &text),
                Side::Copier => message_frame(&name, number, &text),
            };
            socket::mask(payload.as_bytes(), &mut out);
            room.sent.set(number + 1);
        }
        stream.write_all(&out).await?;
        out.clear();
        progress.await;
    }
    Ok(())
}

/// A text that carries its number in the room and when it was sent.
fn text(number: u64, sent: Duration) -> String {
    let stamp = format!("#{number:0DIGITS$}{:0DIGITS$}", sent.as_nanos());
    format!("{stamp:-<TEXT_BYTES$}")
}

/// When a message was sent, by the digits that follow its number.
fn sent_at(digits: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(digits.get(..DIGITS)?).ok()?;
    Some(Duration::from_nanos(digits.parse().ok()?))
}

/// A number as [`text`] writes it: the load must cost little, so nothing is parsed.
struct Number([u8; DIGITS]);

impl Default for Number {
    fn default() -> Self {
        Number([b'0'; DIGITS])
    }
}

impl Number {
    fn increment(&mut self) {
        for digit in self.0.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}

fn send_frame(room: &str, text: &str) -> String {
    format!(
        "SEND\ndestination:/app/chat/sendMessage\n\n\
         {{\"type\":\"TALK\",\"roomId\":\"{room}\",\"sender\":\"bench\",\"message\":\"{text}\"}}\0"
    )
}

/// What the server's MESSAGE would be, so that the copier moves as many octets.
fn message_frame(room: &str, number: u64, text: &str) -> String {
    const ID: &str = "01a20a31-5ef8-7505-a210-7d2a07c79c6f";
    let room = format!("{room:0>36}");
    let body = format!(
        "{{\"type\":\"TALK\",\"roomId\":\"{room}\",\"sender\":\"bench\",\"message\":\"{text}\",\
         \"id\":\"{ID}\",\"seq\":{number},\"sentAt\":\"2026-11-23T20:55:37.464Z\"}}"
    );
    format!(
        "MESSAGE\nsubscription:0\ndestination:/topic/chat/room/{room}\n\
         content-type:application/json\nmessage-id:{ID}\nx-stream-offset:{number}\n\
         content-length:{}\n\n{body}\0",
        body.len()
    )
}

/// Makes a room; gives its id.
pub(crate) async fn make_room(address: SocketAddr, name: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let body = format!("{{\"roomName\":\"{name}\"}}");
    let request = format!(
        "POST /chat/room HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let id = answer
        .split("\"roomId\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    id.map(str::to_owned)
        .with_context(|| format!("no room: {answer}"))
}
