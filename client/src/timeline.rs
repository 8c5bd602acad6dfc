//! What a room shows: stored messages in the room's order, then one's own that are on their way.
//!
//! Pure. Messages come from the server's HTML, from the live subscription and from catching up;
//! whatever overlaps is taken once, by `seq`. One's own are known by the id that this page chose.

use std::collections::{HashSet, VecDeque};

use shared::chat::{ChatMessage, MessageId, MessageType, Sender, Text};
use time::{Date, OffsetDateTime};

use crate::api::Problem;

/// The most stored messages that a page keeps by itself: past it the oldest are let go, so that a
/// tab that stays open for weeks does not grow without bound.
const STORED_MAX: usize = 2_000;

/// The messages of one room as this page knows them.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    stored: VecDeque<ChatMessage>,
    /// Where what was put before begins anew: the `seq` that was the first then, oldest first.
    breaks: VecDeque<u64>,
    own: Vec<Own>,
    last_seq: u64,
}

/// A message of one's own that the log has not shown us yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Own {
    pub(crate) id: MessageId,
    pub(crate) text: Text,
    pub(crate) state: Delivery,
}

/// How far a message has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Delivery {
    /// On its way, or waiting for a connection.
    Sending,
    /// On the server's disk.
    Stored,
    /// Refused, and why.
    Failed(Problem),
}

/// The key of the part that grows at its end; there is always one.
pub(crate) const NEWEST_PART: u64 = u64::MAX;

/// Tells the rows of a room apart, for as long as they are shown.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Key {
    /// The day line before this message.
    Day(MessageId),
    /// This message.
    Message(MessageId),
}

/// Rows that came together, by a key that they keep. What is put before the others is a part of its
/// own, so that the page need not touch the rows that it shows already.
pub(crate) type Part = (u64, Vec<(Key, Row)>);

/// One line of the room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Row {
    Day(Date),
    Notice { kind: MessageType, sender: String },
    Talk(Talk),
}

/// A bubble.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Talk {
    pub(crate) id: MessageId,
    pub(crate) sender: String,
    pub(crate) text: String,
    /// Whether the reader wrote it: it stands on the right.
    pub(crate) own: bool,
    /// Whether it is the first of a run: face and name are shown.
    pub(crate) opens_run: bool,
    /// Whether it is the last of a run: the time is shown.
    pub(crate) closes_run: bool,
    /// The reader's time; none while the message is on its way.
    pub(crate) at: Option<Local>,
    pub(crate) state: Delivery,
}

/// A moment by somebody's clock. Equal is what is shown alike: the same moment by another clock is
/// another one, though `OffsetDateTime` holds the two equal.
#[derive(Clone, Copy, Debug, Eq)]
pub(crate) struct Local(pub(crate) OffsetDateTime);

impl PartialEq for Local {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 && self.0.offset() == other.0.offset()
    }
}

impl Timeline {
    /// Starts from what the server rendered, oldest first.
    pub(crate) fn new(messages: Vec<ChatMessage>) -> Self {
        let last_seq = messages.last().map_or(0, |message| message.seq);
        Timeline {
            stored: messages.into(),
            breaks: VecDeque::new(),
            own: Vec::new(),
            last_seq,
        }
    }

    /// The `seq` from which on messages are unknown: the offset to subscribe at.
    pub(crate) fn next_seq(&self) -> u64 {
        self.last_seq + 1
    }

