//! One HTTP request and its answer, read piece by piece as it comes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long anything may take that is expected to happen.
const SOON: Duration = Duration::from_secs(20);

/// A request that was sent, and as much of its answer as was read. Dropping it cuts it off.
pub(crate) struct Exchange {
    stream: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    rest: Rest,
}

/// How what follows of the body is told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    Length(usize),
    Chunks,
    ToTheEnd,
}

impl Exchange {
    /// Sends a request of HTTP/1.1 and reads the answer's head.
    pub(crate) async fn begin(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Self {
        let begun = Self::begin_with("HTTP/1.1", address, method, path, headers, body);
        begun.await.expect("an answer")
    }

    /// The same for a version, and a server that may have gone.
    pub(crate) async fn begin_with(
        version: &str,
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let mut head = format!("{method} {path} {version}\r\nhost: {address}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        let request = format!("{head}\r\n{}", body.unwrap_or_default());
        stream.write_all(request.as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let line = line(&mut stream).await?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut first = lines[0].split(' ');
        let status = first.nth(1).and_then(|status| status.parse().ok());
        let headers: Vec<_> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut exchange = Exchange {
            stream,
            status: status.expect("a status"),
            headers,
            rest: Rest::ToTheEnd,
        };
        let has_no_body = matches!(exchange.status, 100..=199 | 204 | 304) || method == "HEAD";
        exchange.rest = if has_no_body {
            Rest::Length(0)
        } else if exchange.header("transfer-encoding") == Some("chunked") {
            Rest::Chunks
        } else if let Some(length) = exchange.header("content-length") {
            Rest::Length(length.parse().expect("a length"))
        } else {
            Rest::ToTheEnd
        };
        Ok(exchange)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The next piece of the body as the server sent it, in time; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        let piece = tokio::time::timeout(SOON, self.try_piece())
            .await
            .expect("a piece in time")
            .expect("a whole piece");
        piece.map(|octets| String::from_utf8(octets).expect("text"))
    }

    /// The next piece, whenever it comes.
    pub(crate) async fn try_piece(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let octets = match self.rest {
            Rest::Length(length) => {
                let mut octets = vec![0; length];
                self.stream.read_exact(&mut octets).await?;
                self.rest = Rest::Length(0);
                octets
            }
            Rest::Chunks => {
                let size = line(&mut self.stream).await?;
                let size = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
                let mut octets = vec![0; size];
                self.stream.read_exact(&mut octets).await?;
                line(&mut self.stream).await?;
                if size == 0 {
                    self.rest = Rest::Length(0);
                }
                octets
            }
            Rest::ToTheEnd => {
                let octets = self.stream.fill_buf().await?.to_vec();
                self.stream.consume(octets.len());
                octets
            }
        };
        Ok(Some(octets).filter(|octets| !octets.is_empty()))
    }

    /// All the rest of the body.
    pub(crate) async fn text(&mut self) -> String {
        let mut text = String::new();
        while let Some(piece) = self.piece().await {
            text.push_str(&piece);
        }
        text
    }
}

/// A line without its end; an error where the stream ends before.
async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    let read = tokio::time::timeout(SOON, stream.read_line(&mut line));
    if read.await.expect("a line in time")? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}
