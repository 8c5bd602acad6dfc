//! The running server over real sockets, on ports that the system picks.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod again;
mod broker;
mod data_dir;
mod exchange;
mod close;
mod hostile;
mod http;
mod kill;
mod limits;
mod json;
mod link;
mod process;
mod room_log;
mod sockjs;
mod stomp;
mod silence;
mod support;