    /// The `seq` before which the room has more to read; none where all of it is here.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        let first = self.stored.front()?.seq;
        (first > 1).then_some(first)
    }

    /// Takes what was said before all that is known, oldest first.
    pub(crate) fn prepend(&mut self, older: Vec<ChatMessage>) {
        self.breaks
            .extend(self.stored.front().map(|first| first.seq));
        self.breaks.make_contiguous().sort_unstable();
        for message in older.into_iter().rev() {
            if self
                .stored
                .front()
                .is_none_or(|first| message.seq < first.seq)
            {
                self.stored.push_front(message);
            }
        }
    }

    /// Takes a message from the log; one that is known already changes nothing.
    pub(crate) fn receive(&mut self, message: ChatMessage) {
        if message.seq <= self.last_seq {
            return;
        }
        self.last_seq = message.seq;
        self.own.retain(|own| own.id != message.id);
        self.stored.push_back(message);
        if self.stored.len() > STORED_MAX {
            self.stored.pop_front();
        }
    }

    /// Puts a message of one's own at the end, as being sent.
    pub(crate) fn say(&mut self, id: MessageId, text: Text) {
        self.own.push(Own {
            id,
            text,
            state: Delivery::Sending,
        });
    }

    /// Marks an own message as on disk. Its MESSAGE, which gives its place, comes before or after.
    pub(crate) fn acknowledge(&mut self, id: MessageId) {
        self.mark(id, Delivery::Stored);
    }

    /// Marks an own message as refused.
    pub(crate) fn fail(&mut self, id: MessageId, problem: Problem) {
        self.mark(id, Delivery::Failed(problem));
    }

    /// Takes a failed message up again under a new id, at the end; gives what is to be sent.
    pub(crate) fn retry(&mut self, id: MessageId, new_id: MessageId) -> Option<&Own> {
        let index = self
            .own
            .iter()
            .position(|own| own.id == id && matches!(own.state, Delivery::Failed(_)))?;
        let failed = self.own.remove(index);
        self.say(new_id, failed.text);
        self.own.last()
    }

    /// Own messages without a receipt, in the order in which they were written.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Own> {
        self.own.iter().filter(|own| own.state == Delivery::Sending)
    }

    /// What to show, the oldest part first. `me` is the reader; `local` puts a moment into the reader's
    /// time.
    ///
    /// Messages of one sender within one minute are a run: face and name at its first, the time at
    /// its last. A notice or a new day ends a run.
    pub(crate) fn rows(
        &self,
        me: Option<&Sender>,
        local: impl Fn(OffsetDateTime) -> OffsetDateTime,
    ) -> Vec<Part> {
        let mut rows = Rows::default();
        let mut breaks = self.breaks.iter().copied().peekable();
        for message in &self.stored {
            while let Some(seq) = breaks.next_if(|&seq| message.seq >= seq) {
                rows.end_part(seq);
            }
            let at = local(message.sent_at);
            rows.day(message.id, at.date());
            match message.kind {
                MessageType::Talk => rows.talk(Talk {
                    id: message.id,
                    sender: message.sender.as_str().to_owned(),
                    text: message.message.clone(),
                    own: me == Some(&message.sender),
                    opens_run: true,
                    closes_run: true,
                    at: Some(Local(at)),
                    state: Delivery::Stored,
                }),
                kind => rows.push(
                    Key::Message(message.id),
                    Row::Notice {
                        kind,
                        sender: message.sender.as_str().to_owned(),
                    },
                ),
            }
        }
        for own in &self.own {
            rows.talk(Talk {
                id: own.id,
                sender: me.map(|me| me.as_str().to_owned()).unwrap_or_default(),
                text: own.text.as_str().to_owned(),
                own: true,
                opens_run: true,
                closes_run: true,
                at: None,
                state: own.state.clone(),
            });
        }
        rows.finish()
    }

    fn mark(&mut self, id: MessageId, state: Delivery) {
        if let Some(own) = self.own.iter_mut().find(|own| own.id == id) {
            own.state = state;
        }
    }
}

#[derive(Default)]
struct Rows {
    rows: Vec<(Key, Row)>,
    /// The key of each part, and where it ends.
    ends: Vec<(u64, usize)>,
    date: Option<Date>,
    seen: HashSet<Key>,
}

impl Rows {
    fn day(&mut self, before: MessageId, date: Date) {
        if self.date != Some(date) {
            self.date = Some(date);
            self.push(Key::Day(before), Row::Day(date));
        }
    }

    fn talk(&mut self, mut talk: Talk) {
        if let Some((_, Row::Talk(previous))) = self.rows.last_mut()
            && previous.own == talk.own
            && (talk.own || previous.sender == talk.sender)
            && same_minute(previous.at, talk.at)
        {
            talk.opens_run = false;
            previous.closes_run = false;
        }
        self.push(Key::Message(talk.id), Row::Talk(talk));
    }

