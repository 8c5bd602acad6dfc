//! The frame of every page: the list of rooms, and beside it whatever the address names.

use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::{
    SsrMode,
    components::{Route, Router, Routes},
    hooks::use_location,
    path,
};
use shared::chat::Sender;

use crate::{
    i18n::Language,
    line::{self, Connection},
    name::{self, Ask, NameDialog},
    page::{self, Status},
    room_detail::RoomDetail,
    room_list::RoomList,
};

/// The address of the list of rooms.
pub(crate) const ROOMS_PATH: &str = "/chat/room";

/// What all parts of the page share.
#[derive(Clone, Copy)]
pub(crate) struct House {
    pub(crate) language: Language,
    /// The reader's name, once it is known. Never known while the server renders.
    pub(crate) me: RwSignal<Option<Sender>>,
    /// Why the name is being asked for, while it is.
    pub(crate) asking: RwSignal<Option<Ask>>,
    pub(crate) connection: RwSignal<Connection>,
}

impl House {
    /// The house that this component stands in.
    pub(crate) fn here() -> Self {
        expect_context()
    }

    /// Asks for the name, for this reason.
    pub(crate) fn ask_name(self, ask: Ask) {
        self.asking.set(Some(ask));
    }
}

/// The whole application, rendered by the server and taken over by the browser.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    let house = House {
        language: page::language(),
        me: RwSignal::new(None),
        asking: RwSignal::new(None),
        connection: RwSignal::new(Connection::Connecting),
    };
    provide_context(house);
    Effect::new(move || {
        line::start(house);
        name::recall(house);
    });
    view! {
        <Router>
            <Frame />
        </Router>
        <NameDialog />
    }
}

#[component]
fn Frame() -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let pathname = use_location().pathname;
    let view = move || {
        if pathname.read().trim_end_matches('/') == ROOMS_PATH {
            "list"
        } else {
            "room"
        }
    };
    view! {
        <main class="house" data-view=view>
            <ConnectionNotice />
            <noscript class="notice-bar">{language.needs_scripting()}</noscript>
            <section class="rooms" aria-label=language.rooms()>
                <RoomList />
            </section>
            <div class="desk">
                <Routes fallback=NotFound>
                    <Route path=path!("/chat/room") view=Lobby ssr=SsrMode::Async />
                    <Route
                        path=path!("/chat/room/enter/:room_id")
                        view=RoomDetail
                        ssr=SsrMode::Async
                    />
                </Routes>
            </div>
        </main>
    }
}

/// Says how the line to the server stands; only trouble is shown, the rest is for assistive
/// technology and for whoever looks at `data-state`.
#[component]
fn ConnectionNotice() -> impl IntoView {
    let House {
        language,
        connection,
        ..
    } = House::here();
    let state = move || match connection.get() {
        Connection::Connecting => "connecting",
        Connection::Online => "online",
        Connection::Offline => "offline",
        Connection::CatchingUp => "catching-up",
    };
    let words = move || match connection.get() {
        Connection::Connecting => language.connecting(),
        Connection::Online => language.online(),
        Connection::Offline => language.offline(),
        Connection::CatchingUp => language.catching_up(),
    };
    view! {
        <div id="connection" class="connection" role="status" data-state=state>
            {words}
        </div>
    }
}

/// What stands beside the list while no room is chosen. A phone shows the list alone.
#[component]
fn Lobby() -> impl IntoView {
    let House { language, .. } = House::here();
    view! {
        <Title text=format!("{} · {}", language.rooms(), language.house()) />
        <div class="placard">
            <Mark />
            <p class="placard-title">{language.choose_room()}</p>
            <p class="placard-hint">{language.choose_room_hint()}</p>
        </div>
    }
}

/// The page of an address that names nothing.
#[component]
pub(crate) fn NotFound() -> impl IntoView {
    let House { language, .. } = House::here();
    page::answer_with(Status::NotFound);
    view! {
        <Title text=format!("{} · {}", language.not_found_title(), language.house()) />
        <div class="placard">
            <Mark />
            <h1 class="placard-title">{language.not_found_title()}</h1>
            <p class="placard-hint">{language.not_found_hint()}</p>
            <a class="button" href=ROOMS_PATH>
                {language.back()}
            </a>
        </div>
    }
}

/// The page of what cannot be read right now.
#[component]
pub(crate) fn Unavailable() -> impl IntoView {
    let House { language, .. } = House::here();
    page::answer_with(Status::Unavailable);
    view! {
        <div class="placard" role="alert">
            <Mark />
            <p class="placard-title">{language.unavailable()}</p>
        </div>
    }
}

/// The house: a roof, two posts, a beam and a pillar.
#[component]
pub(crate) fn Mark() -> impl IntoView {
    view! {
        <svg class="mark" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <path d="M2 11 12 3l10 8M5 10v11h14V10M12 10v11M5 15h14" />
        </svg>
    }
}
