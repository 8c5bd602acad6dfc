//! A room: its conversation, and the composer.

use std::{collections::HashMap, time::Duration};

use leptos::{
    either::{EitherOf3, EitherOf4},
    ev::{KeyboardEvent, SubmitEvent},
    html,
    prelude::*,
};
use shared::chat::{InvalidText, MessageId, MessageType, RoomId, Text};
use wasm_bindgen::JsCast;

use crate::{
    api::{self, RoomPage, Unread},
    app::House,
    i18n::Language,
    line,
    name::Ask,
    place::{self, ROOMS_PATH},
    time::{self as times, Zone},
    timeline::{Delivery, Key, Local, NEWEST_PART, Part, Row, Talk, Timeline},
};

/// Who scrolls this near to the oldest message is shown earlier ones; in pixels.
const EARLIER_WITHIN: i32 = 400;

/// How long assistive technology is given to see that earlier messages are nothing new.
const QUIET: Duration = Duration::from_millis(500);

/// Who is this near to the newest message follows it; in pixels.
const FOLLOW_WITHIN: i32 = 48;

const COMPOSER_ID: &str = "messageInput";
const COMPOSER_LINES_MAX: usize = 6;

/// The classes `face-0` to `face-11` of the style.
const FACES: u32 = 12;

/// A row that is shown: it changes in place, so that nothing is read out twice.
#[derive(Clone)]
struct Shown {
    key: Key,
    row: ArcRwSignal<Row>,
}

/// A part that is shown.
#[derive(Clone)]
struct ShownPart {
    key: u64,
    rows: ArcRwSignal<Vec<Shown>>,
}

/// The page of one room.
#[component]
pub(crate) fn Room(page: RoomPage) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let RoomPage { room, messages } = page;
    let id = room.room_id;
    // First as the server rendered it: by a fixed clock, and for nobody in particular.
    let rows = Timeline::new(messages.clone()).rows(None, |at| Zone::Fixed(language).local(at));
    let shown = RwSignal::new(Vec::<ShownPart>::new());
    show(shown, rows);
    let changed = RwSignal::new(0_u32);
    let scroller = NodeRef::<html::Div>::new();
    let unseen = RwSignal::new(false);
    let earlier = Earlier::new(id);
    let messages = StoredValue::new(Some(messages));
    Effect::new(move || {
        line::start(house);
        if let Some(messages) = messages.try_update_value(Option::take).flatten() {
            line::open(id, messages, changed);
        }
    });
    on_cleanup(move || line::close(id, changed));
    Effect::new(move || {
        changed.track();
        let me = house.me.get();
        if let Some(rows) = line::rows(id, me.as_ref(), Zone::Browser) {
            let follows = scroller.get_untracked().is_none_or(|log| is_at_end(&log));
            let grown = show(shown, rows);
            earlier.from.set(line::first_seq(id));
            if grown && !follows {
                unseen.set(true);
            }
        }
    });
    let to_end = move || {
        if let Some(log) = scroller.get_untracked() {
            log.set_scroll_top(0);
        }
        unseen.set(false);
    };
    let scrolled = move |_| {
        let Some(log) = scroller.get_untracked() else {
            return;
        };
        if is_at_end(&log) {
            unseen.set(false);
        }
        if is_near_beginning(&log) && !earlier.failed.get_untracked() {
            earlier.load();
        }
    };
    let leave = move |_| {
        line::leave(id);
        place::walk_to(house, ROOMS_PATH);
    };
    let name = room.room_name.to_string();
    view! {
        <div class="room-page">
            <header class="room-head">
                <a class="back" href=ROOMS_PATH aria-label=language.back()>
                    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
                        <path d="M15 5l-7 7 7 7" />
                    </svg>
                </a>
                <h1 id="room_name" class="room-name">
                    {language.room_title_prefix()}
                    <bdi>{name}</bdi>
                </h1>
                <button class="button button-quiet" type="button" on:click=leave>
                    {language.leave()}
                </button>
            </header>
            // Reversed by the style: it starts at its end and stays there without any script.
            <div class="log-scroll" tabindex="0" role="region" aria-label=language.messages() node_ref=scroller on:scroll=scrolled>
                <div class="log-sheet">
                    {move || {
                        shown
                            .read()
                            .iter()
                            .all(|part| part.rows.read().is_empty())
                            .then(|| view! { <p class="hint log-empty">{language.empty_room()}</p> })
                    }}
                    <div class="earlier" hidden=move || earlier.from.get().is_none()>
                        <button
                            class="button button-quiet"
                            type="button"
                            aria-disabled=move || earlier.loading.get().to_string()
                            on:click=move |_| {
                                earlier.load();
                                // The button may go; what it brings is what one reads on in.
                                if let Some(log) = scroller.get_untracked() {
                                    let _ = log.focus();
                                }
                            }
                        >
                            {language.earlier_messages()}
                        </button>
                        <p class="wrong" role="alert" hidden=move || !earlier.failed.get()>
                            {language.unread()}
                        </p>
                    </div>
                    <div
                        id="messageArea"
                        class="log"
                        role="log"
                        aria-live=move || if earlier.loading.get() { "off" } else { "polite" }
                        aria-label=language.messages()
                    >
                        <For
                            each=move || shown.get()
                            key=|part| part.key
                            children=move |part| {
                                view! {
                                    <For
                                        each=move || part.rows.get()
                                        key=|shown| shown.key
                                        children=move |shown| row_view(id, language, shown)
                                    />
                                }
                            }
                        />
                    </div>
                </div>
            </div>
            <div class="newer" hidden=move || !unseen.get()>
                <button class="button newer-button" type="button" on:click=move |_| to_end()>
                    {language.new_messages()}
                    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
                        <path d="M5 9l7 7 7-7" />
                    </svg>
                </button>
            </div>
            <Composer room=id said=Callback::new(move |()| to_end()) />
        </div>
    }
}