    /// Ends a part: what follows is of the next.
    fn end_part(&mut self, key: u64) {
        self.ends.push((key, self.rows.len()));
    }

    fn finish(mut self) -> Vec<Part> {
        self.end_part(NEWEST_PART);
        let mut rows = self.rows.into_iter();
        let mut start = 0;
        let parts = self.ends.into_iter().map(|(key, end)| {
            let part = rows.by_ref().take(end - start).collect();
            start = end;
            (key, part)
        });
        parts
            .filter(|(key, part): &Part| *key == NEWEST_PART || !part.is_empty())
            .collect()
    }

    /// A key shown twice would break the page, so a log that repeats an id loses the repeat.
    fn push(&mut self, key: Key, row: Row) {
        if self.seen.insert(key) {
            self.rows.push((key, row));
        }
    }
}

fn same_minute(a: Option<Local>, b: Option<Local>) -> bool {
    let minute = |at: Local| at.0.unix_timestamp().div_euclid(60);
    a.map(minute) == b.map(minute)
}

#[cfg(test)]
mod tests {
    use shared::chat::RoomId;
    use uuid::Uuid;

    use super::*;

    fn id(n: u64) -> MessageId {
        MessageId(Uuid::from_u128(n.into()))
    }

    fn text(text: &str) -> Text {
        Text::parse(text).unwrap()
    }

    fn message(seq: u64, kind: MessageType, sender: &str, seconds: i64) -> ChatMessage {
        ChatMessage {
            kind,
            room_id: RoomId(Uuid::nil()),
            sender: Sender::parse(sender).unwrap(),
            message: format!("m{seq}"),
            id: id(seq),
            seq,
            sent_at: OffsetDateTime::from_unix_timestamp(1_795_392_000 + seconds).unwrap(),
        }
    }

    fn talk(seq: u64, sender: &str, seconds: i64) -> ChatMessage {
        message(seq, MessageType::Talk, sender, seconds)
    }

    /// A short picture of the rows: who, what, and how the run stands.
    fn picture(timeline: &Timeline, me: &str) -> Vec<String> {
        let me = Sender::parse(me).unwrap();
        timeline
            .rows(Some(&me), |at| at)
            .into_iter()
            .flat_map(|(_, part)| part)
            .map(|(_, row)| match row {
                Row::Day(date) => format!("-- {date}"),
                Row::Notice { sender, .. } => format!("* {sender}"),
                Row::Talk(talk) => format!(
                    "{}{} {}{}{}",
                    if talk.opens_run { "[" } else { " " },
                    if talk.own { "me" } else { &talk.sender },
                    talk.text,
                    if talk.closes_run { "]" } else { "" },
                    match talk.state {
                        Delivery::Sending => "…",
                        Delivery::Stored => "",
                        Delivery::Failed(_) => "!",
                    }
                ),
            })
            .collect()
    }

    #[test]
    fn what_overlaps_is_shown_once_and_in_order() {
        let mut timeline = Timeline::new(vec![talk(4, "a", 0), talk(5, "b", 0)]);
        assert_eq!(timeline.next_seq(), 6);
        for seq in [4, 5, 6, 5, 6, 7, 7] {
            timeline.receive(talk(seq, "a", 0));
        }
        assert_eq!(timeline.next_seq(), 8);
        let shown = picture(&timeline, "me");
        assert_eq!(
            shown,
            ["-- 2026-11-23", "[a m4]", "[b m5]", "[a m6", " a m7]"]
        );
    }

    #[test]
    fn an_empty_room_is_read_from_its_beginning() {
        assert_eq!(Timeline::new(Vec::new()).next_seq(), 1);
    }

    #[test]
    fn an_own_message_becomes_the_stored_one_whichever_comes_first() {
        for receipt_first in [true, false] {
            let mut timeline = Timeline::new(Vec::new());
            timeline.say(id(1), text("m1"));
            assert_eq!(picture(&timeline, "a"), ["[me m1]…"]);
            if receipt_first {
                timeline.acknowledge(id(1));
                assert_eq!(picture(&timeline, "a"), ["[me m1]"]);
            }
            timeline.receive(talk(1, "a", 0));
            timeline.acknowledge(id(1));
            assert_eq!(picture(&timeline, "a"), ["-- 2026-11-23", "[me m1]"]);
            assert_eq!(timeline.unacknowledged().count(), 0);
        }
    }

