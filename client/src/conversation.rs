//! One room as this page takes part in it: entering, talking, leaving, and all of it again after a
//! lost connection.
//!
//! Pure: every call gives the messages to send; `line` sends them. Messages wait until ENTER has
//! its receipt, so that a refused name refuses nothing else, and are then sent in the order in
//! which they were written, each with one receipt. What had no receipt when the connection broke is
//! sent again under the same id, which the server takes once; so is what an earlier page has left
//! (`outbox`).

use shared::chat::{ChatMessage, Draft, MessageId, MessageType, RoomId, Sender};

use crate::{
    api::Problem,
    timeline::{Delivery, Own, Timeline},
};

/// One room as this page takes part in it.
#[derive(Debug)]
pub(crate) struct Conversation {
    room: RoomId,
    sender: Option<Sender>,
    /// Makes the id of an ENTER: each time another, as one that is repeated makes nobody present.
    new_entry: fn() -> MessageId,
    /// The id of the newest ENTER.
    entry: MessageId,
    phase: Phase,
    /// The reader has gone; what they had written before is still sent.
    leaving: bool,
    pub(crate) timeline: Timeline,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// No connection.
    Apart,
    /// Connected, and not in the room: nobody yet, or gone by another tab.
    Reading,
    /// ENTER is on its way.
    Entering,
    /// ENTER has its receipt.
    Present,
}

/// A message to be sent to `/app/chat/sendMessage`, with the receipt to ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) draft: Draft,
    pub(crate) receipt: String,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unsaid {
    /// Too much waits already.
    Full,
    /// The room is gone.
    Gone,
}

/// What a refusal asks of the page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The message it was about is marked, or it was about nothing of this room.
    Noted,
    /// This name was not let in: ask for another one.
    Name(Sender),
    /// There is no such room.
    Gone,
}

impl Conversation {
    /// Starts with what the server rendered.
    pub(crate) fn new(
        room: RoomId,
        sender: Option<Sender>,
        new_entry: fn() -> MessageId,
        messages: Vec<ChatMessage>,
    ) -> Self {
        Conversation {
            room,
            sender,
            new_entry,
            entry: new_entry(),
            phase: Phase::Apart,
            leaving: false,
            timeline: Timeline::new(messages),
        }
    }

    pub(crate) fn room(&self) -> RoomId {
        self.room
    }

    pub(crate) fn sender(&self) -> Option<&Sender> {
        self.sender.as_ref()
    }

