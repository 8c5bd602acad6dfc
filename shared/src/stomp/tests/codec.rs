use bytes::Bytes;

use super::{
    super::{
        Command, DecodeError, Decoder, Frame, Limits, Received, Version, encode, message_rest,
    },
    decode,
};

const V10: Option<Version> = Some(Version::V10);
const V11: Option<Version> = Some(Version::V11);
const V12: Option<Version> = Some(Version::V12);

fn frame(command: Command, headers: &[(&str, &str)], body: &str) -> Frame {
    Frame {
        command,
        headers: headers.iter().copied().collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn frames_are_read_by_the_rules_of_their_version() {
    use Command::{Connect, Send, Subscribe};
    let cases: &[(Option<Version>, &str, Frame)] = &[
        (
            V12,
            "SEND\na:b\n\nbody\0",
            frame(Send, &[("a", "b")], "body"),
        ),
        (
            V12,
            "SEND\r\na:b\r\n\r\nbody\0",
            frame(Send, &[("a", "b")], "body"),
        ),
        (
            V11,
            "SEND\na:b\r\n\nbody\0",
            frame(Send, &[("a", "b\r")], "body"),
        ),
        (
            V10,
            "SEND\r\na: b \r\n\r\nbody\0",
            frame(Send, &[("a", "b")], "body"),
        ),
        (
            V12,
            "SEND\n a : b \n\n\0",
            frame(Send, &[(" a ", " b ")], ""),
        ),
        (
            V11,
            "SEND\n a : b \n\n\0",
            frame(Send, &[(" a ", " b ")], ""),
        ),
        (
            V12,
            "SEND\na\\c:\\n\\r\\\\\\c\n\n\0",
            frame(Send, &[("a:", "\n\r\\:")], ""),
        ),
        (
            V11,
            "SEND\na\\c:\\n\\\\\\c\n\n\0",
            frame(Send, &[("a:", "\n\\:")], ""),
        ),
        (
            V10,
            "SEND\na:\\n\\x\\\n\n\0",
            frame(Send, &[("a", "\\n\\x\\")], ""),
        ),
        (
            None,
            "CONNECT\r\na:\\x\r\n\r\n\0",
            frame(Connect, &[("a", "\\x")], ""),
        ),
        (
            V12,
            "CONNECT\na:\\x\n\n\0",
            frame(Connect, &[("a", "\\x")], ""),
        ),
        (V12, "SEND\na:b:c:\n\n\0", frame(Send, &[("a", "b:c:")], "")),
        (V12, "SEND\na:\n\n\0", frame(Send, &[("a", "")], "")),
        (
            V12,
            "SEND\na:1\na:2\n\n\0",
            frame(Send, &[("a", "1"), ("a", "2")], ""),
        ),
        (
            V12,
            "SEND\ncontent-length:3\n\na\0b\0",
            frame(Send, &[], "a\0b"),
        ),
        (
            V12,
            "SEND\ncontent-length:1\ncontent-length:x\n\na\0",
            frame(Send, &[], "a"),
        ),
        (V12, "SEND\ncontent-length:0\n\n\0", frame(Send, &[], "")),
        (
            V12,
            "SUBSCRIBE\ncontent-length:0\n\n\0",
            frame(Subscribe, &[], ""),
        ),
        (V10, "SUBSCRIBE\n\nskipped\0", frame(Subscribe, &[], "")),
        (
            V10,
            "SUBSCRIBE\ncontent-length:3\n\na\0b\0",
            frame(Subscribe, &[], ""),
        ),
        (V12, "\n\r\n\nSEND\n\n\0\n\r\n", frame(Send, &[], "")),
        (V11, "\r\nSEND\n\n\0\r\n", frame(Send, &[], "")),
        (
            V12,
            "SEND\n이름:값\n\n본문\0",
            frame(Send, &[("이름", "값")], "본문"),
        ),
    ];
    for (version, octets, expected) in cases {
        let frames = decode(octets.as_bytes(), *version);
        assert_eq!(frames, Ok(vec![expected.clone()]), "{version:?} {octets:?}");
    }
    assert_eq!(
        cases[13].2.headers.get("a"),
        Some("1"),
        "of repeated headers the first counts"
    );
}

#[test]
fn what_is_no_frame_is_refused() {
    use DecodeError::*;
    let text = str::to_owned;
    let cases: Vec<(Option<Version>, &[u8], DecodeError)> = vec![
        (V12, b"send\n\n\0", UnknownCommand(text("send"))),
        (V12, b"SEND \n\n\0", UnknownCommand(text("SEND "))),
        (V11, b"SEND\r\n\n\0", UnknownCommand(text("SEND\u{FFFD}"))),
        (V12, b"DISCONNECT\0", UnknownCommand(text("DISCONNECT"))),
        (V12, b"\0\n", UnknownCommand(text(""))),
        (V12, b"SEND\na\n\n\0", HeaderWithoutName(text("a"))),
        (V12, b"SEND\n:a\n\n\0", HeaderWithoutName(text(":a"))),
        (V10, b"SEND\n :a\n\n\0", HeaderWithoutName(text(" :a"))),
        (
            V11,
            b"SEND\n\r\n\0\n\n",
            HeaderWithoutName(text("\u{FFFD}")),
        ),
        (V12, b"SEND\na:\xff\n\n\0", HeaderNotUtf8),
        (V12, b"SEND\na:\\t\n\n\0", UndefinedEscape(text("a:\\t"))),
        (V11, b"SEND\na:\\r\n\n\0", UndefinedEscape(text("a:\\r"))),
        (V12, b"SEND\na:\\\n\n\0", UndefinedEscape(text("a:\\"))),
        (
            V12,
            b"SEND\ncontent-length:-1\n\n\0",
            ContentLength(text("-1")),
        ),
        (V12, b"SEND\ncontent-length:\n\n\0", ContentLength(text(""))),
        (
            V12,
            b"SEND\ncontent-length:2\n\nabc\0",
            NoNulAfterBody { length: 2 },
        ),
        (V12, b"SUBSCRIBE\n\na", UnexpectedBody(Command::Subscribe)),
        (
            V11,
            b"ACK\ncontent-length:1\n\n",
            UnexpectedBody(Command::Ack),
        ),
        (
            V12,
            b"SEND\ncontent-length:99999999999999999999999\n\n",
            FrameTooLarge { max: 65_536 },
        ),
        (
            None,
            b"CONNECT\ncontent-length:16384\n\n",
            FrameTooLarge { max: 16_384 },
        ),
    ];
    for (version, octets, expected) in cases {
        let shown = octets.escape_ascii();
        assert_eq!(
            decode(octets, version),
            Err(expected),
            "{version:?} {shown}"
        );
    }
}

#[test]
fn a_refused_frame_is_still_known_by_its_receipt() {
    let cases: &[(&str, Option<Command>)] = &[
        ("SEND\na:\\t\nreceipt:r\\c1\n\n", Some(Command::Send)),
        ("SHOUT\nreceipt:r\\c1\n\n", None),
        ("SUBSCRIBE\nreceipt:r\\c1\n\nx", Some(Command::Subscribe)),
        (
            "SEND\nreceipt:r\\c1\ncontent-length:70000\n\n",
            Some(Command::Send),
        ),
    ];
    for (octets, command) in cases {
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V12);
        decoder.push(Bytes::copy_from_slice(octets.as_bytes()));
        let error = decoder.poll().unwrap_err();
        assert_eq!(
            (decoder.command(), decoder.receipt()),
            (*command, Some("r:1")),
            "{octets:?}"
        );
        decoder.push(Bytes::from_static(b"SEND\n\n\0"));
        assert_eq!(decoder.poll(), Err(error), "nothing is read after a fault");
    }
}

/// A SEND that is padded to so many octets, with or without `content-length`.
fn send_of(octets: usize, has_length: bool) -> Vec<u8> {
    let mut frame = b"SEND\n".to_vec();
    if has_length {
        let rest = octets - "SEND\ncontent-length:12345\n\n\0".len();
        frame.extend_from_slice(format!("content-length:{rest:05}\n").as_bytes());
    }
    frame.push(b'\n');
    frame.resize(octets - 1, b'x');
    frame.push(0);
    frame
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    use DecodeError::*;
    let headers = |count: usize| {
        ["SEND\n", &"a:b\n".repeat(count), "\n\0"]
            .concat()
            .into_bytes()
    };
    let line = |length: usize, end: &str| {
        ["SEND\na:", &"x".repeat(length - 2), end, end, "\0"]
            .concat()
            .into_bytes()
    };
    let command = |length: usize| "X".repeat(length).into_bytes();
    let heads = |octets: usize| {
        let line = ["a:", &"x".repeat(4_093), "\n"].concat();
        let mut head = ["CONNECT\n", &line.repeat(3)].concat().into_bytes();
        let last = octets - head.len() - "a:\n\n\0".len();
        head.extend_from_slice(["a:", &"x".repeat(last), "\n\n\0"].concat().as_bytes());
        head
    };
    let cases = [
        (
            V12,
            send_of(65_536, false),
            send_of(65_537, false),
            FrameTooLarge { max: 65_536 },
        ),
        (
            V12,
            send_of(65_536, true),
            send_of(65_537, true),
            FrameTooLarge { max: 65_536 },
        ),
        (
            None,
            send_of(16_384, false),
            send_of(16_385, false),
            FrameTooLarge { max: 16_384 },
        ),
        (
            None,
            heads(16_384),
            heads(16_385),
            FrameTooLarge { max: 16_384 },
        ),
        (V12, headers(64), headers(65), TooManyHeaders { max: 64 }),
        (
            V12,
            line(8_192, "\n"),
            line(8_193, "\n"),
            HeaderLineTooLong { max: 8_192 },
        ),
        (
            V12,
            line(8_192, "\r\n"),
            line(8_193, "\r\n"),
            HeaderLineTooLong { max: 8_192 },
        ),
        (
            V11,
            line(8_192, "\n"),
            line(8_193, "\n"),
            HeaderLineTooLong { max: 8_192 },
        ),
        (
            V12,
            Vec::new(),
            command(8_193),
            HeaderLineTooLong { max: 8_192 },
        ),
    ];
    for (version, at, past, expected) in cases {
        let at = [&b"\n\n"[..], &at, &at].concat();
        assert!(decode(&at, version).is_ok(), "{expected:?}");
        assert_eq!(decode(&past, version), Err(expected));
    }
}

#[test]
fn what_never_ends_is_refused_as_soon_as_the_limit_is_passed() {
    let cases = [
        ("SEND\na:", 7_500..9_000),
        ("SEND\n\n", 65_000..67_000),
        ("", 8_000..9_000),
    ];
    for (start, expected) in cases {
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V12);
        decoder.push(Bytes::copy_from_slice(start.as_bytes()));
        let mut octets = start.len();
        while decoder.poll().is_ok() {
            decoder.push(Bytes::from_static(&[b'x'; 100]));
            octets += 100;
            assert!(octets < 100_000, "{start:?}");
        }
        assert!(expected.contains(&octets), "{start:?} after {octets}");
    }
}

