//! Which tabs of this browser are there, told by a roll-call.
//!
//! A tab that asks is answered by every other that lives. Of those who ask at the same time one comes
//! before the others. Tabs that are closed, reloaded, crashed or frozen do not answer.

use uuid::Uuid;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BroadcastChannel, MessageEvent};

const CHANNEL: &str = "tabs";

/// What a tab says, before its own name.
const WHO_IS_THERE: char = '?';
const HERE: char = '!';
const HERE_AND_ASKING: char = '~';

/// This tab among the others.
pub(crate) struct Tabs {
    roll: Roll,
    channel: Option<BroadcastChannel>,
}

impl Tabs {
    /// Joins the others; `heard` is called with each message and is to end in [`Tabs::hear`].
    pub(crate) fn join(heard: impl FnMut(MessageEvent) + 'static) -> Self {
        let channel = BroadcastChannel::new(CHANNEL).ok();
        if let Some(channel) = &channel {
            let heard = Closure::<dyn FnMut(MessageEvent)>::new(heard);
            channel.set_onmessage(Some(heard.as_ref().unchecked_ref()));
            // The page's life is the channel's.
            heard.forget();
        }
        Tabs {
            roll: Roll::new(Uuid::new_v4().simple().to_string()),
            channel,
        }
    }

    /// This tab's name.
    pub(crate) fn me(&self) -> &str {
        &self.roll.me
    }

    /// Asks who is there; false where that is being asked already.
    pub(crate) fn ask(&mut self) -> bool {
        let question = self.roll.ask();
        if let Some(question) = &question {
            self.say(question);
        }
        question.is_some()
    }

    /// Takes what another tab says.
    pub(crate) fn hear(&mut self, event: &MessageEvent) {
        if let Some(answer) = event
            .data()
            .as_string()
            .and_then(|said| self.roll.hear(&said))
        {
            self.say(&answer);
        }
    }

    /// Ends the roll-call: whose tab is not there, of them this one is the heir, where it is.
    pub(crate) fn close(&mut self) -> impl Fn(&str) -> bool + use<> {
        self.roll.close()
    }

    fn say(&self, message: &str) {
        if let Some(channel) = &self.channel {
            // Fails for a closed channel only.
            let _ = channel.post_message(&JsValue::from_str(message));
        }
    }
}

/// The roll-call itself. Pure.
#[derive(Debug)]
struct Roll {
    me: String,
    /// While one asks: who is there, and who asks, too.
    asking: Option<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    present: Vec<String>,
    rivals: Vec<String>,
}

impl Roll {
    fn new(me: String) -> Self {
        Roll { me, asking: None }
    }

    fn ask(&mut self) -> Option<String> {
        if self.asking.is_some() {
            return None;
        }
        self.asking = Some(Asking::default());
        Some(self.signed(WHO_IS_THERE))
    }

    /// Gives the answer, if there is one to give.
    fn hear(&mut self, said: &str) -> Option<String> {
        let kind = said.chars().next()?;
        let name = said.get(1..)?;
        if let Some(asking) = &mut self.asking {
            asking.present.push(name.to_owned());
            if kind != HERE {
                asking.rivals.push(name.to_owned());
            }
        }
        let answer = match self.asking {
            Some(_) => HERE_AND_ASKING,
            None => HERE,
        };
        (kind == WHO_IS_THERE).then(|| self.signed(answer))
    }

    fn close(&mut self) -> impl Fn(&str) -> bool + use<> {
        let Asking { present, rivals } = self.asking.take().unwrap_or_default();
        let me = self.me.clone();
        let is_first = rivals.iter().all(|rival| me < *rival);
        move |tab| is_first && tab != me && !present.iter().any(|name| name == tab)
    }

    fn signed(&self, kind: char) -> String {
        format!("{kind}{}", self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tabs that hear one another.
    struct House(Vec<Roll>);

    impl House {
        fn of(names: &[&str]) -> Self {
            House(
                names
                    .iter()
                    .map(|name| Roll::new((*name).to_owned()))
                    .collect(),
            )
        }

        fn ask(&mut self, at: usize) {
            let question = self.0[at].ask().expect("it does not ask yet");
            self.tell(at, &question);
        }

        fn tell(&mut self, from: usize, said: &str) {
            for at in (0..self.0.len()).filter(|&at| at != from) {
                if let Some(answer) = self.0[at].hear(said) {
                    self.tell(at, &answer);
                }
            }
        }

        fn takes(&mut self, at: usize, tab: &str) -> bool {
            self.0[at].close()(tab)
        }
    }

    #[test]
    fn only_of_those_who_are_gone_one_is_the_heir() {
        let mut house = House::of(&["b", "c"]);
        house.ask(0);
        let takes = house.0[0].close();
        assert_eq!(["a", "b", "c"].map(takes), [true, false, false]);
        // Alone, too.
        let mut alone = House::of(&["b"]);
        alone.ask(0);
        assert!(alone.takes(0, "a"));
    }

    #[test]
    fn of_many_who_ask_at_once_one_is_the_heir() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut house = House::of(&["b", "c", "d"]);
            for at in order {
                house.ask(at);
            }
            let heirs: Vec<_> = order
                .into_iter()
                .filter(|&at| house.takes(at, "a"))
                .collect();
            assert_eq!(heirs, [0], "{order:?}");
        }
    }

    #[test]
    fn who_asks_later_finds_the_heir_there() {
        let mut house = House::of(&["c", "b"]);
        house.ask(0);
        assert!(house.takes(0, "a"));
        house.ask(1);
        // What was a's is c's by now.
        assert!(!house.takes(1, "c"));
        // What is said in another tongue is passed over.
        assert_eq!(house.0[0].hear(""), None);
        assert_eq!(house.0[0].hear("한"), None);
    }

    #[test]
    fn one_asks_once_at_a_time() {
        let mut house = House::of(&["a"]);
        house.ask(0);
        assert_eq!(house.0[0].ask(), None);
        house.takes(0, "x");
        assert!(house.0[0].ask().is_some());
    }
}
