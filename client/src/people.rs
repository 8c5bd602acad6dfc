//! Who is in a room, and who is typing there.

use std::time::Duration;

use leptos::{html, prelude::*};
use shared::chat::{RoomId, Sender};

use crate::{
    app::House,
    browser,
    face::{face_of, initial_of},
    i18n::Language,
    json::{FromJson, Json},
    live::{click, live, markup, text as live_text},
    open_rooms,
};

/// For so long somebody is typing who has said so once.
pub(crate) const TYPING_FOR: Duration = Duration::from_secs(4);

/// Who is in a room, as the server tells it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct People {
    /// In the order of their names; `None` before the server has told.
    here: Option<Vec<Sender>>,
    /// Until when each is typing; the first has begun first.
    typing: Vec<(Sender, Duration)>,
}

/// What the server tells of who is in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// All of them, in the order of their names.
    All(Vec<Sender>),
    /// Who came and went since.
    Changes {
        entered: Vec<Sender>,
        left: Vec<Sender>,
    },
}

impl People {
    /// Takes what the server tells; whether there is something.
    pub(crate) fn apply(&mut self, presence: Option<Presence>) -> bool {
        let Some(presence) = presence else {
            return false;
        };
        match presence {
            Presence::All(all) => self.here = Some(all),
            Presence::Changes { entered, left } => {
                self.typing.retain(|(typist, _)| !left.contains(typist));
                let here = self.here.get_or_insert_default();
                here.retain(|sender| !left.contains(sender));
                for sender in entered {
                    let at = here.partition_point(|other| *other < sender);
                    if here.get(at) != Some(&sender) {
                        here.insert(at, sender);
                    }
                }
            }
        }
        true
    }

    /// Somebody is typing at `now`; whether there is somebody.
    pub(crate) fn types(&mut self, who: Option<Sender>, now: Duration) -> bool {
        let Some(sender) = who else {
            return false;
        };
        let until = now + TYPING_FOR;
        match self.typing.iter_mut().find(|(typist, _)| *typist == sender) {
            Some((_, known)) => *known = until,
            None => self.typing.push((sender, until)),
        }
        true
    }

    /// Somebody has said what they were typing, or has left; whether they were typing.
    pub(crate) fn rests(&mut self, sender: &Sender) -> bool {
        let before = self.typing.len();
        self.typing.retain(|(typist, _)| typist != sender);
        self.typing.len() < before
    }

    /// Forgets who has typed nothing for long at `now`; whether there was anybody.
    pub(crate) fn expire(&mut self, now: Duration) -> bool {
        let before = self.typing.len();
        self.typing.retain(|(_, until)| *until > now);
        self.typing.len() < before
    }

    fn words(&self, me: Option<&Sender>, language: Language) -> String {
        let mut others = self
            .typing
            .iter()
            .map(|(sender, _)| sender.as_str())
            .filter(|sender| me.is_none_or(|me| me.as_str() != *sender));
        match (others.next(), others.next(), others.next()) {
            (None, ..) => String::new(),
            (Some(one), other, None) => language.typing(one, other),
            _ => language.many_typing().to_owned(),
        }
    }

    /// The list, as markup: oneself first.
    fn list(&self, me: Option<&Sender>, language: Language) -> String {
        let mut html = String::new();
        let is_own = |sender: &&Sender| Some(*sender) == me;
        let here = self.here.iter().flatten();
        let own_first = here
            .clone()
            .filter(is_own)
            .chain(here.filter(|sender| !is_own(sender)));
        for sender in own_first {
            let name = sender.as_str();
            let you = match is_own(&sender) {
                true => language.you(),
                false => "",
            };
            for piece in [
                "<li class=\"person\"><span class=\"face face-",
                &face_of(name).to_string(),
                "\" aria-hidden=\"true\" data-face=\"",
                &markup(initial_of(name)).replace('"', "&quot;"),
                "\"></span><bdi class=\"person-name\" translate=\"no\">",
                &markup(name.to_owned()),
                "</bdi><span class=\"person-note\">",
                you,
                "</span></li>",
            ] {
                html.push_str(piece);
            }
        }
        html
    }
}

impl FromJson for Presence {
    fn from_json(json: &Json) -> Option<Self> {
        Some(match json.read("participants") {
            Some(all) => Presence::All(all),
            None => Presence::Changes {
                entered: json.read("entered")?,
                left: json.read("left")?,
            },
        })
    }
}

/// Whom an object names.
impl FromJson for Sender {
    fn from_json(json: &Json) -> Option<Self> {
        json.text("sender").map(|sender| Sender::stored(&sender))
    }
}

