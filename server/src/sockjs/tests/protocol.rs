//! The cases, class by class.

use super::*;

const NO_CACHE: &str = "no-store, no-cache, must-revalidate, max-age=0";

fn content_type(answer: &Exchange) -> String {
    answer
        .header("content-type")
        .unwrap_or_default()
        .replace(' ', "")
}

fn verify_cors(answer: &Exchange, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    let credentials = answer.header("access-control-allow-credentials");
    assert_eq!(credentials, Some("true"));
}

fn verify_not_cached(answer: &Exchange) {
    assert_eq!(answer.header("cache-control"), Some(NO_CACHE));
    assert_eq!(answer.header("expires"), None);
    assert_eq!(answer.header("last-modified"), None);
}

fn verify_cached(answer: &Exchange) {
    let control = answer.header("cache-control").unwrap();
    assert!(control.contains("public") && control.contains("max-age=31536000"));
    assert!(answer.header("expires").is_some());
    assert_eq!(answer.header("last-modified"), None);
}

/// An origin of "null" is echoed as any other is: browsers take that, and with `*` no credentials.
async fn verify_options(address: SocketAddr, path: &str, methods: &[&str]) {
    for origin in ["test", "null"] {
        let headers = [
            ("access-control-request-method", methods[0]),
            ("origin", origin),
        ];
        let mut answer = Exchange::begin(address, "OPTIONS", path, &headers, None).await;
        assert_eq!(answer.status, 204);
        verify_cached(&answer);
        let age = answer.header("access-control-max-age").unwrap();
        assert!(age.parse::<u32>().unwrap() > 1_000_000);
        let allowed = answer.header("access-control-allow-methods").unwrap();
        for method in methods {
            assert!(allowed.contains(method), "{allowed}");
        }
        verify_cors(&answer, origin);
        assert_eq!(answer.text().await, "");
    }
}

mod base_url_greeting {
    use super::*;

    #[tokio::test]
    async fn greeting() {
        let address = serve().await;
        for path in ["/echo", "/echo/"] {
            let mut answer = get(address, path).await;
            assert_eq!(answer.status, 200);
            assert_eq!(content_type(&answer), "text/plain;charset=UTF-8");
            assert_eq!(answer.header("set-cookie"), None);
            assert_eq!(answer.text().await, "Welcome to SockJS!\n");
        }
    }

    #[tokio::test]
    async fn not_found() {
        let address = serve().await;
        for suffix in ["/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a/"] {
            assert_eq!(
                get(address, &format!("/echo{suffix}")).await.status,
                404,
                "{suffix}"
            );
        }
    }
}

mod iframe_page {
    use super::*;

    async fn verify(address: SocketAddr, suffix: &str) -> Exchange {
        let mut answer = get(address, &format!("/echo{suffix}")).await;
        assert_eq!(answer.status, 200, "{suffix}");
        assert_eq!(content_type(&answer), "text/html;charset=UTF-8");
        verify_cached(&answer);
        assert!(answer.header("etag").is_some());
        assert_eq!(answer.header("set-cookie"), None);
        let page = crate::sockjs::frame::IFRAME;
        let expected = page.replace("{attributes}", "src=\"/sockjs.min.js\"");
        assert_eq!(answer.text().await, expected);
        answer
    }

    #[tokio::test]
    async fn simple_url() {
        verify(serve().await, "/iframe.html").await;
    }

    #[tokio::test]
    async fn versioned_url() {
        let address = serve().await;
        for suffix in [
            "/iframe-a.html",
            "/iframe-.html",
            "/iframe-0.1.2.html",
            "/iframe-0.1.2abc-dirty.2144.html",
        ] {
            verify(address, suffix).await;
        }
    }

    #[tokio::test]
    async fn queried_url() {
        let address = serve().await;
        for suffix in [
            "/iframe-a.html?t=1234",
            "/iframe-0.1.2.html?t=123414",
            "/iframe-0.1.2abc-dirty.2144.html?t=qweqweq123",
        ] {
            verify(address, suffix).await;
        }
    }

    #[tokio::test]
    async fn invalid_url() {
        let address = serve().await;
        for suffix in [
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/IFRAME",
            "/iframe.HTML",
            "/iframe.xml",
            "/iframe-/.html",
        ] {
            assert_eq!(
                get(address, &format!("/echo{suffix}")).await.status,
                404,
                "{suffix}"
            );
        }
    }

