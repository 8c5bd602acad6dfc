//! Where in the house the reader stands: by the page's address, and walked between without loading
//! the document anew.

use leptos::{ev, prelude::*};
use shared::chat::RoomId;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Element, HtmlAnchorElement};

use crate::{
    api::{self, RoomPage, Unread},
    app::House,
    i18n::Language,
    page::Visit,
};

/// The path of the list of rooms.
pub(crate) const ROOMS_PATH: &str = "/chat/room";

const ROOM_PATH: &str = "/chat/room/enter/";

/// What an address names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// The list of rooms, and no room.
    Rooms,
    Room(RoomId),
    Nowhere,
}

impl Place {
    pub(crate) fn of(path: &str) -> Self {
        // A slash at the end names the same, as it does for the server.
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == ROOMS_PATH {
            return Place::Rooms;
        }
        path.strip_prefix(ROOM_PATH)
            .and_then(RoomId::parse)
            .map_or(Place::Nowhere, Place::Room)
    }
}

/// The path of a room's page.
pub(crate) fn room_path(id: RoomId) -> String {
    format!("{ROOM_PATH}{id}")
}

/// What stands beside the list of rooms.
#[derive(Clone, Debug)]
pub(crate) enum Desk {
    /// No room is chosen.
    Lobby,
    /// The room is being read.
    Loading,
    Room(RoomPage),
    NotFound,
    Unavailable,
}

impl Desk {
    /// What the server rendered.
    pub(crate) fn of(visit: &Visit) -> Self {
        match Place::of(&visit.path) {
            Place::Rooms => Desk::Lobby,
            Place::Room(_) | Place::Nowhere => visit.contents.room.clone().into(),
        }
    }

    /// The title of the document, once it is known.
    pub(crate) fn title(&self, language: Language) -> Option<String> {
        let title = match self {
            Desk::Lobby => language.rooms(),
            Desk::Room(page) => page.room.room_name.as_str(),
            Desk::NotFound => language.not_found_title(),
            Desk::Loading | Desk::Unavailable => return None,
        };
        Some(format!("{title} · {}", language.house()))
    }
}

impl From<Result<Option<RoomPage>, Unread>> for Desk {
    fn from(room: Result<Option<RoomPage>, Unread>) -> Self {
        match room {
            Ok(Some(page)) => Desk::Room(page),
            Ok(None) => Desk::NotFound,
            Err(Unread) => Desk::Unavailable,
        }
    }
}

/// Takes over links to other places of the house, and the browser's way back and forward.
pub(crate) fn watch(house: House) {
    window_event_listener(ev::click, move |event| {
        if let Some(path) = followed(&event) {
            event.prevent_default();
            walk_to(house, &path);
        }
    });
    window_event_listener(ev::popstate, move |_| arrive(house));
}

/// The path of the page's address, within the house.
pub(crate) fn path() -> String {
    let path = window().location().pathname().unwrap_or_default();
    within(&base(), &path).to_owned()
}

/// The address of a path of ours: the house may stand under a path, beside others on one host.
pub(crate) fn at(path: &str) -> String {
    base() + path
}

/// The path in an address that may begin with the base; what names a place as it is, is one.
fn within<'a>(base: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(base) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') && Place::of(path) == Place::Nowhere => rest,
        _ => path,
    }
}

/// The path that the house stands under, such as `/chat-app`; empty where it stands alone.
fn base() -> String {
    #[cfg(feature = "ssr")]
    {
        use_context::<crate::ssr::Base>().map_or_else(String::new, |base| base.0.to_string())
    }
    #[cfg(not(feature = "ssr"))]
    {
        let root = document().document_element();
        root.and_then(|root| root.get_attribute("data-base"))
            .unwrap_or_default()
    }
}

/// Goes to another place of the house, as if by a link.
pub(crate) fn walk_to(house: House, path: &str) {
    let pushed = window()
        .history()
        .and_then(|history| history.push_state_with_url(&JsValue::NULL, "", Some(&at(path))));
    if pushed.is_ok() {
        arrive(house);
        window().scroll_to_with_x_and_y(0.0, 0.0);
    }
}

/// Shows what the address names by now.
fn arrive(house: House) {
    let path = path();
    if path == *house.path.read_untracked() {
        return;
    }
    house.path.set(path.clone());
    match Place::of(&path) {
        Place::Rooms => house.desk.set(Desk::Lobby),
        Place::Nowhere => house.desk.set(Desk::NotFound),
        Place::Room(id) => {
            house.desk.set(Desk::Loading);
            leptos::task::spawn_local(async move {
                let desk = api::room(id).await.into();
                let awaited = matches!(*house.desk.read_untracked(), Desk::Loading);
                if awaited && path == *house.path.read_untracked() {
                    house.desk.set(desk);
                }
            });
        }
    }
}

/// The path of the link that a plain click follows, where it leads to another place of the house;
/// all else is the browser's own.
fn followed(event: &web_sys::MouseEvent) -> Option<String> {
    let altered = event.meta_key() || event.alt_key() || event.ctrl_key() || event.shift_key();
    if event.default_prevented() || event.button() != 0 || altered {
        return None;
    }
    let target = event.target()?.dyn_into::<Element>().ok()?;
    let link = target.closest("a[href]").ok()??;
    let link = link.dyn_into::<HtmlAnchorElement>().ok()?;
    let is_ours = link.origin() == window().location().origin().ok()?
        && link.target().is_empty()
        && link.rel() != "external"
        && !link.has_attribute("download");
    let path = link.pathname();
    let path = within(&base(), &path);
    (is_ours && Place::of(path) != Place::Nowhere).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_address_names_a_place() {
        let id = RoomId(Uuid::from_u128(7));
        for (path, expected) in [
            ("/chat/room", Place::Rooms),
            ("/chat/room/", Place::Rooms),
            ("/chat/room//", Place::Nowhere),
            (room_path(id).as_str(), Place::Room(id)),
            (&format!("{}/", room_path(id)), Place::Room(id)),
            (&format!("{}//", room_path(id)), Place::Nowhere),
            ("/chat/room/enter/7", Place::Nowhere),
            ("/chat/room/enter/", Place::Nowhere),
            ("/", Place::Nowhere),
        ] {
            assert_eq!(Place::of(path), expected, "{path}");
        }
    }

    #[test]
    fn the_base_is_taken_off_an_address() {
        for (base, path, expected) in [
            ("", "/chat/room", "/chat/room"),
            ("", "/", "/"),
            ("/chat-app", "/chat-app/chat/room", "/chat/room"),
            ("/chat-app", "/chat-app/nothing", "/nothing"),
            ("/chat-app", "/chat-app", "/"),
            (
                "/chat-app",
                "/chat-apple/chat/room",
                "/chat-apple/chat/room",
            ),
            ("/chat-app", "/chat/room", "/chat/room"),
            ("/chat", "/chat/room", "/chat/room"),
            ("/chat", "/chat/chat/room", "/chat/room"),
        ] {
            assert_eq!(within(base, path), expected, "{base} {path}");
        }
    }
}
