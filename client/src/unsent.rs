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
    let entries = RwSignal::new(Vec::<Entry>::new());
    // After hydration: the server knows nothing of them.
    browser::effect(move || {
        let room = Place::of(&path.read());
        let of_room = |entry: &Entry| Place::Room(entry.room) == room;
        entries.set(outbox::entries().into_iter().filter(of_room).collect());
    });
    let texts = move || {
        let entries = entries.read();
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| entry.own.text.as_str())
            .collect();
        texts.join("\n\n")
    };
    let discard = move || {
        for entry in entries.try_update(std::mem::take).unwrap_or_default() {
            outbox::drop(entry.room, entry.own.id);
        }
    };
    view! {
        <div class="unsent" hidden=live(move || entries.read().is_empty())>
            <p class="placard-hint">{language.not_sent()}</p>
            <div class="bubble" dir="auto" translate="no" inner_html=text(texts)></div>
            <button class="retry" type="button" on:click=click(discard)>
                {language.discard()}
            </button>
        </div>
    }
}
