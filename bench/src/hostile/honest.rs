//! Honest people: pairs who talk in rooms of their own, and one who asks `/healthz`, on a thread of
//! their own, so that the load beside them is not counted as theirs.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fan_out::make_room;
use crate::idle::subscribe;
use crate::socket::{self, Reader};

const PAIRS: usize = 4;

/// How often each of them does something.
const PACE: Duration = Duration::from_millis(100);

/// After so long a message or an answer counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// They do what honest people do until they are ended.
pub(crate) struct Honest {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Shared {
    is_counting: AtomicBool,
    is_over: AtomicBool,
    messages: Mutex<Vec<Duration>>,
    answers: Mutex<Vec<Duration>>,
}

/// How long their messages and answers took.
pub(crate) struct Latencies {
    messages: Vec<Duration>,
    answers: Vec<Duration>,
}

impl Honest {
    pub(crate) fn start(address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::spawn(move || runtime.block_on(live(address, &theirs)));
        Ok(Honest { shared, thread })
    }

    /// From now on it counts.
    pub(crate) fn begin(&self) {
        self.shared.is_counting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(self) -> Result<Latencies> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the honest ones panicked"))??;
        let take = |latencies: &Mutex<Vec<Duration>>| {
            let mut taken =
                std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
            taken.sort();
            taken
        };
        let messages = take(&self.shared.messages);
        let answers = take(&self.shared.answers);
        if messages.is_empty() || answers.is_empty() {
            bail!("nothing honest was measured");
        }
        Ok(Latencies { messages, answers })
    }
}

impl Shared {
    fn note(&self, latencies: &Mutex<Vec<Duration>>, latency: Duration) {
        if self.is_counting.load(Ordering::Relaxed) {
            let latencies = latencies.lock();
            latencies
                .unwrap_or_else(PoisonError::into_inner)
                .push(latency);
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

async fn live(address: SocketAddr, shared: &Arc<Shared>) -> Result<()> {
    let mut living = JoinSet::new();
    for pair in 0..PAIRS {
        living.spawn(talk(address, pair, Arc::clone(shared)));
    }
    living.spawn(ask(address, Arc::clone(shared)));
    while let Some(ended) = living.join_next().await {
        ended??;
    }
    Ok(())
}

/// One sends, the other reads, again and again.
async fn talk(address: SocketAddr, pair: usize, shared: Arc<Shared>) -> Result<()> {
    let room = make_room(address, &format!("honest {pair}")).await?;
    let mut reader = Reader::new(socket::open(address, "/ws/chat").await?);
    subscribe(&mut reader, &room, "0,0").await?;
    let mut sender = Reader::new(socket::open(address, "/ws/chat").await?);
    subscribe(&mut sender, &room, "0,0").await?;
    let frame = format!(
        "SEND\ndestination:/app/chat/sendMessage\n\n\
         {{\"type\":\"TALK\",\"roomId\":\"{room}\",\"sender\":\"honest\",\"message\":\"hello\"}}\0"
    );
    let mut out = Vec::new();
    socket::mask(frame.as_bytes(), &mut out);
    while !shared.is_over() {
        let sent = Instant::now();
        sender.stream().write_all(&out).await?;
        let came = async {
            reader.expect(b"MESSAGE\n").await?;
            sender.expect(b"MESSAGE\n").await
        };
        let came = tokio::time::timeout(PATIENCE, came).await;
        came.context("an honest message was lost")??;
        shared.note(&shared.messages, sent.elapsed());
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// One asks how the server is, each time on a new connection.
async fn ask(address: SocketAddr, shared: Arc<Shared>) -> Result<()> {
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    while !shared.is_over() {
        let asked = Instant::now();
        let answer = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.context("an honest request was not answered")??;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("an honest request was refused: {answer}");
        }
        shared.note(&shared.answers, asked.elapsed());
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

impl Latencies {
    /// The longest of all.
    pub(crate) fn max(&self) -> Duration {
        at(&self.messages, 1.0).max(at(&self.answers, 1.0))
    }

    /// The greater one of messages and answers.
    pub(crate) fn p99(&self) -> Duration {
        at(&self.messages, 0.99).max(at(&self.answers, 0.99))
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |latencies: &[Duration]| {
            let ms = |share| at(latencies, share).as_secs_f64() * 1e3;
            format!("{:.1} and {:.1} ms", ms(0.5), ms(0.99))
        };
        let (messages, answers) = (pair(&self.messages), pair(&self.answers));
        write!(f, "messages {messages}, requests {answers}")
    }
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)]
}
