//! The tabs of this browser that are connected without a WebSocket, and which of them may hold a
//! request open: over HTTP/1.1 a browser has six connections for a site, for all its tabs together.
//!
//! Each such tab keeps a line about itself in the store that they share, and each tells its own rank
//! by all lines: so they agree, and nobody writes what is another's. Neither locks nor workers are
//! needed, which plain http does not have.

use leptos::prelude::{document, window};
use web_sys::Storage;

use crate::{browser::wall_ms, transport::fresh_name};

/// So many tabs hold a request open; the other two connections are for all the rest.
const HOLDERS_MAX: usize = 4;

/// A line that was not renewed for so long is of a tab that is no more.
const STALE_MS: u64 = 30_000;

/// A line is renewed so often. The timers of hidden tabs may not come, but the server's heart-beats do,
/// every 10 s.
const RENEW_MS: u64 = 8_000;

/// Later than any moment; what is left until then has as many digits for all of them, until 2255.
const FOREVER_MS: u64 = 10_000_000_000_000;

const PREFIX: &str = "tab-";

/// This tab among the others.
pub(crate) struct Crowd {
    key: String,
    is_member: bool,
    is_hidden: bool,
    /// Since when it is hidden, or is not.
    since_ms: u64,
    renewed_ms: u64,
    /// What it says of itself.
    line: String,
    is_crowded: bool,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Crowd {
            key: [PREFIX, &fresh_name()].concat(),
            is_member: false,
            is_hidden: document().hidden(),
            since_ms: wall_ms(),
            renewed_ms: 0,
            line: String::new(),
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
            self.line = line(is_hidden, self.since_ms, now_ms);
            // Where it cannot be written the others do not see it, as if it were alone.
            let _ = storage.set_item(&self.key, &self.line);
        }
        let mut before = 0;
        let mut stale = None;
        for index in 0..storage.length().unwrap_or_default() {
            if let Ok(Some(key)) = storage.key(index)
                && key.starts_with(PREFIX)
                && let Ok(Some(line)) = storage.get_item(&key)
            {
                if !is_fresh(&line, now_ms) {
                    stale = Some(key);
                } else if (&line, &key) < (&self.line, &self.key) {
                    before += 1;
                }
            }
        }
        self.is_crowded = before >= HOLDERS_MAX;
        if let Some(key) = stale {
            // Another one goes the next time.
            let _ = storage.remove_item(&key);
        }
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

/// What a tab says of itself: its rank, in as many letters for each, then when it was renewed. The least
/// rank comes first: visible tabs as they came, then hidden ones, those first that were looked at last.
fn line(is_hidden: bool, since_ms: u64, renewed_ms: u64) -> String {
    let (kind, order) = if is_hidden {
        ("h", FOREVER_MS.saturating_sub(since_ms))
    } else {
        ("a", since_ms)
    };
    [kind, &order.to_string(), " ", &renewed_ms.to_string()].concat()
}

/// Whether a tab that says this is still there. Moments have as many digits each, so they compare as they
/// are.
fn is_fresh(line: &str, now_ms: u64) -> bool {
    let Some((_, renewed_ms)) = line.split_once(' ') else {
        return false;
    };
    let first = now_ms.saturating_sub(STALE_MS).to_string();
    let last = (now_ms + STALE_MS).to_string();
    *renewed_ms > *first && *renewed_ms < *last
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn holders(lines: &[(&'static str, String)]) -> Vec<&'static str> {
        let mut holders = Vec::new();
        for (own, own_line) in lines {
            let before = |(key, line): &&(&str, String)| {
                is_fresh(line, NOW_MS) && (line, key) < (own_line, own)
            };
            if lines.iter().filter(before).count() < HOLDERS_MAX {
                holders.push(*own);
            }
        }
        holders
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
        for other in [
            line(false, 1, NOW_MS - STALE_MS).as_str(),
            line(false, 1, NOW_MS + STALE_MS).as_str(),
            "",
            "a",
            "a1",
            "a1 ",
            "a1 x",
            "a1 -1",
            "a1 99999999999999999999999",
        ] {
            assert!(!is_fresh(other, NOW_MS), "{other}");
        }
        // A clock that was set back a little is no death.
        assert!(is_fresh(&line(false, 1, NOW_MS + 3_000), NOW_MS));
    }
}
