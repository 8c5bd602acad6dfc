//! A room: its head, and its conversation above the composer.

use std::{rc::Rc, time::Duration};

use leptos::{html, prelude::*};
use shared::chat::RoomId;
use wasm_bindgen::JsCast;

use crate::{
    api::{self, RoomPage, Unread},
    app::House,
    browser,
    composer::{self, Composer},
    line,
    live::{click, live},
    message::{Shown, row_view},
    open_rooms::{self, View},
    people::{PeopleHere, TypingLine},
    place::{self, ROOMS_PATH},
    scroll::{self, is_at_end, is_near_beginning},
    time::Zone,
    timeline::{End, Key, Part, Timeline},
};

/// How long assistive technology is given to see that earlier messages are nothing new.
const QUIET: Duration = Duration::from_millis(500);

/// A part that is shown.
#[derive(Clone)]
struct ShownPart {
    key: u64,
    rows: ArcRwSignal<Vec<Shown>>,
}

/// The page of one room.
#[component]
pub(crate) fn Room(page: RoomPage) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let RoomPage { room, messages } = page;
    let id = room.room_id;
    // First as the server rendered it: by a fixed clock, and for nobody in particular.
    let rows =
        Timeline::new(messages.clone()).rows(None, |_| false, |at| Zone::Fixed(language).local(at));
    let shown = RwSignal::new(Vec::<ShownPart>::new());
    show(shown, rows);
    let changed = RwSignal::new(false);
    let scroller = NodeRef::<html::Div>::new();
    let unseen = RwSignal::new(false);
    let is_gone = RwSignal::new(false);
    let people_changed = RwSignal::new(false);
    let earlier = Earlier::new(id, scroller);
    let messages = StoredValue::new(Some(messages));
    browser::effect(move || {
        line::start(house);
        if let Some(messages) = messages.try_update_value(Option::take).flatten() {
            open_rooms::open(id, messages, changed, people_changed);
        }
    });
    on_cleanup(move || open_rooms::close(id, changed));
    browser::effect(move || {
        if let Some(log) = scroller.get() {
            scroll::hold(log.unchecked_into());
        }
    });
    browser::effect(move || {
        changed.track();
        let me = house.me.get();
        let log = scroller.get_untracked();
        let follows = log.as_ref().is_none_or(|log| is_at_end(log));
        if let Some(view) = open_rooms::view(id, me.as_ref(), Zone::Browser, follows) {
            let View { parts, .. } = view;
            let grown = show(shown, parts);
            earlier.from.set(view.first_seq);
            if is_gone.get_untracked() != view.is_gone {
                is_gone.set(view.is_gone);
                composer::close(view.is_gone);
            }
            if grown && !follows {
                unseen.set(true);
            } else if grown && let Some(log) = log {
                log.set_scroll_top(0);
            }
        }
    });
    let to_end = move || {
        if let Some(log) = scroller.get_untracked() {
            log.set_scroll_top(0);
        }
        unseen.set(false);
    };
    let scrolled = move |_| {
        let Some(log) = scroller.get_untracked() else {
            return;
        };
        if is_at_end(&log) {
            unseen.set(false);
        }
        if is_near_beginning(&log) && !earlier.failed.get_untracked() {
            earlier.load();
        }
    };
    let leave = move || {
        open_rooms::leave(id);
        place::walk_to(house, ROOMS_PATH);
    };
    let name = room.room_name.to_string();
    view! {
        <div class="room-page">
            <header class="room-head">
                <a class="back" href=place::at(ROOMS_PATH) aria-label=language.back()>
                    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
                        <path d="M15 5l-7 7 7 7" />
                    </svg>
                </a>
                <h1 id="room_name" class="room-name">
                    {language.room_title_prefix()}
                    <bdi translate="no">{name}</bdi>
                </h1>
                <PeopleHere room=id told=room.participant_count changed=people_changed />
                <button class="button button-quiet" type="button" on:click=click(leave)>
                    {language.leave()}
                </button>
            </header>
            // Reversed by the style: it starts at its end and stays there without any script.
            <div
                class="log-scroll"
                tabindex="0"
                role="region"
                aria-label=language.messages()
                node_ref=scroller
                on:scroll=scrolled
            >
                <div class="log-sheet">
                    {move || {
                        shown
                            .read()
                            .iter()
                            .all(|part| part.rows.read().is_empty())
                            .then(|| view! { <p class="hint log-empty">{language.empty_room()}</p> })
                    }}
                    <div class="earlier" hidden=live(move || earlier.from.get().is_none())>
                        <button
                            class="button button-quiet"
                            type="button"
                            aria-disabled=live(move || earlier.loading.get().to_string())
                            on:click=click(move || {
                                earlier.load();
                                // The button may go; what it brings is what one reads on in.
                                if let Some(log) = scroller.get_untracked() {
                                    let _ = log.focus();
                                }
                            })
                        >
                            {language.earlier_messages()}
                        </button>
                        <p class="wrong" role="alert" hidden=live(move || !earlier.failed.get())>
                            {language.unread()}
                        </p>
                    </div>
                    <div
                        id="messageArea"
                        class="log"
                        role="log"
                        aria-live=live(move || if earlier.loading.get() { "off" } else { "polite" })
                        aria-label=language.messages()
                    >
                        <For
                            each=move || shown.get()
                            key=|part| part.key
                            children=move |part| {
                                view! {
                                    <For
                                        each=move || part.rows.get()
                                        key=|shown| shown.key
                                        children=move |shown| row_view(earlier, language, shown)
                                    />
                                }
                            }
                        />
                    </div>
                </div>
            </div>
            <div class="newer" hidden=live(move || !unseen.get())>
                <button class="button newer-button" type="button" on:click=click(to_end)>
                    {language.new_messages()}
                    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
                        <path d="M5 9l7 7 7-7" />
                    </svg>
                </button>
            </div>
            <p class="wrong room-gone" role="alert" hidden=live(move || !is_gone.get())>
                {language.room_gone()}
            </p>
            <TypingLine room=id changed=people_changed />
            <Composer room=id said=Rc::new(to_end) />
        </div>
    }
}

