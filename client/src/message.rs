//! The lines of a room: bubbles, notices, days.

use leptos::{either::EitherOf4, ev::MouseEvent, prelude::*};
use shared::chat::{MessageId, MessageType, RoomId};
use wasm_bindgen::JsCast;
use web_sys::Element;

use crate::{
    api::MESSAGES_MAX,
    composer,
    face::{face_of, initial_of},
    i18n::Language,
    live::{live, text as live_text},
    open_rooms,
    room_detail::Earlier,
    time as times,
    timeline::{Delivery, End, Key, Local, Row, Talk},
};

/// A row that is shown: it changes in place, so that nothing is read out twice.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) key: Key,
    pub(crate) row: ArcRwSignal<Row>,
}

/// Draws a row; what changes in it later changes in place.
pub(crate) fn row_view(earlier: Earlier, language: Language, shown: Shown) -> impl IntoView {
    let Shown { row, .. } = shown;
    let first = row.get_untracked();
    match first {
        Row::Day(_) => {
            let day = move || match &*row.read() {
                Row::Day(date) => times::day(language, *date),
                _ => String::new(),
            };
            EitherOf4::A(view! { <p class="day" inner_html=live_text(day)></p> })
        }
        Row::Notice { kind, sender } => EitherOf4::B(notice_view(language, kind, sender)),
        Row::Talk(talk) => EitherOf4::C(talk_view(earlier.room, language, talk, row)),
        Row::Gap(key, _) => EitherOf4::D(gap_view(earlier, language, key, row)),
    }
}

/// What was passed over, and how to have it: whole, or where it is much from the end that one reads at.
fn gap_view(
    earlier: Earlier,
    language: Language,
    key: u64,
    row: ArcRwSignal<Row>,
) -> impl IntoView {
    let failed = RwSignal::new(false);
    let count = move || match &*row.read() {
        Row::Gap(_, gap) => gap.count(),
        _ => 0,
    };
    // What one presses stays there until the gap is closed.
    let labels: &[_] = if count() > MESSAGES_MAX as u64 {
        &[language.load_newest(), language.load_next()]
    } else {
        &[language.load()]
    };
    let load = move |index| {
        let end = if index == 0 { End::Newest } else { End::Oldest };
        earlier.fill(key, end, failed);
    };
    let words = move || match failed.get() {
        true => language.unread().to_owned(),
        false => language.passed_over(count()),
    };
    view! { <div class="gap">
        <span inner_html=live_text(words)></span>
        {buttons(labels, Box::new(load))}
    </div> }
}

/// Buttons side by side; `act` is told which of them is pressed. They are made by hand, as views of
/// their own would weigh more than all that they do.
fn buttons(labels: &[&'static str], act: Box<dyn Fn(usize)>) -> impl IntoView + use<> {
    let mut html = String::new();
    for label in labels {
        html.push_str("<button class=\"retry\" type=\"button\">");
        html.push_str(label);
        html.push_str("</button>");
    }
    let pressed = move |event: MouseEvent| {
        let target = event
            .target()
            .and_then(|target| target.dyn_into::<Element>().ok());
        let mut button = target.filter(|target| target.tag_name() == "BUTTON");
        let mut index = 0_usize;
        while let Some(this) = button {
            button = this.previous_element_sibling();
            index += 1;
        }
        if let Some(index) = index.checked_sub(1) {
            act(index);
        }
    };
    view! { <span class="acts" inner_html=html on:click=pressed></span> }
}

fn notice_view(language: Language, kind: MessageType, sender: String) -> impl IntoView {
    view! {
        <p class="notice" data-type=if kind == MessageType::Enter { "ENTER" } else { "LEAVE" }>
            <bdi translate="no">{sender}</bdi>
            {language.notice(kind)}
        </p>
    }
}

fn talk_view(
    room: RoomId,
    language: Language,
    first: Talk,
    row: ArcRwSignal<Row>,
) -> impl IntoView {
    let Talk {
        id, sender, text, ..
    } = first;
    let flag = |read: fn(&Talk) -> bool| {
        let row = row.clone();
        move || matches!(&*row.read(), Row::Talk(talk) if read(talk)).to_string()
    };
    let own = flag(|talk| talk.own);
    let opens = flag(|talk| talk.opens_run);
    let state = {
        let row = row.clone();
        move || match &*row.read() {
            Row::Talk(Talk {
                state: Delivery::Sending,
                ..
            }) => "sending",
            Row::Talk(Talk {
                state: Delivery::Failed(_),
                ..
            }) => "failed",
            _ => "stored",
        }
    };
    let name = {
        let (row, sender) = (row.clone(), sender.clone());
        move || match &*row.read() {
            Row::Talk(talk) => talk.sender.clone(),
            _ => sender.clone(),
        }
    };
    let aside = move || match &*row.read() {
        Row::Talk(talk) => Some(aside_view(room, language, id, talk)),
        _ => None,
    };
    view! {
        <div class="message" data-own=live(own) data-opens=live(opens) data-state=live(state)>
            <span
                class=format!("face face-{}", face_of(&sender))
                data-face=initial_of(&sender)
                aria-hidden="true"
            ></span>
            <bdi class="sender" translate="no" inner_html=live_text(name)></bdi>
            <div class="bubble" dir="auto">
                {text}
            </div>
            <div class="aside">{aside}</div>
        </div>
    }
}

/// What stands beside a bubble: how far it has come, or when it was said.
fn aside_view(
    room: RoomId,
    language: Language,
    id: MessageId,
    talk: &Talk,
) -> impl IntoView + use<> {
    match (&talk.state, talk.at) {
        (Delivery::Sending, _) => EitherOf4::A(view! { <span>{language.sending()}</span> }),
        (Delivery::Failed(problem), _) => EitherOf4::B(view! {
            <span class="failed">{language.refused(problem)}</span>
            {buttons(
                &[language.edit(), language.retry(), language.discard()],
                Box::new(move |index| {
                    match index {
                        0 => edit(room, id),
                        1 => open_rooms::retry(room, id),
                        _ => discard(room, id),
                    }
                    composer::focus_composer();
                }),
            )}
        }),
        (Delivery::Stored, Some(Local(at))) if talk.closes_run => EitherOf4::C(view! {
            <time datetime=times::machine(at)>{times::clock(language, at)}</time>
        }),
        (Delivery::Stored, _) => EitherOf4::D(()),
    }
}

/// Puts a refused message back to where one writes.
fn edit(room: RoomId, id: MessageId) {
    if let Some(text) = open_rooms::take_back(room, id) {
        composer::take_up(text.as_str());
    }
}

fn discard(room: RoomId, id: MessageId) {
    open_rooms::discard(room, id);
}
