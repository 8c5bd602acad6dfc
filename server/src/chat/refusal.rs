//! Why a message was refused: problem details (RFC 9457) for `/user/queue/errors` and ERROR.

use serde::Serialize;
use shared::chat::{InvalidDraft, MessageId};

use crate::log::Reason;

/// Why there is no plain destination.
pub(crate) const SWITCHED_OFF: &str =
    "plain destinations are switched off on this server; rooms are at /topic/chat/room/{roomId}";

/// A refusal, as the contract's section 3 gives its fields.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    #[serde(rename = "type")]
    kind: &'static str,
    /// A short name of the fault.
    pub(crate) title: &'static str,
    /// The HTTP status of the same fault.
    pub(crate) status: u16,
    /// What is wrong and how to mend it.
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl Refusal {
    fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Refusal {
            kind: "about:blank",
            title,
            status,
            detail: detail.into(),
            destination: None,
            receipt_id: None,
            id: None,
            index: None,
        }
    }

    pub(super) fn not_the_json(error: &serde_json::Error) -> Self {
        let detail = format!("the body is not the JSON expected here: {error}");
        if error.is_data() {
            return Self::new(422, "Out of bounds", detail);
        }
        Self::new(400, "Malformed JSON", detail)
    }

    pub(super) fn no_such_room() -> Self {
        Self::new(
            404,
            "No such room",
            "there is no such room; GET /chat/rooms lists them",
        )
    }

    pub(super) fn no_such_destination(detail: &str) -> Self {
        Self::new(404, "No such destination", detail)
    }

    pub(super) fn not_present() -> Self {
        let detail = "only who is in the room under this name is typing there; send ENTER first, and \
                      wait for its RECEIPT";
        Self::new(409, "Not present", detail)
    }

    pub(super) fn switched_off() -> Self {
        Self::no_such_destination(SWITCHED_OFF)
    }

    pub(super) fn out_of_bounds(error: &InvalidDraft) -> Self {
        Self::new(422, "Out of bounds", error.to_string())
    }

    pub(super) fn array_length(max: usize) -> Self {
        let detail = format!("send an array of 1 to {max} messages");
        Self::new(422, "Out of bounds", detail)
    }

    pub(crate) fn not_text() -> Self {
        let detail = "a message whose body is not UTF-8 came here and was left out, as SockJS carries \
                      text alone; use WebSocket for such";
        Self::new(415, "Not text", detail)
    }

    pub(super) fn unavailable() -> Self {
        let detail = "the message could not be stored; nothing of it was kept, send it again later";
        Self::new(503, "Not stored", detail)
    }

    /// Names the destination of the SEND.
    pub(crate) fn on(mut self, destination: &str) -> Self {
        self.destination = Some(destination.to_owned());
        self
    }

    /// Names the message: its index in an array, its id where known.
    pub(crate) fn at(mut self, index: Option<usize>, id: Option<MessageId>) -> Self {
        self.index = self.index.or(index);
        self.id = self.id.or(id);
        self
    }

    /// Names the SEND of a transaction by its place in it, instead of its message.
    pub(super) fn within(mut self, is_transaction: bool, index: usize) -> Self {
        if is_transaction {
            self.index = Some(index);
        }
        self
    }

    /// Names the receipt that the SEND asked for.
    pub(crate) fn with_receipt(mut self, receipt: Option<&str>) -> Self {
        self.receipt_id = receipt.map(str::to_owned);
        self
    }

    /// Its words for an ERROR, as a clause.
    pub(crate) fn words(&self) -> String {
        match self.index {
            Some(index) => format!("message {index} (the first is 0): {}", self.detail),
            None => self.detail.clone(),
        }
    }

    /// Its JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Refusal is valid JSON")
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        let (status, title) = match reason {
            Reason::NoSuchRoom => (404, "No such room"),
            Reason::NameTaken | Reason::NameDiffers => (409, "Name taken"),
            Reason::IdTaken => (409, "Id taken"),
        };
        Self::new(status, title, reason.to_string())
    }
}
