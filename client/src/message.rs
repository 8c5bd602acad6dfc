//! The lines of a room: bubbles, notices, days.

use leptos::{either::EitherOf4, prelude::*};
use shared::chat::{MessageId, MessageType, RoomId};

use crate::{
    api::MESSAGES_MAX,
    composer,
    face::{face_of, initial_of},
    i18n::Language,
    live::{click, live, text as live_text},
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
pub(crate) fn row_view(room: RoomId, language: Language, shown: Shown) -> impl IntoView {
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
        Row::Talk(talk) => EitherOf4::C(talk_view(room, language, talk, row)),
        Row::Gap(key, _) => EitherOf4::D(gap_view(language, key, row)),
    }
}

/// What was passed over, and how to have it: whole, or where it is much from the end that one reads at.
fn gap_view(language: Language, key: u64, row: ArcRwSignal<Row>) -> impl IntoView {
    let earlier = expect_context::<Earlier>();
    let failed = RwSignal::new(false);
    let count = move || match &*row.read() {
        Row::Gap(_, gap) => gap.count(),
        _ => 0,
    };
    let is_much = {
        let count = count.clone();
        move || count() > MESSAGES_MAX as u64
    };
    let button = move |end| {
        let is_much = is_much.clone();
        let label = move || match end {
            _ if !is_much() => language.load(),
            End::Oldest => language.load_next(),
            End::Newest => language.load_newest(),
        };
        view! {
            <button
                class="retry"
                type="button"
                aria-disabled=live(move || earlier.loading.get().to_string())
                on:click=click(move || earlier.fill(key, end, failed))
                inner_html=live_text(label)
            >
            </button>
        }
    };
    // What one presses stays there until the gap is closed.
    let next = (count() > MESSAGES_MAX as u64).then(|| button.clone()(End::Oldest));
    view! {
        <div class="gap">
            <span inner_html=live_text(move || language.passed_over(count()))></span>
            {next}
            {button(End::Newest)}
            <span class="failed" role="alert" hidden=live(move || !failed.get())>
                {language.unread()}
            </span>
        </div>
    }
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
            {[
                (language.edit(), edit as fn(_, _)),
                (language.retry(), open_rooms::retry),
                (language.discard(), discard),
            ]
                .map(|(label, act)| {
                    view! {
                        <button
                            class="retry"
                            type="button"
                            on:click=click(move || {
                                act(room, id);
                                composer::focus_composer();
                            })
                        >
                            {label}
                        </button>
                    }
                })}
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
