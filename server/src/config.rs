//! What can be set, by option or by environment, read once at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;

/// Sarangbang: a chat server. Serves the pages, the room API, and STOMP over WebSocket and SockJS.
#[derive(Clone, Debug, Parser)]
#[command(name = "sarangbang", version, about)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one, which the first log line names
    #[arg(long, env = "SARANGBANG_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The folder that holds rooms and messages; made if missing
    #[arg(long, env = "SARANGBANG_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Origins besides the server's own whose pages may connect, comma-separated; `*` for all
    #[arg(long, env = "SARANGBANG_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,

    /// Proxies whose X-Forwarded-For, -Host and -Proto are believed, comma-separated: addresses or
    /// networks such as 10.0.0.0/8
    #[arg(
        long,
        env = "SARANGBANG_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// Chat messages a second that one session may send; 0 for no limit
    #[arg(long, env = "SARANGBANG_MESSAGE_RATE", default_value_t = 20)]
    pub message_rate: u32,

    /// Chat messages that one session may send in a burst
    #[arg(long, env = "SARANGBANG_MESSAGE_BURST", default_value_t = 60)]
    pub message_burst: u32,

    /// Rooms a minute that one address may make; 0 for no limit
    #[arg(long, env = "SARANGBANG_ROOM_RATE", default_value_t = 60)]
    pub room_rate: u32,

    /// The most bytes in a STOMP frame
    #[arg(long, env = "SARANGBANG_FRAME_BYTES_MAX", default_value_t = 65_536)]
    pub frame_bytes_max: usize,

    /// The most bytes in a STOMP frame before CONNECTED
    #[arg(
        long,
        env = "SARANGBANG_CONNECT_FRAME_BYTES_MAX",
        default_value_t = 16_384
    )]
    pub connect_frame_bytes_max: usize,

    /// The most headers in a STOMP frame
    #[arg(long, env = "SARANGBANG_HEADERS_MAX", default_value_t = 64)]
    pub headers_max: usize,

    /// The most bytes in one header line
    #[arg(
        long,
        env = "SARANGBANG_HEADER_LINE_BYTES_MAX",
        default_value_t = 8_192
    )]
    pub header_line_bytes_max: usize,

    /// The most bytes in a WebSocket message, or in the body of a SockJS request
    #[arg(long, env = "SARANGBANG_PAYLOAD_BYTES_MAX", default_value_t = 262_144)]
    pub payload_bytes_max: usize,

    /// Milliseconds in which a client must send CONNECT
    #[arg(long, env = "SARANGBANG_CONNECT_TIMEOUT_MS", default_value_t = 10_000)]
    pub connect_timeout_ms: u64,

    /// The heart-beat that the server offers and asks for, in milliseconds; 0 for none
    #[arg(long, env = "SARANGBANG_HEART_BEAT_MS", default_value_t = 10_000)]
    pub heart_beat_ms: u32,

    /// Milliseconds of silence after which a WebSocket is pinged; a client that answers nothing for
    /// three times as long is dropped, whatever heart-beat it asked for
    #[arg(
        long,
        env = "SARANGBANG_PING_INTERVAL_MS",
        default_value_t = 25_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub ping_interval_ms: u64,

    /// The most subscriptions of a session
    #[arg(long, env = "SARANGBANG_SUBSCRIPTIONS_MAX", default_value_t = 128)]
    pub subscriptions_max: usize,

    /// Whether plain destinations (/topic/…, /queue/…) are open to everybody
    #[arg(
        long,
        env = "SARANGBANG_PLAIN_DESTINATIONS",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub plain_destinations: bool,

    /// The largest prefetch-count of a subscription
    #[arg(long, env = "SARANGBANG_PREFETCH_MAX", default_value_t = 1_000)]
    pub prefetch_max: u16,

    /// The most open transactions of a session
    #[arg(long, env = "SARANGBANG_TRANSACTIONS_MAX", default_value_t = 16)]
    pub transactions_max: usize,

    /// The most frames in one transaction
    #[arg(
        long,
        env = "SARANGBANG_TRANSACTION_FRAMES_MAX",
        default_value_t = 1_000
    )]
    pub transaction_frames_max: usize,

    /// The most bytes in one transaction
    #[arg(
        long,
        env = "SARANGBANG_TRANSACTION_BYTES_MAX",
        default_value_t = 1_048_576
    )]
    pub transaction_bytes_max: usize,

    /// The most bytes of what is not stored that wait for one slow reader
    #[arg(
        long,
        env = "SARANGBANG_SLOW_READER_BYTES_MAX",
        default_value_t = 524_288
    )]
    pub slow_reader_bytes_max: usize,

    /// Milliseconds after which a peer that takes no byte, while some wait, is dropped
    #[arg(long, env = "SARANGBANG_STALL_TIMEOUT_MS", default_value_t = 30_000)]
    pub stall_timeout_ms: u64,

    /// Where SockJS's iframe page loads the client's script from: the version of the pages that embed it
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_CLIENT_URL",
        default_value = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"
    )]
    pub sockjs_client_url: String,

    /// Sets the cookie JSESSIONID on SockJS sessions, for load balancers that keep sessions by it
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_SESSION_COOKIE",
        default_value_t = false
    )]
    pub sockjs_session_cookie: bool,

    /// Bytes after which a streaming request of SockJS ends and the next goes on
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_RESPONSE_BYTES_MAX",
        default_value_t = 131_072
    )]
    pub sockjs_response_bytes_max: usize,

    /// Milliseconds between two heart-beats of a SockJS receiver
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_HEART_BEAT_MS",
        default_value_t = 25_000
    )]
    pub sockjs_heart_beat_ms: u64,

    /// Milliseconds that a SockJS session lives without a receiver
    #[arg(long, env = "SARANGBANG_SOCKJS_DISCONNECT_MS", default_value_t = 5_000)]
    pub sockjs_disconnect_ms: u64,

    /// The most SockJS sessions of one address
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_SESSIONS_PER_ADDRESS",
        default_value_t = 1_000
    )]
    pub sockjs_sessions_per_address: usize,

    /// How the log is written
    #[arg(long, env = "SARANGBANG_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The form of the program's log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("`{text}` is no address and no network such as 10.0.0.0/8"))
}
