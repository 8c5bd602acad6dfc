//! STOMP 1.0, 1.1 and 1.2 without I/O: frames, their octets, and both halves of a conversation.
//!
//! [`server::Session`] and [`client::Client`] are state machines. Octets and times go in, events and
//! octets come out; whoever owns the socket and the clock drives them, and drains them after every
//! call. Times are a [`std::time::Duration`] since an epoch of the driver's own choosing, and only
//! ever grow.
//!
//! What a destination means is not here (see [`crate::destination`]), nor who may send what.

pub mod client;
pub mod codec;
pub mod frame;
pub mod header;
pub mod heartbeat;
pub mod server;
#[cfg(test)]
mod tests;

pub use codec::{
    DecodeError, Decoder, Limits, NeedsEscape, Received, encode, message_rest, message_rest_in,
};
pub use frame::{Command, Frame, Version};
pub use header::Headers;
pub use heartbeat::HeartBeat;
