//! Names as they are compared (docs/wire.md, "Names").

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use icu_properties::CodePointMapData;
use icu_properties::props::BidiMirroringGlyph;
use shared::chat::is_invisible;
use unicode_bidi::{BidiInfo, Level};
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::confusable_detection::skeleton;

/// What two names have in common that are one name: NFKC, case folded, without what shows nothing.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key(String);

/// What two names have in common that look alike: the skeleton (UTS 39, section 4), whatever the case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Look(String);

impl Key {
    pub(super) fn of(name: &str) -> Self {
        // To fold may bring what is not in NFKC, and the other way about; after the second time nothing
        // changes any more.
        Key(folded(&folded(name)))
    }

    /// Whether it is written in ASCII alone. Such names are compared by their letters and not by their
    /// looks: who is called `modern` does not pretend to be `modem`.
    pub(super) fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

impl Look {
    pub(super) fn of(name: &str) -> Self {
        let shown = shown(name);
        // Skeletons keep the case, and that of a folded letter may be another: `М` is like `M`, so like
        // `m`, which is like `rn`. `I` is like `l`, so that `i` is taken for it as well.
        let look = folded_skeleton(&folded_skeleton(&shown));
        Look(look.replace('i', "l"))
    }
}

/// NFKC without what shows nothing, before or after.
fn shown(name: &str) -> String {
    let seen = as_seen(name);
    let shown = seen.chars().filter(|&c| !is_invisible(c)).nfkc();
    shown.filter(|&c| !is_invisible(c)).collect()
}

/// A name as somebody would type it who sees it: characters that only give a direction (UAX 9) can make
/// another name read as `alice`.
fn as_seen(name: &str) -> Cow<'_, str> {
    if !name.chars().any(turns_round) {
        return name.into();
    }
    let plain: String = name.chars().filter(|&c| !turns_round(c)).collect();
    let seen = in_visual_order(name);
    if seen == in_visual_order(&plain) {
        return plain.into();
    }
    // What is put in visual order twice is as it was.
    in_visual_order(&seen).into()
}

/// The characters that show something, from the left to the right and as they are drawn: where the text runs
/// from the right, brackets and their like are turned round (UAX 9, L4).
fn in_visual_order(name: &str) -> String {
    let glyphs = CodePointMapData::<BidiMirroringGlyph>::new();
    let info = BidiInfo::new(name, None);
    let mut seen = String::with_capacity(name.len());
    for line in &info.paragraphs {
        let levels = info.reordered_levels(line, line.range.clone());
        let chars = name[line.range.clone()].char_indices();
        let (chars, levels): (Vec<char>, Vec<Level>) = chars
            .map(|(at, c)| {
                let level = levels[line.range.start + at];
                let drawn = glyphs.get(c).mirroring_glyph.filter(|_| level.is_rtl());
                (drawn.unwrap_or(c), level)
            })
            .unzip();
        let order = BidiInfo::reorder_visual(&levels).into_iter();
        seen.extend(order.map(|at| chars[at]).filter(|&c| !turns_round(c)));
    }
    seen
}

