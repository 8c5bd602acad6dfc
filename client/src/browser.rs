//! What the browser gives besides the document: its clock, its address, its storage.

use std::time::Duration;

use leptos::prelude::window;
use wasm_bindgen::JsValue;

/// The time since the page began, by a clock that is never set back.
pub(crate) fn now() -> Duration {
    let milliseconds = window()
        .performance()
        .map_or_else(js_sys::Date::now, |clock| clock.now());
    Duration::from_secs_f64(milliseconds.max(0.0) / 1_000.0)
}

/// Host and port of the page's address.
pub(crate) fn host() -> String {
    window().location().host().unwrap_or_default()
}

/// A value of the browser's store for this site; none where it is empty or closed to us.
pub(crate) fn remembered(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Remembers a value, where the browser lets us.
pub(crate) fn remember(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _: Result<(), JsValue> = storage.set_item(key, value);
    }
}

/// A value of the browser's store for this tab; None where it is empty or closed to us.
#[cfg(feature = "hydrate")]
pub(crate) fn of_tab(key: &str) -> Option<String> {
    window().session_storage().ok()??.get_item(key).ok()?
}

/// Keeps a value for this tab; whether the browser lets us.
#[cfg(feature = "hydrate")]
pub(crate) fn keep_in_tab(key: &str, value: &str) -> bool {
    let storage = window().session_storage().ok().flatten();
    storage.is_some_and(|storage| storage.set_item(key, value).is_ok())
}
