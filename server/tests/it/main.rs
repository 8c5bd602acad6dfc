//! The running server over real sockets, on ports that the system picks.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod admission;
mod again;
mod backup;
mod base_path;
mod broker;
mod close;
mod conventions;
mod data_dir;
mod exchange;
mod guest;
mod hoard;
mod hostile;
mod hosts;
mod http;
mod json;
mod kill;
mod limits;
mod link;
mod loss;
mod metrics;
mod names;
mod operator;
mod pause;
mod presence;
mod process;
mod room_log;
mod rooms;
mod signals;
mod silence;
mod sockjs;
mod stderr;
mod stomp;
mod support;
