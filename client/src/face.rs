//! The face of a name: a letter on a colour.
//!
//! Pure. Names that the server holds to be one have one face, but for case and compatible forms.

use std::borrow::Cow;

use shared::chat::is_invisible;

use crate::text;

/// The classes `face-0` to `face-11` of the style.
const FACES: u32 = 12;

/// What a person sees first of a name: a grapheme cluster. The style makes it a capital.
pub(crate) fn initial_of(sender: &str) -> String {
    if is_plain(sender) {
        return sender.chars().take(1).collect();
    }
    text::clusters(&text::nfc(sender))
        .into_iter()
        .find(|cluster| !cluster.chars().all(is_invisible))
        .unwrap_or_default()
}

/// A colour for a name, the same on every device (FNV-1a).
pub(crate) fn face_of(sender: &str) -> u32 {
    let name = if is_plain(sender) {
        Cow::Borrowed(sender)
    } else {
        let shown: String = sender.chars().filter(|&c| !is_invisible(c)).collect();
        Cow::Owned(text::nfc(&shown))
    };
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 8) % FACES
}

/// Whether each of its characters stands for itself, so that no table need be asked: most names.
fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_graphic() || matches!(c, '가'..='힣'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_what_one_sees_first() {
        for (sender, expected) in [
            ("철수", "철"),
            ("lena", "l"),
            ("\u{202E}영희", "영"),
            ("😀x", "😀"),
            ("ß", "ß"),
            ("🇰🇷철수", "🇰🇷"),
            ("👩‍👩‍👧‍👦 가족", "👩‍👩‍👧‍👦"),
            ("👍🏽", "👍🏽"),
            ("1️⃣등", "1️⃣"),
            (
                "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}!",
                "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            ),
            ("\u{1112}\u{1161}\u{11AB}\u{1100}\u{1173}\u{11AF}", "한"),
            ("e\u{301}mile", "é"),
            ("a\u{304}\u{302}x", "ā\u{302}"),
            ("ที่", "ที่"),
            ("नि", "नि"),
            ("❤️", "❤️"),
            ("\u{200D}\u{FEFF}\u{3164}영", "영"),
            ("\u{FE0F}\u{34F}\u{2800}영", "영"),
            ("  \u{A0}영", "영"),
            ("\u{FE0F}", ""),
        ] {
            assert_eq!(initial_of(sender), expected, "{sender}");
        }
    }

    #[test]
    fn a_name_keeps_its_colour() {
        assert_eq!(face_of("철수"), face_of("철수"));
        assert_eq!(face_of("한"), face_of("\u{1112}\u{200B}\u{1161}\u{11AB} "));
        let used: std::collections::HashSet<_> =
            (0..200).map(|n| face_of(&n.to_string())).collect();
        assert_eq!(used.len(), FACES as usize);
    }
}