    /// Whether nothing of ours waits for an answer.
    pub(crate) fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Reading => true,
            Phase::Present => self.timeline.unacknowledged().next().is_none(),
            Phase::Apart | Phase::Entering => false,
        }
    }

    /// Whether something was written that the server does not have yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.timeline.unacknowledged().next().is_some()
    }

    /// The connection is up and the room subscribed.
    pub(crate) fn connected(&mut self) -> Vec<Outgoing> {
        self.phase = Phase::Reading;
        self.enter()
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self) {
        self.phase = Phase::Apart;
    }

    /// The reader has a name, or a new one.
    pub(crate) fn named(&mut self, sender: Sender) -> Vec<Outgoing> {
        let is_known = self.sender() == Some(&sender) && self.phase != Phase::Reading;
        if self.leaving || is_known {
            return Vec::new();
        }
        let mut outgoing = self.farewell();
        self.sender = Some(sender);
        outgoing.extend(self.enter());
        outgoing
    }

    /// The reader says something, or an earlier page has left it.
    pub(crate) fn say(&mut self, own: Own) -> Vec<Outgoing> {
        let id = own.id;
        self.timeline.say(own);
        if self.phase == Phase::Reading {
            return self.enter();
        }
        self.flush(|own| own.id == id)
    }

    /// Whether one is in the room, and may say that one is typing.
    pub(crate) fn is_present(&self) -> bool {
        self.phase == Phase::Present && !self.leaving
    }

    /// The log of the room goes on. Who has left in another tab has left here too, and enters again
    /// when they say something.
    pub(crate) fn receive(&mut self, message: ChatMessage) {
        let is_own = message.kind == MessageType::Leave && Some(&message.sender) == self.sender();
        if is_own && self.is_present() {
            self.phase = Phase::Reading;
        }
        self.timeline.receive(message);
    }

    /// The reader wants a refused message sent again: as a new one, at the end.
    pub(crate) fn retry(&mut self, id: MessageId, new_id: MessageId, order: u64) -> Vec<Outgoing> {
        let Some(text) = self.timeline.take_failed(id) else {
            return Vec::new();
        };
        self.say(Own {
            id: new_id,
            order,
            text,
            state: Delivery::Sending,
        })
    }

    /// The room is gone: nothing that waits can be sent.
    pub(crate) fn gone(&mut self) {
        self.phase = Phase::Reading;
        let waiting: Vec<_> = self.timeline.unacknowledged().map(|own| own.id).collect();
        for id in waiting {
            self.timeline.fail(
                id,
                Problem {
                    status: 404,
                    ..Problem::default()
                },
            );
        }
    }

    /// The reader leaves the room: at once, or when what they had written is sent.
    pub(crate) fn leave(&mut self) -> Vec<Outgoing> {
        self.leaving = true;
        if self.phase == Phase::Entering && self.has_unsent() {
            return Vec::new();
        }
        self.farewell()
    }

    /// The reader is back in a room that they had left with something still to be sent.
    pub(crate) fn come_back(&mut self) -> Vec<Outgoing> {
        self.leaving = false;
        self.enter()
    }

    /// A RECEIPT has come.
    pub(crate) fn receipt(&mut self, receipt: &str) -> Vec<Outgoing> {
        if self.phase == Phase::Entering && self.entry_receipt() == receipt {
            self.phase = Phase::Present;
            let mut outgoing = self.flush(|_| true);
            if self.leaving {
                outgoing.extend(self.farewell());
            }
            return outgoing;
        }
        if let Some(id) = talk_id(receipt) {
            self.timeline.acknowledge(id);
        }
        Vec::new()
    }

    /// Something was refused: `receipt` is what it had asked for, as `problem` may not say.
    pub(crate) fn refused(&mut self, receipt: &str, problem: &Problem) -> Refusal {
        let is_entry = self.phase == Phase::Entering && self.entry_receipt() == receipt;
        let talk =
            talk_id(receipt).filter(|id| self.timeline.unacknowledged().any(|own| own.id == *id));
        if problem.status == 404 && (is_entry || talk.is_some()) {
            self.gone();
            return Refusal::Gone;
        }
        if is_entry {
            self.phase = Phase::Reading;
            return self.sender.take().map_or(Refusal::Noted, Refusal::Name);
        }
        if let Some(id) = talk {
            self.timeline.fail(id, problem.clone());
        }
        Refusal::Noted
    }

    fn enter(&mut self) -> Vec<Outgoing> {
        let has_left = self.leaving && !self.has_unsent();
        if self.phase != Phase::Reading || has_left {
            return Vec::new();
        }
        let Some(sender) = &self.sender else {
            return Vec::new();
        };
        self.phase = Phase::Entering;
        self.entry = (self.new_entry)();
        vec![self.outgoing(
            "ENTER",
            sender,
            Some(self.entry),
            None,
            self.entry_receipt(),
        )]
    }

    /// Says LEAVE, where ENTER was said.
    fn farewell(&mut self) -> Vec<Outgoing> {
        let is_inside = matches!(self.phase, Phase::Entering | Phase::Present);
        let Some(sender) = self.sender.as_ref().filter(|_| is_inside) else {
            return Vec::new();
        };
        self.phase = Phase::Reading;
        let receipt = format!("leave-{}", self.entry);
        vec![self.outgoing("LEAVE", sender, None, None, receipt)]
    }

    fn flush(&self, wanted: impl Fn(&Own) -> bool) -> Vec<Outgoing> {
        let (Phase::Present, Some(sender)) = (self.phase, self.sender()) else {
            return Vec::new();
        };
        self.timeline
            .unacknowledged()
            .filter(|own| wanted(own))
            .map(|own| {
                let receipt = format!("talk-{}", own.id);
                self.outgoing(
                    "TALK",
                    sender,
                    Some(own.id),
                    Some(own.text.as_str()),
                    receipt,
                )
            })
            .collect()
    }

    fn entry_receipt(&self) -> String {
        format!("enter-{}", self.entry)
    }

    fn outgoing(
        &self,
        kind: &str,
        sender: &Sender,
        id: Option<MessageId>,
        message: Option<&str>,
        receipt: String,
    ) -> Outgoing {
        let draft = Draft {
            kind: Some(kind.to_owned()),
            room_id: Some(self.room.to_string()),
            sender: Some(sender.as_str().to_owned()),
            message: message.map(str::to_owned),
            id: id.map(|id| id.to_string()),
        };
        Outgoing { draft, receipt }
    }
}

