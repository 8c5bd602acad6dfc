//! How long a connection may wait for a request to begin, how long a request's head may take, and how
//! long an answer may wait for whoever reads it.
//!
//! hyper has one time-out for both, which runs from the end of an answer to the end of the next head.
//! Balancers keep their connections open for a minute and more, while a head that trickles in is
//! nobody's friend: the timer that hyper gets here tells the two apart by whether octets have come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::awake::{self, Alarm};

/// The most octets in the head of a request; past it hyper answers 431. No more of an answer waits in
/// hyper either, but for what is one piece.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most lines in the head of a request; past it 431. It is hyper's default, which needs no memory
/// of its own.
#[cfg(test)]
pub(crate) const HEADERS_MAX: usize = 100;

/// How long a connection may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// For the first octet of a request; zero closes the connection after each answer.
    pub(crate) idle: Duration,
    /// For the head of a request, from its first octet on.
    pub(crate) head: Duration,
    /// For the peer to take an octet of an answer, while some wait.
    pub(crate) stall: Duration,
}

impl Waits {
    /// Prepares a connection and the builder that serves it.
    pub(crate) fn watch(self, stream: TcpStream) -> (Watched, Builder) {
        let has_come = Arc::new(AtomicBool::new(false));
        let timer = HeadTimer {
            has_come: Arc::clone(&has_come),
            waits: Waits {
                idle: if self.idle.is_zero() {
                    self.head
                } else {
                    self.idle
                },
                ..self
            },
        };
        let mut builder = Builder::new();
        builder
            .timer(timer)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .header_read_timeout(self.head)
            .keep_alive(!self.idle.is_zero());
        let watched = Watched {
            io: TokioIo::new(stream),
            has_come,
            stall: self.stall,
            stalled: None,
        };
        (watched, builder)
    }
}

/// A TCP connection that tells its timer when octets have come, and fails when nobody takes what is
/// written.
#[derive(Debug)]
pub(crate) struct Watched {
    io: TokioIo<TcpStream>,
    has_come: Arc<AtomicBool>,
    stall: Duration,
    /// Runs while the peer takes nothing of what waits.
    stalled: Option<Alarm>,
}

impl Watched {
    pub(crate) fn into_inner(self) -> TcpStream {
        self.io.into_inner()
    }

    /// Fails a write that has waited for too long.
    fn bounded(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Alarm::new(awake::now() + stall));
        Pin::new(stalled).poll(cx).map(|()| {
            let words = "the peer takes nothing of the answer";
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        })
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.has_come.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, octets);
        self.bounded(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.bounded(cx, written)
    }
}

/// The timer of one connection. hyper asks it for a [`Sleep`] where it begins to wait for a head, and
/// polls that after each attempt to read; it uses it for nothing else.
struct HeadTimer {
    has_come: Arc<AtomicBool>,
    waits: Waits,
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.has_come.store(false, Ordering::Relaxed);
        Box::pin(HeadWait {
            has_come: Arc::clone(&self.has_come),
            head: self.waits.head,
            has_begun: false,
            alarm: Alarm::new(awake::now() + self.waits.idle),
        })
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.waits.head)
    }
}

/// Waits for a head: for its beginning, then for its end.
struct HeadWait {
    has_come: Arc<AtomicBool>,
    head: Duration,
    has_begun: bool,
    alarm: Alarm,
}

