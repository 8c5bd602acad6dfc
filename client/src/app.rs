//! The frame of every page: the list of rooms, and beside it whatever the address names.

use leptos::{either::EitherOf5, prelude::*};
use shared::chat::Sender;

use crate::{
    browser,
    i18n::Language,
    life,
    line::{self, Connection},
    live::{live, text},
    name::{self, Ask, NameDialog},
    page::{self, Contents, Status, Visit},
    place::{self, Desk, Place, ROOMS_PATH},
    room_detail::Room,
    room_list::RoomList,
    unsent::Unsent,
};

/// What all parts of the page share.
#[derive(Clone, Copy)]
pub(crate) struct House {
    pub(crate) language: Language,
    /// The path of the page's address.
    pub(crate) path: RwSignal<String>,
    pub(crate) desk: RwSignal<Desk>,
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
    let visit = page::visit();
    let desk = Desk::of(&visit);
    let Visit {
        language,
        path,
        contents: Contents { rooms, .. },
    } = visit;
    let house = House {
        language,
        path: RwSignal::new(path),
        desk: RwSignal::new(desk),
        me: RwSignal::new(None),
        asking: RwSignal::new(None),
        connection: RwSignal::new(Connection::Connecting),
    };
    provide_context(house);
    browser::effect(move || {
        line::start(house);
        name::recall(house);
        place::watch(house);
    });
    browser::effect(move || {
        if let Some(title) = house.desk.read().title(language) {
            document().set_title(&title);
        }
    });
    let view = move || match Place::of(&house.path.read()) {
        Place::Rooms => "list",
        Place::Room(_) | Place::Nowhere => "room",
    };
    let desk = move || match house.desk.get() {
        Desk::Lobby => EitherOf5::A(view! { <Lobby /> }),
        Desk::Loading => EitherOf5::B(view! { <p class="hint">{language.loading()}</p> }),
        Desk::Room(page) => EitherOf5::C(view! { <Room page /> }),
        Desk::NotFound => EitherOf5::D(view! { <NotFound /> }),
        Desk::Unavailable => EitherOf5::E(view! { <Unavailable /> }),
    };
    view! {
        <main class="house" data-view=live(view)>
            <ConnectionNotice />
            <noscript class="notice-bar">{language.needs_scripting()}</noscript>
            <section class="rooms" aria-label=language.rooms()>
                <RoomList rooms />
            </section>
            <div class="desk">{desk}</div>
        </main>
        <NameDialog />
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
        Connection::Detour => "detour",
        Connection::Offline => "offline",
        Connection::CatchingUp | Connection::Checking => "catching-up",
    };
    let words = move || match connection.get() {
        Connection::Connecting => language.connecting(),
        Connection::Online => language.online(),
        Connection::Detour => language.detour(),
        Connection::Offline => language.offline(),
        Connection::CatchingUp => language.catching_up(),
        Connection::Checking => language.checking(),
    };
    view! {
        <div
            id=life::CONNECTION_ID
            class="connection"
            role="status"
            data-state=live(state)
            inner_html=text(words)
        ></div>
    }
}

/// What stands beside the list while no room is chosen. A phone shows the list alone.
#[component]
fn Lobby() -> impl IntoView {
    let House { language, .. } = House::here();
    view! {
        <div class="placard">
            <Mark />
            <p class="placard-title">{language.choose_room()}</p>
            <p class="placard-hint">{language.choose_room_hint()}</p>
        </div>
    }
}

/// The page of an address that names nothing.
#[component]
fn NotFound() -> impl IntoView {
    let House { language, .. } = House::here();
    page::answer_with(Status::NotFound);
    view! {
        <div class="placard">
            <Mark />
            <h1 class="placard-title">{language.not_found_title()}</h1>
            <p class="placard-hint">{language.not_found_hint()}</p>
            <a class="button" href=place::at(ROOMS_PATH)>
                {language.back()}
            </a>
            <Unsent />
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
