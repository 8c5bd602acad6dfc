//! The face of a name: a letter on a colour.
//!
//! Pure.

/// The classes `face-0` to `face-11` of the style.
const FACES: u32 = 12;

/// The first visible character of a name; the style makes it a capital.
pub(crate) fn initial_of(sender: &str) -> String {
    sender
        .chars()
        .find(|&c| !shared::chat::is_invisible(c))
        .map(String::from)
        .unwrap_or_default()
}

/// A colour for a name, the same on every device (FNV-1a).
pub(crate) fn face_of(sender: &str) -> u32 {
    let hash = sender.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 8) % FACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_the_first_visible_character() {
        for (sender, expected) in [
            ("철수", "철"),
            ("lena", "l"),
            ("\u{202E}영희", "영"),
            ("😀x", "😀"),
            ("ß", "ß"),
        ] {
            assert_eq!(initial_of(sender), expected);
        }
    }

    #[test]
    fn a_name_keeps_its_colour() {
        assert_eq!(face_of("철수"), face_of("철수"));
        let used: std::collections::HashSet<_> =
            (0..200).map(|n| face_of(&n.to_string())).collect();
        assert_eq!(used.len(), FACES as usize);
    }
}
