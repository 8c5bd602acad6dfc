//! What can be set, by option or by environment, read once at the start.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::base_path::BasePath;
use crate::listen::ListenAddress;
use crate::origin::{AllowedHost, AllowedOrigin};
use crate::sockjs::ClientUrl;

/// Sarangbang: a chat server. Serves the pages, the room API, and STOMP over WebSocket and SockJS.
#[derive(Clone, Debug, Parser)]
#[command(name = "sarangbang", version, about)]
pub struct Config {
    /// What to do instead of serving
    #[command(subcommand)]
    pub task: Option<Task>,

    /// Where to listen, as host and port; comma-separated, or given more than once, for several. Port
    /// 0 takes a free one, which the first log line names
    #[arg(
        long,
        env = "SARANGBANG_LISTEN",
        default_value = "127.0.0.1:8080",
        value_parser = List::<ListenAddress>::parse
    )]
    pub listen: Vec<List<ListenAddress>>,

    /// The path under which a proxy shows the server, such as /chat-app, whether the proxy takes it off
    /// or not; all addresses that are given out begin with it
    #[arg(long, env = "SARANGBANG_BASE_PATH", default_value_t = BasePath::default())]
    pub base_path: BasePath,

    /// The folder that holds rooms and messages; made if missing
    #[arg(
        long,
        env = "SARANGBANG_DATA_DIR",
        default_value = "./data",
        global = true
    )]
    pub data_dir: PathBuf,

    /// Starts on a database that is behind what was acknowledged: its newest messages are lost, or it
    /// is an older copy that was put back. It goes on from there, and clients are told by a new epoch.
    /// Changes nothing where nothing is missing
    #[arg(
        long,
        env = "SARANGBANG_ACCEPT_LOSS",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = parse_switch
    )]
    pub accept_loss: bool,

    /// Origins besides the server's own whose pages may connect, comma-separated, such as
    /// https://www.example.org; https://*.example.org for the hosts below one, `*` for all
    #[arg(
        long,
        env = "SARANGBANG_ALLOWED_ORIGINS",
        value_parser = List::<AllowedOrigin>::parse
    )]
    pub allowed_origins: Vec<List<AllowedOrigin>>,

    /// Names of the server that it answers to, comma-separated, such as chat.example.org; *.example.org
    /// for those below one, `*` for any. Besides these it answers to addresses, to localhost, and to the
    /// hosts of --allowed-origins; to others with 421
    #[arg(
        long,
        env = "SARANGBANG_HOSTS",
        value_parser = List::<AllowedHost>::parse
    )]
    pub hosts: Vec<List<AllowedHost>>,

    /// Proxies whose X-Forwarded-For, -Host, -Port and -Proto are believed, comma-separated: addresses or
    /// networks such as 10.0.0.0/8
    #[arg(
        long,
        env = "SARANGBANG_TRUSTED_PROXIES",
        value_parser = |text: &str| List::parse_with(text, parse_network)
    )]
    pub trusted_proxies: Vec<List<IpNet>>,

    /// Messages a second that one session may send; 0 for no limit. One to a plain destination counts
    /// once for each 4 KiB that are begun
    #[arg(long, env = "SARANGBANG_MESSAGE_RATE", default_value_t = 20)]
    pub message_rate: u32,

    /// Messages that one session may send in a burst
    #[arg(long, env = "SARANGBANG_MESSAGE_BURST", default_value_t = 60)]
    pub message_burst: u32,

    /// Milliseconds for which somebody is still in a room whose last connection has ended without LEAVE
    #[arg(long, env = "SARANGBANG_LEAVE_GRACE_MS", default_value_t = 10_000)]
    pub leave_grace_ms: u64,

    /// Rooms a minute that one address may make; 0 for no limit
    #[arg(long, env = "SARANGBANG_ROOM_RATE", default_value_t = 60)]
    pub room_rate: u32,

    /// The most bytes in a STOMP frame
    #[arg(long, env = "SARANGBANG_FRAME_BYTES_MAX", default_value_t = 65_536)]
    pub frame_bytes_max: usize,

    /// The most bytes in a STOMP frame before CONNECTED; a WebSocket message or the body of a SockJS
    /// request may then have 1,024 more
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
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = parse_switch
    )]
    pub plain_destinations: bool,

    /// The most subscriptions of one plain destination; 0 for no limit
    #[arg(
        long,
        env = "SARANGBANG_SUBSCRIBERS_PER_DESTINATION",
        default_value_t = 10_000
    )]
    pub subscribers_per_destination: usize,

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

    /// Milliseconds that a transaction may be open; then its session ends with an ERROR
    #[arg(
        long,
        env = "SARANGBANG_TRANSACTION_TIMEOUT_MS",
        default_value_t = 60_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub transaction_timeout_ms: u64,

    /// The most bytes of memory that the open transactions of all sessions hold together; past it whoever
    /// wants more gets an ERROR. One session may hold a quarter of what is left, and 64 KiB always
    #[arg(
        long,
        env = "SARANGBANG_OPEN_TRANSACTIONS_BYTES_MAX",
        default_value_t = 134_217_728
    )]
    pub open_transactions_bytes_max: usize,

    /// The most bytes of what is not stored that wait for one slow reader
    #[arg(
        long,
        env = "SARANGBANG_SLOW_READER_BYTES_MAX",
        default_value_t = 524_288
    )]
    pub slow_reader_bytes_max: usize,

    /// The most bytes of what is not stored that wait for all readers and at all queues together; past
    /// it each reader may have an eighth of its own, and queues hold nothing back
    #[arg(long, env = "SARANGBANG_PLAIN_BYTES_MAX", default_value_t = 67_108_864)]
    pub plain_bytes_max: usize,

    /// Milliseconds after which a peer that takes no byte, while some wait, is dropped
    #[arg(long, env = "SARANGBANG_STALL_TIMEOUT_MS", default_value_t = 30_000)]
    pub stall_timeout_ms: u64,

    /// The sockjs-client that SockJS's page for frames loads instead of those built in, which must be of the
    /// version of the pages that embed it: a path on this host, or an address with the hash of what is to be
    /// there, such as https://cdn.example.org/sockjs-client@1.6.1/sockjs.min.js#sha384-…
    #[arg(long, env = "SARANGBANG_SOCKJS_CLIENT_URL")]
    pub sockjs_client_url: Option<ClientUrl>,

    /// Sets the cookie JSESSIONID on SockJS sessions, for load balancers that keep sessions by it
    #[arg(
        long,
        env = "SARANGBANG_SOCKJS_SESSION_COOKIE",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = parse_switch
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

    /// Milliseconds that an HTTP connection is kept open between two requests: more than the idle time
    /// of the balancer in front; 0 closes it after each answer
    #[arg(long, env = "SARANGBANG_KEEP_ALIVE_MS", default_value_t = 75_000)]
    pub keep_alive_ms: u64,

    /// The most connections; 0 for as many as the system lets the process have files
    #[arg(long, env = "SARANGBANG_CONNECTIONS", default_value_t = 65_536)]
    pub connections: usize,

    /// The most connections of one address; 0 for no limit. Behind a trusted proxy its requests under way
    /// and WebSockets count
    #[arg(long, env = "SARANGBANG_CONNECTIONS_PER_ADDRESS", default_value_t = 0)]
    pub connections_per_address: usize,

    /// The most histories, lists and pages that are made or wait to be read at a time; 0 for no limit
    #[arg(long, env = "SARANGBANG_ANSWERS", default_value_t = 1_024)]
    pub answers: usize,

    /// The most of them for one address; 0 for no limit
    #[arg(long, env = "SARANGBANG_ANSWERS_PER_ADDRESS", default_value_t = 128)]
    pub answers_per_address: usize,

    /// The most bytes of such answers, and of requests' bodies that have not come whole, that are held at
    /// a time; 0 for no limit
    #[arg(long, env = "SARANGBANG_HTTP_BYTES", default_value_t = 134_217_728)]
    pub http_bytes: usize,

    /// The most of them for one address; 0 for no limit
    #[arg(
        long,
        env = "SARANGBANG_HTTP_BYTES_PER_ADDRESS",
        default_value_t = 33_554_432
    )]
    pub http_bytes_per_address: usize,

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

