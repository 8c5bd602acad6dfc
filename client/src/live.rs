//! Texts that change.

/// Markup that shows this text, for `inner_html`.
///
/// A text that changes is set so, and not as a node that Leptos keeps: what translates a page, or adds
/// to it, puts other nodes in the place of a text's, and the one that Leptos kept would then change
/// unseen.
pub(crate) fn markup(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains(['&', '<']) {
        text.replace('&', "&amp;").replace('<', "&lt;")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        for (text, expected) in [
            ("영희", "영희"),
            ("<b>&amp;", "&lt;b>&amp;amp;"),
            ("\"a\" > 'b'", "\"a\" > 'b'"),
        ] {
            assert_eq!(markup(text), expected);
        }
    }
}
