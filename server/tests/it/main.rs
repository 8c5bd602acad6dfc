//! The running server over real sockets, on ports that the system picks.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod again;
mod base_path;
mod broker;
mod close;
mod conventions;
mod data_dir;
mod exchange;
mod guest;
mod hostile;
mod http;
mod json;
mod kill;
mod limits;
mod link;
mod operator;
mod process;
mod room_log;
mod rooms;
mod silence;
mod sockjs;
mod stomp;
mod support;
