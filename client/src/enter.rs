//! What an Enter means while an input method may be composing.
//!
//! Pure. In Korean the Enter that ends a syllable also sends, as in KakaoTalk; in Japanese and Chinese
//! it takes what is proposed, and nothing more. Which of them is at work is told by what is composed,
//! since nothing tells the keyboard's language. Engines differ in how one such Enter is told:
//!
//! - Chromium and Firefox: `keydown` 229, `compositionend`; where the input method passes Enter on,
//!   as those for Korean on Windows and macOS do, a second `keydown` 13.
//! - Safari: `compositionend` first, then `keydown` 229 which is no longer said to be composing.
//! - Linux: also a `keydown` 13 that is composing, and syllables that come after the composition's end.
//! - Keyboards on glass: no key at all (229, `Unidentified`), then `beforeinput` of a line break.
//!
//! Text is sent once its composition has ended, never out of it: a field that is emptied while an
//! input method holds its last syllable gets that syllable back.

/// What a field was sent may come back from the input method within this time, told as plain typing.
const BROUGHT_BACK_WITHIN_MS: f64 = 200.0;

/// What is known of a field's composition and its last Enter.
#[derive(Debug, Default)]
pub(crate) struct Enter {
    composing: bool,
    /// What is composed, or was until something else happened.
    text: String,
    /// Whether its end is the last that happened.
    just_ended: bool,
    /// Whether the last Enter was to break the line.
    breaks: bool,
    due: Due,
    /// When the field was last sent with `text` in it, if nothing was typed since.
    sent_ms: Option<f64>,
}

/// What is owed to the last Enter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Due {
    #[default]
    Nothing,
    /// To send when the composition ends.
    AtEnd,
    /// The composition has ended: to send when the browser has done with it.
    AtRest,
    /// To send when the composed text has come into the field.
    WithText,
    /// An Enter of the input method has sent; the browser may still tell it another way.
    Done,
}

/// What the browser tells, by the names of its events.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    CompositionStart,
    CompositionUpdate(&'a str),
    CompositionEnd(&'a str),
    KeyDown(Key),
    BeforeInput {
        breaks_line: bool,
    },
    Input {
        typed: Typed,
        value: &'a str,
    },
    /// The browser has done with the event that [`Verdict::SendAtRest`] or [`Verdict::EndAndSend`]
    /// was given for.
    Rest {
        value: &'a str,
    },
    /// The form is submitted, by its button.
    Submit,
    /// The focus goes elsewhere.
    Blur,
}

/// A `keydown`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Key {
    pub(crate) is_enter: bool,
    /// Whether Shift or Alt is held.
    pub(crate) breaks: bool,
    /// Whether Ctrl or Command is held.
    pub(crate) commands: bool,
    pub(crate) is_composing: bool,
    /// Whether its `keyCode` is 229: the input method has it.
    pub(crate) is_processed: bool,
}

/// How text came into the field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Typed {
    /// By an input method.
    Composed,
    /// By a key, as far as the browser can tell.
    Plain,
    /// Pasted, dropped, undone.
    Otherwise,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing; the browser goes on.
    Pass,
    /// The browser is to do nothing.
    Prevent,
    /// To send; the browser goes on with the event.
    Send,
    /// To send instead of what the browser would do.
    PreventAndSend,
    /// To tell [`Told::Rest`] once the browser has done with this event.
    SendAtRest,
    /// To end the composition, then to tell [`Told::Rest`], instead of what the browser would do.
    EndAndSend,
    /// To empty the field: what was sent has come back.
    Clear,
}

impl Enter {
    /// Decides. `sends` is whether a plain Enter sends, as the field's `enterkeyhint` says; `at_ms` is
    /// the event's time, by any clock.
    pub(crate) fn tell(&mut self, told: Told, sends: bool, at_ms: f64) -> Verdict {
        let verdict = match told {
            Told::CompositionStart => self.composition_start(),
            Told::CompositionUpdate(text) => {
                self.composing = true;
                self.composes(text);
                Verdict::Pass
            }
            Told::CompositionEnd(text) => self.composition_end(text),
            Told::KeyDown(key) => self.key_down(key, sends),
            Told::BeforeInput { breaks_line } => {
                if breaks_line && sends && !self.breaks {
                    self.line_break()
                } else {
                    Verdict::Pass
                }
            }
            Told::Input { typed, value } => self.input(typed, value, at_ms),
            Told::Rest { value } => self.rest(value),
            Told::Submit if self.composing => self.end(),
            Told::Submit => Verdict::Send,
            Told::Blur => {
                // The next Enter is another one.
                if self.due == Due::Done {
                    self.due = Due::Nothing;
                }
                Verdict::Pass
            }
        };
        if matches!(verdict, Verdict::Send | Verdict::PreventAndSend) {
            self.sent_ms = Some(at_ms).filter(|_| !self.text.is_empty());
        }
        verdict
    }

