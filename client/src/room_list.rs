//! The list of rooms: read with the page, then live.

use std::{cmp::Reverse, collections::BinaryHeap};

use leptos::{either::Either, html, prelude::*};
use shared::chat::{ChatRoom, RoomId, RoomName};
use time::OffsetDateTime;

use crate::{
    api::{self, ROOMS_SHOWN, RoomsPage, Unread},
    app::{House, Mark, Unavailable},
    browser, field,
    i18n::Language,
    line,
    live::{click, live, text as live_text},
    name::Ask,
    place::{self, Place, ROOMS_PATH, room_path},
    text,
    time::{self as times, Zone},
};

/// The rooms as they are shown, the one with the newest activity first.
#[derive(Clone, Copy)]
pub(crate) struct Rooms {
    listed: RwSignal<Vec<Listed>>,
    /// Whether others do not belong to them.
    pub(crate) is_part: bool,
}

/// A room of the list. Its figures change in place, so that its link keeps the focus.
#[derive(Clone)]
struct Listed {
    id: RoomId,
    room: ArcRwSignal<ChatRoom>,
}

impl Rooms {
    /// The rooms that are known.
    pub(crate) fn ids(self) -> Vec<RoomId> {
        let listed = self.listed.try_get_untracked().unwrap_or_default();
        listed.iter().map(|listed| listed.id).collect()
    }

    /// Takes the rooms with the newest activity, as the server had them after `known` were: of these, what
    /// would be among them and is not is gone.
    pub(crate) fn renew(self, known: &[RoomId], rooms: Vec<ChatRoom>) {
        // Where there are fewer than were asked for, these are all.
        let oldest = rooms.get(ROOMS_SHOWN - 1).map(active_at);
        self.listed.try_update(|listed| {
            listed.retain(|listed| {
                let is_known = known.contains(&listed.id);
                let is_listed = rooms.iter().any(|room| room.room_id == listed.id);
                let is_older =
                    || oldest.is_some_and(|at| active_at(&listed.room.read_untracked()) <= at);
                !is_known || is_listed || is_older()
            });
        });
        self.merge(rooms);
    }

    fn new(rooms: Vec<ChatRoom>, is_part: bool) -> Self {
        let mut listed: Vec<_> = rooms.into_iter().map(Listed::new).collect();
        sort(&mut listed);
        Rooms {
            listed: RwSignal::new(listed),
            is_part,
        }
    }

    /// Takes rooms as the server has them now: known ones change, others come in.
    pub(crate) fn merge(self, rooms: Vec<ChatRoom>) {
        let Some(mut listed) = self.listed.try_get_untracked() else {
            return;
        };
        let before: Vec<_> = listed.iter().map(|listed| listed.id).collect();
        for room in rooms {
            match listed.iter().find(|listed| listed.id == room.room_id) {
                // The list that was asked for may be older than what the line brought meanwhile.
                Some(known) if known.room.read_untracked().message_count > room.message_count => {}
                Some(known) if *known.room.read_untracked() == room => {}
                Some(known) => known.room.set(room),
                None if self.is_part => {}
                None => listed.push(Listed::new(room)),
            }
        }
        sort(&mut listed);
        listed.truncate(LISTED_MAX);
        if before.iter().ne(listed.iter().map(|listed| &listed.id)) {
            self.listed.set(listed);
        }
    }
}

/// The most rooms of the list, however many come while it is open: the least active leave it.
const LISTED_MAX: usize = 4 * ROOMS_SHOWN;

impl Listed {
    fn new(room: ChatRoom) -> Self {
        Listed {
            id: room.room_id,
            room: ArcRwSignal::new(room),
        }
    }
}

/// When something last happened in a room: the last message, else its making.
fn active_at(room: &ChatRoom) -> OffsetDateTime {
    room.last_message_at.unwrap_or(room.created_at)
}

/// Puts the room with the newest activity first. A heap does it, as the library's sort weighs a kilobyte
/// of what a first visit loads.
fn sort(listed: &mut Vec<Listed>) {
    let rank = |(at, listed): (usize, &Listed)| {
        let room = listed.room.read_untracked();
        (Reverse(active_at(&room)), listed.id, at)
    };
    let ranks: BinaryHeap<_> = listed.iter().enumerate().map(rank).collect();
    let sorted = ranks.into_sorted_vec().into_iter();
    *listed = sorted.map(|(_, _, at)| listed[at].clone()).collect();
}

/// The head of the house, the form for a new room, and the rooms.
#[component]
pub(crate) fn RoomList(rooms: Result<RoomsPage, Unread>) -> impl IntoView {
    view! {
        <Head />
        {match rooms {
            Ok(page) => Either::Left(view! { <RoomTable page /> }),
            Err(Unread) => Either::Right(view! { <Unavailable /> }),
        }}
    }
}

#[component]
fn Head() -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let other = language.other();
    view! {
        <header class="head">
            <a class="brand" href=place::at(ROOMS_PATH)>
                <Mark />
                <h1 class="brand-name" translate="no">
                    {language.house()}
                </h1>
            </a>
            <a
                class="chip"
                rel="external"
                href=live(move || format!("{}?lang={}", place::at(&house.path.read()), other.tag()))
                hreflang=other.tag()
                lang=other.tag()
            >
                {other.own_name()}
            </a>
            <button
                class="chip chip-name"
                type="button"
                title=live(move || {
                    if house.me.read().is_some() {
                        language.name_chip()
                    } else {
                        language.name_chip_unset()
                    }
                })
                on:click=click(move || {
                    house
                        .ask_name(if house.me.read_untracked().is_some() {
                            Ask::Change
                        } else {
                            Ask::First
                        });
                })
            >
                <bdi
                    translate="no"
                    inner_html=live_text(move || match &*house.me.read() {
                        Some(me) => me.as_str().to_owned(),
                        None => language.name_chip_unset().to_owned(),
                    })
                ></bdi>
            </button>
        </header>
    }
}