/// Whether a character is one of those that only give a direction (`Bidi_Control`).
fn turns_round(c: char) -> bool {
    matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn folded(name: &str) -> String {
    CaseMapper::new()
        .fold_string(&shown(name))
        .chars()
        .nfkc()
        .collect()
}

/// Hangul syllables stay whole: in skeletons of their letters `아싸` and `앗사` are one name.
fn folded_skeleton(name: &str) -> String {
    let mut look = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '가'..='힣' => look.push(c),
            c => look.extend(skeleton(c.encode_utf8(&mut [0; 4]))),
        }
    }
    CaseMapper::new()
        .fold_string(&look)
        .chars()
        .nfkc()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_one_whatever_their_case_and_form() {
        for (one, other) in [
            ("alice", "ALICE"),
            ("alice", "Ａlice"),
            ("alice", "ⓐlice"),
            ("alice", "alice\u{34F}"),
            ("alice", "al\u{FE0F}ice"),
            ("alice", "alice\u{2800}"),
            ("alice", "\u{1D159}alice"),
            ("alice", "\u{13441}ali\u{16FE4}ce"),
            ("alice", "a lice"),
            ("Straße", "STRASSE"),
            ("Σωκράτης", "ΣΩΚΡΆΤΗΣ"),
            ("é", "E\u{301}"),
            ("영희", "\u{110B}\u{1167}\u{11BC}희"),
            ("영희", "영\u{3164}희"),
            ("ｶﾞ", "ガ"),
            ("ﬁn", "FIN"),
            ("alice", "\u{202E}ecila"),
            ("alice", "al\u{202E}eci"),
            ("alice", "\u{202E}eci\u{202D}al"),
            ("alice", "\u{2067}\u{202E}ecila\u{2069}"),
            ("alice (admin)", "\u{202E}(nimda) ecila"),
            ("alice «a»", "\u{202E}«a» ecila"),
            ("(שלום)", "\u{200F}(שלום)"),
            ("12", "\u{200F}1\u{200E}2"),
            ("שלום", "\u{200F}שלום"),
            ("שלום", "\u{202D}םולש"),
            ("שלום alice", "\u{200F}שלום\u{200F} alice"),
        ] {
            assert_eq!(Key::of(one), Key::of(other), "{one} {other}");
        }
        for (one, other) in [
            ("alice", "alicf"),
            ("영희", "영이"),
            ("e", "é"),
            ("か", "が"),
            ("か", "カ"),
            ("ı", "i"),
            ("❤", "♥"),
        ] {
            assert_ne!(Key::of(one), Key::of(other), "{one} {other}");
        }
    }

    #[test]
    fn every_visible_character_is_something_to_compare_and_a_key_is_its_own() {
        // Beyond the third plane there is no letter.
        for c in ('\0'..='\u{3FFFF}').filter(|&c| !is_invisible(c)) {
            let key = Key::of(&c.to_string());
            assert!(!key.0.is_empty(), "U+{:04X}", u32::from(c));
            assert_eq!(Key::of(&key.0), key, "U+{:04X}", u32::from(c));
            assert!(
                !Look::of(&c.to_string()).0.is_empty(),
                "U+{:04X}",
                u32::from(c)
            );
        }
    }

    #[test]
    fn names_that_look_alike_have_one_look() {
        for (one, other) in [
            ("alice", "аlice"),
            ("alice", "Аlice"),
            ("ALICE", "аlice"),
            ("alice", "АLІCE"),
            ("alice", "aӏice"),
            ("alice", "ɑlice"),
            ("alice", "alıce"),
            ("Bob", "Вob"),
            ("bob", "ВОВ"),
            ("bix", "ВIx"),
            ("Maria", "Мaria"),
            ("maria", "Мaria"),
            ("MARIA", "Μaria"),
            ("Nick", "Νick"),
            ("nick", "Νick"),
            ("pace", "расе"),
            ("영희1", "영희l"),
            ("영희丨", "영희ㅣ"),
            ("口", "ロ"),
            ("力", "カ"),
        ] {
            assert_eq!(Look::of(one), Look::of(other), "{one} {other}");
        }
        for (one, other) in [
            ("아싸", "앗사"),
            ("악가", "아까"),
            ("각", "간"),
            ("영희", "영이"),
            ("민수1", "민수2"),
            ("Zoë", "Zoe"),
            ("田中", "由中"),
            ("иван", "ивам"),
            ("か", "が"),
            ("😀", "😁"),
        ] {
            assert_ne!(Look::of(one), Look::of(other), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_look_has_no_case(name in "[ -~]{1,40}") {
            let look = Look::of(&name);
            prop_assert_eq!(&Look::of(&name.to_ascii_uppercase()), &look);
            prop_assert_eq!(&Look::of(&name.to_ascii_lowercase()), &look);
        }

        #[test]
        fn a_key_is_its_own(name in ".{1,40}") {
            let key = Key::of(&name);
            prop_assert_eq!(&Key::of(&key.0), &key);
        }
    }
}
