//! The running server over real sockets, on ports that the system picks.

mod http;
mod kill;
mod room_log;
mod stomp;
mod support;
