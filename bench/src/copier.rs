//! The bare copier: one WebSocket message in, the same payload out to every reader of its room. No
//! STOMP, no storage, no sharing of work between threads; all that is ready for a socket goes out in
//! one write, straight from the room's ring.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::socket;

/// The octets that a room holds. A sender waits until its slowest reader has room for more.
const RING_BYTES: usize = 1 << 20;

struct Room {
    ring: RefCell<Ring>,
    filled: Notify,
    drained: Notify,
}

struct Ring {
    octets: Vec<u8>,
    /// Octets ever written.
    end: u64,
    /// Octets ever taken, by each reader.
    taken: Vec<u64>,
}

/// Serves until it is killed. `/read/{room}` gets what `/send/{room}` sends.
#[expect(
    clippy::print_stderr,
    reason = "it names its address as the server does"
)]
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let rooms: Rc<RefCell<HashMap<String, Rc<Room>>>> = Rc::default();
    let connections = tokio::task::LocalSet::new();
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let rooms = Rc::clone(&rooms);
            tokio::task::spawn_local(async move {
                // A peer that goes away ends its own task alone.
                let _ = connection(stream, &rooms).await;
            });
        }
    };
    connections.run_until(accepting).await
}

async fn connection(
    mut stream: TcpStream,
    rooms: &RefCell<HashMap<String, Rc<Room>>>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (role, room) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let room = Rc::clone(
        rooms
            .borrow_mut()
            .entry(room.to_owned())
            .or_insert_with(|| {
                let ring = Ring {
                    octets: vec![0; RING_BYTES],
                    end: 0,
                    taken: Vec::new(),
                };
                let (filled, drained) = (Notify::new(), Notify::new());
                Rc::new(Room {
                    ring: RefCell::new(ring),
                    filled,
                    drained,
                })
            }),
    );
    let reader = (role == "read").then(|| {
        let mut ring = room.ring.borrow_mut();
        let end = ring.end;
        ring.taken.push(end);
        ring.taken.len() - 1
    });
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    match reader {
        Some(reader) => read(stream, &room, reader).await,
        None => send(stream, &room).await,
    }
}

/// Copies from a sender into the ring.
async fn send(mut stream: TcpStream, room: &Room) -> Result<()> {
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut frames = Vec::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        let mut start = 0;
        while let Some((range, is_masked)) = socket::payload(&buffer[start..]) {
            let payload = start + range.start..start + range.end;
            if is_masked {
                let mask = [0, 1, 2, 3].map(|index| buffer[payload.start - 4 + index]);
                for (octet, mask) in buffer[payload.clone()].iter_mut().zip(mask.iter().cycle()) {
                    *octet ^= mask;
                }
            }
            socket::frame(&buffer[payload], &mut frames);
            start += range.end;
        }
        buffer.drain(..start);
        for part in frames.chunks(RING_BYTES / 2) {
            loop {
                let drained = room.drained.notified();
                if room.ring.borrow_mut().push(part) {
                    break;
                }
                drained.await;
            }
            room.filled.notify_waiters();
        }
        frames.clear();
    }
    Ok(())
}

/// Copies from the ring to a reader.
async fn read(stream: TcpStream, room: &Room, reader: usize) -> Result<()> {
    loop {
        let filled = room.filled.notified();
        while room.ring.borrow().ready(reader) > 0 {
            stream.writable().await?;
            let mut ring = room.ring.borrow_mut();
            match stream.try_write(ring.slice(reader)) {
                Ok(count) => ring.taken[reader] += count as u64,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        }
        room.drained.notify_waiters();
        filled.await;
    }
}

impl Ring {
    fn ready(&self, reader: usize) -> u64 {
        self.end - self.taken[reader]
    }

    /// What a reader has not taken yet, as far as it lies together.
    fn slice(&self, reader: usize) -> &[u8] {
        let start = (self.taken[reader] % RING_BYTES as u64) as usize;
        let count = (self.ready(reader) as usize).min(RING_BYTES - start);
        &self.octets[start..start + count]
    }

    /// Adds octets, if the slowest reader has room for them.
    fn push(&mut self, part: &[u8]) -> bool {
        let slowest = self.taken.iter().copied().min().unwrap_or(self.end);
        if self.end - slowest + part.len() as u64 > RING_BYTES as u64 {
            return false;
        }
        let start = (self.end % RING_BYTES as u64) as usize;
        let first = part.len().min(RING_BYTES - start);
        self.octets[start..start + first].copy_from_slice(&part[..first]);
        self.octets[..part.len() - first].copy_from_slice(&part[first..]);
        self.end += part.len() as u64;
        true
    }
}
