//! Where one writes.

use leptos::{
    ev::{KeyboardEvent, SubmitEvent},
    html,
    prelude::*,
};
use shared::chat::{InvalidText, RoomId, Text};
use wasm_bindgen::JsCast;

use crate::{app::House, name::Ask, open_rooms};

const COMPOSER_ID: &str = "messageInput";
const COMPOSER_LINES_MAX: usize = 6;

/// Puts a text back to where one writes, before what stands there.
pub(crate) fn take_up(text: &str) {
    let Some(field) = document().get_element_by_id(COMPOSER_ID) else {
        return;
    };
    let field: web_sys::HtmlTextAreaElement = field.unchecked_into();
    let value = field.value();
    if value.trim().is_empty() {
        field.set_value(text);
    } else {
        field.set_value(&[text, &value].join("\n"));
    }
    // As if it were typed: the field fits its content. An event made here is always taken.
    if let Ok(event) = web_sys::Event::new("input") {
        let _ = field.dispatch_event(&event);
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
pub(crate) fn Composer(
    room: RoomId,
    /// Whether nothing can be said here any more; what was typed can still be copied.
    closed: RwSignal<bool>,
    said: Callback<()>,
) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let input = NodeRef::<html::Textarea>::new();
    let wrong = RwSignal::new(None::<String>);
    let send = move || {
        let Some(field) = input.get_untracked() else {
            return;
        };
        match Text::parse(&field.value()) {
            Err(InvalidText::Blank) => {}
            Err(reason) => wrong.set(Some(language.invalid_text(reason))),
            Ok(_) if house.me.read_untracked().is_none() => {
                house.ask_name(house.asking.get_untracked().unwrap_or(Ask::First));
                return;
            }
            Ok(text) => match open_rooms::say(room, text) {
                Err(reason) => wrong.set(Some(language.unsaid(reason).to_owned())),
                Ok(()) => {
                    wrong.set(None);
                    field.set_value("");
                    field.set_rows(1);
                    said.run(());
                }
            },
        }
        // A focus that cannot move stays where it is.
        let _ = field.focus();
    };
    let typed = move |_| {
        wrong.set(None);
        // For browsers whose style cannot fit a field to its content.
        if let Some(field) = input.get_untracked() {
            let lines = field.value().lines().count().clamp(1, COMPOSER_LINES_MAX);
            field.set_rows(u32::try_from(lines).unwrap_or(1));
        }
    };
    let keydown = move |event: KeyboardEvent| {
        // While an input method composes a syllable, Enter is its own (229 is Safari's way).
        let composes = event.is_composing() || event.key_code() == 229;
        if event.key() == "Enter" && !event.shift_key() && !composes {
            event.prevent_default();
            send();
        }
    };
    view! {
        <form
            class="composer"
            on:submit=move |event: SubmitEvent| {
                event.prevent_default();
                send();
            }
        >
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
                aria-invalid=move || wrong.get().is_some().to_string()
                readonly=move || closed.get()
                node_ref=input
                on:keydown=keydown
                on:input=typed
            ></textarea>
            <button class="button composer-send" type="submit" disabled=move || closed.get()>
                {language.send()}
            </button>
            <p id="messageWrong" class="wrong" role="alert" hidden=move || wrong.get().is_none()>
                {move || wrong.get().unwrap_or_default()}
            </p>
        </form>
    }
}
