//! What both sides of rendering do differently and neither page needs to know.

use serde::Serialize;

use crate::{
    api::{RoomPage, RoomsPage, Unread},
    i18n::Language,
};

/// What a page is made from, the same where the server renders it and where the browser hydrates.
#[derive(Clone, Debug)]
pub struct Visit {
    pub(crate) language: Language,
    pub(crate) path: String,
    pub(crate) contents: Contents,
}

/// What the server has read for a page; it goes with the page, as JSON, to hydration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Contents {
    pub(crate) rooms: Result<RoomsPage, Unread>,
    /// The room that the address names, if it names one that is there.
    pub(crate) room: Result<Option<RoomPage>, Unread>,
}

/// The id of the element that carries the [`Contents`]; `start.js` knows it, too.
pub(crate) const CONTENTS_ID: &str = "contents";

/// This page's visit.
pub(crate) fn visit() -> Visit {
    #[cfg(feature = "ssr")]
    {
        leptos::prelude::expect_context::<crate::ssr::PageRequest>().visit
    }
    #[cfg(not(feature = "ssr"))]
    {
        let document = leptos::prelude::document();
        let language = document
            .document_element()
            .and_then(|root| root.get_attribute("lang"))
            .and_then(|tag| Language::from_tag(&tag));
        let contents = document
            .get_element_by_id(CONTENTS_ID)
            .and_then(|element| element.text_content())
            .and_then(|text| crate::json::parse(&text));
        Visit {
            language: language.unwrap_or_default(),
            path: crate::place::path(),
            contents: contents.unwrap_or(Contents {
                rooms: Err(Unread),
                room: Err(Unread),
            }),
        }
    }
}

/// Answers the request with this HTTP status; nothing in the browser.
pub(crate) fn answer_with(status: Status) {
    #[cfg(feature = "ssr")]
    if let Some(response) = leptos::prelude::use_context::<leptos_axum::ResponseOptions>() {
        response.set_status(match status {
            Status::NotFound => http::StatusCode::NOT_FOUND,
            Status::Unavailable => http::StatusCode::SERVICE_UNAVAILABLE,
        });
    }
    #[cfg(not(feature = "ssr"))]
    let _ = status;
}

/// The statuses of pages that are not what was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    NotFound,
    Unavailable,
}