/// The button that says how many are in a room, and the list that it opens. `told` is how many there were
/// when the page was read.
#[component]
pub(crate) fn PeopleHere(room: RoomId, told: u64, changed: RwSignal<bool>) -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let dialog = NodeRef::<html::Dialog>::new();
    let is_open = RwSignal::new(false);
    let count = move || {
        changed.track();
        let mut count = told;
        open_rooms::people(room, &mut |people| {
            if let Some(here) = &people.here {
                count = here.len() as u64;
            }
        });
        count
    };
    let open = move || {
        if let Some(dialog) = dialog.get_untracked() {
            is_open.set(true);
            // One that is open already stays so.
            let _ = dialog.show_modal();
        }
    };
    // Nobody sees the list while it is closed, and thousands may be in it.
    browser::effect(move || {
        changed.track();
        if is_open.get()
            && let Some(list) = dialog
                .get_untracked()
                .and_then(|dialog| dialog.last_element_child())
        {
            let me = house.me.get();
            open_rooms::people(room, &mut |people| {
                list.set_inner_html(&people.list(me.as_ref(), language));
            });
        }
    });
    // By hand, as a view would weigh more than all that it does. The form closes the dialog.
    let frame = [
        "<form class=\"people-head\" method=\"dialog\"><h2 id=\"peopleTitle\" class=\"name-title\">",
        language.people(),
        "</h2><button class=\"button button-quiet\">",
        language.close(),
        "</button></form><ul class=\"people-list\" tabindex=\"0\" aria-labelledby=\"peopleTitle\"></ul>",
    ]
    .concat();
    let face = move || {
        [
            "<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 \
             8zM4 21c0-4 3-6 8-6s8 2 8 6\"/></svg>",
            &count().to_string(),
        ]
        .concat()
    };
    view! {
        <button
            class="button button-quiet people-button"
            type="button"
            aria-haspopup="dialog"
            aria-label=live(move || language.people_here(count()))
            on:click=click(open)
            inner_html=live(face)
        ></button>
        <dialog
            class="people"
            aria-labelledby="peopleTitle"
            node_ref=dialog
            on:close=move |_| is_open.set(false)
            inner_html=frame
        ></dialog>
    }
}

/// The line that says who is typing.
#[component]
pub(crate) fn TypingLine(room: RoomId, changed: RwSignal<bool>) -> impl IntoView {
    let house = House::here();
    let words = move || {
        changed.track();
        let me = house.me.get();
        let mut words = String::new();
        open_rooms::people(room, &mut |people| {
            words = people.words(me.as_ref(), house.language)
        });
        words
    };
    view! { <p class="typing" inner_html=live_text(words)></p> }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Sender {
        Sender::parse(name).unwrap()
    }

    fn names(people: &[&str]) -> Vec<Sender> {
        people.iter().map(|person| name(person)).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_here_is_the_list_and_what_has_changed_since() {
        let mut people = People::default();
        people.apply(Some(Presence::All(names(&["a", "b"]))));
        people.apply(Some(Presence::Changes {
            entered: names(&["c"]),
            left: names(&["b", "nobody"]),
        }));
        assert_eq!(people.here, Some(names(&["a", "c"])));
        people.apply(Some(Presence::All(names(&["d"]))));
        let list = people.list(Some(&name("d")), Language::English);
        assert!(list.contains("You"), "{list}");
    }

    #[test]
    fn a_name_in_the_list_is_text() {
        let mut people = People::default();
        people.apply(Some(Presence::All(names(&["\"><img src=x>"]))));
        let list = people.list(None, Language::Korean);
        assert!(list.contains("data-face=\"&quot;\""), "{list}");
        assert!(!list.contains("<img"), "{list}");
    }

    #[test]
    fn who_is_typing_is_told_for_one_two_and_several_and_never_of_oneself() {
        let mut people = People::default();
        let me = name("me");
        let words = |people: &People| people.words(Some(&me), Language::English);
        people.types(Some(me.clone()), SECOND);
        assert_eq!(words(&people), "");
        people.types(Some(name("a")), SECOND);
        assert_eq!(words(&people), "\u{2068}a\u{2069} is typing");
        people.types(Some(name("b")), 2 * SECOND);
        assert_eq!(
            words(&people),
            "\u{2068}a\u{2069} and \u{2068}b\u{2069} are typing"
        );
        people.types(Some(name("c")), 2 * SECOND);
        assert_eq!(words(&people), "Several people are typing");
        assert!(people.rests(&name("c")));
        assert!(!people.rests(&name("c")));
        people.types(Some(name("a")), 3 * SECOND);
        assert!(people.expire(2 * SECOND + TYPING_FOR));
        assert_eq!(words(&people), "\u{2068}a\u{2069} is typing");
        people.apply(Some(Presence::Changes {
            entered: Vec::new(),
            left: names(&["a"]),
        }));
        assert_eq!(words(&people), "");
    }
}
