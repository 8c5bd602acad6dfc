//! What was written in a room that is gone, for whoever comes to its address: to be copied, or dropped.

use leptos::prelude::*;

use crate::{
    app::House,
    browser,
    live::{click, live, text},
    outbox::{self, Entry},
    place::Place,
};

/// The messages of the room that the address names, from the browser's storage; nothing where there are none.
#[component]
pub(crate) fn Unsent() -> impl IntoView {
    let House { language, path, .. } = House::here();
    let texts = RwSignal::new(String::new());
    let entries = move || -> Vec<Entry> {
        let room = Place::of(&path.read_untracked());
        let mut entries = outbox::entries();
        entries.retain(|entry| Place::Room(entry.room) == room);
        entries
    };
    let read = move || {
        let mut all = String::new();
        for entry in entries() {
            all.push_str(entry.own.text.as_str());
            all.push('\n');
        }
        texts.set(all);
    };
    // After hydration: the server knows nothing of them.
    browser::effect(move || {
        path.track();
        read();
    });
    let discard = move || {
        for entry in entries() {
            outbox::drop(entry.room, entry.own.id);
        }
        read();
    };
    view! {
        <div class="unsent" hidden=live(move || texts.read().is_empty())>
            <p class="placard-hint">{language.not_sent()}</p>
            <div class="bubble" dir="auto" translate="no" inner_html=text(move || texts.get())></div>
            <button class="retry" type="button" on:click=click(discard)>
                {language.discard()}
            </button>
        </div>
    }
}
