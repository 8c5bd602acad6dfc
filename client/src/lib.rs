//! The web client: the pages that the server renders and the browser hydrates.
//!
//! The server reads what a page shows (`page::Contents`), renders it, and sends it along as JSON; the
//! browser hydrates from that, at once. `place` then walks between the list and the rooms.
//!
//! `timeline`, `conversation`, `authorship`, `uplink`, `reconnect`, `enter`, `text`, `i18n` and `time` are pure and tested
//! natively; `driver` keeps the connection that `uplink` decides on, over the sockets of `transport`;
//! `open_rooms` keeps the rooms that one takes part in, and `line` brings the two together. No server type
//! is named here: data for server rendering comes through [`ssr::Source`], and the browser uses the
//! public API.

#![expect(
    unreachable_pub,
    reason = "`leptos::component` makes public whatever it expands to"
)]

mod api;
mod app;
mod authorship;
mod browser;
mod composer;
mod conversation;
mod crowd;
mod draft;
mod driver;
mod enter;
mod face;
mod field;
mod i18n;
mod json;
mod life;
mod line;
mod live;
mod message;
mod name;
mod open_room;
mod open_rooms;
mod outbox;
mod page;
mod people;
mod place;
mod reconnect;
mod room_detail;
mod room_list;
mod scroll;
#[cfg(feature = "ssr")]
pub mod ssr;
mod tabs;
mod text;
mod time;
mod timeline;
mod transport;
mod unsent;
mod uplink;

pub use app::App;
pub use i18n::Language;
pub use page::Visit;
#[cfg(feature = "ssr")]
pub use ssr::shell;

/// Takes over the page that the server rendered, whose HTML must be as it was sent; the browser calls
/// it once. Where it cannot go on it does not return, and the module is of no more use.
#[cfg(feature = "hydrate")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn hydrate() {
    use leptos::{
        prelude::{IntoView as _, Owner, RenderHtml as _, document},
        tachys::{hydration::Cursor, view::PositionState},
    };

    life::watch();
    // As `leptos::mount::hydrate_body`, but without what that brings for resources and error boundaries,
    // which there are none of here: 3 KB of a first visit. A second start finds the executor there.
    let _ = any_spawner::Executor::init_wasm_bindgen();
    let Some(body) = document().body() else {
        return;
    };
    let owner = Owner::new();
    let mounted = owner.with(|| {
        let view = App().into_view();
        view.hydrate::<true>(&Cursor::new(body.into()), &PositionState::default())
    });
    // The page's life is the program's.
    std::mem::forget((owner, mounted));
    life::begin();
}
