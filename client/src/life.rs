//! Whether the page is alive: it has begun, and has not ended by a fault of the program.
//!
//! A fault ends the WebAssembly program, but the browser goes on calling what it had left behind.
//! So what talks to the server or listens to the reader begins only in a page that is whole; and a
//! page that ends later says so, and is loaded anew.

use std::cell::Cell;

#[cfg(feature = "hydrate")]
pub(crate) use in_browser::{begin, watch};

/// The id of the element that says how the line to the server stands.
pub(crate) const CONNECTION_ID: &str = "connection";

thread_local! {
    static IS_ALIVE: Cell<bool> = const { Cell::new(false) };
}

/// Whether everything of the page is in its place. Effects first run after that is known.
pub(crate) fn is_alive() -> bool {
    IS_ALIVE.get()
}

#[cfg(feature = "hydrate")]
mod in_browser {
    use std::panic::{self, PanicHookInfo};

    use leptos::prelude::*;

    use super::{CONNECTION_ID, IS_ALIVE};
    use crate::{browser, i18n::Language};

    /// A page that ends again this soon after it was loaded anew is left as it is.
    const RELOAD_DISTANCE_MS: u64 = 60_000;

    /// The key in the tab's storage of when the page was last loaded anew.
    const RELOADED_AT: &str = "reloadedAt";

    /// Lets a fault be told.
    pub(crate) fn watch() {
        panic::set_hook(Box::new(|fault: &PanicHookInfo| {
            console_error_panic_hook::hook(fault);
            if IS_ALIVE.replace(false) {
                end();
            }
        }));
    }

    /// Notes that everything is in its place.
    pub(crate) fn begin() {
        IS_ALIVE.set(true);
    }

    /// Shows that the page has ended, and loads it anew. Nothing here may need what the fault may
    /// have broken.
    fn end() {
        let document = document();
        if let Some(shown) = document.get_element_by_id(CONNECTION_ID) {
            let root = document.document_element();
            let tag = root.and_then(|root| root.get_attribute("lang"));
            let language = tag.and_then(|tag| Language::from_tag(&tag));
            // It is shown as well as it can be.
            let _ = shown.set_attribute("data-state", "ended");
            shown.set_text_content(Some(language.unwrap_or_default().ended()));
        }
        // Whole numbers: to write and read fractions would weigh 20 KB.
        let now = js_sys::Date::now() as u64;
        let last = browser::session_item(RELOADED_AT).and_then(|last| last.parse::<u64>().ok());
        let is_first = last.is_none_or(|last| now.abs_diff(last) > RELOAD_DISTANCE_MS);
        if is_first && browser::set_session_item(RELOADED_AT, &now.to_string()) {
            // Where that is refused, the words ask for it.
            let _ = window().location().reload();
        }
    }
}
