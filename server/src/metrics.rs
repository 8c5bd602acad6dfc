//! What the operator measures: figures in the text format of Prometheus, at `GET /metrics`.
//!
//! Counters are added to where things happen, through handles that are looked up once. What is a state
//! (how many rooms there are, how much waits) is read when somebody asks. The figures are those of the
//! process. Labels come from fixed sets, so that no stranger can make more of them.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_process::Collector;

use crate::log::Load;

/// The kinds of transport that sessions are counted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TransportKind {
    /// A WebSocket that speaks STOMP itself.
    WebSocket,
    /// A WebSocket that speaks SockJS.
    SockJsWebSocket,
    /// The requests of SockJS.
    SockJsHttp,
}

/// Why a connection was refused before anything was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Limit {
    /// Its address has as many as it may.
    Address,
    /// There are as many as there can be.
    All,
    /// No descriptor was left.
    Files,
}

const TRANSPORTS: [&str; 3] = ["websocket", "sockjs-websocket", "sockjs-http"];

const LIMITS: [&str; 3] = ["address", "all", "files"];

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The statuses of refused SENDs; others are counted as the last.
const REFUSALS: [&str; 9] = [
    "400", "404", "409", "413", "415", "422", "429", "503", "other",
];

const COMMIT_SECONDS: &str = "sarangbang_commit_seconds";

const COMMIT_RECORDS: &str = "sarangbang_commit_records";

/// Seconds.
const TIMES: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Records.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1_000.0, 4_096.0];

/// The handles that figures are added to.
pub(crate) struct Meters {
    sessions: [Gauge; TRANSPORTS.len()],
    sessions_opened: [Counter; TRANSPORTS.len()],
    connections_refused: [Counter; LIMITS.len()],
    responses: [Counter; STATUS_CLASSES.len()],
    refusals: [Counter; REFUSALS.len()],
    /// STOMP frames of clients.
    pub(crate) frames_received: Counter,
    /// Bytes of STOMP that clients have sent.
    pub(crate) received_bytes: Counter,
    /// Bytes that sockets, or requests of SockJS, have taken.
    pub(crate) sent_bytes: Counter,
    /// Messages of rooms that subscriptions were given.
    pub(crate) messages_delivered: Counter,
    /// Messages that were stored.
    pub(crate) messages_appended: Counter,
    /// Transactions of the store.
    pub(crate) commit_seconds: Histogram,
    /// What each of them held.
    pub(crate) commit_records: Histogram,
    /// Those of which nothing was kept.
    pub(crate) commits_failed: Counter,
    /// Sessions that were closed as they took too little.
    pub(crate) slow_readers: Counter,
    pub(crate) entries_passed_over: Counter,
}

/// The state of a server at the moment when somebody asks.
pub(crate) struct State {
    /// TCP connections.
    pub(crate) connections: usize,
    /// Whether `/readyz` says that it is ready.
    pub(crate) is_ready: bool,
    /// That of its log.
    pub(crate) log: Load,
}

struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    meters: Meters,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// The meters of this process.
pub(crate) fn meters() -> &'static Meters {
    &REGISTRY.meters
}

/// All figures, as text.
pub(crate) fn render(state: &State) -> String {
    let registry = &*REGISTRY;
    with_local_recorder(&registry.recorder, || {
        registry.process.collect();
        state.set();
    });
    registry.handle.render()
}

/// Gathers what histograms were given since the last call; to be called every few seconds.
pub(crate) fn tidy() {
    REGISTRY.handle.run_upkeep();
}

impl Registry {
    fn new() -> Self {
        let buckets = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
            let builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds);
            builder.expect("there are bounds")
        };
        let builder = buckets(PrometheusBuilder::new(), COMMIT_SECONDS, &TIMES);
        let recorder = buckets(builder, COMMIT_RECORDS, &SIZES).build_recorder();
        let (process, meters) = with_local_recorder(&recorder, || {
            let process = Collector::default();
            process.describe();
            describe();
            gauge!("sarangbang_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
            (process, Meters::new())
        });
        Registry {
            handle: recorder.handle(),
            recorder,
            process,
            meters,
        }
    }
}