    fn composition_start(&mut self) -> Verdict {
        // What is composed from now on is not part of what was to be sent.
        let is_due = std::mem::take(&mut self.due) == Due::AtRest;
        *self = Enter {
            composing: true,
            ..Enter::default()
        };
        if is_due { Verdict::Send } else { Verdict::Pass }
    }

    fn composes(&mut self, text: &str) {
        if !text.is_empty() {
            text.clone_into(&mut self.text);
        }
    }

    fn composition_end(&mut self, text: &str) -> Verdict {
        self.composes(text);
        self.composing = false;
        self.just_ended = true;
        match self.due {
            // An Enter that chose another writing, as of Hanja, was no more than that.
            Due::AtEnd if !is_hangul(&self.text) => self.due = Due::Nothing,
            Due::AtEnd => self.due = Due::AtRest,
            _ => {}
        }
        if self.due == Due::AtRest {
            Verdict::SendAtRest
        } else {
            Verdict::Pass
        }
    }

    fn key_down(&mut self, key: Key, sends: bool) -> Verdict {
        let due = std::mem::take(&mut self.due);
        let just_ended = std::mem::take(&mut self.just_ended);
        self.breaks = key.is_enter && (key.breaks || !(sends || key.commands));
        if !key.is_enter || self.breaks {
            if !key.is_enter && !self.composing {
                self.forget();
            }
            // What this key writes is not part of what was to be sent.
            return if due == Due::AtRest {
                Verdict::Send
            } else {
                Verdict::Pass
            };
        }
        if key.is_composing || (self.composing && key.is_processed) {
            if self.composing && is_hangul(&self.text) {
                self.due = Due::AtEnd;
            }
            return Verdict::Pass;
        }
        if self.composing {
            return self.end();
        }
        if key.is_processed {
            if !just_ended || !is_hangul(&self.text) {
                return Verdict::Pass;
            }
            self.due = Due::Done;
            return Verdict::PreventAndSend;
        }
        match due {
            Due::Done => Verdict::Prevent,
            _ => Verdict::PreventAndSend,
        }
    }

    /// The browser is about to break the line: an Enter that came through, whatever its key was.
    fn line_break(&mut self) -> Verdict {
        if self.composing {
            return self.end();
        }
        match std::mem::take(&mut self.due) {
            Due::Done => Verdict::Prevent,
            _ => Verdict::PreventAndSend,
        }
    }

    fn end(&mut self) -> Verdict {
        self.due = Due::AtRest;
        Verdict::EndAndSend
    }

    fn input(&mut self, typed: Typed, value: &str, at_ms: f64) -> Verdict {
        if self.composing {
            return Verdict::Pass;
        }
        if matches!(self.due, Due::AtRest | Due::WithText) {
            if !holds(value, &self.text) {
                return Verdict::Pass;
            }
            self.due = Due::Done;
            return Verdict::Send;
        }
        let is_late = match (self.sent_ms, typed) {
            (None, _) | (_, Typed::Otherwise) => false,
            (Some(_), Typed::Composed) => true,
            (Some(sent_ms), Typed::Plain) => at_ms - sent_ms < BROUGHT_BACK_WITHIN_MS,
        };
        if is_late && value == self.text {
            return Verdict::Clear;
        }
        if typed != Typed::Composed {
            self.due = Due::Nothing;
            self.forget();
        }
        Verdict::Pass
    }

    fn rest(&mut self, value: &str) -> Verdict {
        if self.due != Due::AtRest {
            return Verdict::Pass;
        }
        self.composing = false;
        if holds(value, &self.text) {
            self.due = Due::Done;
            Verdict::Send
        } else {
            self.due = Due::WithText;
            Verdict::Pass
        }
    }

    fn forget(&mut self) {
        self.text.clear();
        self.sent_ms = None;
    }
}

/// `str::contains`, whose search would be larger than all of this file.
fn holds(value: &str, text: &str) -> bool {
    let (value, text) = (value.as_bytes(), text.as_bytes());
    text.is_empty() || value.windows(text.len()).any(|part| part == text)
}

/// Whether a text is Korean as it is composed: syllables and their letters, nothing else.
fn is_hangul(text: &str) -> bool {
    let is_hangul = |c| {
        matches!(c,
            '\u{1100}'..='\u{11FF}'
            | '\u{3131}'..='\u{318E}'
            | '\u{A960}'..='\u{A97C}'
            | '\u{AC00}'..='\u{D7FB}'
            | '\u{FFA0}'..='\u{FFDC}')
    };
    !text.is_empty() && text.chars().all(is_hangul)
}

#[cfg(test)]
mod tests;
