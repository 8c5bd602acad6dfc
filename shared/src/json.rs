//! Reads JSON as clients in use write it, where a strict reader refuses what others take: a byte order
//! mark before it (RFC 8259, section 8.1), and half of a surrogate pair in an escape (section 8.2), as
//! whoever cuts an emoji in two sends it.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Reads a value. A byte order mark before it is passed over, a lone surrogate becomes U+FFFD.
///
/// # Errors
/// What is wrong with the JSON.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    serde_json::from_slice(&without_lone_surrogates(json))
}

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// Writes `\ufffd` over the escape of each lone surrogate; the one is as long as the other.
fn without_lone_surrogates(json: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Cow::Borrowed(json);
    let mut at = 0;
    // A backslash stands in strings alone, and with what follows it is an escape.
    while let Some(next) = memchr::memchr(b'\\', json.get(at..).unwrap_or_default()) {
        at += next;
        let after = json.get(at + 6..).unwrap_or_default();
        at += match (escaped_unit(&json[at..]), escaped_unit(after)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.to_mut()[at..at + 6].copy_from_slice(b"\\ufffd");
                6
            }
            _ => 2,
        };
    }
    mended
}

/// The UTF-16 code unit that an escape at the beginning of these octets names.
fn escaped_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lone_surrogate_is_the_replacement_character() {
        for (json, expected) in [
            (r#""hi \ud83d""#, "hi \u{FFFD}"),
            (r#""\ude00 hi""#, "\u{FFFD} hi"),
            (r#""\uD83D\uDE00""#, "😀"),
            (r#""\ud83D\uDe00""#, "😀"),
            (r#""\ude00\ud83d""#, "\u{FFFD}\u{FFFD}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{FFFD}😀"),
            (r#""\ud83d\ude00\ude00""#, "😀\u{FFFD}"),
            (r#""\ud83dx\ude00""#, "\u{FFFD}x\u{FFFD}"),
            (r#""\ud83d\n\ude00""#, "\u{FFFD}\n\u{FFFD}"),
            (r#""\ud83d\u0041""#, "\u{FFFD}A"),
            (
                r#""\ud800\udbff\udc00\udfff""#,
                "\u{FFFD}\u{10FC00}\u{FFFD}",
            ),
            (r#""\ud7ff\ue000""#, "\u{D7FF}\u{E000}"),
            // No escapes: the backslash is one itself.
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83d""#, "\\\u{FFFD}"),
            (r#""\\\\ud83d\ude00""#, "\\\\ud83d\u{FFFD}"),
            (r#""\"\ud83d\"""#, "\"\u{FFFD}\""),
            ("\u{FEFF}\"a\"", "a"),
            ("\u{FEFF} \"\\ud83d\"", "\u{FFFD}"),
            ("\"\u{FEFF}\"", "\u{FEFF}"),
        ] {
            assert_eq!(read::<String>(json.as_bytes()).unwrap(), expected, "{json}");
        }
        let map: BTreeMap<String, Vec<String>> =
            read(br#"{"\ud83d": ["\ude00"], "b": []}"#).unwrap();
        assert_eq!(map["\u{FFFD}"], ["\u{FFFD}"]);
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for json in [
            "",
            "\u{FEFF}",
            "\u{FEFF}\u{FEFF}1",
            "1\u{FEFF}",
            r#""\ud83"#,
            r#""\ud83""#,
            r#""\ud83d"#,
            r#""\ud83d\""#,
            r#""\ud83d\u""#,
            r#""\ud83d\ude0""#,
            r#""\u+d83""#,
            r"\ud83d",
            r#""\"#,
        ] {
            assert!(read::<String>(json.as_bytes()).is_err(), "{json}");
        }
        assert!(read::<String>(b"\"\xED\xA0\xBD\"").is_err());
    }

    proptest! {
        /// Any code units, each written as it is or as an escape, are read as a browser reads them.
        #[test]
        fn any_units_are_read_as_a_browser_reads_them(
            units in prop::collection::vec(
                prop_oneof![0xD7F0_u16..=0xE00F, Just(u16::from(b'\\')), Just(u16::from(b'u')), any::<u16>()],
                0..12,
            ),
        ) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = read(format!("\"{escapes}\"").as_bytes()).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        /// Where a strict reader finds something, the same is found.
        #[test]
        fn what_was_read_is_read(json in r#"["\\ud8ef03\[\],:{}]{0,24}"#) {
            if let Ok(strict) = serde_json::from_str::<serde_json::Value>(&json) {
                prop_assert_eq!(read::<serde_json::Value>(json.as_bytes()).unwrap(), strict);
            }
        }
    }
}