fn talk_id(receipt: &str) -> Option<MessageId> {
    receipt.strip_prefix("talk-").and_then(MessageId::parse)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use shared::chat::Text;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> MessageId {
        MessageId(Uuid::from_u128(n))
    }

    fn name(name: &str) -> Sender {
        Sender::parse(name).unwrap()
    }

    /// Never the same twice.
    fn new_entry() -> MessageId {
        static ENTRIES: AtomicU64 = AtomicU64::new(1_000);
        id(ENTRIES.fetch_add(1, Ordering::Relaxed).into())
    }

    fn talk_room() -> RoomId {
        RoomId(Uuid::nil())
    }

    fn own(n: u64, text: &str) -> Own {
        Own {
            id: id(n.into()),
            order: n,
            text: Text::parse(text).unwrap(),
            state: Delivery::Sending,
        }
    }

    fn conversation() -> Conversation {
        let room = talk_room();
        Conversation::new(room, Some(name("영희")), new_entry, Vec::new())
    }

    fn kinds(outgoing: &[Outgoing]) -> Vec<String> {
        outgoing
            .iter()
            .map(|sent| {
                let draft = &sent.draft;
                let words = [&draft.kind, &draft.sender, &draft.message];
                words
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn what_is_written_before_the_entry_waits_for_it() {
        let mut talk = conversation();
        assert!(talk.say(own(1, "하나")).is_empty());
        let sent = talk.connected();
        assert_eq!(kinds(&sent), ["ENTER 영희"]);
        assert!(talk.say(own(2, "둘")).is_empty());
        let sent = talk.receipt(&sent[0].receipt);
        assert_eq!(kinds(&sent), ["TALK 영희 하나", "TALK 영희 둘"]);
        assert_eq!(kinds(&talk.say(own(3, "셋"))), ["TALK 영희 셋"]);
        assert!(!talk.is_settled());
        for n in 1..=3 {
            talk.receipt(&format!("talk-{}", id(n)));
        }
        assert!(talk.is_settled());
    }

    #[test]
    fn after_a_lost_connection_only_what_had_no_receipt_goes_out_again_with_its_id() {
        let mut talk = conversation();
        let entry = talk.connected();
        talk.receipt(&entry[0].receipt);
        let first = talk.say(own(1, "하나"));
        let second = talk.say(own(2, "둘"));
        talk.receipt(&first[0].receipt);
        talk.lost();
        assert!(talk.say(own(3, "셋")).is_empty());
        let again = talk.connected();
        assert_eq!(kinds(&again), kinds(&entry));
        assert_ne!(again, entry, "one that is repeated makes nobody present");
        let sent = talk.receipt(&again[0].receipt);
        assert_eq!(kinds(&sent), ["TALK 영희 둘", "TALK 영희 셋"]);
        assert_eq!(sent[0], second[0]);
    }

    #[test]
    fn a_taken_name_is_asked_again_and_keeps_what_was_written() {
        let mut talk = conversation();
        talk.say(own(1, "하나"));
        let entry = talk.connected();
        let problem = Problem {
            status: 409,
            ..Problem::default()
        };
        assert_eq!(
            talk.refused(&entry[0].receipt, &problem),
            Refusal::Name(name("영희"))
        );
        assert!(talk.is_settled() && talk.has_unsent());
        let entry = talk.named(name("철수"));
        assert_eq!(kinds(&entry), ["ENTER 철수"]);
        assert_eq!(kinds(&talk.receipt(&entry[0].receipt)), ["TALK 철수 하나"]);
    }

    #[test]
    fn a_refused_message_is_marked_and_can_be_sent_again() {
        let mut talk = conversation();
        let entry = talk.connected();
        talk.receipt(&entry[0].receipt);
        let sent = talk.say(own(1, "하나"));
        let problem = Problem {
            status: 422,
            ..Problem::default()
        };
        assert_eq!(talk.refused(&sent[0].receipt, &problem), Refusal::Noted);
        assert!(!talk.has_unsent());
        assert_eq!(kinds(&talk.retry(id(1), id(2), 2)), ["TALK 영희 하나"]);
        assert!(talk.has_unsent());
    }

    #[test]
    fn in_a_room_that_is_gone_everything_that_waits_is_refused() {
        let gone = Problem {
            status: 404,
            ..Problem::default()
        };
        for is_present in [false, true] {
            let mut talk = conversation();
            talk.say(own(1, "하나"));
            talk.say(own(2, "둘"));
            let entry = talk.connected();
            let mut refused = entry[0].receipt.clone();
            if is_present {
                refused = talk.receipt(&refused)[0].receipt.clone();
            }
            assert_eq!(talk.refused(&refused, &gone), Refusal::Gone);
            assert!(talk.is_settled() && !talk.has_unsent());
            for own in talk.timeline.own() {
                assert_eq!(own.state, Delivery::Failed(gone.clone()));
            }
            assert_eq!(talk.timeline.own().len(), 2);
            // Nobody is asked for another name.
            assert!(talk.sender().is_some());
            // What was about nothing of this room says nothing of it.
            assert_eq!(talk.refused("talk-x", &gone), Refusal::Noted);
        }
    }

    #[test]
    fn what_an_earlier_page_has_left_goes_out_in_its_order() {
        let mut talk = conversation();
        talk.say(own(3, "셋"));
        assert!(talk.say(own(1, "하나")).is_empty());
        talk.say(Own {
            state: Delivery::Failed(Problem::default()),
            ..own(2, "둘")
        });
        let entry = talk.connected();
        let sent = talk.receipt(&entry[0].receipt);
        assert_eq!(kinds(&sent), ["TALK 영희 하나", "TALK 영희 셋"]);
        assert_eq!(kinds(&talk.say(own(4, "넷"))), ["TALK 영희 넷"]);
    }

    #[test]
    fn a_new_name_leaves_under_the_old_one() {
        let mut talk = conversation();
        let entry = talk.connected();
        talk.receipt(&entry[0].receipt);
        assert!(talk.named(name("영희")).is_empty());
        assert_eq!(
            kinds(&talk.named(name("철수"))),
            ["LEAVE 영희", "ENTER 철수"]
        );
    }

    #[test]
    fn who_has_left_in_another_tab_enters_again_to_talk() {
        let mut talk = conversation();
        let entry = talk.connected();
        talk.receipt(&entry[0].receipt);
        let left = |sender: &str, seq: u64| ChatMessage {
            kind: MessageType::Leave,
            room_id: talk_room(),
            sender: name(sender),
            message: String::new(),
            id: id(500 + u128::from(seq)),
            seq,
            sent_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        talk.receive(left("철수", 1));
        assert!(talk.is_present());
        talk.receive(left("영희", 2));
        assert!(!talk.is_present());
        assert!(talk.is_settled());
        let entry = talk.say(own(1, "하나"));
        assert_eq!(kinds(&entry), ["ENTER 영희"]);
        assert_eq!(kinds(&talk.receipt(&entry[0].receipt)), ["TALK 영희 하나"]);
        assert!(talk.is_present());
    }

    #[test]
    fn leaving_says_so_once_and_only_from_inside() {
        let mut talk = conversation();
        assert!(talk.leave().is_empty());
        assert!(talk.connected().is_empty());
        let mut talk = conversation();
        talk.connected();
        assert_eq!(kinds(&talk.leave()), ["LEAVE 영희"]);
        assert!(talk.leave().is_empty());
    }

    #[test]
    fn who_leaves_while_apart_is_heard_and_gone() {
        let mut talk = conversation();
        talk.connected();
        talk.lost();
        talk.say(own(1, "하나"));
        assert!(talk.leave().is_empty());
        let entry = talk.connected();
        assert_eq!(kinds(&entry), ["ENTER 영희"]);
        let sent = talk.receipt(&entry[0].receipt);
        assert_eq!(kinds(&sent), ["TALK 영희 하나", "LEAVE 영희"]);
        // Lost once more before the receipt: the same again, which the server takes once.
        talk.lost();
        let again = talk.connected();
        let sent_again = talk.receipt(&again[0].receipt);
        assert_eq!(kinds(&sent_again), kinds(&sent));
        assert_eq!(sent_again[0], sent[0]);
        talk.receipt(&sent[0].receipt);
        talk.lost();
        assert!(talk.connected().is_empty());
        assert_eq!(kinds(&talk.come_back()), ["ENTER 영희"]);
    }

    #[test]
    fn a_reader_without_a_name_sends_nothing() {
        let mut talk = Conversation::new(talk_room(), None, new_entry, Vec::new());
        assert!(talk.connected().is_empty());
        assert!(talk.is_settled());
        assert_eq!(kinds(&talk.named(name("영희"))), ["ENTER 영희"]);
    }
}