impl Meters {
    fn new() -> Self {
        Meters {
            sessions: TRANSPORTS.map(|kind| gauge!("sarangbang_sessions", "transport" => kind)),
            sessions_opened: TRANSPORTS
                .map(|kind| counter!("sarangbang_sessions_opened_total", "transport" => kind)),
            connections_refused: LIMITS
                .map(|limit| counter!("sarangbang_connections_refused_total", "limit" => limit)),
            responses: STATUS_CLASSES
                .map(|status| counter!("sarangbang_http_responses_total", "status" => status)),
            refusals: REFUSALS
                .map(|status| counter!("sarangbang_refusals_total", "status" => status)),
            frames_received: counter!("sarangbang_frames_received_total"),
            received_bytes: counter!("sarangbang_received_bytes_total"),
            sent_bytes: counter!("sarangbang_sent_bytes_total"),
            messages_delivered: counter!("sarangbang_messages_delivered_total"),
            messages_appended: counter!("sarangbang_messages_appended_total"),
            commit_seconds: histogram!(COMMIT_SECONDS),
            commit_records: histogram!(COMMIT_RECORDS),
            commits_failed: counter!("sarangbang_commits_failed_total"),
            slow_readers: counter!("sarangbang_slow_readers_total"),
            entries_passed_over: counter!("sarangbang_entries_passed_over_total"),
        }
    }

    /// Counts a session, until the guard is dropped.
    pub(crate) fn open(&self, transport: TransportKind) -> OpenSession {
        let sessions = self.sessions[transport as usize].clone();
        sessions.increment(1);
        self.sessions_opened[transport as usize].increment(1);
        OpenSession(sessions)
    }

    /// Counts a connection that was refused.
    pub(crate) fn refuse_connection(&self, limit: Limit) {
        self.connections_refused[limit as usize].increment(1);
    }

    /// Counts an answer of HTTP by its status.
    pub(crate) fn answer(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(responses) = self.responses.get(class) {
            responses.increment(1);
        }
    }

    /// Counts a SEND that was refused, by the status of the reason.
    pub(crate) fn refuse(&self, status: u16) {
        let status = status.to_string();
        let index = REFUSALS.iter().position(|known| *known == status);
        self.refusals[index.unwrap_or(REFUSALS.len() - 1)].increment(1);
    }
}

/// An open session, counted as long as this lives.
pub(crate) struct OpenSession(Gauge);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

impl State {
    /// Sets the gauges of the current recorder.
    fn set(&self) {
        // Exact up to 2⁵³.
        let number = |number: u64| number as f64;
        let count = |count: usize| number(count as u64);
        let State {
            connections,
            is_ready,
            log,
        } = self;
        gauge!("sarangbang_ready").set(u32::from(*is_ready));
        gauge!("sarangbang_connections").set(count(*connections));
        gauge!("sarangbang_rooms").set(count(log.rooms));
        gauge!("sarangbang_participants").set(number(log.participants));
        gauge!("sarangbang_append_queue_records").set(count(log.appends));
        gauge!("sarangbang_append_queue_bytes").set(count(log.append_bytes));
        for (reader, waiting) in [("cursor", log.cursor_reads), ("http", log.http_reads)] {
            gauge!("sarangbang_read_queue_jobs", "reader" => reader).set(count(waiting));
        }
        gauge!("sarangbang_ring_bytes").set(count(log.ring_bytes));
        for (file, size) in [
            ("database", log.database_bytes),
            ("write-ahead-log", log.write_ahead_log_bytes),
        ] {
            gauge!("sarangbang_store_bytes", "file" => file).set(number(size));
        }
    }
}

