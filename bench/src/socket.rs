//! A bare WebSocket client: frames are made and counted here, so that the load costs little.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Opens a WebSocket (RFC 6455, section 4.1).
pub(crate) async fn open(address: SocketAddr, path: &str) -> Result<TcpStream> {
    upgrade(TcpStream::connect(address).await?, address, path).await
}

/// Makes a WebSocket of a connection to `address`.
pub(crate) async fn upgrade(
    mut stream: TcpStream,
    address: SocketAddr,
    path: &str,
) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        bail!("no upgrade: {}", String::from_utf8_lossy(&head));
    }
    Ok(stream)
}

/// Adds a text message with a mask of zeros (RFC 6455, section 5.3).
pub(crate) fn mask(payload: &[u8], out: &mut Vec<u8>) {
    begin(payload.len(), 0x80, out);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Adds a text message as a server sends it.
pub(crate) fn frame(payload: &[u8], out: &mut Vec<u8>) {
    begin(payload.len(), 0, out);
    out.extend_from_slice(payload);
}

fn begin(length: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(0x81);
    match u16::try_from(length) {
        Ok(length) if length < 126 => out.push(masked | length as u8),
        Ok(length) => {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Where the first frame's payload lies in `octets`, and whether it is masked; `None` when the frame
/// is not whole.
pub(crate) fn payload(octets: &[u8]) -> Option<(std::ops::Range<usize>, bool)> {
    let (length, start) = match octets.get(1)? & 0x7F {
        126 => (
            u16::from_be_bytes(octets.get(2..4)?.try_into().ok()?) as usize,
            4,
        ),
        127 => (
            u64::from_be_bytes(octets.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        length => (length as usize, 2),
    };
    let is_masked = octets[1] & 0x80 != 0;
    let start = start + if is_masked { 4 } else { 0 };
    (octets.len() >= start + length).then_some((start..start + length, is_masked))
}

/// A socket whose messages are shown one after the other.
pub(crate) struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Reader {
            stream,
            buffer: Vec::with_capacity(64 << 10),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what is there and shows each whole message; false at the end.
    pub(crate) async fn read(&mut self, mut show: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Ok(false);
        }
        let mut start = 0;
        while let Some((range, _)) = payload(&self.buffer[start..]) {
            show(&self.buffer[start + range.start..start + range.end])?;
            start += range.end;
        }
        self.buffer.drain(..start);
        Ok(true)
    }

    /// Reads on until one message begins with this.
    pub(crate) async fn expect(&mut self, beginning: &[u8]) -> Result<()> {
        let mut is_found = false;
        while !is_found {
            let more = self.read(|message| {
                is_found |= message.starts_with(beginning);
                Ok(())
            });
            if !more.await? {
                bail!("the connection ended");
            }
        }
        Ok(())
    }
}
