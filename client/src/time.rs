//! Times as people read them: "오후 3:42", day lines, and the last activity of a room.

use time::{Date, Month, OffsetDateTime, UtcOffset, Weekday};

use crate::i18n::Language;

/// Whose clock times are shown by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Zone {
    /// What the server renders and hydration repeats: Korean time for Korean, UTC for English.
    Fixed(Language),
    /// The browser's own, with its summer times.
    Browser,
}

impl Zone {
    pub(crate) fn local(self, at: OffsetDateTime) -> OffsetDateTime {
        let minutes = match self {
            Zone::Fixed(Language::Korean) => 9 * 60,
            Zone::Fixed(Language::English) => 0,
            Zone::Browser => browser_offset_minutes(at),
        };
        at.to_offset(UtcOffset::from_whole_seconds(minutes * 60).unwrap_or(UtcOffset::UTC))
    }
}

/// The time of day, by the twelve-hour clock.
pub(crate) fn clock(language: Language, local: OffsetDateTime) -> String {
    let (hour, minute) = (local.hour(), local.minute());
    let hour_of_half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let afternoon = hour >= 12;
    match language {
        Language::Korean => {
            format!(
                "{} {hour_of_half}:{minute:02}",
                if afternoon { "오후" } else { "오전" }
            )
        }
        Language::English => {
            format!(
                "{hour_of_half}:{minute:02} {}",
                if afternoon { "PM" } else { "AM" }
            )
        }
    }
}

/// A day in full, for the line between two days.
pub(crate) fn day(language: Language, date: Date) -> String {
    let (year, month, day) = date.to_calendar_date();
    match language {
        Language::Korean => {
            format!(
                "{year}년 {}월 {day}일 {}",
                u8::from(month),
                weekday_korean(date.weekday())
            )
        }
        Language::English => format!("{}, {} {day}, {year}", date.weekday(), month),
    }
}

/// A moment as the list of rooms shows it: today's by the clock (tomorrow's too, as a page stays open over
/// midnight), yesterday's by that word, others by their date, and the year where it is another one.
pub(crate) fn recently(language: Language, local: OffsetDateTime, today: Date) -> String {
    let date = local.date();
    if date >= today && Some(date) <= today.next_day() {
        return clock(language, local);
    }
    if date.next_day() == Some(today) {
        return language.pick("어제", "Yesterday").to_owned();
    }
    let (year, month, day) = date.to_calendar_date();
    let this_year = year == today.year();
    match language {
        Language::Korean if this_year => format!("{}월 {day}일", u8::from(month)),
        Language::Korean => format!("{year}. {}. {day}.", u8::from(month)),
        Language::English if this_year => format!("{} {day}", month_short(month)),
        Language::English => format!("{} {day}, {year}", month_short(month)),
    }
}

/// The machine's form, for `<time datetime>`.
pub(crate) fn machine(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    // The library's RFC 3339 can do more, and weighs a kilobyte.
    format!(
        "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
        u8::from(month)
    )
}

/// The present, by the machine's clock: the server's while rendering, else the browser's.
pub(crate) fn now() -> OffsetDateTime {
    #[cfg(feature = "ssr")]
    {
        OffsetDateTime::now_utc()
    }
    #[cfg(not(feature = "ssr"))]
    {
        let seconds = (js_sys::Date::now() / 1_000.0) as i64;
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

fn browser_offset_minutes(at: OffsetDateTime) -> i32 {
    let milliseconds = at.unix_timestamp() as f64 * 1_000.0;
    let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_f64(milliseconds));
    let behind = date.get_timezone_offset() as i32;
    -behind
}

fn weekday_korean(weekday: Weekday) -> &'static str {
    [
        "월요일",
        "화요일",
        "수요일",
        "목요일",
        "금요일",
        "토요일",
        "일요일",
    ][usize::from(weekday.number_days_from_monday())]
}

fn month_short(month: Month) -> &'static str {
    [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][usize::from(u8::from(month)) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_392_000 + seconds).unwrap()
    }

    #[test]
    fn times_are_worded_in_the_readers_language() {
        // 2026-11-23 00:00 UTC and around it.
        for (seconds, korean, english) in [
            (0, "오전 9:00", "12:00 AM"),
            (3 * 3_600, "오후 12:00", "3:00 AM"),
            (6 * 3_600 + 42 * 60, "오후 3:42", "6:42 AM"),
            (15 * 3_600 + 5 * 60, "오전 12:05", "3:05 PM"),
        ] {
            let korea = Zone::Fixed(Language::Korean).local(at(seconds));
            let utc = Zone::Fixed(Language::English).local(at(seconds));
            assert_eq!(clock(Language::Korean, korea), korean);
            assert_eq!(clock(Language::English, utc), english);
        }
    }

    #[test]
    fn days_are_written_in_full() {
        let date = at(0).date();
        assert_eq!(day(Language::Korean, date), "2026년 11월 23일 월요일");
        assert_eq!(day(Language::English, date), "Monday, November 23, 2026");
    }

    #[test]
    fn the_last_activity_grows_coarser() {
        let today = at(0).date();
        for (seconds, korean, english) in [
            (3_600, "오전 1:00", "1:00 AM"),
            (25 * 3_600, "오전 1:00", "1:00 AM"),
            (3_650 * 86_400, "2036. 11. 20.", "Nov 20, 2036"),
            (-3_600, "어제", "Yesterday"),
            (-3 * 86_400, "11월 20일", "Nov 20"),
            (-365 * 86_400, "2025. 11. 23.", "Nov 23, 2025"),
        ] {
            assert_eq!(recently(Language::Korean, at(seconds), today), korean);
            assert_eq!(recently(Language::English, at(seconds), today), english);
        }
    }

    #[test]
    fn the_machine_reads_utc() {
        assert_eq!(machine(at(0)), "2026-11-23T00:00:00Z");
    }
}
