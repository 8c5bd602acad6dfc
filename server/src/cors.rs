//! What lets pages of other origins read an answer (the CORS protocol of the Fetch standard).

use axum::http::header::{self, HeaderMap, HeaderValue};

/// Seconds in a year: browsers cut it to what they keep a preflight for.
const YEAR: u32 = 31_536_000;

/// Lets pages of an origin that may connect read an answer, with credentials: the origin is echoed, as
/// browsers take no `*` together with them.
pub(crate) fn share(answer: &mut HeaderMap, origin: HeaderValue) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let yes = HeaderValue::from_static("true");
    answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
}

/// Permits these methods, and whatever headers are asked for: tracing and its like add some of their
/// own (`traceparent`, `sentry-trace`, `baggage`), and none of them means anything here.
pub(crate) fn permit(answer: &mut HeaderMap, methods: &'static str, asked: &HeaderMap) {
    let methods = HeaderValue::from_static(methods);
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, YEAR.into());
    let wanted = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    for wanted in wanted.iter().filter(|wanted| !wanted.is_empty()) {
        answer.append(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
}