    #[tokio::test]
    async fn cacheability() {
        let address = serve().await;
        let tag = verify(address, "/iframe.html").await;
        let tag = tag.header("etag").unwrap();
        let again = verify(address, "/iframe.html").await;
        assert_eq!(again.header("etag"), Some(tag));
        let headers = [("if-none-match", tag)];
        let mut known = Exchange::begin(address, "GET", "/echo/iframe.html", &headers, None).await;
        assert_eq!(known.status, 304);
        assert_eq!(known.header("content-type"), None);
        assert_eq!(known.text().await, "");
    }
}

mod info_test {
    use super::*;

    async fn info(address: SocketAddr, service: &str) -> serde_json::Value {
        let (status, body) = get_text(address, &format!("{service}/info")).await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    #[tokio::test]
    async fn basic() {
        let address = serve().await;
        let headers = [("origin", "test")];
        let mut answer = Exchange::begin(address, "GET", "/echo/info", &headers, None).await;
        assert_eq!(answer.status, 200);
        assert_eq!(content_type(&answer), "application/json;charset=UTF-8");
        assert_eq!(answer.header("set-cookie"), None);
        verify_not_cached(&answer);
        verify_cors(&answer, "test");
        let info: serde_json::Value = serde_json::from_str(&answer.text().await).unwrap();
        assert_eq!(info["websocket"], true);
        assert_eq!(info["cookie_needed"], false);
        assert_eq!(info["origins"], serde_json::json!(["*:*"]));
        assert!(info["entropy"].is_u64());
    }

    #[tokio::test]
    async fn entropy() {
        let address = serve().await;
        let (one, other) = (info(address, "/echo").await, info(address, "/echo").await);
        assert!(one["entropy"].is_u64());
        assert_ne!(one["entropy"], other["entropy"]);
    }

    #[tokio::test]
    async fn options() {
        verify_options(serve().await, "/echo/info", &["OPTIONS", "GET"]).await;
    }

    /// The protocol asks for `*` here; browsers of today refuse that together with credentials, which
    /// every client sends, and take "null".
    #[tokio::test]
    async fn options_null_origin() {
        let headers = [
            ("origin", "null"),
            ("access-control-request-method", "POST"),
        ];
        let mut answer =
            Exchange::begin(serve().await, "OPTIONS", "/echo/info", &headers, None).await;
        assert_eq!(answer.status, 204);
        verify_cors(&answer, "null");
        assert_eq!(answer.text().await, "");
    }

    #[tokio::test]
    async fn disabled_websocket() {
        let info = info(serve().await, "/disabled_websocket_echo").await;
        assert_eq!(info["websocket"], false);
    }
}

mod session_urls {
    use super::*;

    #[tokio::test]
    async fn any_value() {
        let address = serve().await;
        for part in ["/a/a", "/_/_", "/1/1", "/abcdefgh_i-j%20/abcdefg_i-j%20"] {
            let answer = post_text(address, &format!("/echo{part}/xhr"), "").await;
            assert_eq!(answer, (200, "o\n".to_owned()));
        }
    }

