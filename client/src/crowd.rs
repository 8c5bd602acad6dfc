//! The tabs of this browser that are connected without a WebSocket, and which of them may hold a
//! request open: over HTTP/1.1 a browser has six connections for a site, for all its tabs together.
//!
//! Each such tab keeps a line about itself in the store that they share, and each tells its own rank
//! by all lines: so they agree, and nobody writes what is another's. Neither locks nor workers are
//! needed, which plain http does not have.

use leptos::prelude::{document, window};
use uuid::Uuid;
use web_sys::Storage;

use crate::browser::wall_ms;

/// So many tabs hold a request open; the other two connections are for all the rest.
const HOLDERS_MAX: usize = 4;

/// A line that was not renewed for so long is of a tab that is no more.
const STALE_MS: u64 = 30_000;

/// A line is renewed so often. The timers of hidden tabs may not come, but the server's heart-beats do,
/// every 10 s.
const RENEW_MS: u64 = 8_000;

const PREFIX: &str = "tab-";

/// This tab among the others.
pub(crate) struct Crowd {
    key: String,
    is_member: bool,
    is_hidden: bool,
    /// Since when it is hidden, or is not.
    since_ms: u64,
    renewed_ms: u64,
    is_crowded: bool,
}

/// What a tab says of itself. The least come first: visible ones as they came, then those that were
/// looked at last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rank {
    is_hidden: bool,
    order: u64,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Crowd {
            key: format!("{PREFIX}{}", Uuid::new_v4().simple()),
            is_member: false,
            is_hidden: document().hidden(),
            since_ms: wall_ms(),
            renewed_ms: 0,
            is_crowded: false,
        }
    }

    /// Whether what it says of itself is to be renewed.
    pub(crate) fn is_due(&self) -> bool {
        self.is_member && wall_ms().abs_diff(self.renewed_ms) >= RENEW_MS
    }

    /// Looks at the others, as one of them or as one that is so from now on.
    pub(crate) fn look(&mut self, joins: bool) {
        let Some(storage) = storage() else { return };
        let now_ms = wall_ms();
        let is_hidden = document().hidden();
        let has_turned = std::mem::replace(&mut self.is_hidden, is_hidden) != is_hidden;
        if has_turned {
            self.since_ms = now_ms;
        }
        self.is_member |= joins;
        if !self.is_member {
            return;
        }
        if joins || has_turned {
            self.renewed_ms = now_ms;
            let line = line(is_hidden, self.since_ms, now_ms);
            // Where it cannot be written the others do not see it, as if it were alone.
            let _ = storage.set_item(&self.key, &line);
        }
        let count = storage.length().unwrap_or_default();
        let keys: Vec<String> = (0..count)
            .filter_map(|index| storage.key(index).ok()?)
            .filter(|key| key.starts_with(PREFIX))
            .collect();
        let mut tabs = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(line) = storage.get_item(&key).ok().flatten() else {
                continue;
            };
            match rank(&line, now_ms) {
                Some(rank) => tabs.push((rank, key)),
                // It may be gone by now.
                None => drop(storage.remove_item(&key)),
            }
        }
        self.is_crowded = is_crowded(&tabs, &self.key);
    }

    /// Needs no request any more.
    pub(crate) fn leave(&mut self) {
        self.is_crowded = false;
        if std::mem::take(&mut self.is_member)
            && let Some(storage) = storage()
        {
            // It goes stale otherwise.
            let _ = storage.remove_item(&self.key);
        }
    }

    /// Whether the others hold as many requests as there may be.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

fn storage() -> Option<Storage> {
    window().local_storage().ok()?
}

fn line(is_hidden: bool, since_ms: u64, renewed_ms: u64) -> String {
    let state = if is_hidden { "hidden" } else { "visible" };
    [state, &since_ms.to_string(), &renewed_ms.to_string()].join(" ")
}

/// Reads what a tab says of itself; `None` when it is stale, or is nothing of ours.
fn rank(line: &str, now_ms: u64) -> Option<Rank> {
    let mut words = line.split(' ');
    let is_hidden = match words.next()? {
        "hidden" => true,
        "visible" => false,
        _ => return None,
    };
    let since_ms: u64 = words.next()?.parse().ok()?;
    let renewed_ms: u64 = words.next()?.parse().ok()?;
    (now_ms.abs_diff(renewed_ms) < STALE_MS).then_some(Rank {
        is_hidden,
        order: if is_hidden { !since_ms } else { since_ms },
    })
}

/// Whether as many as may hold a request come before this one.
fn is_crowded(tabs: &[(Rank, String)], own: &str) -> bool {
    let Some(own) = tabs.iter().find(|(_, key)| key == own) else {
        return false;
    };
    tabs.iter().filter(|tab| *tab < own).count() >= HOLDERS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn holders(lines: &[(&str, String)]) -> Vec<String> {
        let tabs: Vec<_> = lines
            .iter()
            .filter_map(|(key, line)| Some((rank(line, NOW_MS)?, (*key).to_owned())))
            .collect();
        tabs.iter()
            .map(|(_, key)| key.clone())
            .filter(|key| !is_crowded(&tabs, key))
            .collect()
    }

    fn tab(is_hidden: bool, age_ms: u64) -> String {
        line(is_hidden, NOW_MS - age_ms, NOW_MS - 5)
    }

    #[test]
    fn four_tabs_hold_a_request_visible_ones_first_then_what_was_looked_at_last() {
        let mut lines = vec![
            ("a", tab(true, 9_000)),
            ("b", tab(true, 1_000)),
            ("c", tab(true, 5_000)),
            ("d", tab(true, 2_000)),
        ];
        assert_eq!(holders(&lines), ["a", "b", "c", "d"]);
        lines.push(("e", tab(false, 100)));
        assert_eq!(holders(&lines), ["b", "c", "d", "e"]);
        lines.push(("f", tab(false, 50)));
        lines.push(("g", tab(false, 200)));
        assert_eq!(holders(&lines), ["b", "e", "f", "g"]);
        lines.push(("h", tab(false, 10)));
        lines.push(("i", tab(false, 5)));
        assert_eq!(
            holders(&lines),
            ["e", "f", "g", "h"],
            "whoever came first stays"
        );
    }

    #[test]
    fn tabs_that_came_at_once_agree_too() {
        let keys = ["g", "f", "e", "d", "c", "b", "a"];
        let lines: Vec<_> = keys.iter().map(|key| (*key, tab(false, 0))).collect();
        assert_eq!(holders(&lines), ["d", "c", "b", "a"]);
    }

    #[test]
    fn who_is_gone_or_is_none_takes_no_room() {
        let stale = line(false, 1, NOW_MS - STALE_MS);
        for other in [
            stale.as_str(),
            "",
            "visible",
            "visible 1",
            "visible x y",
            "visible -1 -1",
            "shown 1 1800000000000",
            "visible 1 99999999999999999999999",
        ] {
            assert_eq!(rank(other, NOW_MS), None, "{other}");
        }
        // A clock that was set back a little is no death.
        assert!(rank(&line(false, 1, NOW_MS + 3_000), NOW_MS).is_some());
        assert_eq!(rank(&line(false, 1, NOW_MS + STALE_MS), NOW_MS), None);
    }
}