impl Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun && self.has_come.load(Ordering::Relaxed) {
            self.has_begun = true;
            let end = awake::now() + self.head;
            self.alarm.set(end);
        }
        Pin::new(&mut self.alarm).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::accept::Door;

    const ANSWER: &str = "ok";

    /// Serves one connection after another, and gives a connection.
    async fn connect(waits: Waits) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(|body: String| async move {
            tokio::time::sleep(Duration::from_millis(body.parse().unwrap_or(0))).await;
            ANSWER
        });
        tokio::spawn(crate::accept::accept(listener, Door::of(app, waits)));
        TcpStream::connect(address).await.unwrap()
    }

    /// Asks for an answer after so many milliseconds, and reads it; whether there was one.
    async fn ask(stream: &mut TcpStream, after_ms: &str) -> bool {
        let length = after_ms.len();
        let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return false;
        }
        stream.write_all(after_ms.as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).await.unwrap_or(0);
        answer[..length].ends_with(ANSWER.as_bytes())
    }

    /// How long it takes until the other side ends the connection.
    async fn end(stream: &mut TcpStream) -> Duration {
        let begun = Instant::now();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
        begun.elapsed()
    }

    fn waits(idle: Duration, head: Duration) -> Waits {
        Waits {
            idle,
            head,
            stall: LONG * 10,
        }
    }

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_millis(1_500);

    #[tokio::test]
    async fn an_idle_connection_lives_longer_than_a_slow_head() {
        let (idle, head) = (LONG, SHORT);
        let mut stream = connect(waits(idle, head)).await;
        for _ in 0..2 {
            tokio::time::sleep(SHORT * 2).await;
            assert!(ask(&mut stream, "0").await);
        }
        let lasted = end(&mut stream).await;
        assert!(lasted >= LONG - SHORT, "{lasted:?}");
    }

    #[tokio::test]
    async fn a_slow_head_ends_by_its_own_time() {
        let (idle, head) = (LONG * 10, SHORT);
        for is_first in [true, false] {
            let mut stream = connect(waits(idle, head)).await;
            if !is_first {
                assert!(ask(&mut stream, "0").await);
                tokio::time::sleep(SHORT * 2).await;
            }
            stream.write_all(b"GET / HT").await.unwrap();
            let lasted = end(&mut stream).await;
            assert!(lasted >= SHORT / 2 && lasted < LONG * 5, "{lasted:?}");
        }
    }

    #[tokio::test]
    async fn nothing_but_the_wait_for_a_head_times_out() {
        let (idle, head) = (SHORT, SHORT);
        let mut stream = connect(waits(idle, head)).await;
        assert!(ask(&mut stream, "900").await, "a slow answer");
        let head = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for octet in [b"0", b"0", b"1"] {
            tokio::time::sleep(SHORT).await;
            stream.write_all(octet).await.unwrap();
        }
        let length = stream.read(&mut [0; 512]).await.unwrap();
        assert!(length > 0, "a slow body is answered");
    }

    #[tokio::test]
    async fn zero_ends_a_connection_after_its_answer() {
        let (idle, head) = (Duration::ZERO, LONG);
        let mut stream = connect(waits(idle, head)).await;
        tokio::time::sleep(SHORT).await;
        assert!(ask(&mut stream, "0").await);
        assert!(end(&mut stream).await < LONG);
    }

    #[tokio::test]
    async fn a_head_that_trickles_ends_by_the_same_time() {
        let mut stream = connect(waits(LONG * 10, LONG)).await;
        let begun = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
            assert!(begun.elapsed() < LONG * 10, "it is still read");
        }
        assert!(begun.elapsed() >= LONG / 2, "{:?}", begun.elapsed());
    }

    /// What a head is answered with, line by line.
    async fn status(head: String) -> String {
        let mut stream = connect(waits(LONG * 10, LONG * 10)).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The rest may be reset, as the other side does not read it.
        let _ = stream.read_buf(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_head_is_bounded_in_octets_and_in_lines() {
        let begin = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
        let of_octets = |octets: usize| {
            let padding = octets - begin.len() - "x: \r\n\r\n".len();
            format!("{begin}x: {}\r\n\r\n", "y".repeat(padding))
        };
        let ok = "HTTP/1.1 200 OK";
        assert_eq!(status(of_octets(HEAD_BYTES_MAX)).await, ok);
        let too_large = "HTTP/1.1 431 Request Header Fields Too Large";
        assert_eq!(status(of_octets(HEAD_BYTES_MAX + 1)).await, too_large);
        let of_lines = |lines: usize| format!("{begin}{}\r\n", "x: y\r\n".repeat(lines - 2));
        assert_eq!(status(of_lines(HEADERS_MAX)).await, ok);
        assert_eq!(status(of_lines(HEADERS_MAX + 1)).await, too_large);
    }

    /// More than the buffers of a connection hold.
    const LARGE: usize = 32 << 20;

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_dropped_and_a_slow_reader_is_not() {
        let (told, mut dropped) = tokio::sync::mpsc::unbounded_channel();
        struct Tells(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Tells {
            fn drop(&mut self) {
                // The test may be over.
                let _ = self.0.send(());
            }
        }
        impl AsRef<[u8]> for Tells {
            fn as_ref(&self) -> &[u8] {
                static OCTETS: [u8; LARGE] = [b'x'; LARGE];
                &OCTETS
            }
        }
        let app = axum::Router::new().fallback(move || {
            let answer = bytes::Bytes::from_owner(Tells(told.clone()));
            async move { answer }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waits = Waits {
            stall: LONG,
            ..waits(LONG * 10, LONG * 10)
        };
        tokio::spawn(crate::accept::accept(listener, Door::of(app, waits)));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
            stream.write_all(head).await.unwrap();
            stream
        };
        let begun = Instant::now();
        let _stalled = ask().await;
        let told = tokio::time::timeout(LONG * 20, dropped.recv()).await;
        assert!(matches!(told, Ok(Some(()))), "it is kept");
        assert!(begun.elapsed() >= LONG, "{:?}", begun.elapsed());

        let mut slow = ask().await;
        let mut piece = vec![0; LARGE / 8];
        for _ in 0..8 {
            // Together it takes longer than nothing may be taken.
            tokio::time::sleep(LONG / 4).await;
            slow.read_exact(&mut piece).await.unwrap();
        }
    }
}