#[component]
fn RoomTable(page: RoomsPage) -> impl IntoView {
    let House { language, path, .. } = House::here();
    let search = search(language, &page);
    let is_found = page.name.is_some();
    let older = page.older;
    let rooms = Rooms::new(page.rooms, page.is_part);
    // First as the server rendered it; then by the browser's own clock.
    let clock = RwSignal::new((Zone::Fixed(language), page.read_at));
    browser::effect(move || {
        line::watch_rooms(rooms);
        let tick = move || {
            clock.try_set((Zone::Browser, times::now()));
        };
        tick();
        if let Ok(ticking) = set_interval_with_handle(tick, std::time::Duration::from_secs(60)) {
            on_cleanup(move || ticking.clear());
        }
    });
    let row = move |listed: Listed| {
        let Listed { id, room } = listed;
        let name = room.read_untracked().room_name.to_string();
        let at = {
            let room = room.clone();
            move || active_at(&room.read())
        };
        let when = {
            let at = at.clone();
            move || {
                let (zone, now) = clock.get();
                times::recently(language, zone.local(at()), zone.local(now).date())
            }
        };
        let here = move || (*path.read() == room_path(id)).then_some("page");
        view! {
            <li>
                <a class="room" href=place::at(&room_path(id)) aria-current=live(here)>
                    <bdi class="room-title" translate="no">
                        {name}
                    </bdi>
                    <time
                        class="room-time"
                        datetime=live(move || times::machine(at()))
                        inner_html=live_text(when)
                    ></time>
                    <span
                        class="room-count"
                        inner_html=live_text(move || language.message_count(room.read().message_count))
                    ></span>
                </a>
            </li>
        }
    };
    view! {
        <NewRoom rooms />
        <div class="room-search" inner_html=search></div>
        {move || {
            let is_known = Place::of(&path.read()) != Place::Nowhere;
            (is_known && rooms.listed.read().is_empty())
                .then(|| view! { <p class="hint">{if is_found { language.none_found() } else { language.no_rooms() }}</p> })
        }}
        <ul id="roomListTable" class="room-list">
            <For each=move || rooms.listed.get() key=|listed| listed.id children=row />
        </ul>
        {older
            .map(|older| {
                view! {
                    <a class="chip" rel="external" href=place::at(&older)>
                        {language.older_rooms()}
                    </a>
                }
            })}
    }
}

/// The field by which rooms are found, where they do not all stand on one page. It needs no script, so the
/// server alone makes it: hydration keeps what stands in an element's `inner_html`.
fn search(language: Language, page: &RoomsPage) -> String {
    #[cfg(feature = "ssr")]
    {
        crate::ssr::search(language, page)
    }
    #[cfg(not(feature = "ssr"))]
    {
        let _ = (language, page);
        String::new()
    }
}

#[component]
fn NewRoom(rooms: Rooms) -> impl IntoView {
    let House { language, .. } = House::here();
    let input = NodeRef::<html::Input>::new();
    let wrong = RwSignal::new(None::<String>);
    // What stood in the field when it was sent: the list may show the room before the answer comes,
    // and one may be typing the next name by then.
    let sent = RwSignal::new(None::<String>);
    let submit = move || {
        let Some(field) = input.get_untracked() else {
            return;
        };
        let value = field.value();
        if sent.get_untracked().as_ref() == Some(&value) {
            return;
        }
        let name = match text::read(&value, RoomName::parse) {
            Ok(name) => name,
            Err(reason) => {
                wrong.set(Some(language.invalid_room_name(reason)));
                // A focus that cannot move stays where it is.
                let _ = field.focus();
                return;
            }
        };
        wrong.set(None);
        sent.set(Some(value.clone()));
        leptos::task::spawn_local(async move {
            match api::create_room(&name).await {
                Ok(room) => {
                    rooms.merge(vec![room]);
                    if let Some(field) =
                        input.get_untracked().filter(|field| field.value() == value)
                    {
                        field.set_value("");
                    }
                }
                Err(problem) => wrong.set(Some(language.refused(&problem))),
            }
            sent.update(|sent| drop(sent.take_if(|sent| *sent == value)));
        });
    };
    field::on_send(input, submit);
    view! {
        <form class="new-room" novalidate>
            <label class="visually-hidden" for="roomName">
                {language.room_name_label()}
            </label>
            <input
                id="roomName"
                class="field"
                type="text"
                autocomplete="off"
                dir="auto"
                placeholder=language.room_name_hint()
                aria-describedby="roomNameWrong"
                aria-invalid=live(move || wrong.read().is_some().to_string())
                node_ref=input
            />
            <button class="button" type="submit" aria-busy=live(move || sent.read().is_some().to_string())>
                {language.create()}
            </button>
            <p
                id="roomNameWrong"
                class="wrong"
                role="alert"
                hidden=live(move || wrong.read().is_none())
                inner_html=live_text(move || wrong.get().unwrap_or_default())
            ></p>
        </form>
    }
}
