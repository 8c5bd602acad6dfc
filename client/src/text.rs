//! Text as a person counts it: by grapheme clusters (UAX #29) of its NFC (UAX #15).
//!
//! Pure. A limit is in Unicode scalar values, of which a joined emoji has seven and a decomposed
//! syllable three; who reads that a text is too long counts what they see. In the browser its own
//! tables are used, elsewhere those of two crates.

use shared::chat::InvalidText;

/// Why what was typed cannot be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wrong {
    /// Nothing visible is in it.
    Blank,
    /// It holds a control character.
    Control,
    /// It is too long.
    TooLong {
        /// How many characters a person sees.
        shown: usize,
        /// How many of them, from the first, may stay.
        fits: usize,
    },
}

/// Reads what was typed by `parse`. What is too long as it was typed may fit in NFC: then it is taken
/// so.
///
/// # Errors
/// [`Wrong`] in the place of [`InvalidText`].
pub(crate) fn read<T>(typed: &str, parse: fn(&str) -> Result<T, InvalidText>) -> Result<T, Wrong> {
    match parse(typed) {
        Ok(value) => Ok(value),
        Err(InvalidText::Blank) => Err(Wrong::Blank),
        Err(InvalidText::Control(_)) => Err(Wrong::Control),
        Err(InvalidText::TooLong { max, .. }) => {
            let typed = nfc(typed.trim());
            parse(&typed).map_err(|_| too_long(&typed, max))
        }
    }
}

fn too_long(text: &str, chars_max: usize) -> Wrong {
    let clusters = clusters(text);
    let mut chars = 0;
    let fits = clusters
        .iter()
        .take_while(|cluster| {
            chars += cluster.chars().count();
            chars <= chars_max
        })
        .count();
    Wrong::TooLong {
        shown: clusters.len(),
        fits,
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn nfc(text: &str) -> String {
    unicode_normalization::UnicodeNormalization::nfc(text).collect()
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn clusters(text: &str) -> Vec<String> {
    unicode_segmentation::UnicodeSegmentation::graphemes(text, true)
        .map(str::to_owned)
        .collect()
}

/// The text in NFC.
#[cfg(target_arch = "wasm32")]
pub(crate) fn nfc(text: &str) -> String {
    js_sys::JsString::from(text).normalize("NFC").into()
}

/// The grapheme clusters of a text, in order.
#[cfg(target_arch = "wasm32")]
pub(crate) fn clusters(text: &str) -> Vec<String> {
    use js_sys::{Array, Intl, Reflect};
    use wasm_bindgen::JsCast;

    let intl = Reflect::get(&js_sys::global(), &"Intl".into()).unwrap_or_default();
    let is_known =
        Reflect::get(&intl, &"Segmenter".into()).is_ok_and(|known| !known.is_undefined());
    if !is_known {
        // A browser of before 2024: so are most characters that one sees.
        return text.chars().map(String::from).collect();
    }
    Array::from(&Intl::Segmenter::default().segment(text))
        .iter()
        .map(|part| part.unchecked_into::<Intl::SegmentData>().segment().into())
        .collect()
}

#[cfg(test)]
mod tests {
    use shared::chat::{Sender, Text};

    use super::*;

    const FAMILY: &str = "👩‍👩‍👧‍👦";

    #[test]
    fn text_is_counted_as_it_is_seen() {
        for (text, shown) in [
            ("", 0),
            ("안녕", 2),
            ("\u{1112}\u{1161}\u{11AB}\u{1100}\u{1173}\u{11AF}", 2),
            (FAMILY, 1),
            ("🇰🇷🇯🇵", 2),
            ("👍🏽👍", 2),
            ("1️⃣", 1),
            ("a\u{301}\u{302}b", 2),
            ("ก็กี่", 2),
            ("a\r\nb", 3),
        ] {
            assert_eq!(clusters(&nfc(text)).len(), shown, "{text}");
        }
    }

    #[test]
    fn too_long_is_told_in_what_is_seen() {
        let nfd = "\u{1112}\u{1161}\u{11AB}";
        for (typed, wrong) in [
            ("가".repeat(41), Some((41, 40))),
            (format!(" {} ", "가".repeat(40)), None),
            // Forty syllables, whatever they are written with.
            (nfd.repeat(40), None),
            (nfd.repeat(41), Some((41, 40))),
            (FAMILY.repeat(5), None),
            (FAMILY.repeat(6), Some((6, 5))),
            (format!("{}{FAMILY}", "가".repeat(39)), Some((40, 39))),
            (format!("a{}", "\u{301}".repeat(200)), Some((1, 0))),
        ] {
            let expected = wrong.map(|(shown, fits)| Wrong::TooLong { shown, fits });
            assert_eq!(read(&typed, Sender::parse).err(), expected, "{typed}");
        }
        assert_eq!(
            read(&FAMILY.repeat(3_000), Text::parse),
            Err(Wrong::TooLong {
                shown: 3_000,
                fits: 571
            })
        );
        assert_eq!(read("  ", Text::parse), Err(Wrong::Blank));
        assert_eq!(read("a\u{7}", Text::parse), Err(Wrong::Control));
    }

    #[test]
    fn what_fits_stays_as_it_was_typed() {
        let typed = "\u{1112}\u{1161}\u{11AB} 李 A\u{30A}";
        assert_eq!(read(typed, Text::parse).unwrap().as_str(), typed);
    }
}
