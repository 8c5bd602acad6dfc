//! What changes in what is shown, and what is done at a click.
//!
//! Boxed: Leptos brings about a kilobyte of code for the type of each closure that it is given, and
//! a boxed closure has no type of its own.

use leptos::ev::MouseEvent;

/// What is read anew whenever what it was read from has changed.
pub(crate) type Live<T> = Box<dyn FnMut() -> T + Send>;

/// The value of an attribute that changes.
pub(crate) fn live<T>(read: impl FnMut() -> T + Send + 'static) -> Live<T> {
    Box::new(read)
}

/// A text that changes, for `inner_html`.
///
/// It is set as the content of its element, and not as a node that Leptos keeps: what translates a
/// page, or adds to it, puts other nodes in the place of a text's, and the one that Leptos kept would
/// then change unseen.
pub(crate) fn text<T: Into<String>>(mut read: impl FnMut() -> T + Send + 'static) -> Live<String> {
    Box::new(move || markup(read().into()))
}

/// What a click does.
pub(crate) fn click(mut act: impl FnMut() + 'static) -> Box<dyn FnMut(MouseEvent)> {
    Box::new(move |_| act())
}

/// Markup that shows this text.
pub(crate) fn markup(text: String) -> String {
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
        for (words, expected) in [
            ("영희", "영희"),
            ("<b>&amp;", "&lt;b>&amp;amp;"),
            ("\"a\" > 'b'", "\"a\" > 'b'"),
        ] {
            assert_eq!(text(move || words)(), expected);
        }
    }
}
