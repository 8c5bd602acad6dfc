//! Request bodies: whole, and within a bound.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use bytes::Bytes;

use crate::problem::Problem;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a request's body of at most `bytes_max`.
///
/// # Errors
/// 415 when it is compressed, 413 when it is larger or says so, 408 when it does not come in time, 400
/// when it does not come whole.
pub(crate) async fn read(request: Request<Body>, bytes_max: usize) -> Result<Bytes, Problem> {
    if !request
        .headers()
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(is_identity)
    {
        let detail = "send the body as it is, without `content-encoding`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).accept_encoding());
    }
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes; send less at a time");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let body = to_bytes(request.into_body(), bytes_max);
    let body = tokio::time::timeout(TIMEOUT, body).await.map_err(|_| {
        let detail = "the body did not arrive in time; send it again";
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    })?;
    body.map_err(|error| {
        if error
            .source()
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
        {
            return too_large();
        }
        let detail = "the body did not arrive whole; send it again";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// Whether a `Content-Encoding` names no encoding (RFC 9110, section 8.4).
fn is_identity(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|octet| *octet == b',');
    codings.all(|coding| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}
