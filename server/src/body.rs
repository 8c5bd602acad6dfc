//! Request bodies: whole, and within a bound.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::Limited;
use hyper::body::Body as HttpBody;

use crate::admission::{Full, Quota, Share};
use crate::awake;
use crate::problem::Problem;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the body of a request counts against; a request brings it along.
#[derive(Clone)]
pub(crate) struct Reading {
    /// The bytes that may be held.
    pub(crate) quota: Arc<Quota>,
    /// Whose they are.
    pub(crate) address: IpAddr,
    /// How long nothing of it may come.
    pub(crate) stall: Duration,
}

/// Reads a request's body of at most `bytes_max`.
///
/// # Errors
/// 415 when it is compressed, 413 when it is larger or says so, 408 when it does not come in time, 400
/// when it does not come whole, 429 and 503 when too much is held for this address, or for all.
pub(crate) async fn read(request: Request<Body>, bytes_max: usize) -> Result<Bytes, Problem> {
    read_within(request, bytes_max, TIMEOUT).await
}

async fn read_within(
    request: Request<Body>,
    bytes_max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
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
    let reading = request.extensions().get::<Reading>().cloned();
    let late = || {
        let detail = "the body did not arrive in time; send it again";
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).close()
    };
    let whole = gather(Limited::new(request.into_body(), bytes_max), reading);
    let whole = awake::timeout(time, whole).await;
    whole.ok_or_else(late)?.map_err(|unread| match unread {
        Unread::Late => late(),
        Unread::Full(full) => full.problem("request bodies under way"),
        Unread::Broken(error) => {
            // The limit tells of itself, below what passes it on.
            let mut cause = Some(&*error as &dyn std::error::Error);
            while let Some(error) = cause {
                if error.is::<http_body_util::LengthLimitError>() {
                    return too_large();
                }
                cause = error.source();
            }
            let detail = "the body did not arrive whole; send it again";
            Problem::new(StatusCode::BAD_REQUEST, detail)
        }
    })
}

/// Why a body could not be read.
enum Unread {
    /// Nothing of it came for too long.
    Late,
    /// Too much is held.
    Full(Full),
    /// It ended early, or is too large.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Puts a body together. What is there counts until it is whole: from then on it is somebody's to use.
async fn gather(mut body: Limited<Body>, reading: Option<Reading>) -> Result<Bytes, Unread> {
    let mut held: Option<Share> = None;
    let mut octets = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let stall = reading.as_ref().map_or(TIMEOUT, |reading| reading.stall);
        let frame = awake::timeout(stall, frame).await.ok_or(Unread::Late)?;
        let Some(frame) = frame.transpose().map_err(Unread::Broken)? else {
            return Ok(octets.freeze());
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if octets.is_empty() && body.is_end_stream() {
            // As most are: it came at once.
            return Ok(data);
        }
        if let Some(reading) = &reading {
            let taken = match &mut held {
                Some(share) => share.grow(data.len()),
                None => reading
                    .quota
                    .take(Some(reading.address), data.len())
                    .map(|share| held = Some(share)),
            };
            taken.map_err(Unread::Full)?;
        }
        octets.extend_from_slice(&data);
    }
}

/// Whether a `Content-Encoding` names no encoding (RFC 9110, section 8.4).
fn is_identity(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|octet| *octet == b',');
    codings.all(|coding| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::response::IntoResponse as _;
    use futures_util::stream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    /// Reads a body of so many pieces of 10 octets, each of which comes after a pause.
    async fn status(pieces: usize, pause: Duration, quota: &Arc<Quota>) -> u16 {
        let pieces = stream::unfold(pieces, move |left| async move {
            let left = left.checked_sub(1)?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 10])), left))
        });
        let mut request = Request::new(Body::from_stream(pieces));
        request.extensions_mut().insert(Reading {
            quota: Arc::clone(quota),
            address: IpAddr::from([192, 0, 2, 1]),
            stall: SHORT,
        });
        match read_within(request, 1_000, SHORT * 3).await {
            Ok(body) => {
                assert!(body.iter().all(|octet| *octet == b'x'));
                200
            }
            Err(problem) => {
                let response = problem.into_response();
                let is_closed = response.headers().contains_key(header::CONNECTION);
                assert_eq!(is_closed, response.status() == StatusCode::REQUEST_TIMEOUT);
                response.status().as_u16()
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_has_a_time_for_each_piece_and_in_all() {
        let quota = Quota::new(0, 0);
        assert_eq!(status(3, Duration::ZERO, &quota).await, 200);
        assert_eq!(status(3, SHORT / 30, &quota).await, 200);
        assert_eq!(status(1, SHORT * 2, &quota).await, 408);
        let begun = std::time::Instant::now();
        assert_eq!(status(1_000, SHORT / 4, &quota).await, 408);
        assert!(begun.elapsed() < SHORT * 20, "{:?}", begun.elapsed());
        assert_eq!(status(101, Duration::ZERO, &quota).await, 413);
    }

    #[tokio::test]
    async fn what_has_come_of_bodies_is_bounded() {
        let quota = Quota::new(0, 100);
        assert_eq!(status(10, Duration::ZERO, &quota).await, 200);
        assert_eq!(status(11, Duration::ZERO, &quota).await, 429);
        // All of it was given back.
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let share = quota.take(address, 0).unwrap();
        drop(quota.take(address, 99).unwrap());
        drop(share);
        let quota = Quota::new(100, 0);
        assert_eq!(status(11, Duration::ZERO, &quota).await, 503);
    }
}
