//! What the browser gives besides the document: its clock, its address, its storage, and the moment
//! when the page is alive.

use std::{cell::Cell, time::Duration};

use leptos::prelude::{Effect, window};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::BeforeUnloadEvent;

use crate::life;

/// So far apart the clocks do not drift between two looks at them.
const LEAP_MS: f64 = 1_000.0;

/// The time since the page began, by a clock that is never set back, and which goes on while the machine
/// sleeps: not each browser's does, but the clock on the wall leaps then.
pub(crate) fn now() -> Duration {
    thread_local! {
        /// By how much the clock on the wall was ahead, and for how long the machine has slept.
        static SLEPT: Cell<(f64, f64)> = const { Cell::new((f64::INFINITY, 0.0)) };
    }
    let wall = js_sys::Date::now();
    let awake = window().performance().map_or(wall, |clock| clock.now());
    let (ahead_before, mut slept) = SLEPT.get();
    let ahead = wall - awake;
    if ahead - ahead_before > LEAP_MS {
        slept += ahead - ahead_before;
    }
    SLEPT.set((ahead, slept));
    Duration::from_secs_f64((awake + slept).max(0.0) / 1_000.0)
}

/// The clock on the wall, in milliseconds since 1970: all tabs have the same.
pub(crate) fn wall_ms() -> u64 {
    js_sys::Date::now() as u64
}

/// Runs this in the browser alone, once the page is whole, and again when what it has read changes.
///
/// As `Effect::new`, whose code is in the module only once so; and never in a page that a fault has
/// ended, where the browser goes on calling what was left behind.
pub(crate) fn effect(act: impl Fn() + 'static) {
    fn boxed(act: Box<dyn Fn()>) {
        Effect::new(move || {
            if life::is_alive() {
                act();
            }
        });
    }
    boxed(Box::new(act));
}

/// Host and port of the page's address.
pub(crate) fn host() -> String {
    window().location().host().unwrap_or_default()
}

/// A value of the browser's store for this site; none where it is empty or closed to us.
pub(crate) fn remembered(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Remembers a value; whether the browser lets us.
pub(crate) fn remember(key: &str, value: &str) -> bool {
    let storage = window().local_storage().ok().flatten();
    storage.is_some_and(|storage| storage.set_item(key, value).is_ok())
}

/// Forgets a value.
pub(crate) fn forget(key: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        // Where it is closed to us there is nothing to forget.
        let _ = storage.remove_item(key);
    }
}

/// A value that this tab keeps over a reload; none where it is empty or closed to us.
pub(crate) fn session_item(key: &str) -> Option<String> {
    window().session_storage().ok()??.get_item(key).ok()?
}

/// Keeps a value over a reload of this tab; whether the browser lets us.
pub(crate) fn set_session_item(key: &str, value: &str) -> bool {
    let storage = window().session_storage().ok().flatten();
    storage.is_some_and(|storage| storage.set_item(key, value).is_ok())
}

/// Gives each key that begins so, with its value.
pub(crate) fn each_remembered(prefix: &str, take: &mut dyn FnMut(&str, &str)) {
    let Ok(Some(storage)) = window().local_storage() else {
        return;
    };
    for index in 0..storage.length().unwrap_or(0) {
        if let Ok(Some(key)) = storage.key(index)
            && key.starts_with(prefix)
            && let Ok(Some(value)) = storage.get_item(&key)
        {
            take(&key, &value);
        }
    }
}

/// Lets the browser ask before the page is left, or no more.
pub(crate) fn ask_before_leaving(asks: bool) {
    thread_local! {
        static ASK: Closure<dyn Fn(BeforeUnloadEvent)> = Closure::new(|event: BeforeUnloadEvent| {
            event.prevent_default();
            // For browsers that ask by this alone.
            event.set_return_value("?");
        });
    }
    ASK.with(|ask| {
        window().set_onbeforeunload(asks.then(|| ask.as_ref().unchecked_ref()));
    });
}

/// Whether one points with a finger: then the keyboard is on the glass, too.
pub(crate) fn is_touched() -> bool {
    matches!(window().match_media("(pointer: coarse)"), Ok(Some(media)) if media.matches())
}
