//! The orders in which engines tell an Enter, as tables.

use super::*;

/// A field as a browser keeps it, and what comes of a series of events.
#[derive(Default)]
struct Field {
    enter: Enter,
    /// Whether Enter breaks the line, as on a phone.
    breaks: bool,
    /// Whether the input method tells its end when it is ended from outside.
    is_quiet: bool,
    value: String,
    sent: Vec<String>,
    /// How often a text is refused, and stays.
    refusals: u32,
    at_ms: f64,
    prevented: bool,
    rests: bool,
}

impl Field {
    /// Plays steps; gives what was sent, and what is left in the field. A step is one of
    ///
    /// - `(`, `~text`, `)text`: a composition starts, changes, ends,
    /// - `=text`, `+text`, `^text`: the field has this text now, by an input method, a key, the
    ///   clipboard,
    /// - `key`: a letter for the input method, or any key of a keyboard on glass,
    /// - `229`, `229s`, `13c`, `13`: an Enter that composes; as Safari tells it; that composes, by its
    ///   own code; that is no input method's. `shift`, `ctrl`: the last with that held,
    /// - `br`: the browser breaks the line, unless it is kept from it,
    /// - `.`: the browser has done with an event; `wait`: time goes by; `button`: the button is pressed; `blur`:
    ///   the focus goes elsewhere.
    fn play(mut self, steps: &str) -> (Vec<String>, String) {
        for step in steps.split(' ').chain(["."]) {
            self.step(step);
            self.at_ms += 1.0;
        }
        (self.sent, self.value)
    }

    fn step(&mut self, step: &str) {
        let enter = Key {
            is_enter: true,
            ..Key::default()
        };
        let mark = step.chars().next().unwrap();
        let text = &step[mark.len_utf8()..];
        match (step, mark) {
            ("key", _) => self.tell(Told::KeyDown(Key {
                is_enter: false,
                is_processed: true,
                is_composing: self.enter.composing,
                ..enter
            })),
            ("229", _) => self.tell(Told::KeyDown(Key {
                is_composing: true,
                is_processed: true,
                ..enter
            })),
            ("229s", _) => self.tell(Told::KeyDown(Key {
                is_processed: true,
                ..enter
            })),
            ("13c", _) => self.tell(Told::KeyDown(Key {
                is_composing: true,
                ..enter
            })),
            ("13", _) => self.tell(Told::KeyDown(enter)),
            ("shift", _) => self.tell(Told::KeyDown(Key {
                breaks: true,
                ..enter
            })),
            ("ctrl", _) => self.tell(Told::KeyDown(Key {
                commands: true,
                ..enter
            })),
            ("br", _) => {
                self.tell(Told::BeforeInput { breaks_line: true });
                if !self.prevented {
                    let value = format!("{}\n", self.value);
                    self.input(Typed::Plain, &value);
                }
            }
            ("wait", _) => self.at_ms += 10_000.0,
            ("button", _) => self.tell(Told::Submit),
            ("blur", _) => self.tell(Told::Blur),
            (".", _) => {
                if std::mem::take(&mut self.rests) {
                    let value = self.value.clone();
                    self.tell(Told::Rest { value: &value });
                }
            }
            (_, '(') => self.tell(Told::CompositionStart),
            (_, '~') => self.tell(Told::CompositionUpdate(text)),
            (_, ')') => self.tell(Told::CompositionEnd(text)),
            (_, '=') => self.input(Typed::Composed, text),
            (_, '+') => self.input(Typed::Plain, text),
            (_, '^') => self.input(Typed::Otherwise, text),
            _ => panic!("no step: {step}"),
        }
    }

    fn input(&mut self, typed: Typed, value: &str) {
        value.clone_into(&mut self.value);
        self.tell(Told::Input { typed, value });
    }

    fn tell(&mut self, told: Told) {
        let verdict = self.enter.tell(told, !self.breaks, self.at_ms);
        self.prevented = matches!(
            verdict,
            Verdict::Prevent | Verdict::PreventAndSend | Verdict::EndAndSend
        );
        match verdict {
            Verdict::Pass | Verdict::Prevent => {}
            Verdict::Send | Verdict::PreventAndSend if self.refusals > 0 => self.refusals -= 1,
            Verdict::Send | Verdict::PreventAndSend => {
                let text = std::mem::take(&mut self.value);
                if !text.trim().is_empty() {
                    self.sent.push(text);
                }
            }
            Verdict::SendAtRest => self.rests = true,
            Verdict::EndAndSend => {
                if !self.is_quiet {
                    let text = self.enter.text.clone();
                    self.tell(Told::CompositionEnd(&text));
                }
                (self.rests, self.prevented) = (true, true);
            }
            Verdict::Clear => self.value.clear(),
        }
    }
}

