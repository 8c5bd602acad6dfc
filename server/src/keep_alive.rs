//! How long a connection may wait for a request to begin, and how long a request's head may take.
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

/// How long a connection may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// For the first octet of a request; zero closes the connection after each answer.
    pub(crate) idle: Duration,
    /// For the head of a request, from its first octet on.
    pub(crate) head: Duration,
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
            .header_read_timeout(self.head)
            .keep_alive(!self.idle.is_zero());
        let io = TokioIo::new(stream);
        (Watched { io, has_come }, builder)
    }
}

/// A TCP connection that tells its timer when octets have come.
#[derive(Debug)]
pub(crate) struct Watched {
    io: TokioIo<TcpStream>,
    has_come: Arc<AtomicBool>,
}

impl Watched {
    pub(crate) fn into_inner(self) -> TcpStream {
        self.io.into_inner()
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
        Pin::new(&mut self.io).poll_write(cx, octets)
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
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
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
            sleep: Box::pin(tokio::time::sleep(self.waits.idle)),
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
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun && self.has_come.load(Ordering::Relaxed) {
            self.has_begun = true;
            let end = tokio::time::Instant::now() + self.head;
            self.sleep.as_mut().reset(end);
        }
        self.sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &str = "ok";

    /// Serves one connection after another, and gives a connection.
    async fn connect(waits: Waits) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(|body: String| async move {
            tokio::time::sleep(Duration::from_millis(body.parse().unwrap_or(0))).await;
            ANSWER
        });
        tokio::spawn(crate::accept(listener, app, waits));
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

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_millis(1_500);

    #[tokio::test]
    async fn an_idle_connection_lives_longer_than_a_slow_head() {
        let (idle, head) = (LONG, SHORT);
        let mut stream = connect(Waits { idle, head }).await;
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
            let mut stream = connect(Waits { idle, head }).await;
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
        let mut stream = connect(Waits { idle, head }).await;
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
        let mut stream = connect(Waits { idle, head }).await;
        tokio::time::sleep(SHORT).await;
        assert!(ask(&mut stream, "0").await);
        assert!(end(&mut stream).await < LONG);
    }
}