/// Says what each figure is and in which unit.
fn describe() {
    let none = Unit::Count;
    describe_gauge!(
        "sarangbang_build_info",
        none,
        "1, with the version of the program"
    );
    describe_gauge!(
        "sarangbang_ready",
        none,
        "1 where /readyz says that the server is ready, else 0"
    );
    describe_gauge!("sarangbang_connections", none, "Open TCP connections");
    describe_counter!(
        "sarangbang_connections_refused_total",
        none,
        "Connections that were refused at once, by the limit that was reached"
    );
    describe_counter!(
        "sarangbang_http_responses_total",
        none,
        "Answers of HTTP, by the class of their status"
    );
    describe_gauge!(
        "sarangbang_sessions",
        none,
        "Open STOMP sessions, by transport"
    );
    describe_counter!(
        "sarangbang_sessions_opened_total",
        none,
        "STOMP sessions that were opened, by transport"
    );
    describe_counter!(
        "sarangbang_frames_received_total",
        none,
        "STOMP frames of clients"
    );
    describe_counter!(
        "sarangbang_received_bytes_total",
        Unit::Bytes,
        "Bytes of STOMP that clients have sent"
    );
    describe_counter!(
        "sarangbang_sent_bytes_total",
        Unit::Bytes,
        "Bytes that the sockets of sessions, or their SockJS requests, have taken"
    );
    describe_counter!(
        "sarangbang_refusals_total",
        none,
        "SENDs and COMMITs that were refused, by the status of the reason"
    );
    describe_counter!(
        "sarangbang_slow_readers_total",
        none,
        "Sessions that were closed as they took too little of what waited for them"
    );
    describe_counter!(
        "sarangbang_entries_passed_over_total",
        none,
        "Stored messages that could not be read, or are missing, each time that it was met"
    );
    describe_counter!(
        "sarangbang_messages_appended_total",
        none,
        "Messages that were stored"
    );
    describe_counter!(
        "sarangbang_messages_delivered_total",
        none,
        "Messages of rooms that were given to subscriptions"
    );
    describe_gauge!(
        "sarangbang_append_queue_records",
        none,
        "Records that wait to be ordered"
    );
    describe_gauge!(
        "sarangbang_append_queue_bytes",
        Unit::Bytes,
        "Bytes of the records that wait to be ordered"
    );
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time of a transaction of the store, from its beginning to what was told of it"
    );
    describe_histogram!(
        COMMIT_RECORDS,
        none,
        "Records in a transaction of the store"
    );
    describe_counter!(
        "sarangbang_commits_failed_total",
        none,
        "Transactions of which nothing was kept"
    );
    describe_gauge!(
        "sarangbang_read_queue_jobs",
        none,
        "Reads of the store that wait, for cursors of sessions and for HTTP"
    );
    describe_gauge!(
        "sarangbang_ring_bytes",
        Unit::Bytes,
        "Bytes of the newest messages that are kept in memory"
    );
    describe_gauge!("sarangbang_rooms", none, "Rooms");
    describe_gauge!(
        "sarangbang_participants",
        none,
        "People present, each once a room"
    );
    describe_gauge!(
        "sarangbang_store_bytes",
        Unit::Bytes,
        "Size of the database and of its write-ahead log"
    );
    describe_counter!(
        "sarangbang_log_lines_lost_total",
        none,
        "Lines of the program's log that could not be written"
    );
}

/// Counts lines of the program's log that are lost.
pub fn count_lost_lines(lost: u64) {
    with_local_recorder(&REGISTRY.recorder, || {
        counter!("sarangbang_log_lines_lost_total").increment(lost);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_says_what_it_is_and_stands_in_the_manual() {
        let manual = include_str!("../../docs/operate.md");
        count_lost_lines(0);
        meters().commit_seconds.record(0.1);
        meters().commit_records.record(1);
        let state = State {
            connections: 1,
            is_ready: true,
            log: Load::default(),
        };
        let text = render(&state);
        let mut names = Vec::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            if line.starts_with("# TYPE ") {
                let name = words.nth(2).unwrap();
                assert!(text.contains(&format!("# HELP {name} ")), "{name}");
                names.push(name);
            }
        }
        let is_ours = |name: &&&str| name.starts_with("sarangbang_");
        assert_eq!(names.iter().filter(is_ours).count(), 26, "{names:?}");
        assert!(
            names.contains(&"process_resident_memory_bytes"),
            "{names:?}"
        );
        for name in names.iter().filter(is_ours) {
            assert!(
                manual.contains(&format!("`{name}")),
                "{name} is not in the manual"
            );
        }
    }

    #[test]
    fn what_is_counted_is_shown_under_its_label() {
        let of = |line: &str| {
            let state = State {
                connections: 7,
                is_ready: false,
                log: Load::default(),
            };
            let text = render(&state);
            let found = text
                .lines()
                .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
            found
                .unwrap_or_else(|| panic!("{line} in {text}"))
                .parse::<f64>()
                .unwrap()
        };
        for (status, label) in [(409, "409"), (503, "503"), (418, "other")] {
            let line = format!(r#"sarangbang_refusals_total{{status="{label}"}}"#);
            let before = of(&line);
            meters().refuse(status);
            assert_eq!(of(&line), before + 1.0);
        }
        for (status, label) in [(204, "2xx"), (503, "5xx")] {
            let line = format!(r#"sarangbang_http_responses_total{{status="{label}"}}"#);
            let before = of(&line);
            meters().answer(status);
            assert_eq!(of(&line), before + 1.0);
        }
        let open = meters().open(TransportKind::SockJsHttp);
        let line = r#"sarangbang_sessions{transport="sockjs-http"}"#;
        let there = of(line);
        drop(open);
        assert_eq!(of(line), there - 1.0);
        assert_eq!(of("sarangbang_connections"), 7.0);
        assert_eq!(of("sarangbang_ready"), 0.0);
    }
}
