//! The end of a queue's idle subscribers: thousands, each with a letter that it does not acknowledge,
//! whose sockets all close at once. Each letter goes back, and there is nobody to take it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::attacks::say;
use super::honest::Honest;
use crate::Verdict;
use crate::process::Program;
use crate::socket::{self, Reader};

const CONNECTIONS: usize = 400;

/// Subscriptions of each connection, as many as a session may have.
const EACH: usize = 128;

const DESTINATION: &str = "/queue/one";

/// How long others are measured for, from the end on.
const AFTER: Duration = Duration::from_secs(5);

const ROUNDS: usize = 3;

const P99_MAX: Duration = Duration::from_millis(50);

pub(crate) async fn measure(server: &Path) -> Result<Verdict> {
    let data = tempfile::tempdir()?;
    let options = ["--subscribers-per-destination", "0", "--message-rate", "0"];
    let program = Program::server_with(server, data.path(), &options)?;
    let mut p99 = Duration::ZERO;
    let mut figure = String::new();
    for round in 1..=ROUNDS {
        let honest = Honest::start(program.address)?;
        let subscribers = subscribe(program.address).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        honest.begin();
        drop(subscribers);
        tokio::time::sleep(AFTER).await;
        let honest = honest.end()?;
        let words = format!(
            "{honest}, at most {:.1} ms",
            honest.max().as_secs_f64() * 1e3
        );
        println!("  queue's end {round}: {words}");
        if honest.p99() >= p99 {
            p99 = honest.p99();
            figure = words;
        }
    }
    Ok(Verdict {
        what: "the end of 51,200 idle subscriptions of a queue, the worst of 3",
        figure,
        target: "p99 under 50 ms",
        is_reached: p99 < P99_MAX,
    })
}

/// Opens the connections, and waits until each subscription has its letter.
async fn subscribe(address: SocketAddr) -> Result<Vec<Reader>> {
    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        opening.spawn(async move {
            let mut reader = Reader::new(socket::open(address, "/ws/chat").await?);
            let mut frames = "CONNECT\naccept-version:1.2\nhost:bench\n\n\0".to_owned();
            for id in 0..EACH {
                frames.push_str(&format!(
                    "SUBSCRIBE\nid:{id}\ndestination:{DESTINATION}\nack:client-individual\n\
                     prefetch-count:1\nreceipt:{id}\n\n\0"
                ));
            }
            say(&mut reader, &frames).await?;
            count(&mut reader, b"RECEIPT\n").await?;
            Ok::<_, anyhow::Error>(reader)
        });
    }
    let mut readers = Vec::with_capacity(CONNECTIONS);
    while let Some(opened) = opening.join_next().await {
        readers.push(opened??);
    }
    let mut speaker = Reader::new(socket::open(address, "/ws/chat").await?);
    say(
        &mut speaker,
        "CONNECT\naccept-version:1.2\nhost:bench\n\n\0",
    )
    .await?;
    let send = format!("SEND\ndestination:{DESTINATION}\n\nx\0").repeat(EACH);
    for _ in 0..CONNECTIONS {
        say(&mut speaker, &send).await?;
    }
    for reader in &mut readers {
        count(reader, b"MESSAGE\n").await?;
    }
    Ok(readers)
}

/// Reads on until a frame of this kind has come for each subscription.
async fn count(reader: &mut Reader, beginning: &[u8]) -> Result<()> {
    let mut seen = 0;
    while seen < EACH {
        let more = reader.read(|message| {
            seen += usize::from(message.starts_with(beginning));
            Ok(())
        });
        if !more.await? {
            bail!("the connection ended");
        }
    }
    Ok(())
}