#[test]
fn a_body_within_one_piece_is_not_copied() {
    for (octets, length) in [
        ("SEND\n\nbody\0\n", 4),
        ("SEND\ncontent-length:2\n\nbo\0", 2),
    ] {
        let piece = Bytes::copy_from_slice(octets.as_bytes());
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(piece.clone());
        let Ok(Some(Received::Frame(frame))) = decoder.poll() else {
            panic!("no frame")
        };
        assert_eq!(frame.body.len(), length);
        assert!(
            piece.as_ptr_range().contains(&frame.body.as_ptr()),
            "{octets:?}"
        );
    }
}

#[test]
fn frames_are_written_by_the_rules_of_their_version() {
    let odd = frame(
        Command::Message,
        &[("a:b", "1\n2\r3\\4:5"), ("content-length", "9")],
        "x",
    );
    let connected = frame(
        Command::Connected,
        &[("session", "a:b\\"), ("x", "line\nend")],
        "",
    );
    let cases = [
        (Version::V10, &odd, "MESSAGE\ncontent-length:1\n\nx\0"),
        (
            Version::V11,
            &odd,
            "MESSAGE\na\\cb:1\\n2\r3\\\\4\\c5\ncontent-length:1\n\nx\0",
        ),
        (
            Version::V12,
            &odd,
            "MESSAGE\na\\cb:1\\n2\\r3\\\\4\\c5\ncontent-length:1\n\nx\0",
        ),
        (Version::V12, &connected, "CONNECTED\nsession:a:b\\\n\n\0"),
    ];
    for (version, frame, expected) in cases {
        let mut out = Vec::new();
        encode(frame, version, &mut out);
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn a_message_is_shared_only_where_no_version_escapes_it() {
    let mut out = Vec::new();
    message_rest(
        &[("destination", "/topic/x"), ("n", "1")],
        b"a\0b",
        &mut out,
    )
    .unwrap();
    assert_eq!(
        out,
        b"destination:/topic/x\nn:1\ncontent-length:3\n\na\0b\0"
    );
    for value in ["a:b", "a\\b", "a\nb", "a\rb", " a"] {
        let mut out = Vec::new();
        assert!(
            message_rest(&[("ok", "1"), ("n", value)], b"", &mut out).is_err(),
            "{value:?}"
        );
        assert!(out.is_empty());
    }
}