/// What was said before what is shown, or is left out of it: read on demand.
#[derive(Clone, Copy)]
pub(crate) struct Earlier {
    pub(crate) room: RoomId,
    scroller: NodeRef<html::Div>,
    /// The `seq` before which there is more; none where there is nothing, or before hydration.
    from: RwSignal<Option<u64>>,
    /// From the request until what came is in the page and known to be nothing new.
    loading: RwSignal<bool>,
    failed: RwSignal<bool>,
}

impl Earlier {
    fn new(room: RoomId, scroller: NodeRef<html::Div>) -> Self {
        Earlier {
            room,
            scroller,
            from: RwSignal::new(None),
            loading: RwSignal::new(false),
            failed: RwSignal::new(false),
        }
    }

    /// Fills a gap from one of its ends; `failed` is set where that could not be read.
    pub(crate) fn fill(self, key: u64, end: End, failed: RwSignal<bool>) {
        if self.loading.get_untracked() {
            return;
        }
        self.loading.set(true);
        // Filled from its newest end, what stands below keeps its place.
        self.hold(end == End::Newest);
        leptos::task::spawn_local(async move {
            let filled = open_rooms::fill(self.room, key, end).await;
            failed.try_set(filled.is_err());
            // The button goes with the gap; what it brought is what one reads on in.
            if filled == Ok(true)
                && let Some(log) = self.scroller.try_get_untracked().flatten()
            {
                // A focus that cannot move stays where it is.
                let _ = log.focus();
            }
            set_timeout(
                move || {
                    self.hold(false);
                    self.loading.try_set(false);
                },
                QUIET,
            );
        });
    }

    /// Lets scrolling hold on to the end of the log, whatever is being read.
    fn hold(self, holds: bool) {
        if let Some(log) = self.scroller.try_get_untracked().flatten() {
            // The name is a good one.
            let _ = log.toggle_attribute_with_force(scroll::FILLING, holds);
        }
    }

    fn load(self) {
        let Some(seq) = self
            .from
            .get_untracked()
            .filter(|_| !self.loading.get_untracked())
        else {
            return;
        };
        self.loading.set(true);
        leptos::task::spawn_local(async move {
            let messages = api::messages_before(self.room, seq).await;
            // The room may have been left meanwhile, and its signals with it.
            self.failed.try_set(messages.is_err());
            let loaded = move || {
                self.loading.try_set(false);
            };
            match messages {
                Ok(messages) => {
                    open_rooms::prepend(self.room, messages);
                    set_timeout(loaded, QUIET);
                }
                Err(Unread) => loaded(),
            }
        });
    }
}

/// Shows these rows; what is shown already is changed in place. Gives whether newer ones came in.
fn show(shown: RwSignal<Vec<ShownPart>>, parts: Vec<Part>) -> bool {
    let before = shown.get_untracked();
    let rows_before: Vec<Vec<Shown>> = before
        .iter()
        .map(|part| part.rows.get_untracked())
        .collect();
    let known: Vec<&Shown> = rows_before.iter().flatten().collect();
    // Most rows are in the order in which they were: each is looked for from where the last was found.
    let (later, mut from) = (known.len(), 0);
    let mut find = move |key: Key| {
        let order = (from..later).chain(0..from);
        let at = order.into_iter().find(|&at| known[at].key == key)?;
        from = at + 1;
        Some(&known[at].row)
    };
    let mut is_newer = false;
    let newest = parts.last().map(|(key, _)| *key);
    let mut after = Vec::with_capacity(parts.len());
    for (key, rows) in parts {
        let rows: Vec<Shown> = rows
            .into_iter()
            .map(|(row_key, row)| match find(row_key) {
                Some(signal) => {
                    if *signal.read_untracked() != row {
                        signal.set(row);
                    }
                    Shown {
                        key: row_key,
                        row: signal.clone(),
                    }
                }
                None => {
                    is_newer |= Some(key) == newest;
                    Shown {
                        key: row_key,
                        row: ArcRwSignal::new(row),
                    }
                }
            })
            .collect();
        let keys = |rows: &[Shown]| rows.iter().map(|shown| shown.key).collect::<Vec<_>>();
        match before.iter().position(|part| part.key == key) {
            Some(at) => {
                if keys(&rows) != keys(&rows_before[at]) {
                    before[at].rows.set(rows);
                }
                after.push(before[at].clone());
            }
            None => after.push(ShownPart {
                key,
                rows: ArcRwSignal::new(rows),
            }),
        }
    }
    let same = |(a, b): (&ShownPart, &ShownPart)| a.key == b.key;
    if before.len() != after.len() || !before.iter().zip(&after).all(same) {
        shown.set(after);
    }
    is_newer
}
