//! What both sides of rendering do differently and neither page needs to know.

use crate::i18n::Language;

/// The reader's language: by the request while rendering, by `<html lang>` in the browser.
pub(crate) fn language() -> Language {
    #[cfg(feature = "ssr")]
    {
        leptos::prelude::use_context::<crate::ssr::PageRequest>()
            .map(|request| request.language)
            .unwrap_or_default()
    }
    #[cfg(not(feature = "ssr"))]
    {
        leptos::prelude::document()
            .document_element()
            .and_then(|root| root.get_attribute("lang"))
            .and_then(|tag| Language::from_tag(&tag))
            .unwrap_or_default()
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