fn check(engine: &str, steps: &str, sent: &[&str], left: &str) {
    let (was_sent, is_left) = Field::default().play(steps);
    assert_eq!(was_sent, sent, "{engine}: sent");
    assert_eq!(is_left, left, "{engine}: left in the field");
}

#[test]
fn in_korean_one_enter_ends_the_syllable_and_sends() {
    for (engine, steps) in [
        ("Chromium on Windows", "key ( ~녕 =안녕 229 )녕 . 13 br"),
        (
            "Chromium on macOS",
            "key ( ~녕 =안녕 229 ~녕 =안녕 )녕 13 .",
        ),
        (
            "the same, slower",
            "key ( ~녕 =안녕 229 ~녕 =안녕 )녕 . wait 13",
        ),
        ("no second keydown", "key ( ~녕 =안녕 229 )녕 ."),
        ("but a line break", "key ( ~녕 =안녕 229 )녕 br ."),
        ("but a later one", "key ( ~녕 =안녕 229 )녕 . br"),
        ("Firefox", "key ( ~녕 =안녕 229 )녕 =안녕 . 13 br"),
        ("Firefox, no second", "key ( ~녕 =안녕 229 )녕 =안녕 ."),
        ("Safari", "( ~녕 key =안녕 =안 =안녕 )녕 229s ."),
        ("Safari, a line break", "( ~녕 key =안녕 )녕 229s br ."),
        ("Safari, twice", "( ~녕 key =안녕 )녕 229s . 13 br"),
        ("Safari, passed on", "( ~녕 key =안녕 )녕 13 br"),
        ("ibus, its own code", "key ( ~녕 =안녕 13c )녕 br ."),
        ("ibus, no line break", "key ( ~녕 =안녕 13c )녕 ."),
        (
            "ibus, withdrawn first",
            "key ( ~녕 =안녕 229 ~ =안 ) . +안녕 13 br",
        ),
        ("ibus, no second", "key ( ~녕 =안녕 229 ~ =안 ) . +안녕"),
        ("the end before the text", "key ( ~녕 229 )녕 =안녕 ."),
        ("back as composed", "key ( ~녕 =안녕 229 )녕 . wait =녕"),
        ("back as typed", "key ( ~녕 =안녕 229 )녕 . +녕 13 br"),
        ("back after the second", "key ( ~녕 =안녕 229 )녕 13 +녕 ."),
        ("whole words", "key ( ~안녕 =안녕 229 )안녕 . 13"),
        (
            "two syllables",
            "key ( ~안 =안 key ~안 )안 ( ~녕 =안녕 229 )녕 . 13",
        ),
    ] {
        check(engine, steps, &["안녕"], "");
    }
}

#[test]
fn each_enter_sends_one_whole_text() {
    for (what, steps, sent) in [
        ("letters alone", "key ( ~ㅋ =ㅋ 229 )ㅋ . 13", &["ㅋ"][..]),
        (
            "the same again, at once",
            "key ( ~ㅋ =ㅋ 229 )ㅋ . 13 key ( ~ㅋ =ㅋ 229 )ㅋ . 13",
            &["ㅋ", "ㅋ"],
        ),
        (
            "one types on before the browser has done",
            "key ( ~안 =안 229 )안 key ( ~녕 =녕 . 229 )녕 .",
            &["안", "녕"],
        ),
        (
            "the same again in Safari",
            "( ~안 key =안 )안 229s ( ~안 key =안 )안 229s .",
            &["안", "안"],
        ),
        ("by the button", "key ( ~안 =안 )안 button .", &["안"]),
        (
            "a paste after it",
            "key ( ~안 =안 229 )안 . ^안 13",
            &["안", "안"],
        ),
        (
            "a voice after it",
            "key ( ~안 =안 229 )안 . wait +안 13",
            &["안", "안"],
        ),
    ] {
        check(what, steps, sent, "");
    }
}

#[test]
fn what_was_refused_is_sent_by_the_next_enter() {
    for (steps, text) in [
        ("+hi 13 13", "hi"),
        ("+hi 13 blur 13", "hi"),
        ("+hi button blur 13 br", "hi"),
        ("key +hi key br key br", "hi"),
        // It was asked for a name first.
        ("key ( ~안 =안 229 )안 . blur 13", "안"),
        ("key ( ~안 =안 229 )안 . 13 13", "안"),
        ("key ( ~안 =안 229 )안 13 . 13", "안"),
        ("( ~안 key =안 )안 229s blur 13", "안"),
    ] {
        let field = Field {
            refusals: 1,
            ..Field::default()
        };
        let sent = vec![text.to_owned()];
        assert_eq!(field.play(steps), (sent, String::new()), "{steps}");
    }
}