    #[tokio::test]
    async fn invalid_paths() {
        let address = serve().await;
        for suffix in ["//", "/a./a", "/a/a.", "/./.", "/", "///"] {
            let path = format!("/echo{suffix}/xhr");
            assert_eq!(get(address, &path).await.status, 404, "{path}");
            assert_eq!(post(address, &path, "").await.status, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn ignoring_server_id() {
        let address = serve().await;
        let opened = post_text(address, "/echo/000/ignoring/xhr", "").await;
        assert_eq!(opened, (200, "o\n".to_owned()));
        let sent = post_text(address, "/echo/000/ignoring/xhr_send", "[\"a\"]").await;
        assert_eq!(sent, (204, String::new()));
        let echoed = post_text(address, "/echo/999/ignoring/xhr", "").await;
        assert_eq!(echoed, (200, "a[\"a\"]\n".to_owned()));
    }
}

mod the_protocol {
    use super::*;

    #[tokio::test]
    async fn simple_session() {
        let address = serve().await;
        let url = session("/echo");
        let (xhr, xhr_send) = (format!("{url}/xhr"), format!("{url}/xhr_send"));
        assert_eq!(post_text(address, &xhr, "").await, (200, "o\n".to_owned()));
        let sent = post_text(address, &xhr_send, "[\"a\"]").await;
        assert_eq!(sent, (204, String::new()));
        let echoed = post_text(address, &xhr, "").await;
        assert_eq!(echoed, (200, "a[\"a\"]\n".to_owned()));
        let unknown = post(address, "/echo/000/bad_session/xhr_send", "[\"a\"]").await;
        assert_eq!(unknown.status, 404);
        // Of two that wait, the second is refused.
        let first = tokio::spawn(async move { post_text(address, &xhr, "").await });
        tokio::time::sleep(Duration::from_millis(250)).await;
        let second = post_text(address, &format!("{url}/xhr"), "").await;
        let busy = "c[2010,\"Another connection still open\"]\n";
        assert_eq!(second, (200, busy.to_owned()));
        first.abort();
    }

    #[tokio::test]
    async fn close_session() {
        let address = serve().await;
        let xhr = format!("{}/xhr", session("/close"));
        assert_eq!(post_text(address, &xhr, "").await, (200, "o\n".to_owned()));
        for _ in 0..2 {
            let closed = post_text(address, &xhr, "").await;
            assert_eq!(closed, (200, "c[3000,\"Go away!\"]\n".to_owned()));
        }
    }

    /// A session without a receiver ends after five seconds: what is sent to it then is unknown.
    #[tokio::test]
    async fn a_session_outlives_its_requests_by_five_seconds() {
        let address = serve().await;
        let url = session("/echo");
        post_text(address, &format!("{url}/xhr"), "").await;
        tokio::time::sleep(Duration::from_millis(4_000)).await;
        let send = format!("{url}/xhr_send");
        assert_eq!(post(address, &send, "[\"a\"]").await.status, 204);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(post(address, &send, "[\"a\"]").await.status, 404);
    }
}

mod websocket_http_errors {
    use super::*;

    #[tokio::test]
    async fn http_method() {
        let (status, body) = get_text(serve().await, "/echo/0/0/websocket").await;
        assert_eq!(status, 400);
        assert!(body.contains("Can \"Upgrade\" only to \"WebSocket\"."));
    }

    #[tokio::test]
    async fn invalid_connection_header() {
        let headers = [("upgrade", "WebSocket"), ("connection", "close")];
        let address = serve().await;
        let answer = Exchange::begin(address, "GET", "/echo/0/0/websocket", &headers, None).await;
        assert_eq!(answer.status, 400);
    }

    #[tokio::test]
    async fn invalid_method() {
        let address = serve().await;
        let upgrade = [("upgrade", "WebSocket"), ("connection", "Upgrade")];
        for headers in [&upgrade[..], &[]] {
            let path = "/echo/0/0/websocket";
            let mut answer = Exchange::begin(address, "POST", path, headers, Some("")).await;
            assert_eq!(answer.status, 405);
            assert_eq!(answer.header("content-type"), None);
            assert!(answer.header("allow").is_some());
            assert_eq!(answer.text().await, "");
        }
    }
}

/// `WebsocketHybi10`, over RFC 6455, and what of `WebsocketHixie76` is not about its handshake.
mod websocket {
    use super::*;

    async fn open(address: SocketAddr, path: &str) -> Socket {
        let mut socket = Socket::open(address, path).await;
        assert_eq!(socket.next().await.as_deref(), Some("o"));
        socket
    }

    #[tokio::test]
    async fn transport() {
        let mut socket = open(serve().await, "/echo/000/a/websocket").await;
        // Empty messages are passed over.
        socket.send("").await;
        socket.send("[\"a\"]").await;
        assert_eq!(socket.next().await.as_deref(), Some("a[\"a\"]"));
    }

    #[tokio::test]
    async fn close() {
        let mut socket = open(serve().await, "/close/000/a/websocket").await;
        let closed = socket.next().await;
        assert_eq!(closed.as_deref(), Some("c[3000,\"Go away!\"]"));
        assert_eq!(socket.next().await, None);
    }

    #[tokio::test]
    async fn reuse_session_id() {
        let address = serve().await;
        let path = "/echo/000/same/websocket";
        let (mut one, mut other) = (open(address, path).await, open(address, path).await);
        one.send("[\"a\"]").await;
        assert_eq!(one.next().await.as_deref(), Some("a[\"a\"]"));
        other.send("[\"b\"]").await;
        assert_eq!(other.next().await.as_deref(), Some("a[\"b\"]"));
        drop((one, other));
        let mut again = open(address, path).await;
        again.send("[\"a\"]").await;
        assert_eq!(again.next().await.as_deref(), Some("a[\"a\"]"));
    }

    #[tokio::test]
    async fn headers_sanity() {
        let headers = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("origin", "http://asd"),
            ("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw=="),
        ];
        let path = "/echo/000/b/websocket";
        let answer = Exchange::begin(serve().await, "GET", path, &headers, None).await;
        assert_eq!(answer.status, 101);
        let accept = answer.header("sec-websocket-accept");
        assert_eq!(accept, Some("HSmrc0sMlYUkAGmm5OPpG2HaGWk="));
        assert_eq!(answer.header("connection"), Some("upgrade"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("content-length"), None);
    }

    #[tokio::test]
    async fn broken_json() {
        let mut socket = open(serve().await, "/echo/000/c/websocket").await;
        socket.send("[\"a").await;
        assert_eq!(socket.next().await, None);
    }

    #[tokio::test]
    async fn firefox_602_connection_header() {
        let headers = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw=="),
        ];
        let path = "/echo/000/d/websocket";
        let answer = Exchange::begin(serve().await, "GET", path, &headers, None).await;
        assert_eq!(answer.status, 101);
    }
}

mod xhr_polling {
    use super::*;

    #[tokio::test]
    async fn options() {
        let address = serve().await;
        for suffix in ["/xhr", "/xhr_send"] {
            verify_options(
                address,
                &format!("/echo/abc/abc{suffix}"),
                &["OPTIONS", "POST"],
            )
            .await;
        }
    }

    #[tokio::test]
    async fn transport() {
        let address = serve().await;
        let url = session("/echo");
        let headers = [("origin", "test")];
        let xhr = format!("{url}/xhr");
        let mut answer = Exchange::begin(address, "POST", &xhr, &headers, Some("")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            content_type(&answer),
            "application/javascript;charset=UTF-8"
        );
        verify_cors(&answer, "test");
        verify_not_cached(&answer);
        assert_eq!(answer.text().await, "o\n");
        let send = format!("{url}/xhr_send");
        let mut sent = Exchange::begin(address, "POST", &send, &headers, Some("[\"x\"]")).await;
        assert_eq!(sent.status, 204);
        assert_eq!(content_type(&sent), "text/plain;charset=UTF-8");
        verify_cors(&sent, "test");
        verify_not_cached(&sent);
        assert_eq!(sent.text().await, "");
        let echoed = post_text(address, &xhr, "").await;
        assert_eq!(echoed, (200, "a[\"x\"]\n".to_owned()));
    }

    #[tokio::test]
    async fn invalid_session() {
        let url = format!("{}/xhr_send", session("/echo"));
        assert_eq!(post(serve().await, &url, "[\"x\"]").await.status, 404);
    }

    #[tokio::test]
    async fn invalid_json() {
        let address = serve().await;
        let url = session("/echo");
        let send = format!("{url}/xhr_send");
        assert_eq!(post_text(address, &format!("{url}/xhr"), "").await.1, "o\n");
        for (payload, words) in [("[\"x", "Broken JSON encoding."), ("", "Payload expected.")] {
            let (status, body) = post_text(address, &send, payload).await;
            assert_eq!(status, 500);
            assert!(body.contains(words), "{body}");
        }
        let sent = post_text(address, &send, "[\"a\"]").await;
        assert_eq!(sent, (204, String::new()));
        let echoed = post_text(address, &format!("{url}/xhr"), "").await;
        assert_eq!(echoed, (200, "a[\"a\"]\n".to_owned()));
    }

    #[tokio::test]
    async fn content_types() {
        let address = serve().await;
        let url = session("/echo");
        assert_eq!(post_text(address, &format!("{url}/xhr"), "").await.1, "o\n");
        let kinds = [
            "text/plain",
            "T",
            "application/json",
            "application/xml",
            "",
            "application/json; charset=utf-8",
            "text/xml; charset=utf-8",
            "text/xml",
        ];
        for kind in kinds {
            let headers = [("content-type", kind)];
            let send = format!("{url}/xhr_send");
            let sent = Exchange::begin(address, "POST", &send, &headers, Some("[\"a\"]")).await;
            assert_eq!(sent.status, 204);
        }
        let echoed = post_text(address, &format!("{url}/xhr"), "").await;
        let all = ["\"a\""; 8].join(",");
        assert_eq!(echoed, (200, format!("a[{all}]\n")));
    }

    #[tokio::test]
    async fn request_headers_cors() {
        let address = serve().await;
        let path = format!("{}/xhr", session("/echo"));
        for (wanted, allowed) in [
            (Some("a, b, c"), Some("a, b, c")),
            (Some(""), None),
            (None, None),
        ] {
            let mut headers = vec![
                ("origin", "test"),
                ("access-control-request-method", "POST"),
            ];
            headers.extend(wanted.map(|wanted| ("access-control-request-headers", wanted)));
            let answer = Exchange::begin(address, "OPTIONS", &path, &headers, None).await;
            assert_eq!(answer.status, 204);
            verify_cors(&answer, "test");
            assert_eq!(answer.header("access-control-allow-headers"), allowed);
        }
    }
}

/// Sends a message and expects its RECEIPT, so to say.
async fn send(address: SocketAddr, url: &str, payload: &str) {
    let sent = post_text(address, &format!("{url}/xhr_send"), payload).await;
    assert_eq!(sent, (204, String::new()));
}

mod xhr_streaming {
    use super::*;

    #[tokio::test]
    async fn options() {
        let path = "/echo/abc/abc/xhr_streaming";
        verify_options(serve().await, path, &["OPTIONS", "POST"]).await;
    }

    #[tokio::test]
    async fn transport() {
        let address = serve().await;
        let url = session("/echo");
        let path = format!("{url}/xhr_streaming");
        let headers = [("origin", "test")];
        let mut stream = Exchange::begin(address, "POST", &path, &headers, Some("")).await;
        assert_eq!(stream.status, 200);
        assert_eq!(
            content_type(&stream),
            "application/javascript;charset=UTF-8"
        );
        verify_cors(&stream, "test");
        verify_not_cached(&stream);
        assert_eq!(stream.piece().await, Some("h".repeat(2_048) + "\n"));
        assert_eq!(stream.piece().await.as_deref(), Some("o\n"));
        send(address, &url, "[\"x\"]").await;
        assert_eq!(stream.piece().await.as_deref(), Some("a[\"x\"]\n"));
    }

    #[tokio::test]
    async fn response_limit() {
        let address = serve().await;
        let url = session("/echo");
        let mut stream = post(address, &format!("{url}/xhr_streaming"), "").await;
        assert!(stream.piece().await.is_some());
        assert_eq!(stream.piece().await.as_deref(), Some("o\n"));
        let message = format!("[\"{}\"]", "x".repeat(128));
        for _ in 0..31 {
            send(address, &url, &message).await;
            assert_eq!(stream.piece().await, Some(format!("a{message}\n")));
        }
        assert_eq!(stream.piece().await, None);
        // The next request goes on.
        send(address, &url, "[\"y\"]").await;
        let mut next = post(address, &format!("{url}/xhr_streaming"), "").await;
        assert!(next.piece().await.is_some());
        assert_eq!(next.piece().await.as_deref(), Some("a[\"y\"]\n"));
    }
}

mod event_source {
    use super::*;

    #[tokio::test]
    async fn transport() {
        let address = serve().await;
        let url = session("/echo");
        let mut stream = get(address, &format!("{url}/eventsource")).await;
        assert_eq!(stream.status, 200);
        assert_eq!(content_type(&stream), "text/event-stream;charset=UTF-8");
        verify_not_cached(&stream);
        assert_eq!(stream.piece().await.as_deref(), Some("\r\n"));
        assert_eq!(stream.piece().await.as_deref(), Some("data: o\r\n\r\n"));
        send(address, &url, "[\"x\"]").await;
        assert_eq!(
            stream.piece().await.as_deref(),
            Some("data: a[\"x\"]\r\n\r\n")
        );
        send(address, &url, r#"["  \u0000\n\r "]"#).await;
        let expected = "data: a[\"  \\u0000\\n\\r \"]\r\n\r\n";
        assert_eq!(stream.piece().await.as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn response_limit() {
        let address = serve().await;
        let url = session("/echo");
        let mut stream = get(address, &format!("{url}/eventsource")).await;
        assert!(stream.piece().await.is_some());
        assert_eq!(stream.piece().await.as_deref(), Some("data: o\r\n\r\n"));
        let message = format!("[\"{}\"]", "x".repeat(4_096));
        send(address, &url, &message).await;
        assert_eq!(
            stream.piece().await,
            Some(format!("data: a{message}\r\n\r\n"))
        );
        assert_eq!(stream.piece().await, None);
    }
}

mod html_file {
    use super::*;

    #[tokio::test]
    async fn transport() {
        let address = serve().await;
        let url = session("/echo");
        let mut stream = get(address, &format!("{url}/htmlfile?c=%63allback")).await;
        assert_eq!(stream.status, 200);
        assert_eq!(content_type(&stream), "text/html;charset=UTF-8");
        verify_not_cached(&stream);
        let head = stream.piece().await.unwrap();
        let expected = crate::sockjs::receiver::HTML_FILE.replace("{callback}", "callback");
        assert_eq!(head.trim(), expected);
        assert!(head.len() > 1_024);
        let script = |text: &str| Some(format!("<script>\np(\"{text}\");\n</script>\r\n"));
        assert_eq!(stream.piece().await, script("o"));
        send(address, &url, "[\"x\"]").await;
        assert_eq!(stream.piece().await, script(r#"a[\"x\"]"#));
        // What would end the script does not.
        send(address, &url, "[\"</script><script>\"]").await;
        let escaped = r#"a[\"\u003c/script>\u003cscript>\"]"#;
        assert_eq!(stream.piece().await, script(escaped));
    }

    #[tokio::test]
    async fn no_callback() {
        let (status, body) = get_text(serve().await, "/echo/a/a/htmlfile").await;
        assert_eq!(status, 500);
        assert!(body.contains("\"callback\" parameter required"));
    }

    #[tokio::test]
    async fn response_limit() {
        let address = serve().await;
        let url = session("/echo");
        let mut stream = get(address, &format!("{url}/htmlfile?c=callback")).await;
        assert!(stream.piece().await.is_some());
        assert!(stream.piece().await.unwrap().contains("\"o\""));
        let message = "x".repeat(4_096);
        send(address, &url, &format!("[\"{message}\"]")).await;
        let expected = format!("<script>\np(\"a[\\\"{message}\\\"]\");\n</script>\r\n");
        assert_eq!(stream.piece().await, Some(expected));
        assert_eq!(stream.piece().await, None);
    }
}

mod json_polling {
    use super::*;

    const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

    async fn send_form(address: SocketAddr, url: &str, form: &str) -> (u16, String) {
        let path = format!("{url}/jsonp_send");
        let mut sent = Exchange::begin(address, "POST", &path, &FORM, Some(form)).await;
        (sent.status, sent.text().await)
    }

    #[tokio::test]
    async fn transport() {
        let address = serve().await;
        let url = session("/echo");
        let path = format!("{url}/jsonp?c=%63allback");
        let mut answer = get(address, &path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            content_type(&answer),
            "application/javascript;charset=UTF-8"
        );
        verify_not_cached(&answer);
        assert_eq!(answer.text().await, "/**/callback(\"o\");\r\n");
        let send = format!("{url}/jsonp_send");
        let form = Some("d=%5B%22x%22%5D");
        let mut sent = Exchange::begin(address, "POST", &send, &FORM, form).await;
        assert_eq!(sent.status, 200);
        assert_eq!(content_type(&sent), "text/plain;charset=UTF-8");
        verify_not_cached(&sent);
        assert_eq!(sent.text().await, "ok");
        let echoed = get_text(address, &path).await;
        assert_eq!(
            echoed,
            (200, "/**/callback(\"a[\\\"x\\\"]\");\r\n".to_owned())
        );
    }

    #[tokio::test]
    async fn no_callback() {
        let address = serve().await;
        let (status, body) = get_text(address, "/echo/a/a/jsonp").await;
        assert_eq!(status, 500);
        assert!(body.contains("\"callback\" parameter required"));
        for name in [
            "a%28b",
            "a%3Cb",
            "a%20b",
            "%EA%B0%80",
            ".",
            "..",
            "a.",
            ".a",
            "a..b",
            "0",
            "0a",
            "a.0",
            "-",
            "a-b",
            "a[0]",
            "if",
            "while",
            "this",
            "delete.x",
        ] {
            let (status, body) = get_text(address, &format!("/echo/a/a/jsonp?c={name}")).await;
            assert_eq!(status, 500, "{name}");
            assert!(body.contains("invalid \"callback\" parameter"));
        }
    }

    #[tokio::test]
    async fn invalid_json() {
        let address = serve().await;
        let url = session("/echo");
        let path = format!("{url}/jsonp?c=x");
        assert_eq!(get_text(address, &path).await.1, "/**/x(\"o\");\r\n");
        let (status, body) = send_form(address, &url, "d=%5B%22x").await;
        assert_eq!(status, 500);
        assert!(body.contains("Broken JSON encoding."));
        for form in ["", "d=", "p=p"] {
            let (status, body) = send_form(address, &url, form).await;
            assert_eq!(status, 500);
            assert!(body.contains("Payload expected."));
        }
        assert_eq!(send_form(address, &url, "d=%5B%22b%22%5D").await.1, "ok");
        let echoed = get_text(address, &path).await;
        assert_eq!(echoed, (200, "/**/x(\"a[\\\"b\\\"]\");\r\n".to_owned()));
    }

    #[tokio::test]
    async fn content_types() {
        let address = serve().await;
        let url = session("/echo");
        let path = format!("{url}/jsonp?c=x");
        assert_eq!(get_text(address, &path).await.1, "/**/x(\"o\");\r\n");
        assert_eq!(send_form(address, &url, "d=%5B%22abc%22%5D").await.1, "ok");
        let headers = [("content-type", "text/plain")];
        let send = format!("{url}/jsonp_send");
        let plain = Some("[\"%61bc\"]");
        let mut sent = Exchange::begin(address, "POST", &send, &headers, plain).await;
        assert_eq!(sent.text().await, "ok");
        let echoed = get_text(address, &path).await.1;
        assert_eq!(echoed, "/**/x(\"a[\\\"abc\\\",\\\"%61bc\\\"]\");\r\n");
    }

    #[tokio::test]
    async fn close() {
        let address = serve().await;
        let path = format!("{}/jsonp?c=x", session("/close"));
        assert_eq!(get_text(address, &path).await.1, "/**/x(\"o\");\r\n");
        for _ in 0..2 {
            let closed = get_text(address, &path).await.1;
            assert_eq!(closed, "/**/x(\"c[3000,\\\"Go away!\\\"]\");\r\n");
        }
    }
}

mod jsessionid_cookie {
    use super::*;

    fn verify_cookie(answer: &Exchange, value: &str) {
        let cookie = answer.header("set-cookie").unwrap();
        let (name, path) = cookie.split_once(';').unwrap();
        assert_eq!(name, format!("JSESSIONID={value}"));
        assert_eq!(path.trim().to_ascii_lowercase(), "path=/");
    }

    #[tokio::test]
    async fn basic() {
        let mut answer = get(serve().await, "/cookie_needed_echo/info").await;
        assert_eq!(answer.header("set-cookie"), None);
        let info: serde_json::Value = serde_json::from_str(&answer.text().await).unwrap();
        assert_eq!(info["cookie_needed"], true);
    }

    #[tokio::test]
    async fn xhr() {
        let address = serve().await;
        for (headers, value) in [
            (&[][..], "dummy"),
            (&[("cookie", "JSESSIONID=abcdef")], "abcdef"),
        ] {
            let path = format!("{}/xhr", session("/cookie_needed_echo"));
            let mut answer = Exchange::begin(address, "POST", &path, headers, Some("")).await;
            verify_cookie(&answer, value);
            assert_eq!(answer.text().await, "o\n");
        }
    }

    #[tokio::test]
    async fn xhr_streaming() {
        let path = format!("{}/xhr_streaming", session("/cookie_needed_echo"));
        verify_cookie(&post(serve().await, &path, "").await, "dummy");
    }

    #[tokio::test]
    async fn eventsource() {
        let path = format!("{}/eventsource", session("/cookie_needed_echo"));
        verify_cookie(&get(serve().await, &path).await, "dummy");
    }

    #[tokio::test]
    async fn htmlfile() {
        let path = format!("{}/htmlfile?c=%63allback", session("/cookie_needed_echo"));
        verify_cookie(&get(serve().await, &path).await, "dummy");
    }

    #[tokio::test]
    async fn jsonp() {
        let address = serve().await;
        let url = session("/cookie_needed_echo");
        let mut answer = get(address, &format!("{url}/jsonp?c=%63allback")).await;
        verify_cookie(&answer, "dummy");
        assert_eq!(answer.text().await, "/**/callback(\"o\");\r\n");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let path = format!("{url}/jsonp_send");
        let form = Some("d=%5B%22x%22%5D");
        let mut sent = Exchange::begin(address, "POST", &path, &headers, form).await;
        verify_cookie(&sent, "dummy");
        assert_eq!(sent.text().await, "ok");
    }
}

mod raw_websocket {
    use super::*;

    #[tokio::test]
    async fn transport() {
        let mut socket = Socket::open(serve().await, "/echo/websocket").await;
        socket.send("Hello world!\u{FFFF}").await;
        assert_eq!(socket.next().await.as_deref(), Some("Hello world!\u{FFFF}"));
    }

    #[tokio::test]
    async fn close() {
        let mut socket = Socket::open(serve().await, "/close/websocket").await;
        assert_eq!(socket.next().await, None);
    }
}

mod json_encoding {
    use super::*;

    fn is_escapable_by_server(unit: u16) -> bool {
        matches!(
            unit,
            0..=0x1F | 0x200C..=0x200F | 0x2028..=0x202F | 0x2060..=0x206F | 0xFFF0..
        )
    }

    #[tokio::test]
    async fn xhr_server_encodes() {
        let address = serve().await;
        let url = session("/echo");
        assert_eq!(post_text(address, &format!("{url}/xhr"), "").await.1, "o\n");
        let escaped: String = (0xFF..=0xFFFF)
            .filter(|unit| is_escapable_by_server(*unit))
            .map(|unit| format!("\\u{unit:04x}"))
            .collect();
        let text: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        send(address, &url, &format!("[\"{text}\"]")).await;
        let echoed = post_text(address, &format!("{url}/xhr"), "").await.1;
        assert_eq!(echoed, format!("a[\"{escaped}\"]\n"));
    }

    /// Every code unit but surrogates, so all that clients escape.
    #[tokio::test]
    async fn xhr_server_decodes() {
        let address = serve().await;
        let url = session("/echo");
        assert_eq!(post_text(address, &format!("{url}/xhr"), "").await.1, "o\n");
        let escaped: String = (0..=0xFFFF_u32)
            .filter(|unit| !(0xD800..0xE000).contains(unit))
            .step_by(7)
            .map(|unit| format!("\\u{unit:04x}"))
            .collect();
        send(address, &url, &format!("[\"{escaped}\"]")).await;
        let echoed = post_text(address, &format!("{url}/xhr"), "").await.1;
        let echoed: Vec<String> = serde_json::from_str(&echoed[1..]).unwrap();
        let expected: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(echoed, [expected]);
    }
}

mod handling_close {
    use super::*;

    const BUSY: &str = "c[2010,\"Another connection still open\"]\n";
    const INTERRUPTED: &str = "c[1002,\"Connection interrupted\"]\n";

    #[tokio::test]
    async fn close_frame() {
        let address = serve().await;
        let path = format!("{}/xhr_streaming", session("/close"));
        let mut first = post(address, &path, "").await;
        first.piece().await;
        assert_eq!(first.piece().await.as_deref(), Some("o\n"));
        let gone = "c[3000,\"Go away!\"]\n";
        assert_eq!(first.piece().await.as_deref(), Some(gone));
        let mut second = post(address, &path, "").await;
        assert_eq!(second.piece().await, Some("h".repeat(2_048) + "\n"));
        assert_eq!(second.piece().await.as_deref(), Some(gone));
        assert_eq!(first.piece().await, None);
        assert_eq!(second.piece().await, None);
    }

    #[tokio::test]
    async fn close_request() {
        let address = serve().await;
        let path = format!("{}/xhr_streaming", session("/echo"));
        let mut first = post(address, &path, "").await;
        first.piece().await;
        assert_eq!(first.piece().await.as_deref(), Some("o\n"));
        let mut second = post(address, &path, "").await;
        assert_eq!(second.text().await, "h".repeat(2_048) + "\n" + BUSY);
    }

    #[tokio::test]
    async fn abort_xhr_streaming() {
        let address = serve().await;
        let path = format!("{}/xhr_streaming", session("/echo"));
        let mut first = post(address, &path, "").await;
        first.piece().await;
        assert_eq!(first.piece().await.as_deref(), Some("o\n"));
        let mut second = post(address, &path, "").await;
        assert!(second.text().await.ends_with(BUSY));
        drop(first);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut third = post(address, &path, "").await;
        assert!(third.text().await.ends_with(INTERRUPTED));
    }

    #[tokio::test]
    async fn abort_xhr_polling() {
        let address = serve().await;
        let path = format!("{}/xhr", session("/echo"));
        assert_eq!(post_text(address, &path, "").await.1, "o\n");
        let waiting = path.clone();
        let first = tokio::spawn(async move { post_text(address, &waiting, "").await });
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(post_text(address, &path, "").await.1, BUSY);
        first.abort();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(post_text(address, &path, "").await.1, INTERRUPTED);
    }
}

mod http10 {
    use super::*;

    const KEEP: [(&str, &str); 1] = [("connection", "Keep-Alive")];

    #[tokio::test]
    async fn synchronous() {
        let address = serve().await;
        let begun = Exchange::begin_with("HTTP/1.0", address, "GET", "/echo", &KEEP, None);
        let mut answer = begun.await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("content-length"), Some("19"));
        assert_eq!(answer.text().await, "Welcome to SockJS!\n");
    }

    #[tokio::test]
    async fn streaming() {
        let address = serve().await;
        let path = format!("{}/xhr_streaming", session("/close"));
        let begun = Exchange::begin_with("HTTP/1.0", address, "POST", &path, &KEEP, Some(""));
        let mut answer = begun.await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("content-length"), None);
        let prelude = "h".repeat(2_048);
        let expected = prelude + "\no\nc[3000,\"Go away!\"]\n";
        assert_eq!(answer.text().await, expected);
    }
}

mod http11 {
    use super::*;

    #[tokio::test]
    async fn synchronous() {
        let mut answer = get(serve().await, "/echo").await;
        assert!(matches!(
            answer.header("connection"),
            None | Some("keep-alive")
        ));
        assert_eq!(answer.header("content-length"), Some("19"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.text().await, "Welcome to SockJS!\n");
    }

    #[tokio::test]
    async fn streaming() {
        let path = format!("{}/xhr_streaming", session("/close"));
        let mut answer = post(serve().await, &path, "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.header("content-length"), None);
        assert!(answer.piece().await.unwrap().starts_with('h'));
        assert_eq!(answer.piece().await.as_deref(), Some("o\n"));
        let closed = answer.piece().await;
        assert_eq!(closed.as_deref(), Some("c[3000,\"Go away!\"]\n"));
        assert_eq!(answer.piece().await, None);
    }
}
