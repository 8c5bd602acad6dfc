//! What a room shows: stored messages in the room's order, then one's own that are on their way.
//!
//! Pure. Messages come from the server's HTML, from the live subscription and from catching up;
//! whatever overlaps is taken once, by `seq`. Between two parts some may be missing: such a gap is shown,
//! and filled when somebody asks for it. One's own are known by the id that this page chose.

use shared::chat::{ChatMessage, MessageId, MessageType, Sender, Text};
use time::{Date, OffsetDateTime};

use crate::api::Problem;

/// The most stored messages that a page keeps by itself: past it the oldest are let go, so that a
/// tab that stays open for weeks does not grow without bound.
const STORED_MAX: usize = 2_000;

/// How many of those that came while somebody read further up are kept when they get too many.
const NEWEST_KEPT: usize = 50;

/// The most messages, and octets of them, that may wait or stand refused in one room: they are
/// kept in the browser's storage, which is small.
const OWN_MAX: usize = 200;
const OWN_BYTES_MAX: usize = 400_000;

/// The messages of one room as this page knows them.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// What came together, oldest first; the last grows. There is always one.
    sections: Vec<Section>,
    /// The key of the next section.
    next_key: u64,
    own: Vec<Own>,
    last_seq: u64,
    /// The newest message when the reader was last at the end.
    followed_to: u64,
}

/// Messages with none missing between them.
#[derive(Debug)]
struct Section {
    key: u64,
    messages: Vec<ChatMessage>,
    /// Whether some are missing before the next section.
    has_gap: bool,
}

/// Messages that were passed over: those between two `seq`s.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gap {
    pub(crate) after: u64,
    pub(crate) before: u64,
}

/// The end from which a gap is filled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Oldest,
    Newest,
}

/// A message of one's own that the log has not shown us yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Own {
    pub(crate) id: MessageId,
    /// Grows from one that was written to the next, in whichever tab.
    pub(crate) order: u64,
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

/// Tells the rows of a room apart, for as long as they are shown.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Key {
    /// The day line before this message.
    Day(MessageId),
    /// This message.
    Message(MessageId),
    /// The gap after the section of this key.
    Gap(u64),
}

/// Rows that came together, by a key that they keep; the last part is the one that grows. What is put
/// before others is a part of its own, so that the page need not touch the rows that it shows already.
pub(crate) type Part = (u64, Vec<(Key, Row)>);

/// One line of the room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Row {
    Day(Date),
    Notice {
        kind: MessageType,
        sender: String,
    },
    Talk(Talk),
    /// Messages that were passed over, by the key of the section before them.
    Gap(u64, Gap),
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

impl Gap {
    /// How many messages are missing.
    pub(crate) fn count(self) -> u64 {
        self.before.saturating_sub(self.after + 1)
    }
}

impl Timeline {
    /// Starts from what the server rendered, oldest first.
    pub(crate) fn new(messages: Vec<ChatMessage>) -> Self {
        let last_seq = messages.last().map_or(0, |message| message.seq);
        Timeline {
            sections: vec![Section {
                key: 0,
                messages,
                has_gap: false,
            }],
            next_key: 1,
            own: Vec::new(),
            last_seq,
            followed_to: last_seq,
        }
    }

