//! Where one reads in a room, and that it stays there.
//!
//! The log is reversed by the style: its offset is 0 at the newest message and negative before it. So
//! what is put in above moves nothing. What is put in below would push up what one reads; browsers hold
//! on to that (CSS Scroll Anchoring), all but WebKit's: there it is held by hand.

use std::cell::RefCell;

use leptos::prelude::window;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Element, HtmlElement, ResizeObserver};

/// Who scrolls this near to the oldest message is shown earlier ones; in pixels.
const EARLIER_WITHIN: i32 = 400;

/// Who is this near to the newest message follows it; in pixels.
const FOLLOW_WITHIN: i32 = 48;

/// The attribute of the log while a gap is filled from its newest end.
pub(crate) const FILLING: &str = "data-filling";

/// Whether the newest message is in sight.
pub(crate) fn is_at_end(log: &HtmlElement) -> bool {
    log.scroll_top().abs() <= FOLLOW_WITHIN
}

/// Whether little is left above of what is shown.
pub(crate) fn is_near_beginning(log: &HtmlElement) -> bool {
    log.scroll_height() - log.client_height() - log.scroll_top().abs() <= EARLIER_WITHIN
}

/// Holds what one reads in its place, from now on, where the browser does not.
pub(crate) fn hold(log: HtmlElement) {
    let Some(sheet) = log.first_element_child() else {
        return;
    };
    let held = RefCell::new(None::<Held>);
    let (scrolled, observed) = (log.clone(), sheet.clone());
    // Called for `scroll`, and when what is in the log has changed its size, before that is painted.
    let hold = Closure::<dyn Fn()>::new(move || {
        let moved = held.take().and_then(|held: Held| held.moved());
        if let Some(moved) = moved
            && !is_at_end(&log)
            // A gap is being filled from below, and what stands there keeps its place by itself.
            && !log.has_attribute(FILLING)
            && !is_held_by_browser(&log)
        {
            log.scroll_by_with_x_and_y(0.0, moved);
        }
        held.replace(Held::of(&log, &sheet));
    });
    // It goes when the elements go.
    let hold = hold.into_js_value();
    let hold = hold.unchecked_ref();
    let _ = scrolled.add_event_listener_with_callback("scroll", hold);
    if let Ok(observer) = ResizeObserver::new(hold) {
        observer.observe(&observed);
    }
}

/// What one reads: the first row in sight, and how far it is from the end of the sheet.
struct Held {
    row: Element,
    sheet: Element,
    from_end: f64,
}

impl Held {
    fn of(log: &HtmlElement, sheet: &Element) -> Option<Self> {
        let rows = sheet.query_selector("[role=log]").ok()??.children();
        let top = log.get_bounding_client_rect().top();
        // Rows stand in order, so the first that ends below the log's top is found by halves.
        let (mut from, mut to) = (0, rows.length());
        while from < to {
            let middle = u32::midpoint(from, to);
            if rows.item(middle)?.get_bounding_client_rect().bottom() > top {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        let row = rows.item(from)?;
        Some(Held {
            from_end: from_end(&row, sheet),
            row,
            sheet: sheet.clone(),
        })
    }

    /// How far what comes after the row has pushed it up, in pixels and negative; none where it is
    /// where it was, or gone.
    fn moved(&self) -> Option<f64> {
        let moved = from_end(&self.row, &self.sheet) - self.from_end;
        (self.row.is_connected() && moved.abs() >= 0.5).then_some(moved)
    }
}

fn from_end(row: &Element, sheet: &Element) -> f64 {
    row.get_bounding_client_rect().top() - sheet.get_bounding_client_rect().bottom()
}

fn is_held_by_browser(log: &HtmlElement) -> bool {
    let style = window().get_computed_style(log).ok().flatten();
    let anchor = style.and_then(|style| style.get_property_value("overflow-anchor").ok());
    anchor.as_deref() == Some("auto")
}