/// What was said before what is shown, read on demand.
#[derive(Clone, Copy)]
struct Earlier {
    room: RoomId,
    /// The `seq` before which there is more; none where there is nothing, or before hydration.
    from: RwSignal<Option<u64>>,
    /// From the request until what came is in the page and known to be nothing new.
    loading: RwSignal<bool>,
    failed: RwSignal<bool>,
}

impl Earlier {
    fn new(room: RoomId) -> Self {
        Earlier {
            room,
            from: RwSignal::new(None),
            loading: RwSignal::new(false),
            failed: RwSignal::new(false),
        }
    }

    fn load(self) {
        let Some(seq) = self
            .from
            .get_untracked()
            .filter(|_| !self.loading.get_untracked())
        else {
            return;
        };
        self.loading.set(true);
        leptos::task::spawn_local(async move {
            let messages = api::messages_before(self.room, seq).await;
            // The room may have been left meanwhile, and its signals with it.
            self.failed.try_set(messages.is_err());
            let loaded = move || {
                self.loading.try_set(false);
            };
            match messages {
                Ok(messages) => {
                    line::prepend(self.room, messages);
                    set_timeout(loaded, QUIET);
                }
                Err(Unread) => loaded(),
            }
        });
    }
}

/// Puts the focus where one writes, if a room is open.
pub(crate) fn focus_composer() {
    if let Some(field) = document().get_element_by_id(COMPOSER_ID) {
        // A focus that cannot move stays where it is.
        let _ = field.unchecked_into::<web_sys::HtmlElement>().focus();
    }
}

#[component]
fn Composer(room: RoomId, said: Callback<()>) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let input = NodeRef::<html::Textarea>::new();
    let wrong = RwSignal::new(None::<InvalidText>);
    let send = move || {
        let Some(field) = input.get_untracked() else {
            return;
        };
        match Text::parse(&field.value()) {
            Err(InvalidText::Blank) => {}
            Err(reason) => wrong.set(Some(reason)),
            Ok(_) if house.me.read_untracked().is_none() => {
                house.ask_name(house.asking.get_untracked().unwrap_or(Ask::First));
                return;
            }
            Ok(text) => {
                wrong.set(None);
                field.set_value("");
                field.set_rows(1);
                line::say(room, text);
                said.run(());
            }
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
                node_ref=input
                on:keydown=keydown
                on:input=typed
            ></textarea>
            <button class="button composer-send" type="submit">
                {language.send()}
            </button>
            <p id="messageWrong" class="wrong" role="alert" hidden=move || wrong.get().is_none()>
                {move || wrong.get().map(|reason| language.invalid_text(reason)).unwrap_or_default()}
            </p>
        </form>
    }
}

fn row_view(room: RoomId, language: Language, shown: Shown) -> impl IntoView {
    let Shown { row, .. } = shown;
    let first = row.get_untracked();
    match first {
        Row::Day(_) => {
            let day = move || match &*row.read() {
                Row::Day(date) => times::day(language, *date),
                _ => String::new(),
            };
            EitherOf3::A(view! { <p class="day">{day}</p> })
        }
        Row::Notice { kind, sender } => EitherOf3::B(notice_view(language, kind, sender)),
        Row::Talk(talk) => EitherOf3::C(talk_view(room, language, talk, row)),
    }
}