    /// The newest `seq` that is known, 0 where there is none: the next one is the offset to subscribe at.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The `seq` before which the room has more to read; none where all of it is here.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        let first = self.sections.first()?.messages.first()?.seq;
        (first > 1).then_some(first)
    }

    /// Takes what was said before all that is known, oldest first.
    pub(crate) fn prepend(&mut self, older: Vec<ChatMessage>) {
        if let Some(first) = self.sections[0].messages.first() {
            let older = between(older, 0, first.seq);
            let older = self.settle(older);
            if !older.is_empty() {
                self.insert(0, older);
            }
        } else {
            self.catch_up(older);
        }
    }

    /// Takes messages from the log, oldest first; those that are known already change nothing. Where they
    /// do not follow what is known, that is a gap.
    pub(crate) fn catch_up(&mut self, messages: Vec<ChatMessage>) {
        let first = messages.iter().find(|message| message.seq > self.last_seq);
        if let Some(first) = first
            && first.seq > self.last_seq + 1
            && let Some(last) = self.sections.last_mut()
            && !last.messages.is_empty()
        {
            last.has_gap = true;
            self.insert(self.sections.len(), Vec::new());
        }
        for message in messages {
            self.receive(message);
        }
    }

    /// Takes a message from the log; one that is known already changes nothing.
    pub(crate) fn receive(&mut self, message: ChatMessage) {
        if message.seq <= self.last_seq {
            return;
        }
        self.last_seq = message.seq;
        if let Some(message) = self.settle(vec![message]).pop()
            && let Some(last) = self.sections.last_mut()
        {
            last.messages.push(message);
        }
    }

    /// The gap after this section, if there is one.
    pub(crate) fn gap(&self, key: u64) -> Option<Gap> {
        self.gap_after(self.position(key)?)
    }

    /// Puts messages into the gap after this section, oldest first: those at one end of it. `is_all` says
    /// that no more of it is to be had.
    pub(crate) fn fill(
        &mut self,
        key: u64,
        end: End,
        messages: Vec<ChatMessage>,
        mut is_all: bool,
    ) {
        let Some(index) = self.position(key) else {
            return;
        };
        let Some(gap) = self.gap_after(index) else {
            return;
        };
        let messages = between(messages, gap.after, gap.before);
        let messages = self.settle(messages);
        is_all |= messages.is_empty();
        match end {
            End::Oldest => self.sections[index].messages.extend(messages),
            End::Newest if messages.is_empty() => {}
            End::Newest => self.insert(index + 1, messages),
        }
        if is_all || self.gap_after(index).is_some_and(|gap| gap.count() == 0) {
            self.sections[index].has_gap = false;
        }
    }

    /// Lets messages go where there are too many: the oldest, if the reader is at the end; else nothing of
    /// what was there when they left it, but of what has come since all but the newest.
    pub(crate) fn trim(&mut self, is_followed: bool) {
        if is_followed {
            self.followed_to = self.last_seq;
            let count: usize = self
                .sections
                .iter()
                .map(|section| section.messages.len())
                .sum();
            let mut excess = count.saturating_sub(STORED_MAX);
            while excess > 0 {
                let oldest = &mut self.sections[0].messages;
                let gone = excess.min(oldest.len());
                oldest.drain(..gone);
                excess -= gone;
                if oldest.is_empty() {
                    self.sections.remove(0);
                }
            }
            return;
        }
        let followed_to = self.followed_to;
        let index = self.sections.len() - 1;
        let last = &mut self.sections[index];
        let is_old = |message: &ChatMessage| message.seq <= followed_to;
        let kept = last.messages.partition_point(is_old);
        if last.messages.len() - kept <= STORED_MAX {
            return;
        }
        let newest = last.messages.split_off(last.messages.len() - NEWEST_KEPT);
        last.messages.truncate(kept);
        if kept > 0 {
            last.has_gap = true;
            self.insert(index + 1, newest);
            return;
        }
        last.messages = newest;
        if let Some(before) = index.checked_sub(1) {
            self.sections[before].has_gap = true;
        }
    }

    /// Whether nothing more of one's own may wait here.
    pub(crate) fn is_full(&self) -> bool {
        let octets: usize = self.own.iter().map(|own| own.text.as_str().len()).sum();
        self.own.len() >= OWN_MAX || octets >= OWN_BYTES_MAX
    }

    /// One's own messages that the log has not shown us yet, in the order in which they were written.
    pub(crate) fn own(&self) -> &[Own] {
        &self.own
    }

    /// Puts a message of one's own among the others by its order; one that is known changes nothing.
    pub(crate) fn say(&mut self, own: Own) {
        if self.is_stored(own.id) || self.own.iter().any(|known| known.id == own.id) {
            return;
        }
        let at = self.own.partition_point(|known| known.order <= own.order);
        self.own.insert(at, own);
    }

    /// Marks an own message as on disk. Its MESSAGE, which gives its place, comes before or after.
    pub(crate) fn acknowledge(&mut self, id: MessageId) {
        self.mark(id, Delivery::Stored);
    }

    /// Marks an own message as refused.
    pub(crate) fn fail(&mut self, id: MessageId, problem: Problem) {
        self.mark(id, Delivery::Failed(problem));
    }

    /// Takes a failed message out, and gives its text.
    pub(crate) fn take_failed(&mut self, id: MessageId) -> Option<Text> {
        let is_it = |own: &Own| own.id == id && matches!(own.state, Delivery::Failed(_));
        let index = self.own.iter().position(is_it)?;
        Some(self.own.remove(index).text)
    }

    /// Own messages without a receipt, in the order in which they were written.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Own> {
        self.own.iter().filter(|own| own.state == Delivery::Sending)
    }

    /// What to show, the oldest part first. `me` is the reader, `is_own` tells what they wrote; `local` puts
    /// a moment into their time.
    ///
    /// Messages of one sender within one minute are a run: face and name at its first, the time at
    /// its last. A notice, a new day or a gap ends a run.
    pub(crate) fn rows(
        &self,
        me: Option<&Sender>,
        is_own: impl Fn(&ChatMessage) -> bool,
        local: impl Fn(OffsetDateTime) -> OffsetDateTime,
    ) -> Vec<Part> {
        let mut rows = Rows::default();
        for (index, section) in self.sections.iter().enumerate() {
            for message in &section.messages {
                let at = local(message.sent_at);
                rows.day(message.id, at.date());
                match message.kind {
                    MessageType::Talk => rows.talk(Talk {
                        id: message.id,
                        sender: message.sender.as_str().to_owned(),
                        text: message.message.clone(),
                        own: is_own(message),
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
            if index + 1 == self.sections.len() {
                rows.own(me, &self.own);
            }
            rows.end_part(2 * section.key);
            if let Some(gap) = self.gap_after(index) {
                rows.push(Key::Gap(section.key), Row::Gap(section.key, gap));
                rows.end_part(2 * section.key + 1);
            }
        }
        rows.parts
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.sections.iter().position(|section| section.key == key)
    }

    fn gap_after(&self, index: usize) -> Option<Gap> {
        let section = self.sections.get(index).filter(|section| section.has_gap)?;
        let after = section.messages.last()?.seq;
        let before = self.sections.get(index + 1)?.messages.first()?.seq;
        Some(Gap { after, before })
    }

    fn insert(&mut self, index: usize, messages: Vec<ChatMessage>) {
        self.sections.insert(
            index,
            Section {
                key: self.next_key,
                messages,
                has_gap: false,
            },
        );
        self.next_key += 1;
    }

    /// Lets go of one's own that stand among these, stored; and of these what is known by another `seq`: a
    /// log that repeats an id loses the repeat, as a key shown twice would break the page.
    fn settle(&mut self, mut messages: Vec<ChatMessage>) -> Vec<ChatMessage> {
        messages.retain(|message| !self.is_stored(message.id));
        self.own
            .retain(|own| messages.iter().all(|message| message.id != own.id));
        messages
    }

    fn is_stored(&self, id: MessageId) -> bool {
        let mut messages = self.sections.iter().flat_map(|section| &section.messages);
        messages.any(|message| message.id == id)
    }

    fn mark(&mut self, id: MessageId, state: Delivery) {
        if let Some(own) = self.own.iter_mut().find(|own| own.id == id) {
            own.state = state;
        }
    }
}

#[derive(Default)]
struct Rows {
    parts: Vec<Part>,
    /// Those of the part that is being made.
    rows: Vec<(Key, Row)>,
    date: Option<Date>,
}

impl Rows {
    fn day(&mut self, before: MessageId, date: Date) {
        if self.date != Some(date) {
            self.date = Some(date);
            self.push(Key::Day(before), Row::Day(date));
        }
    }

    fn talk(&mut self, mut talk: Talk) {
        let last = match self.rows.last_mut() {
            None => self.parts.last_mut().and_then(|(_, part)| part.last_mut()),
            last => last,
        };
        if let Some((_, Row::Talk(previous))) = last
            && previous.own == talk.own
            && (talk.own || previous.sender == talk.sender)
            && same_minute(previous.at, talk.at)
        {
            talk.opens_run = false;
            previous.closes_run = false;
        }
        self.push(Key::Message(talk.id), Row::Talk(talk));
    }

    /// One's own that are on their way.
    fn own(&mut self, me: Option<&Sender>, own: &[Own]) {
        for own in own {
            self.talk(Talk {
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
    }

    /// Ends a part: what follows is of the next.
    fn end_part(&mut self, key: u64) {
        self.parts.push((key, std::mem::take(&mut self.rows)));
    }

    fn push(&mut self, key: Key, row: Row) {
        self.rows.push((key, row));
    }
}

/// Those of the messages that lie between two `seq`s.
fn between(mut messages: Vec<ChatMessage>, after: u64, before: u64) -> Vec<ChatMessage> {
    messages.retain(|message| after < message.seq && message.seq < before);
    messages
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

    fn own(n: u64, text: &str) -> Own {
        Own {
            id: id(n),
            order: n,
            text: Text::parse(text).unwrap(),
            state: Delivery::Sending,
        }
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

    fn talks(seqs: std::ops::RangeInclusive<u64>) -> Vec<ChatMessage> {
        seqs.map(|seq| talk(seq, "a", 0)).collect()
    }

    /// The parts by their keys: the first and last `seq` of each, or how many a gap leaves out.
    fn parts(timeline: &Timeline) -> Vec<(u64, String)> {
        let parts = timeline.rows(None, |_| false, |at| at).into_iter();
        let picture = |(key, rows): Part| {
            let texts: Vec<_> = rows
                .iter()
                .filter_map(|(_, row)| match row {
                    Row::Talk(talk) => Some(talk.text.clone()),
                    Row::Gap(_, gap) => Some(format!("({})", gap.count())),
                    _ => None,
                })
                .collect();
            match texts.as_slice() {
                [] => (key, String::new()),
                [one] => (key, one.clone()),
                [first, .., last] => (key, format!("{first}-{last}")),
            }
        };
        parts.map(picture).collect()
    }

    fn is(parts: &[(u64, &str)]) -> Vec<(u64, String)> {
        parts
            .iter()
            .map(|(key, part)| (*key, (*part).to_owned()))
            .collect()
    }

    /// A short picture of the rows: who, what, and how the run stands.
    fn picture(timeline: &Timeline, me: &str) -> Vec<String> {
        let me = Sender::parse(me).unwrap();
        timeline
            .rows(Some(&me), |message| message.sender == me, |at| at)
            .into_iter()
            .flat_map(|(_, part)| part)
            .map(|(_, row)| match row {
                Row::Day(date) => format!("-- {date}"),
                Row::Notice { sender, .. } => format!("* {sender}"),
                Row::Gap(_, gap) => format!("({})", gap.count()),
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
        assert_eq!(timeline.last_seq(), 5);
        for seq in [4, 5, 6, 5, 6, 7, 7] {
            timeline.receive(talk(seq, "a", 0));
        }
        assert_eq!(timeline.last_seq(), 7);
        let shown = picture(&timeline, "me");
        assert_eq!(
            shown,
            ["-- 2026-11-23", "[a m4]", "[b m5]", "[a m6", " a m7]"]
        );
    }

    #[test]
    fn an_empty_room_is_read_from_its_beginning() {
        assert_eq!(Timeline::new(Vec::new()).last_seq(), 0);
    }

    #[test]
    fn an_own_message_becomes_the_stored_one_whichever_comes_first() {
        for receipt_first in [true, false] {
            let mut timeline = Timeline::new(Vec::new());
            timeline.say(own(1, "m1"));
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
            timeline.say(own(n, "x"));
        }
        timeline.acknowledge(id(2));
        timeline.fail(id(3), Problem::default());
        let again: Vec<_> = timeline.unacknowledged().map(|own| own.id).collect();
        assert_eq!(again, [id(1), id(4)]);
    }

    #[test]
    fn ones_own_stand_in_the_order_in_which_they_were_written() {
        let mut timeline = Timeline::new(vec![talk(9, "a", 0)]);
        for n in [2, 4, 1, 3, 4, 9] {
            timeline.say(own(n, &format!("m{n}")));
        }
        let written: Vec<_> = timeline.own().iter().map(|own| own.order).collect();
        // What is stored already, or known, is not said again.
        assert_eq!(written, [1, 2, 3, 4]);
    }

    #[test]
    fn a_failed_message_stands_until_it_is_taken_out() {
        let mut timeline = Timeline::new(Vec::new());
        timeline.say(own(1, "first"));
        timeline.say(own(2, "second"));
        assert!(timeline.take_failed(id(1)).is_none());
        timeline.fail(id(1), Problem::default());
        assert_eq!(
            picture(&timeline, "a"),
            ["[me first!".to_owned(), " me second]…".to_owned()]
        );
        let text = timeline.take_failed(id(1));
        assert_eq!(text.as_ref().map(Text::as_str), Some("first"));
        assert_eq!(picture(&timeline, "a"), ["[me second]…"]);
    }

    #[test]
    fn only_so_much_may_wait() {
        for (text, count) in [("x".to_owned(), OWN_MAX as u64), ("가".repeat(4_000), 34)] {
            let mut timeline = Timeline::new(Vec::new());
            for n in 1..=count {
                assert!(!timeline.is_full(), "{n}");
                timeline.say(own(n, &text));
            }
            assert!(timeline.is_full());
            timeline.fail(id(1), Problem::default());
            timeline.take_failed(id(1));
            assert!(!timeline.is_full());
        }
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
            let newest = timeline
                .rows(None, |_| false, |at| at.to_offset(offset))
                .pop();
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
        assert_eq!(parts(&timeline), is(&[(2, "m2-m3"), (0, "m4")]));
        timeline.receive(talk(5, "a", 0));
        timeline.prepend(vec![talk(1, "b", 0)]);
        // In parts that keep their keys.
        assert_eq!(
            parts(&timeline),
            is(&[(4, "m1"), (2, "m2-m3"), (0, "m4-m5")])
        );
        assert_eq!(timeline.first_seq(), None);
        assert_eq!(timeline.last_seq(), 5);
        // A run goes on from part to part.
        let runs = picture(&Timeline::new(talks(2..=4)), "me");
        let mut timeline = Timeline::new(talks(4..=4));
        timeline.prepend(talks(2..=3));
        assert_eq!(picture(&timeline, "me"), runs);
    }

    #[test]
    fn what_was_passed_over_is_a_gap_and_is_filled_from_either_end() {
        for (end, filled) in [
            (
                End::Oldest,
                is(&[(0, "m1-m30"), (1, "(69)"), (2, "m100-m150")]),
            ),
            (
                End::Newest,
                is(&[(0, "m1-m10"), (1, "(69)"), (4, "m80-m99"), (2, "m100-m150")]),
            ),
        ] {
            let mut timeline = Timeline::new(talks(1..=10));
            // What follows is none.
            timeline.catch_up(talks(5..=9));
            assert_eq!(parts(&timeline), is(&[(0, "m1-m10")]));
            timeline.catch_up(talks(100..=150));
            assert_eq!(
                timeline.gap(0),
                Some(Gap {
                    after: 10,
                    before: 100
                })
            );
            assert_eq!(timeline.last_seq(), 150);
            assert_eq!(
                parts(&timeline),
                is(&[(0, "m1-m10"), (1, "(89)"), (2, "m100-m150")])
            );
            // What the server gives may reach over the gap's other end.
            match end {
                End::Oldest => timeline.fill(0, end, talks(11..=30), false),
                End::Newest => timeline.fill(0, end, talks(80..=99), false),
            }
            assert_eq!(parts(&timeline), filled);
            timeline.fill(0, end, talks(1..=150), false);
            assert_eq!(timeline.gap(0), None);
            let shown = picture(&timeline, "me");
            assert_eq!(shown.len(), 151);
            assert_eq!(shown[150], " a m150]");
            // Asked for twice, it came twice.
            timeline.fill(0, end, talks(11..=30), true);
            assert_eq!(picture(&timeline, "me"), shown);
        }
    }

    #[test]
    fn a_gap_of_which_there_is_no_more_is_closed() {
        for end in [End::Oldest, End::Newest] {
            for (messages, is_all) in [(Vec::new(), false), (talks(5..=6), true)] {
                let mut timeline = Timeline::new(talks(1..=3));
                timeline.catch_up(talks(9..=9));
                timeline.fill(0, end, messages, is_all);
                assert_eq!(timeline.gap(0), None);
            }
        }
    }

    #[test]
    fn an_own_message_that_was_stored_meanwhile_is_shown_once() {
        let own_3 = || own(3, "m3");
        let mut timeline = Timeline::new(talks(1..=1));
        timeline.say(own_3());
        timeline.catch_up(talks(9..=9));
        timeline.fill(0, End::Newest, talks(2..=8), true);
        assert!(timeline.own().is_empty());
        let mut timeline = Timeline::new(talks(9..=9));
        timeline.say(own_3());
        timeline.prepend(talks(2..=8));
        assert!(timeline.own().is_empty());
    }

    #[test]
    fn a_page_left_open_keeps_only_so_many() {
        let max = STORED_MAX as u64;
        let mut timeline = Timeline::new(Vec::new());
        timeline.catch_up(talks(1..=max + 10));
        timeline.trim(true);
        assert_eq!(timeline.first_seq(), Some(11));
        // The oldest parts go whole, with their gaps.
        let mut timeline = Timeline::new(talks(5..=9));
        timeline.prepend(talks(1..=4));
        timeline.catch_up(talks(101..=100 + max));
        timeline.trim(true);
        assert_eq!(
            parts(&timeline),
            is(&[(4, &format!("m101-m{}", 100 + max))])
        );
    }

    #[test]
    fn who_reads_further_up_keeps_what_they_read() {
        let max = STORED_MAX as u64;
        let mut timeline = Timeline::new(talks(1..=100));
        timeline.trim(false);
        timeline.catch_up(talks(101..=100 + max));
        timeline.trim(false);
        assert_eq!(parts(&timeline).len(), 1);
        timeline.receive(talk(101 + max, "a", 0));
        timeline.trim(false);
        let kept = NEWEST_KEPT as u64;
        let newest = |to: u64| format!("m{}-m{to}", to + 1 - kept);
        assert_eq!(
            parts(&timeline),
            is(&[
                (0, "m1-m100"),
                (1, &format!("({})", max + 1 - kept)),
                (2, &newest(101 + max)),
            ])
        );
        // And so on: the gap grows.
        timeline.catch_up(talks(102 + max..=102 + 3 * max));
        timeline.trim(false);
        assert_eq!(
            parts(&timeline),
            is(&[
                (0, "m1-m100"),
                (1, &format!("({})", 3 * max + 2 - kept)),
                (2, &newest(102 + 3 * max)),
            ])
        );
        assert_eq!(timeline.last_seq(), 102 + 3 * max);
    }
}
