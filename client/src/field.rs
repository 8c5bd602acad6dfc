//! A field whose Enter sends: tells `enter` what the browser tells, and does what comes of it.

use std::{cell::RefCell, rc::Rc, time::Duration};

use leptos::{html::ElementType, prelude::*};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{CompositionEvent, Event, HtmlElement, HtmlInputElement, InputEvent, KeyboardEvent};

use crate::{
    browser,
    enter::{Enter, Key, Told, Typed, Verdict},
};

/// `keyCode` of a key that the input method has (UI Events, appendix "Legacy Key Attributes").
const PROCESSED: u32 = 229;

const EVENTS: [&str; 7] = [
    "compositionstart",
    "compositionupdate",
    "compositionend",
    "keydown",
    "beforeinput",
    "input",
    "blur",
];

/// Calls `send` whenever what stands in the field is to be sent: by Enter, where its `enterkeyhint`
/// is not `enter`, or by its form's button. No composition is open then.
pub(crate) fn on_send<E>(node: NodeRef<E>, send: impl Fn() + Clone + 'static)
where
    E: ElementType<Output: AsRef<HtmlElement> + JsCast + Clone> + 'static,
{
    browser::effect(move || {
        if let Some(element) = node.get() {
            listen(element.unchecked_into(), Box::new(send.clone()));
        }
    });
}

/// Says by the hint what Enter does: it breaks the line where one types on glass, as in KakaoTalk.
pub(crate) fn hint(field: &HtmlElement) {
    let hint = if browser::is_touched() {
        "enter"
    } else {
        "send"
    };
    // Fails for no name of an attribute.
    let _ = field.set_attribute("enterkeyhint", hint);
}

fn listen(element: HtmlInputElement, send: Box<dyn Fn()>) {
    let form = element.closest("form").ok().flatten();
    let field = Rc::new(Field {
        element: element.clone(),
        enter: RefCell::default(),
        send,
    });
    let listener = Closure::<dyn Fn(Event)>::new(move |event: Event| field.hear(&event));
    // It goes when the elements go.
    let listener = listener.into_js_value();
    let listener = listener.unchecked_ref();
    for event in EVENTS {
        let _ = element.add_event_listener_with_callback(event, listener);
    }
    if let Some(form) = form {
        let _ = form.add_event_listener_with_callback("submit", listener);
    }
}

struct Field {
    /// An `input` or a `textarea`: what is used of it, both have.
    element: HtmlInputElement,
    enter: RefCell<Enter>,
    send: Box<dyn Fn()>,
}

impl Field {
    fn hear(self: &Rc<Self>, event: &Event) {
        let kind = event.type_();
        if kind == "submit" {
            event.prevent_default();
        }
        // Scripts, and browsers that fill in a form, raise events that are not of their type.
        let composed = || {
            let event = event.dyn_ref::<CompositionEvent>();
            event.and_then(CompositionEvent::data).unwrap_or_default()
        };
        let input = event.dyn_ref::<InputEvent>();
        let verdict = match kind.as_str() {
            "compositionstart" => self.tell(Told::CompositionStart, event),
            "compositionupdate" => self.tell(Told::CompositionUpdate(&composed()), event),
            "compositionend" => self.tell(Told::CompositionEnd(&composed()), event),
            "keydown" => match event.dyn_ref() {
                Some(event) => self.tell(Told::KeyDown(key(event)), event),
                None => Verdict::Pass,
            },
            "beforeinput" => {
                let breaks_line = input.is_some_and(breaks_line);
                self.tell(Told::BeforeInput { breaks_line }, event)
            }
            "input" => {
                let typed = input.map_or(Typed::Plain, typed);
                let value = &self.element.value();
                self.tell(Told::Input { typed, value }, event)
            }
            "blur" => self.tell(Told::Blur, event),
            _ => self.tell(Told::Submit, event),
        };
        self.follow(verdict, event);
    }

    fn tell(&self, told: Told, event: &Event) -> Verdict {
        let sends = self.element.get_attribute("enterkeyhint").as_deref() != Some("enter");
        let mut enter = self.enter.borrow_mut();
        enter.tell(told, sends, event.time_stamp())
    }

    fn follow(self: &Rc<Self>, verdict: Verdict, event: &Event) {
        if let Verdict::Prevent | Verdict::PreventAndSend | Verdict::EndAndSend = verdict {
            event.prevent_default();
        }
        match verdict {
            Verdict::Pass | Verdict::Prevent => {}
            Verdict::Send | Verdict::PreventAndSend => (self.send)(),
            Verdict::SendAtRest => self.rest(event),
            Verdict::EndAndSend => {
                // Ends a composition in every browser. A focus that cannot move stays where it is.
                let _ = self.element.blur();
                let _ = self.element.focus();
                self.rest(event);
            }
            Verdict::Clear => {
                self.element.set_value("");
                if let Ok(event) = Event::new("input") {
                    let _ = self.element.dispatch_event(&event);
                }
            }
        }
    }

    fn rest(self: &Rc<Self>, event: &Event) {
        let (field, event) = (self.clone(), event.clone());
        set_timeout(
            move || {
                // The page may show something else by now.
                if field.element.is_connected() {
                    let value = &field.element.value();
                    let verdict = field.tell(Told::Rest { value }, &event);
                    field.follow(verdict, &event);
                }
            },
            Duration::ZERO,
        );
    }
}

fn key(event: &KeyboardEvent) -> Key {
    let code = event.code();
    Key {
        // `key` is `Process` where Chromium gives an input method's key on Windows.
        is_enter: event.key() == "Enter" || code == "Enter" || code == "NumpadEnter",
        breaks: event.shift_key() || event.alt_key(),
        commands: event.ctrl_key() || event.meta_key(),
        is_composing: event.is_composing(),
        is_processed: event.key_code() == PROCESSED,
    }
}

/// Whether the browser is about to break the line (Input Events Level 2, "inputType"); some keyboards
/// on glass write the character.
fn breaks_line(event: &InputEvent) -> bool {
    match event.input_type().as_str() {
        "insertLineBreak" | "insertParagraph" => true,
        "insertText" => event.data().as_deref() == Some("\n"),
        _ => false,
    }
}

fn typed(event: &InputEvent) -> Typed {
    match event.input_type().as_str() {
        "insertCompositionText" | "insertFromComposition" | "deleteCompositionText" => {
            Typed::Composed
        }
        "insertText" | "" => Typed::Plain,
        _ => Typed::Otherwise,
    }
}
