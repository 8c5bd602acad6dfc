//! The seam to the server: what it gives to the pages while it renders them.
//!
//! The server reads a [`Visit`] from its [`Source`], provides it in a [`PageRequest`] by
//! `provide_context`, serves [`shell`], and knows nothing else of the client.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use leptos::prelude::*;
use shared::chat::{ChatMessage, ChatRoom, RoomId};

use crate::{
    App, Language,
    api::{MESSAGES_SHOWN, ROOMS_SHOWN, RoomPage, RoomsPage, Unread},
    live::markup,
    page::{CONTENTS_ID, Contents, Visit},
    place::{Desk, Place, ROOMS_PATH},
};

/// A future of a [`Source`].
pub type Reading<T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send>>;

/// Where pages read from while the server renders them.
pub trait Source: Send + Sync + 'static {
    /// Reads the rooms of a part with the newest activity first, at most `limit`.
    fn rooms(&self, part: &RoomsPart, limit: usize) -> Reading<Vec<ChatRoom>>;

    /// Reads one room; `None` where there is no such room.
    fn room(&self, id: RoomId) -> Reading<Option<ChatRoom>>;

    /// Reads the newest `limit` messages of a room, oldest first.
    fn messages(&self, id: RoomId, limit: u32) -> Reading<Vec<ChatMessage>>;
}

/// Which rooms a list shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RoomsPart {
    /// Only those that follow this one.
    pub after: Option<RoomId>,
    /// Only those whose names hold this.
    pub name: Option<String>,
}

/// Says that a [`Source`] cannot be read right now; the page says so too, with status 503.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rooms and messages cannot be read right now; try again in a moment")
    }
}

impl Error for Unavailable {}

impl Visit {
    /// Reads what the page at this path shows, in the reader's language: their explicit choice,
    /// else by `Accept-Language`. Beside a room stand all rooms, whatever part is asked for.
    pub async fn read(
        language: Language,
        path: &str,
        part: RoomsPart,
        source: &dyn Source,
    ) -> Self {
        let place = Place::of(path);
        // Strangers ask for paths without end: what says so is small.
        let rooms = match place {
            Place::Nowhere => Ok(Vec::new()),
            Place::Rooms | Place::Room(_) => source.rooms(&part, ROOMS_SHOWN + 1).await,
        };
        let room = match place {
            Place::Room(id) => room(id, source).await.map_err(|Unavailable| Unread),
            Place::Rooms | Place::Nowhere => Ok(None),
        };
        Visit {
            language,
            path: path.to_owned(),
            contents: Contents {
                rooms: rooms
                    .map(|rooms| rooms_page(rooms, part))
                    .map_err(|Unavailable| Unread),
                room,
            },
        }
    }
}

fn rooms_page(mut rooms: Vec<ChatRoom>, part: RoomsPart) -> RoomsPage {
    let has_more = rooms.len() > ROOMS_SHOWN;
    rooms.truncate(ROOMS_SHOWN);
    RoomsPage {
        older: rooms
            .last()
            .filter(|_| has_more)
            .map(|last| older(last.room_id, part.name.as_deref())),
        rooms,
        is_part: part != RoomsPart::default(),
        name: part.name,
        read_at: crate::time::now(),
    }
}

/// The address of the rooms that follow one.
fn older(last: RoomId, name: Option<&str>) -> String {
    let mut address = format!("{ROOMS_PATH}?after={last}");
    if let Some(name) = name {
        address.push_str("&q=");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() {
                address.push(byte.into());
            } else {
                address.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    address
}

/// The form that finds rooms, as HTML; empty where all stand on one page.
pub(crate) fn search(language: Language, page: &RoomsPage) -> String {
    if page.older.is_none() && page.name.is_none() {
        return String::new();
    }
    let name = markup(page.name.clone().unwrap_or_default()).replace('"', "&quot;");
    let action = crate::place::at(ROOMS_PATH);
    let words = language.find_rooms();
    format!(
        r#"<form role="search" action="{action}"><input class="field" type="search" name="q" maxlength="100" dir="auto" aria-label="{words}" placeholder="{words}" value="{name}"></form>"#
    )
}

async fn room(id: RoomId, source: &dyn Source) -> Result<Option<RoomPage>, Unavailable> {
    let Some(room) = source.room(id).await? else {
        return Ok(None);
    };
    let messages = source.messages(id, MESSAGES_SHOWN).await?;
    Ok(Some(RoomPage { room, messages }))
}

/// What a page must know of the request that asked for it.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// What the page is made from.
    pub visit: Visit,
    /// Where the style is: the path of one file, with its content hash.
    pub style_href: String,
    /// The path that all addresses are under, such as `/chat-app`; empty for none.
    pub base: String,
}

/// The base, for whoever renders an address.
#[derive(Clone)]
pub(crate) struct Base(pub(crate) Arc<str>);

/// Renders the whole document around [`App`].
pub fn shell(options: LeptosOptions) -> impl IntoView {
    let PageRequest {
        visit,
        style_href,
        base,
    } = expect_context();
    provide_context(Base(base.as_str().into()));
    let language = visit.language;
    let title = Desk::of(&visit).title(language);
    let title = title.unwrap_or_else(|| language.house().to_owned());
    // In a JSON text, `<` stands in strings only; escaped, it cannot end the element.
    let contents = serde_json::to_string(&visit.contents).unwrap_or_default();
    let contents = contents.replace('<', "\\u003c");
    let app = view! { <App /> }.to_html();
    let copy = as_text(&app);
    let body = format!(
        r#"{app}<script id="{CONTENTS_ID}" type="application/json">{contents}</script><script id="{COPY_ID}" type="text/plain">{copy}</script>"#
    );
    let package = format!("{base}/{}", options.site_pkg_dir);
    let name = options.output_name;
    view! {
        <!DOCTYPE html>
        <html lang=language.tag() data-base=base>
            <head>
                <meta charset="utf-8" />
                <meta
                    name="viewport"
                    content="width=device-width, initial-scale=1, interactive-widget=resizes-content"
                />
                <meta name="color-scheme" content="light dark" />
                <meta
                    name="theme-color"
                    media="(prefers-color-scheme: light)"
                    content="#fffdf9"
                />
                <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#1b1e23" />
                <link rel="icon" href=FAVICON />
                <link rel="stylesheet" href=style_href />
                <link
                    rel="preload"
                    href=format!("{package}/{name}_bg.wasm")
                    r#as="fetch"
                    r#type="application/wasm"
                    crossorigin="anonymous"
                />
                <script type="module" src=format!("{package}/{name}.js")></script>
                <title>{title}</title>
            </head>
            <body inner_html=body></body>
        </html>
    }
}

/// The id of the element that carries a copy of the page's HTML, for `start.js`.
const COPY_ID: &str = "copy";

/// HTML that Leptos wrote, as the text of a script that is none: nothing in it can end the element
/// (HTML, section 4.12.1.3), and nothing looks like an e-mail address to what hides those.
fn as_text(html: &str) -> String {
    debug_assert!(!html.contains("</script") && !html.contains("<!--"));
    html.replace('@', "&#64;")
}

/// The house mark of the header, as a data address: needs `img-src data:` of the server's policy.
const FAVICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%231f4e79' stroke-width='2' stroke-linecap='round' stroke-linejoin='round'%3E%3Cpath d='M2 11 12 3l10 8M5 10v11h14V10M12 10v11M5 15h14'/%3E%3C/svg%3E";
