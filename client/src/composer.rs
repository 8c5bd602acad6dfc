//! Where one writes.

use std::rc::Rc;

use leptos::{html, prelude::*};
use shared::chat::{RoomId, Text};
use wasm_bindgen::JsCast;
use web_sys::HtmlTextAreaElement;

use crate::{
    app::House,
    browser, draft, field,
    live::{live, text as live_text},
    name::Ask,
    open_rooms,
    text::{self, Wrong},
};

const COMPOSER_ID: &str = "messageInput";
const COMPOSER_LINES_MAX: usize = 6;

/// Puts a text back to where one writes, before what stands there.
pub(crate) fn take_up(text: &str) {
    let Some(field) = document().get_element_by_id(COMPOSER_ID) else {
        return;
    };
    let field: web_sys::HtmlTextAreaElement = field.unchecked_into();
    let value = field.value();
    let mut text = text.to_owned();
    if !value.trim().is_empty() {
        text.push('\n');
        text.push_str(&value);
    }
    field.set_value(&text);
    // As if it were typed: the field fits its content. An event made here is always taken.
    if let Ok(event) = web_sys::Event::new("input") {
        let _ = field.dispatch_event(&event);
    }
}

/// Closes the field, or opens it again: what was typed can still be copied.
pub(crate) fn close(is_closed: bool) {
    if let Some(field) = document().get_element_by_id(COMPOSER_ID) {
        // The names are good ones.
        let _ = field.toggle_attribute_with_force("readonly", is_closed);
        if let Some(button) = field.next_element_sibling() {
            let _ = button.toggle_attribute_with_force("disabled", is_closed);
        }
    }
}

/// Puts the focus where one writes, if a room is open.
pub(crate) fn focus_composer() {
    if let Some(field) = document().get_element_by_id(COMPOSER_ID) {
        // A focus that cannot move stays where it is.
        let _ = field.unchecked_into::<web_sys::HtmlElement>().focus();
    }
}

/// The field for a message, and its button; `said` is called for each that goes out.
#[component]
pub(crate) fn Composer(room: RoomId, said: Rc<dyn Fn()>) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let input = NodeRef::<html::Textarea>::new();
    let wrong = RwSignal::new(None::<String>);
    let send = move || {
        let Some(field) = input.get_untracked() else {
            return;
        };
        match text::read(&field.value(), Text::parse) {
            Err(Wrong::Blank) => {}
            Err(reason) => wrong.set(Some(language.invalid_text(reason))),
            Ok(_) if house.me.read_untracked().is_none() => {
                house.ask_name(house.asking.get_untracked().unwrap_or(Ask::First));
                return;
            }
            Ok(text) => match open_rooms::say(room, text) {
                Err(reason) => wrong.set(Some(language.unsaid(reason).to_owned())),
                Ok(()) => {
                    wrong.set(None);
                    write(&field, "");
                    draft::keep(room, "");
                    said();
                }
            },
        }
        // A focus that cannot move stays where it is.
        let _ = field.focus();
    };
    field::on_send(input, send);
    browser::effect(move || {
        let Some(field) = input.get() else {
            return;
        };
        field::hint(&field);
        let typed = field.value();
        // What was typed before this ran counts more than what was typed in an earlier visit.
        if typed.is_empty() {
            write(&field, &draft::recall(room).unwrap_or_default());
        } else {
            draft::keep(room, &typed);
        }
    });
    let typed = move |_| {
        wrong.set(None);
        if let Some(field) = input.get_untracked() {
            fit(&field);
            let text = field.value();
            draft::keep(room, &text);
            if !text.trim().is_empty() {
                open_rooms::typing(room);
            }
        }
    };
    view! {
        <form class="composer">
            <label class="visually-hidden" for=COMPOSER_ID>
                {language.message_label()}
            </label>
            <textarea
                id=COMPOSER_ID
                class="field composer-field"
                rows="1"
                dir="auto"
                autocomplete="off"
                enterkeyhint="send"
                placeholder=language.message_hint()
                aria-describedby="messageWrong"
                aria-invalid=live(move || wrong.get().is_some().to_string())
                node_ref=input
                on:focus=move |_| {
                    if let Some(input) = input.get_untracked() {
                        field::hint(&input);
                    }
                }
                on:input=typed
            ></textarea>
            <button class="button composer-send" type="submit">
                {language.send()}
            </button>
            <p
                id="messageWrong"
                class="wrong"
                role="alert"
                hidden=live(move || wrong.get().is_none())
                inner_html=live_text(move || wrong.get().unwrap_or_default())
            ></p>
        </form>
    }
}

/// Puts a text into the field.
fn write(field: &HtmlTextAreaElement, text: &str) {
    field.set_value(text);
    fit(field);
}

/// Makes the field as high as its text, for browsers whose style cannot.
fn fit(field: &HtmlTextAreaElement) {
    // What ends with a line break has an empty line after it.
    let lines = field.value().split('\n').count();
    let rows = lines.clamp(1, COMPOSER_LINES_MAX);
    field.set_rows(u32::try_from(rows).unwrap_or(1));
}
