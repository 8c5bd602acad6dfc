//! What was written in a room that is gone, for whoever comes to its address: to be copied, or dropped.

use leptos::prelude::*;

use crate::{
    app::House,
    browser,
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
    let discard = move |entry: &Entry| {
        outbox::drop(entry.room, entry.own.id);
        entries.update(|entries| entries.retain(|other| other.own.id != entry.own.id));
    };
    view! {
        <div class="unsent" hidden=move || entries.read().is_empty()>
            <p class="placard-hint">{language.not_sent()}</p>
            <For
                each=move || entries.get()
                key=|entry| entry.own.id
                children=move |entry| {
                    view! {
                        <div class="message" data-own="true" data-state="failed">
                            <div class="bubble" dir="auto">
                                {entry.own.text.as_str().to_owned()}
                            </div>
                            <button class="retry" type="button" on:click=move |_| discard(&entry)>
                                {language.discard()}
                            </button>
                        </div>
                    }
                }
            />
        </div>
    }
}