fn notice_view(language: Language, kind: MessageType, sender: String) -> impl IntoView {
    view! {
        <p class="notice" data-type=if kind == MessageType::Enter { "ENTER" } else { "LEAVE" }>
            <bdi>{sender}</bdi>
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
        <div class="message" data-own=own data-opens=opens data-state=state>
            <span
                class=format!("face face-{}", face_of(&sender))
                data-face=initial_of(&sender)
                aria-hidden="true"
            ></span>
            <bdi class="sender">{name}</bdi>
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
            <button class="retry" type="button" on:click=move |_| line::retry(room, id)>
                {language.retry()}
            </button>
        }),
        (Delivery::Stored, Some(Local(at))) if talk.closes_run => EitherOf4::C(view! {
            <time datetime=times::machine(at)>{times::clock(language, at)}</time>
        }),
        (Delivery::Stored, _) => EitherOf4::D(()),
    }
}

/// Shows these rows; what is shown already is changed in place. Gives whether newer ones came in.
fn show(shown: RwSignal<Vec<ShownPart>>, parts: Vec<Part>) -> bool {
    let before = shown.get_untracked();
    let rows_before: Vec<Vec<Shown>> = before
        .iter()
        .map(|part| part.rows.get_untracked())
        .collect();
    let known: HashMap<Key, &ArcRwSignal<Row>> = rows_before
        .iter()
        .flatten()
        .map(|shown| (shown.key, &shown.row))
        .collect();
    let mut is_newer = false;
    let mut after = Vec::with_capacity(parts.len());
    for (key, rows) in parts {
        let rows: Vec<Shown> = rows
            .into_iter()
            .map(|(row_key, row)| match known.get(&row_key) {
                Some(&signal) => {
                    if *signal.read_untracked() != row {
                        signal.set(row);
                    }
                    Shown {
                        key: row_key,
                        row: signal.clone(),
                    }
                }
                None => {
                    is_newer |= key == NEWEST_PART;
                    Shown {
                        key: row_key,
                        row: ArcRwSignal::new(row),
                    }
                }
            })
            .collect();
        let keys = |rows: &[Shown]| rows.iter().map(|shown| shown.key).collect::<Vec<_>>();
        match before.iter().position(|part| part.key == key) {
            Some(at) => {
                if keys(&rows) != keys(&rows_before[at]) {
                    before[at].rows.set(rows);
                }
                after.push(before[at].clone());
            }
            None => after.push(ShownPart {
                key,
                rows: ArcRwSignal::new(rows),
            }),
        }
    }
    let same = |(a, b): (&ShownPart, &ShownPart)| a.key == b.key;
    if before.len() != after.len() || !before.iter().zip(&after).all(same) {
        shown.set(after);
    }
    is_newer
}

/// In the reversed scroller 0 is the end, and what lies before it is negative.
fn is_at_end(log: &web_sys::HtmlElement) -> bool {
    log.scroll_top().abs() <= FOLLOW_WITHIN
}

/// Whether little is left above of what is shown.
fn is_near_beginning(log: &web_sys::HtmlElement) -> bool {
    log.scroll_height() - log.client_height() - log.scroll_top().abs() <= EARLIER_WITHIN
}

/// The first visible character of a name; the style makes it a capital.
fn initial_of(sender: &str) -> String {
    sender
        .chars()
        .find(|&c| !shared::chat::is_invisible(c))
        .map(String::from)
        .unwrap_or_default()
}

/// A colour for a name, the same on every device (FNV-1a).
fn face_of(sender: &str) -> u32 {
    let hash = sender.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 8) % FACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_the_first_visible_character() {
        for (sender, expected) in [
            ("철수", "철"),
            ("lena", "l"),
            ("\u{202E}영희", "영"),
            ("😀x", "😀"),
            ("ß", "ß"),
        ] {
            assert_eq!(initial_of(sender), expected);
        }
    }

    #[test]
    fn a_name_keeps_its_colour() {
        assert_eq!(face_of("철수"), face_of("철수"));
        let used: std::collections::HashSet<_> =
            (0..200).map(|n| face_of(&n.to_string())).collect();
        assert_eq!(used.len(), FACES as usize);
    }
}
