//! What was written and not sent: remembered by the browser, for each room, until it is.
//!
//! Two tabs of one room share it; what was written last stays.

use shared::chat::RoomId;

use crate::browser::{forget, remember, remembered};

/// The rooms with a draft are listed here, the one begun first first.
const ROOMS_KEY: &str = "drafts";

/// So many are kept; the oldest go.
const DRAFTS_MAX: usize = 50;

/// What was written in a room.
pub(crate) fn recall(room: RoomId) -> Option<String> {
    remembered(&key(&room.to_string()))
}

/// Remembers what is written in a room now; of nothing there is no draft.
pub(crate) fn keep(room: RoomId, text: &str) {
    let room = &room.to_string();
    let is_blank = text.trim().is_empty();
    if is_blank {
        forget(&key(room));
    } else {
        remember(&key(room), text);
    }
    let listed = remembered(ROOMS_KEY).unwrap_or_default();
    if let Some((kept, gone)) = relist(&listed, room, is_blank) {
        gone.iter().for_each(|room| forget(&key(room)));
        remember(ROOMS_KEY, &kept);
    }
}

fn key(room: &str) -> String {
    ["draft:", room].concat()
}

/// The list with this room in it, or without it where its draft is gone, and the rooms that it has no
/// place for; none where it stays as it is.
fn relist<'a>(listed: &'a str, room: &'a str, is_gone: bool) -> Option<(String, Vec<&'a str>)> {
    let mut rooms: Vec<_> = listed
        .split(' ')
        .filter(|listed| !listed.is_empty())
        .collect();
    if rooms.contains(&room) != is_gone {
        return None;
    }
    if is_gone {
        rooms.retain(|&listed| listed != room);
    } else {
        rooms.push(room);
    }
    let kept = rooms.split_off(rooms.len().saturating_sub(DRAFTS_MAX));
    Some((kept.join(" "), rooms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_grows_at_its_end_and_forgets_its_oldest() {
        assert_eq!(relist("", "a", false), Some(("a".to_owned(), vec![])));
        assert_eq!(relist(" a", "b", false), Some(("a b".to_owned(), vec![])));
        assert_eq!(relist("a b", "a", false), None);
        assert_eq!(relist("a b", "a", true), Some(("b".to_owned(), vec![])));
        assert_eq!(relist("a", "a", true), Some((String::new(), vec![])));
        assert_eq!(relist("a b", "c", true), None);
        // Something else wrote it.
        assert_eq!(
            relist("  a  b ", "c", false),
            Some(("a b c".to_owned(), vec![]))
        );
        let names: Vec<_> = (0..DRAFTS_MAX + 2).map(|n| n.to_string()).collect();
        let full = names[..DRAFTS_MAX].join(" ");
        let (kept, gone) = relist(&full, &names[DRAFTS_MAX], false).unwrap();
        assert_eq!(kept, names[1..=DRAFTS_MAX].join(" "));
        assert_eq!(gone, ["0"]);
        let fuller = names[..=DRAFTS_MAX].join(" ");
        let (kept, gone) = relist(&fuller, "51", false).unwrap();
        assert_eq!(kept, names[2..].join(" "));
        assert_eq!(gone, ["0", "1"]);
    }
}