    #[test]
    fn only_what_has_no_receipt_is_sent_again() {
        let mut timeline = Timeline::new(Vec::new());
        for n in 1..=4 {
            timeline.say(id(n), text("x"));
        }
        timeline.acknowledge(id(2));
        timeline.fail(id(3), Problem::default());
        let again: Vec<_> = timeline.unacknowledged().map(|own| own.id).collect();
        assert_eq!(again, [id(1), id(4)]);
    }

    #[test]
    fn a_failed_message_is_taken_up_again_at_the_end() {
        let mut timeline = Timeline::new(Vec::new());
        timeline.say(id(1), text("first"));
        timeline.say(id(2), text("second"));
        assert!(timeline.retry(id(1), id(3)).is_none());
        timeline.fail(id(1), Problem::default());
        assert_eq!(
            picture(&timeline, "a"),
            ["[me first!".to_owned(), " me second]…".to_owned()]
        );
        assert_eq!(timeline.retry(id(1), id(3)).map(|own| own.id), Some(id(3)));
        assert_eq!(picture(&timeline, "a"), ["[me second…", " me first]…"]);
    }

    #[test]
    fn runs_end_with_the_sender_the_minute_a_notice_and_the_day() {
        let timeline = Timeline::new(vec![
            talk(1, "a", 0),
            talk(2, "a", 59),
            talk(3, "a", 60),
            message(4, MessageType::Enter, "b", 61),
            talk(5, "a", 62),
            talk(6, "b", 63),
            talk(7, "b", 86_400),
        ]);
        assert_eq!(
            picture(&timeline, "b"),
            [
                "-- 2026-11-23",
                "[a m1",
                " a m2]",
                "[a m3]",
                "* b",
                "[a m5]",
                "[me m6]",
                "-- 2026-11-24",
                "[me m7]",
            ]
        );
    }

    #[test]
    fn by_another_clock_it_is_another_row() {
        let timeline = Timeline::new(vec![talk(1, "a", 0)]);
        let rows = |hours| {
            let offset = time::UtcOffset::from_hms(hours, 0, 0).unwrap();
            let newest = timeline.rows(None, |at| at.to_offset(offset)).pop();
            newest.and_then(|(_, mut part)| part.pop())
        };
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
    }

    #[test]
    fn what_was_said_before_is_put_before_once() {
        let mut timeline = Timeline::new(vec![talk(4, "a", 0)]);
        assert_eq!(timeline.first_seq(), Some(4));
        let older = vec![talk(2, "a", 0), talk(3, "b", 0), talk(4, "a", 0)];
        timeline.prepend(older.clone());
        timeline.prepend(older);
        let seqs = |timeline: &Timeline| -> Vec<u64> {
            timeline.stored.iter().map(|message| message.seq).collect()
        };
        assert_eq!(seqs(&timeline), [2, 3, 4]);
        timeline.receive(talk(5, "a", 0));
        timeline.prepend(vec![talk(1, "b", 0)]);
        assert_eq!(seqs(&timeline), [1, 2, 3, 4, 5]);
        assert_eq!(timeline.first_seq(), None);
        assert_eq!(timeline.next_seq(), 6);
        // One run, in three parts that keep their keys.
        let parts = timeline.rows(None, |at| at);
        let lengths: Vec<_> = parts.iter().map(|(key, part)| (*key, part.len())).collect();
        assert_eq!(lengths, [(2, 2), (4, 2), (NEWEST_PART, 2)]);
    }

    #[test]
    fn a_page_left_open_keeps_only_so_many() {
        let mut timeline = Timeline::new(Vec::new());
        for seq in 1..=STORED_MAX as u64 + 10 {
            timeline.receive(talk(seq, "a", 0));
        }
        assert_eq!(timeline.stored.len(), STORED_MAX);
        assert_eq!(timeline.stored[0].seq, 11);
    }
}
