//! What the server and the web client share: chat types, destinations, STOMP, and SockJS's framing.
//!
//! Nothing here performs I/O, reads a clock or draws a random number, and all of it compiles to
//! WebAssembly. Sockets, timers and storage are not here: see `server` and `client`.

pub mod chat;
pub mod destination;
pub mod json;
pub mod sockjs;
pub mod stomp;
