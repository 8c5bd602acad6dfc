//! Every text that a person reads, in Korean and in English.

use shared::chat::{MessageType, RoomName, Sender, Text};

use crate::{api::Problem, conversation::Unsaid, text::Wrong};

/// A language of the pages.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Language {
    /// Korean, the house's own.
    #[default]
    Korean,
    /// English.
    English,
}

impl Language {
    /// The BCP 47 tag: `ko` or `en`.
    pub fn tag(self) -> &'static str {
        self.pick("ko", "en")
    }

    /// Reads a tag such as `en` or `ko-KR`; `None` for any other language.
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag.trim().split(['-', '_']).next()? {
            primary if primary.eq_ignore_ascii_case("ko") => Some(Language::Korean),
            primary if primary.eq_ignore_ascii_case("en") => Some(Language::English),
            _ => None,
        }
    }

    /// Chooses by an `Accept-Language` header (RFC 9110, section 12.5.4): the known language with
    /// the highest weight, the earlier one of equals. A header that names other languages only
    /// gives English; an empty one, or `*`, gives Korean.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best: Option<(f32, Language)> = None;
        let mut names_others = false;
        for range in header.split(',') {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            match Language::from_tag(tag) {
                Some(language) if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) => {
                    best = Some((weight, language));
                }
                Some(_) => {}
                None => names_others |= !tag.is_empty() && tag != "*" && weight > 0.0,
            }
        }
        match best {
            Some((_, language)) => language,
            None if names_others => Language::English,
            None => Language::Korean,
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Language::Korean => Language::English,
            Language::English => Language::Korean,
        }
    }

    /// The language's name in itself.
    pub(crate) fn own_name(self) -> &'static str {
        self.pick("한국어", "English")
    }

    pub(crate) fn pick<T>(self, korean: T, english: T) -> T {
        match self {
            Language::Korean => korean,
            Language::English => english,
        }
    }

    pub(crate) fn house(self) -> &'static str {
        self.pick("사랑방", "Sarangbang")
    }

    pub(crate) fn rooms(self) -> &'static str {
        self.pick("방 목록", "Rooms")
    }

    pub(crate) fn room_name_label(self) -> &'static str {
        self.pick("새 방 제목", "Name of a new room")
    }

    pub(crate) fn room_name_hint(self) -> &'static str {
        self.pick("방제목을 입력해주세요", "Name a new room")
    }

    pub(crate) fn create(self) -> &'static str {
        self.pick("생성하기", "Create")
    }

    pub(crate) fn no_rooms(self) -> &'static str {
        self.pick(
            "아직 방이 없습니다. 첫 방을 만들어 보세요.",
            "There are no rooms yet. Make the first one.",
        )
    }

    #[cfg(feature = "ssr")]
    pub(crate) fn find_rooms(self) -> &'static str {
        self.pick("방 찾기", "Find a room")
    }

    pub(crate) fn none_found(self) -> &'static str {
        self.pick("그런 방이 없습니다.", "There is no such room.")
    }

    pub(crate) fn older_rooms(self) -> &'static str {
        self.pick("이전 방 보기", "Older rooms")
    }

    pub(crate) fn choose_room(self) -> &'static str {
        self.pick(
            "어느 방으로 들어갈까요?",
            "Which room would you like to enter?",
        )
    }

    pub(crate) fn choose_room_hint(self) -> &'static str {
        self.pick(
            "목록에서 방을 고르거나 새로 만들어 보세요.",
            "Choose one from the list, or make a new one.",
        )
    }

    pub(crate) fn message_count(self, count: u64) -> String {
        match (self, count) {
            (Language::Korean, 0) => "아직 메시지가 없습니다".to_owned(),
            (Language::Korean, _) => format!("메시지 {count}개"),
            (Language::English, 0) => "No messages yet".to_owned(),
            (Language::English, 1) => "1 message".to_owned(),
            (Language::English, _) => format!("{count} messages"),
        }
    }

    /// What stands before a room's name in its title.
    pub(crate) fn room_title_prefix(self) -> &'static str {
        self.pick("방제목 : ", "Room: ")
    }

    pub(crate) fn back(self) -> &'static str {
        self.pick("방 목록으로", "Back to the rooms")
    }

    pub(crate) fn leave(self) -> &'static str {
        self.pick("나가기", "Leave")
    }

    /// How many are in a room.
    pub(crate) fn people_here(self, count: u64) -> String {
        match (self, count) {
            (Language::Korean, _) => format!("참여자 {count}명"),
            (Language::English, 1) => "1 person here".to_owned(),
            (Language::English, _) => format!("{count} people here"),
        }
    }

    pub(crate) fn people(self) -> &'static str {
        self.pick("참여자", "People here")
    }

    /// Stands beside one's own name.
    pub(crate) fn you(self) -> &'static str {
        self.pick("나", "You")
    }

    pub(crate) fn close(self) -> &'static str {
        self.pick("닫기", "Close")
    }

    /// One person is typing, or two.
    pub(crate) fn typing(self, one: &str, other: Option<&str>) -> String {
        // Isolated, as a name may be written from right to left.
        match (self, other) {
            (Language::Korean, None) => format!("\u{2068}{one}\u{2069}님이 입력 중"),
            (Language::Korean, Some(other)) => {
                format!("\u{2068}{one}\u{2069}님, \u{2068}{other}\u{2069}님이 입력 중")
            }
            (Language::English, None) => format!("\u{2068}{one}\u{2069} is typing"),
            (Language::English, Some(other)) => {
                format!("\u{2068}{one}\u{2069} and \u{2068}{other}\u{2069} are typing")
            }
        }
    }

    pub(crate) fn many_typing(self) -> &'static str {
        self.pick("여러 명이 입력 중", "Several people are typing")
    }

    pub(crate) fn messages(self) -> &'static str {
        self.pick("대화", "Conversation")
    }

    pub(crate) fn message_label(self) -> &'static str {
        self.pick("메시지", "Message")
    }

    pub(crate) fn message_hint(self) -> &'static str {
        self.pick("메시지를 입력하세요", "Write a message")
    }

    pub(crate) fn send(self) -> &'static str {
        self.pick("전송", "Send")
    }

    pub(crate) fn sending(self) -> &'static str {
        self.pick("보내는 중…", "Sending…")
    }

    pub(crate) fn retry(self) -> &'static str {
        self.pick("다시 보내기", "Send again")
    }

    pub(crate) fn edit(self) -> &'static str {
        self.pick("고치기", "Edit")
    }

    pub(crate) fn discard(self) -> &'static str {
        self.pick("지우기", "Discard")
    }

    /// Why nothing more can be said in a room now.
    pub(crate) fn unsaid(self, reason: Unsaid) -> &'static str {
        match reason {
            Unsaid::Full => self.pick(
                "보내지 못한 메시지가 너무 많습니다. 연결된 뒤에 다시 보내거나, 실패한 메시지를 지워 주세요.",
                "Too many messages are waiting. Send this once they are out, or discard those that failed.",
            ),
            Unsaid::Gone => self.room_gone(),
        }
    }

    pub(crate) fn room_gone(self) -> &'static str {
        self.pick(
            "이 방은 없어졌습니다. 보내지 못한 글은 여기에서 복사할 수 있습니다.",
            "This room is gone. What could not be sent can be copied from here.",
        )
    }

    pub(crate) fn not_sent(self) -> &'static str {
        self.pick(
            "이 방에 보내지 못한 메시지",
            "Messages that could not be sent there",
        )
    }

    /// How many messages were passed over.
    pub(crate) fn passed_over(self, count: u64) -> String {
        match (self, count) {
            (Language::Korean, _) => format!("메시지 {count}개를 건너뛰었습니다"),
            (Language::English, 1) => "1 message was passed over".to_owned(),
            (Language::English, _) => format!("{count} messages were passed over"),
        }
    }

    pub(crate) fn load(self) -> &'static str {
        self.pick("불러오기", "Load")
    }

    pub(crate) fn load_next(self) -> &'static str {
        self.pick("이어지는 것부터 불러오기", "Load the first of them")
    }

    pub(crate) fn load_newest(self) -> &'static str {
        self.pick("최근 것부터 불러오기", "Load the last of them")
    }

    pub(crate) fn earlier_messages(self) -> &'static str {
        self.pick("이전 메시지 보기", "Earlier messages")
    }

    pub(crate) fn new_messages(self) -> &'static str {
        self.pick("새 메시지", "New messages")
    }

    pub(crate) fn empty_room(self) -> &'static str {
        self.pick(
            "아직 아무 말도 없습니다. 먼저 인사해 보세요.",
            "Nothing has been said yet. Say hello first.",
        )
    }

    pub(crate) fn loading(self) -> &'static str {
        self.pick("불러오는 중…", "Loading…")
    }

    pub(crate) fn unavailable(self) -> &'static str {
        self.pick(
            "지금은 불러올 수 없습니다. 잠시 뒤에 새로 고쳐 주세요.",
            "This cannot be loaded right now. Please reload in a moment.",
        )
    }

    pub(crate) fn unread(self) -> &'static str {
        self.pick(
            "불러오지 못했습니다. 다시 눌러 주세요.",
            "They could not be loaded. Please try again.",
        )
    }

    pub(crate) fn not_found_title(self) -> &'static str {
        self.pick("방을 찾을 수 없습니다", "There is no such room")
    }

    pub(crate) fn not_found_hint(self) -> &'static str {
        self.pick(
            "주소가 바뀌었거나 방이 없어졌을 수 있습니다.",
            "Its address may have changed, or the room is gone.",
        )
    }

    pub(crate) fn needs_scripting(self) -> &'static str {
        self.pick(
            "읽기만 할 수 있습니다. 방을 만들거나 메시지를 보내려면 자바스크립트를 켜 주세요.",
            "You can read here. Turn JavaScript on to make rooms or send messages.",
        )
    }

    pub(crate) fn name_title(self) -> &'static str {
        self.pick("이름을 정해 주세요", "What is your name?")
    }

    pub(crate) fn name_label(self) -> &'static str {
        self.pick("이름", "Name")
    }

    pub(crate) fn name_chip(self) -> &'static str {
        self.pick("이름 바꾸기", "Change your name")
    }

    pub(crate) fn name_chip_unset(self) -> &'static str {
        self.pick("이름 정하기", "Name")
    }

    pub(crate) fn ok(self) -> &'static str {
        self.pick("확인", "OK")
    }

    pub(crate) fn name_first(self) -> &'static str {
        self.pick(
            "대화에서 보일 이름입니다. 이 브라우저에 기억해 둡니다.",
            "It is shown beside what you say, and remembered in this browser.",
        )
    }

    pub(crate) fn name_change(self) -> &'static str {
        self.pick(
            "이제부터 쓸 이름을 적어 주세요.",
            "Write the name to use from now on.",
        )
    }

    pub(crate) fn name_old(self) -> &'static str {
        self.pick(
            "기억해 둔 이름을 이제는 쓸 수 없습니다. 다시 정해 주세요.",
            "The name remembered here can no longer be used. Please choose again.",
        )
    }

    pub(crate) fn name_taken(self, sender: &Sender) -> String {
        self.pick(
            format!(
                "‘\u{2068}{sender}\u{2069}’은(는) 이 방의 다른 손님이 쓰고 있습니다. 다른 이름을 정해 주세요. 적어 둔 글은 그대로 있습니다."
            ),
            format!(
                "Another guest in this room is called “\u{2068}{sender}\u{2069}”. Please choose another name; what you wrote is kept."
            ),
        )
    }

    pub(crate) fn name_refused(self, problem: &Problem) -> String {
        let reason = self.refused(problem);
        self.pick(
            format!("이 이름으로는 들어갈 수 없습니다. {reason}"),
            format!("This name was not let in. {reason}"),
        )
    }

    pub(crate) fn invalid_name(self, wrong: Wrong) -> String {
        self.invalid(self.pick("이름을", "The name"), Sender::CHARS_MAX, wrong)
    }

    pub(crate) fn invalid_room_name(self, wrong: Wrong) -> String {
        self.invalid(
            self.pick("방 제목을", "The room’s name"),
            RoomName::CHARS_MAX,
            wrong,
        )
    }

    pub(crate) fn invalid_text(self, wrong: Wrong) -> String {
        self.invalid(self.pick("메시지를", "The message"), Text::CHARS_MAX, wrong)
    }

    fn invalid(self, what: &str, chars_max: usize, wrong: Wrong) -> String {
        match wrong {
            Wrong::Blank => self.pick(
                format!("{what} 한 글자 이상 적어 주세요."),
                format!("{what} needs at least one visible character."),
            ),
            Wrong::TooLong { shown, fits } if fits == chars_max => self.pick(
                format!("{what} {chars_max}자까지 적을 수 있습니다. 지금은 {shown}자입니다."),
                format!("{what} may have {chars_max} characters; this has {shown}."),
            ),
            // Such as joined emoji: what is one to the reader is many to the limit.
            Wrong::TooLong { shown, fits } => {
                let over = shown - fits;
                self.pick(
                    format!(
                        "{what} {over}자 줄여 주세요. 지금 {shown}자 가운데 처음 {fits}자까지만 들어갑니다. 합쳐진 이모지처럼 여러 자로 세는 글자가 있습니다."
                    ),
                    format!(
                        "{what} is too long by {over} characters: of its {shown} the first {fits} fit. Some, such as joined emoji, count as several."
                    ),
                )
            }
            Wrong::Control => self.pick(
                format!("{what} 다시 적어 주세요. 보이지 않는 제어 문자가 들어 있습니다."),
                format!("{what} holds an invisible control character. Please type it again."),
            ),
        }
    }

    /// Why something was refused, in words that say what to do.
    pub(crate) fn refused(self, problem: &Problem) -> String {
        let known = match problem.status {
            404 => self.pick("방이 없어졌습니다.", "The room is gone."),
            409 => self.pick(
                "다른 손님이 쓰고 있는 이름입니다.",
                "Another guest is using this name.",
            ),
            413 => self.pick(
                "너무 깁니다. 줄여 주세요.",
                "It is too long. Please shorten it.",
            ),
            422 => self.pick(
                "내용을 받아들일 수 없습니다. 고쳐서 다시 보내 주세요.",
                "It was not accepted as it is. Please change it and send it again.",
            ),
            429 => self.pick(
                "너무 잦습니다. 잠시 뒤에 다시 해 주세요.",
                "That was too often. Please try again in a moment.",
            ),
            0 => self.pick(
                "서버에 닿지 않습니다. 연결을 확인하고 다시 해 주세요.",
                "The server cannot be reached. Check the connection and try again.",
            ),
            _ => self.pick(
                "서버가 받아들이지 않았습니다.",
                "The server did not accept it.",
            ),
        };
        match &problem.detail {
            Some(detail) if !matches!(problem.status, 0 | 404 | 409 | 413 | 429) => {
                format!("{known} ({detail})")
            }
            _ => known.to_owned(),
        }
    }

    /// What follows a sender's name in a notice; the wire's own text is Korean always.
    pub(crate) fn notice(self, kind: MessageType) -> &'static str {
        match kind {
            MessageType::Enter => self.pick("님이 입장하였습니다.", " joined."),
            MessageType::Leave => self.pick("님이 퇴장하였습니다.", " left."),
            MessageType::Talk => "",
        }
    }

    pub(crate) fn connecting(self) -> &'static str {
        self.pick("연결하는 중…", "Connecting…")
    }

    pub(crate) fn online(self) -> &'static str {
        self.pick("연결되었습니다", "Connected")
    }

    pub(crate) fn detour(self) -> &'static str {
        self.pick(
            "이 네트워크에서는 다른 방식으로 연결했습니다.",
            "Connected another way on this network.",
        )
    }

    pub(crate) fn offline(self) -> &'static str {
        self.pick(
            "연결이 끊겼습니다. 저절로 다시 연결하며, 적은 글은 그때 보냅니다.",
            "The connection is lost. It comes back by itself, and what you write is sent then.",
        )
    }

    /// Of a page that a fault of the program has ended.
    #[cfg(feature = "hydrate")]
    pub(crate) fn ended(self) -> &'static str {
        self.pick(
            "페이지가 멈췄습니다. 새로 고쳐 주세요.",
            "This page has stopped. Please reload it.",
        )
    }

    pub(crate) fn catching_up(self) -> &'static str {
        self.pick("그동안의 메시지를 불러오는 중…", "Catching up…")
    }

    pub(crate) fn checking(self) -> &'static str {
        self.pick("연결을 확인하는 중…", "Checking the connection…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_chosen_by_weight_and_order() {
        for (header, expected) in [
            ("", Language::Korean),
            ("*", Language::Korean),
            ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", Language::Korean),
            ("en-US,en;q=0.9", Language::English),
            ("en;q=0.5, ko;q=0.8", Language::Korean),
            ("de-DE,de;q=0.9,en;q=0.5", Language::English),
            ("de-DE,de", Language::English),
            ("KO", Language::Korean),
            ("en;q=0, ko;q=0.1", Language::Korean),
            ("fr;q=x,ko;q=0.2", Language::Korean),
        ] {
            assert_eq!(
                Language::from_accept_language(header),
                expected,
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let problem = |status, detail: &str| Problem {
            status,
            detail: Some(detail.to_owned()),
            ..Problem::default()
        };
        assert_eq!(
            Language::English.refused(&problem(409, "x")),
            "Another guest is using this name."
        );
        assert!(
            Language::English
                .refused(&problem(422, "`message` is blank"))
                .contains("is blank")
        );
        assert_eq!(
            Language::Korean.notice(MessageType::Enter),
            "님이 입장하였습니다."
        );
    }
}
