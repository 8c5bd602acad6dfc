//! The reader's name: remembered in this browser, asked for kindly when it is missing or unfit.

use leptos::{html, prelude::*};
use shared::chat::Sender;

use crate::{
    api::Problem,
    app::House,
    browser, composer, field,
    i18n::Language,
    live::{live, text as live_text},
    open_rooms,
    text::{self, Wrong},
};

/// The key in `localStorage`.
const KEY: &str = "sender";

/// Why the name is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// There is none yet.
    First,
    /// The reader wants another one.
    Change,
    /// What was remembered is no name: too long, or with control characters.
    Unfit(Wrong),
    /// What was remembered is none that anybody chose, such as `null`.
    Old,
    /// Another guest of the room has it.
    Taken(Sender),
    /// The server did not take it for another reason.
    Refused(Problem),
}

impl Ask {
    fn reason(&self, language: Language) -> String {
        match self {
            Ask::First => language.name_first().to_owned(),
            Ask::Change => language.name_change().to_owned(),
            Ask::Unfit(reason) => {
                format!("{} {}", language.name_old(), language.invalid_name(*reason))
            }
            Ask::Old => language.name_old().to_owned(),
            Ask::Taken(sender) => language.name_taken(sender),
            Ask::Refused(problem) => language.name_refused(problem),
        }
    }
}

/// Reads what an earlier visit remembered: a name, or why there is none.
fn remembered(stored: Option<&str>) -> Result<Sender, Ask> {
    let Some(stored) = stored else {
        return Err(Ask::First);
    };
    // Scripts that remember a missing value write these words.
    if matches!(stored.trim(), "null" | "undefined" | "") {
        return Err(if stored.is_empty() {
            Ask::First
        } else {
            Ask::Old
        });
    }
    text::read(stored, Sender::parse).map_err(|wrong| match wrong {
        Wrong::Blank => Ask::Old,
        _ => Ask::Unfit(wrong),
    })
}

/// Takes the remembered name, or asks for one. For the browser, once the page is there.
pub(crate) fn recall(house: House) {
    match remembered(browser::remembered(KEY).as_deref()) {
        Ok(sender) => {
            open_rooms::rename(&sender);
            house.me.set(Some(sender));
        }
        Err(ask) => house.ask_name(ask),
    }
}

/// The dialog that asks.
#[component]
pub(crate) fn NameDialog() -> impl IntoView {
    let house = House::here();
    let language = house.language;
    let dialog = NodeRef::<html::Dialog>::new();
    let input = NodeRef::<html::Input>::new();
    let wrong = RwSignal::new(None::<String>);
    browser::effect(move || {
        let asking = house.asking.get();
        let (Some(dialog), Some(input)) = (dialog.get(), input.get()) else {
            return;
        };
        match asking {
            Some(ask) => {
                let proposal = match &ask {
                    Ask::Taken(sender) => Some(sender.clone()),
                    _ => house.me.get_untracked(),
                };
                input.set_value(proposal.as_ref().map_or("", Sender::as_str));
                wrong.set(None);
                if !dialog.open() && dialog.show_modal().is_err() {
                    dialog.set_open(true);
                }
                // The focus moves by `autofocus`; what is proposed is there to be typed over.
                input.select();
            }
            None if dialog.open() => dialog.close(),
            None => {}
        }
    });
    let submit = move || {
        let Some(input) = input.get_untracked() else {
            return;
        };
        match text::read(&input.value(), Sender::parse) {
            Ok(sender) => {
                browser::remember(KEY, sender.as_str());
                house.me.set(Some(sender.clone()));
                house.asking.set(None);
                open_rooms::rename(&sender);
            }
            Err(reason) => {
                wrong.set(Some(language.invalid_name(reason)));
                // A focus that cannot move stays where it is.
                let _ = input.focus();
            }
        }
    };
    field::on_send(input, submit);
    view! {
        <dialog
            id="nameDialog"
            class="name-dialog"
            aria-labelledby="nameTitle"
            aria-describedby="nameReason"
            node_ref=dialog
            on:close=move |_| {
                house.asking.set(None);
                composer::focus_composer();
            }
        >
            <form class="name-form" novalidate>
                <h2 id="nameTitle" class="name-title">
                    {language.name_title()}
                </h2>
                <p
                    id="nameReason"
                    class="name-reason"
                    inner_html=live_text(move || {
                        let reason = house.asking.get().map(|ask| ask.reason(language));
                        reason.unwrap_or_default()
                    })
                ></p>
                <label class="label" for="sender">
                    {language.name_label()}
                </label>
                <input
                    id="sender"
                    class="field"
                    type="text"
                    autocomplete="nickname"
                    autofocus
                    dir="auto"
                    aria-describedby="nameWrong"
                    aria-invalid=live(move || wrong.get().is_some().to_string())
                    node_ref=input
                />
                <p
                    id="nameWrong"
                    class="wrong"
                    role="alert"
                    hidden=live(move || wrong.get().is_none())
                    inner_html=live_text(move || wrong.get().unwrap_or_default())
                ></p>
                <button class="button name-ok" type="submit">
                    {language.ok()}
                </button>
            </form>
        </dialog>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_a_name_or_a_reason_to_ask() {
        let long = "가".repeat(41);
        for (stored, expected) in [
            (None, Err(Ask::First)),
            (Some(""), Err(Ask::First)),
            (Some("null"), Err(Ask::Old)),
            (Some("undefined"), Err(Ask::Old)),
            (Some("\u{3164} "), Err(Ask::Old)),
            (
                Some(long.as_str()),
                Err(Ask::Unfit(Wrong::TooLong {
                    shown: 41,
                    fits: 40,
                })),
            ),
            (Some("a\u{7}"), Err(Ask::Unfit(Wrong::Control))),
            (Some(" 영희 "), Ok(Sender::parse("영희").unwrap())),
        ] {
            assert_eq!(remembered(stored), expected, "{stored:?}");
        }
    }
}
