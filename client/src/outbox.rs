//! What was written and has no receipt yet, and what was refused: kept in the browser's storage, so that
//! it outlives the page.
//!
//! Each message stands under a key of its own, so that tabs never overwrite one another's, and names the
//! tab that is to send it. A tab that is gone has left what it owned to the others: which of them takes
//! it is found out by a roll-call (`tabs`). Should two take it all the same, the server takes an id once.

use shared::chat::{MessageId, RoomId, Text};

use crate::{
    api::Problem,
    browser,
    timeline::{Delivery, Own},
};

const PREFIX: &str = "outbox/";

/// Divides the fields of an entry: a text holds no such character.
const DIVIDER: char = '\u{1f}';

/// A message that waits, or was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) room: RoomId,
    /// The tab that is to send it.
    pub(crate) owner: String,
    pub(crate) own: Own,
}

impl Entry {
    fn read(key: &str, value: &str) -> Option<Self> {
        let (room, id) = key.strip_prefix(PREFIX)?.split_once('/')?;
        let mut fields = value.splitn(5, DIVIDER);
        let owner = fields.next()?.to_owned();
        let order = fields.next()?.parse().ok()?;
        let status = fields.next()?.parse().ok();
        let text = Text::parse(fields.next()?).ok()?;
        let detail = fields.next().map(str::to_owned);
        let state = match status {
            None => Delivery::Sending,
            Some(status) => Delivery::Failed(Problem {
                status,
                detail,
                ..Problem::default()
            }),
        };
        let id = MessageId::parse(id)?;
        Some(Entry {
            room: RoomId::parse(room)?,
            owner,
            own: Own {
                id,
                order,
                text,
                state,
            },
        })
    }

    fn write(&self) -> String {
        let own = &self.own;
        let mut value = self.owner.clone();
        let mut field = |text: &str| {
            value.push(DIVIDER);
            value.push_str(text);
        };
        field(&own.order.to_string());
        match &own.state {
            Delivery::Failed(problem) => {
                field(&problem.status.to_string());
                field(own.text.as_str());
                if let Some(detail) = &problem.detail {
                    field(detail);
                }
            }
            _ => {
                field("");
                field(own.text.as_str());
            }
        }
        value
    }
}

/// What of one room stands in the outbox, and whether as refused.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(MessageId, bool)>);

impl Kept {
    /// Notes a message that stands there already.
    pub(crate) fn take_over(&mut self, own: &Own) {
        self.0.push(stand(own));
    }

    /// Makes the outbox hold what waits in a room and what was refused there, and nothing else of this tab;
    /// whether the browser lets us.
    pub(crate) fn keep(&mut self, room: RoomId, owner: &str, own: &[Own]) -> bool {
        let unsettled = own.iter().filter(|own| own.state != Delivery::Stored);
        self.0.retain(|(id, _)| {
            let stays = unsettled.clone().any(|own| own.id == *id);
            if !stays {
                drop(room, *id);
            }
            stays
        });
        let mut is_kept = true;
        for own in unsettled {
            if self.0.contains(&stand(own)) {
                continue;
            }
            self.0.retain(|(id, _)| *id != own.id);
            let entry = Entry {
                room,
                owner: owner.to_owned(),
                own: own.clone(),
            };
            if keep(&entry) {
                self.0.push(stand(own));
            } else {
                is_kept = false;
            }
        }
        is_kept
    }
}

/// How a message stands in the outbox.
fn stand(own: &Own) -> (MessageId, bool) {
    (own.id, own.state != Delivery::Sending)
}

/// Reads what every tab has left here, in the order in which it was written.
pub(crate) fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    browser::each_remembered(PREFIX, &mut |key, value| {
        if let Some(entry) = Entry::read(key, value) {
            let order = entry.own.order;
            let at = entries.partition_point(|known| known.own.order <= order);
            entries.insert(at, entry);
        }
    });
    entries
}

/// Keeps an entry; whether the browser lets us.
pub(crate) fn keep(entry: &Entry) -> bool {
    browser::remember(&key(entry.room, entry.own.id), &entry.write())
}

/// Drops an entry.
pub(crate) fn drop(room: RoomId, id: MessageId) {
    browser::forget(&key(room, id));
}

fn key(room: RoomId, id: MessageId) -> String {
    format!("{PREFIX}{room}/{id}")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry(text: &str, state: Delivery) -> Entry {
        Entry {
            room: RoomId(Uuid::from_u128(1)),
            owner: "tab".to_owned(),
            own: Own {
                id: MessageId(Uuid::from_u128(2)),
                order: 1_795_392_000_000,
                text: Text::parse(text).unwrap(),
                state,
            },
        }
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let failed = |status, detail: Option<&str>| {
            Delivery::Failed(Problem {
                status,
                detail: detail.map(str::to_owned),
                ..Problem::default()
            })
        };
        for entry in [
            entry("안녕", Delivery::Sending),
            entry("두\n줄\t \"{}\" 😀", Delivery::Sending),
            entry("거절", failed(422, Some("`message` is\u{1f}odd\n"))),
            entry("거절", failed(404, None)),
            entry(&"가".repeat(4_000), failed(0, Some(""))),
        ] {
            let key = key(entry.room, entry.own.id);
            assert_eq!(Entry::read(&key, &entry.write()), Some(entry));
        }
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let entry = entry("안녕", Delivery::Sending);
        let (key, value) = (key(entry.room, entry.own.id), entry.write());
        for (key, value) in [
            ("sender", value.as_str()),
            ("outbox/", value.as_str()),
            ("outbox/x/y", value.as_str()),
            (key.as_str(), ""),
            (key.as_str(), "{\"text\":\"안녕\"}"),
            (key.as_str(), "tab\u{1f}x\u{1f}\u{1f}안녕"),
            (key.as_str(), "tab\u{1f}1\u{1f}\u{1f} "),
        ] {
            assert_eq!(Entry::read(key, value), None, "{key} {value}");
        }
    }
}