/// What an option lists: comma-separated, spaces and empty entries passed over. The option may be
/// given more than once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct List<T>(Vec<T>);

impl<T: std::str::FromStr<Err = String>> List<T> {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, str::parse)
    }
}

impl<T> List<T> {
    fn parse_with(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        entries.map(parse).collect::<Result<_, _>>().map(List)
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What the program does with the data directory instead of serving.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum Task {
    /// Copies the database to a file, as it is now, while the server may run
    Backup {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Puts a copy in the place of the database, whose server must be stopped, under a new epoch. What
    /// was there is kept beside it
    Restore {
        /// The file that `backup` made
        file: PathBuf,
    },
    /// Reads all of the database, while the server may run, and says what in it is not as it must be
    Check {
        /// Another database to check, such as a file that `backup` made
        file: Option<PathBuf>,
    },
}

impl Config {
    /// Reads the program's options, and from its environment what they leave open. Ends the program
    /// where that is what they ask for, and with a word on what is wrong with them.
    pub fn read() -> Self {
        let read = Self::read_from(std::env::args_os(), |name| std::env::var_os(name));
        read.unwrap_or_else(|error| error.exit())
    }

    /// The same for these arguments, the program's name first, and this environment. A variable that
    /// is empty is one that is not set.
    ///
    /// # Errors
    /// Says what is wrong with them; to ask for help or the version counts as an error here.
    pub fn read_from(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut command = Config::command();
        let named: Vec<_> = command
            .get_arguments()
            .filter_map(|option| Some((option.get_id().clone(), option.get_env()?.to_owned())))
            .collect();
        // As clap takes an empty variable for a value, variables go in as defaults.
        for (id, name) in named {
            let value = variable(&name).map(trimmed);
            let value = value.filter(|value| !value.is_empty());
            command = command.mut_arg(id, |option| {
                let option = option.env(Resettable::Reset);
                match value {
                    Some(value) => option.default_value(value),
                    None => option,
                }
            });
        }
        let matches = command.try_get_matches_from(&arguments);
        let matches = matches.map_err(|error| match error.kind() {
            // The help names the variables.
            ErrorKind::DisplayHelp => Config::command()
                .try_get_matches_from(&arguments)
                .err()
                .unwrap_or(error),
            _ => error,
        })?;
        Config::from_arg_matches(&matches)
    }
}

/// Without spaces around it.
fn trimmed(value: OsString) -> OsString {
    match value.to_str() {
        Some(text) => text.trim().into(),
        None => value,
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("`{text}` is no address and no network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads options under an environment of these variables.
    fn read(options: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let arguments = ["sarangbang"].iter().chain(options).map(OsString::from);
        let variable = |name: &OsStr| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Config::read_from(arguments, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn tasks_take_the_data_directory_on_either_side() {
        let file = || PathBuf::from("b.db");
        for (options, task) in [
            (&["backup", "b.db"][..], Task::Backup { file: file() }),
            (&["restore", "b.db"], Task::Restore { file: file() }),
            (&["check"], Task::Check { file: None }),
            (&["check", "b.db"], Task::Check { file: Some(file()) }),
        ] {
            let around = [&["--data-dir", "/a"], options, &["--data-dir", "/b"]];
            for (options, data_dir) in [
                (options.to_vec(), "/set"),
                (around[..2].concat(), "/a"),
                (around[1..].concat(), "/b"),
            ] {
                let read = read(&options, &[("SARANGBANG_DATA_DIR", "/set")]).unwrap();
                assert_eq!(read.data_dir, PathBuf::from(data_dir), "{options:?}");
                assert_eq!(read.task.as_ref(), Some(&task), "{options:?}");
            }
        }
        assert!(read(&["backup"], &[]).is_err());
        assert_eq!(read(&[], &[]).unwrap().task, None);
    }

    /// Every variable, and whether it is a switch.
    fn variables() -> Vec<(String, bool)> {
        let command = Config::command();
        let options = command.get_arguments();
        options
            .filter_map(|option| {
                let name = option.get_env()?.to_str()?.to_owned();
                let kind = option.get_value_parser().type_id();
                Some((name, kind == clap::builder::ValueParser::bool().type_id()))
            })
            .collect()
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        let unset = read(&[], &[]).unwrap();
        let all = variables();
        assert!(all.len() > 20);
        for (name, _) in &all {
            for empty in ["", " ", "\t\n"] {
                let read = read(&[], &[(name, empty)]).unwrap();
                assert_eq!(
                    format!("{read:?}"),
                    format!("{unset:?}"),
                    "{name}={empty:?}"
                );
            }
        }
        // One that is set has an effect, behind an option.
        let set = [("SARANGBANG_ROOM_RATE", " 7 ")];
        assert_eq!(read(&[], &set).unwrap().room_rate, 7);
        assert_eq!(read(&["--room-rate", "8"], &set).unwrap().room_rate, 8);
        let set = [("SARANGBANG_DATA_DIR", " /srv/my chat ")];
        assert_eq!(
            read(&[], &set).unwrap().data_dir,
            PathBuf::from("/srv/my chat")
        );
    }

    #[test]
    fn every_switch_takes_the_usual_words() {
        let switches: Vec<_> = variables().into_iter().filter(|(_, is)| *is).collect();
        assert!(switches.len() >= 2, "{switches:?}");
        for (name, _) in switches {
            let option = name.trim_start_matches("SARANGBANG_").replace('_', "-");
            let option = format!("--{}", option.to_ascii_lowercase());
            let shown = |config: Config| format!("{config:?}");
            let [on, off] = ["true", "false"]
                .map(|word| shown(read(&[&format!("{option}={word}")], &[]).unwrap()));
            assert_ne!(on, off);
            assert_eq!(shown(read(&[&option], &[]).unwrap()), on);
            for (words, expected) in [
                (["1", "yes", "TRUE", "On", " yes "], &on),
                (["0", "no", "False", "OFF", "no\n"], &off),
            ] {
                for word in words {
                    let by_variable = shown(read(&[], &[(&name, word)]).unwrap());
                    assert_eq!(&by_variable, expected, "{name}={word}");
                    let by_option = shown(read(&[&option, word.trim()], &[]).unwrap());
                    assert_eq!(&by_option, expected, "{option} {word}");
                }
            }
            assert!(
                read(&[], &[(&name, "maybe")])
                    .unwrap_err()
                    .contains("maybe")
            );
        }
    }

    #[test]
    fn lists_pass_over_spaces_and_nothing() {
        let networks = |config: Config| -> Vec<String> {
            let all = config.trusted_proxies.iter().flatten();
            all.map(IpNet::to_string).collect()
        };
        let expected = ["10.0.0.0/8", "::1/128"];
        for list in ["10.0.0.0/8,::1", " 10.0.0.0/8 , ::1 ", "10.0.0.0/8,,::1,"] {
            let by_variable = read(&[], &[("SARANGBANG_TRUSTED_PROXIES", list)]);
            assert_eq!(networks(by_variable.unwrap()), expected, "{list}");
            let by_option = read(&["--trusted-proxies", list], &[]);
            assert_eq!(networks(by_option.unwrap()), expected, "{list}");
        }
        let options = ["--trusted-proxies", "10.0.0.0/8", "--trusted-proxies=::1"];
        let both = read(&options, &[("SARANGBANG_TRUSTED_PROXIES", "192.0.2.1")]);
        assert_eq!(networks(both.unwrap()), expected);
        for broken in ["10.0.0.0/8;::1", "proxy", "10.0.0.0/33", "10.0.0.0 /8"] {
            let read = read(&["--trusted-proxies", broken], &[]);
            assert!(read.unwrap_err().contains("10.0.0.0/8"), "{broken}");
        }
        let options = [
            "--listen",
            "[::1]:1, localhost:2",
            "--listen",
            "127.0.0.1:3",
        ];
        let listen = read(&options, &[]).unwrap().listen;
        let listen: Vec<_> = listen.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(listen, ["[::1]:1", "localhost:2", "127.0.0.1:3"]);
    }

    #[test]
    fn the_help_names_the_variables() {
        let help = read(&["--help"], &[("SARANGBANG_ROOM_RATE", "x")]).unwrap_err();
        for (name, _) in variables() {
            assert!(help.contains(&name), "{name}");
        }
    }
}