#[test]
fn a_composition_is_ended_before_its_text_is_sent() {
    for steps in [
        "key ( ~안 =안 button .",
        "key ( ~안 =안 key br .",
        "key ( ~안 =안 13 .",
    ] {
        for is_quiet in [false, true] {
            let field = Field {
                is_quiet,
                ..Field::default()
            };
            let sent = vec!["안".to_owned()];
            assert_eq!(field.play(steps), (sent, String::new()), "{steps}");
        }
    }
}

#[test]
fn in_japanese_and_chinese_an_enter_that_composes_does_not_send() {
    for (engine, steps, left) in [
        ("kana", "key ( ~にほん =にほん 229 )にほん .", "にほん"),
        ("Han", "key ( ~日本 =日本 229 )日本 .", "日本"),
        (
            "Han, Firefox",
            "key ( ~日本 =日本 229 )日本 =日本 .",
            "日本",
        ),
        ("Han, Safari", "( ~日本 key =日本 )日本 229s .", "日本"),
        (
            "Latin and kana",
            "key ( ~にほn =にほn 229 )にほn .",
            "にほn",
        ),
        ("Pinyin, kept", "key ( ~ni'hao =nihao 229 )nihao .", "nihao"),
        (
            "Pinyin, Safari",
            "( ~nihao key =nihao )nihao 229s .",
            "nihao",
        ),
        ("Zhuyin", "key ( ~ㄋㄧ =ㄋㄧ 229 =你 )你 .", "你"),
        ("a window of its own", "key ( 229 )你好 =你好 .", "你好"),
        ("Hanja", "key ( ~한 =한 229 ~韓 =韓 )韓 .", "韓"),
        ("nothing composed", "229s .", ""),
        ("from before the page", "229 )안 =안 .", "안"),
        ("Escape", "key ( ~안 =안 229 key ~ = ) .", ""),
    ] {
        check(engine, steps, &[], left);
        let sent: &[&str] = if left.is_empty() { &[] } else { &[left] };
        check(engine, &format!("{steps} 13 br"), sent, "");
    }
}

#[test]
fn without_an_input_method_enter_sends_and_shift_breaks_the_line() {
    for (steps, sent, left) in [
        ("+hi 13 br", &["hi"][..], ""),
        ("+hi ctrl", &["hi"], ""),
        ("+hi 13 13 13", &["hi"], ""),
        ("+a 13 +b 13", &["a", "b"], ""),
        ("+a 13 ^b 13", &["a", "b"], ""),
        ("+hi shift br", &[], "hi\n"),
        ("key ( ~안 =안 shift )안 shift br .", &[], "안\n"),
    ] {
        check(steps, steps, sent, left);
    }
}

#[test]
fn where_the_keyboard_gives_no_key_enter_does_what_its_hint_says() {
    for (keyboard, steps, text) in [
        ("Gboard, English", "key ( ~hi =hi key )hi br", "hi"),
        ("Gboard, composing on", "key ( ~hi =hi key br .", "hi"),
        ("Gboard, Korean", "key ( ~안녕 =안녕 key )안녕 br", "안녕"),
        (
            "Gboard, Japanese",
            "key ( ~日本 =日本 key )日本 key br",
            "日本",
        ),
        ("Samsung, Korean", "key ( ~녕 =안녕 )녕 key br", "안녕"),
        ("its own code, after it", "key ( ~안 =안 )안 13 br", "안"),
        ("its own code, in it", "key ( ~안 =안 13c br .", "안"),
        ("iOS", "key +안 13 br", "안"),
    ] {
        check(keyboard, steps, &[text], "");
        let field = Field {
            breaks: true,
            ..Field::default()
        };
        let left = format!("{text}\n");
        assert_eq!(field.play(steps), (vec![], left), "{keyboard}");
    }
}

#[test]
fn where_enter_breaks_the_line_the_button_sends_and_ctrl_enter_too() {
    for last in ["button", "ctrl"] {
        let field = Field {
            breaks: true,
            ..Field::default()
        };
        let steps = format!("key ( ~안 =안 )안 13 br {last} .");
        let sent = vec!["안\n".to_owned()];
        assert_eq!(field.play(&steps), (sent, String::new()));
    }
}

#[test]
fn hangul_is_told_from_all_else() {
    for text in ["가", "ㄱ", "ㅏ", "\u{1112}\u{1161}\u{11AB}", "안녕하세요"] {
        assert!(is_hangul(text), "{text}");
    }
    for text in ["", "a", "안a", "韓", "か", "ㄅ", "안 ", "1", "ㆍ."] {
        assert!(!is_hangul(text), "{text}");
    }
}
