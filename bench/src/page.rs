//! The weight of the first page: its HTML and all that it loads before it can be used, as brotli.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Verdict;
use crate::process::Program;

const BYTES_MAX: usize = 170_000;

pub(crate) fn measure(server: &Path) -> Result<Verdict> {
    let data = tempfile::tempdir()?;
    let program = Program::server(server, data.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("first page, as brotli:");
    let (weight, _) = runtime.block_on(fetch(&program, "/chat/room", "br"))?;
    println!("  {weight:>8} bytes  /chat/room");
    let mut total = weight;
    let (_, html) = runtime.block_on(fetch(&program, "/chat/room", "identity"))?;
    let html = String::from_utf8(html)?;
    let files: BTreeSet<&str> = html
        .split(['"', '\''])
        .filter(|part| part.starts_with("/pkg-"))
        .collect();
    if !files.iter().any(|file| file.ends_with(".wasm")) {
        bail!("the server was built without the web client; use `cargo xtask build --release`");
    }
    for file in files {
        let (weight, _) = runtime.block_on(fetch(&program, file, "br"))?;
        println!("  {weight:>8} bytes  {file}");
        total += weight;
    }
    Ok(Verdict {
        what: "first page over the wire",
        figure: format!("{total} bytes"),
        target: "at most 170,000 bytes",
        is_reached: total <= BYTES_MAX,
    })
}

/// Gets a path; the size of the whole answer's body as it went over the wire, and its octets.
async fn fetch(program: &Program, path: &str, encoding: &str) -> Result<(usize, Vec<u8>)> {
    let mut stream = TcpStream::connect(program.address).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nhost: {}\r\naccept-encoding: {encoding}\r\n\r\n",
        program.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").context("no answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    if !head.contains(" 200 ") || !(encoding != "br" || head.contains("content-encoding: br")) {
        bail!("{path}: {head}");
    }
    let body = answer.split_off(end + 4);
    Ok((body.len(), body))
}
