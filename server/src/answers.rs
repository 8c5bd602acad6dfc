//! Answers that may be large (histories, lists, pages): how many are made and wait at a time, what they
//! weigh until their readers have taken them, and their compression, which happens off the threads that
//! talk.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{ServiceExt as _, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;

use crate::admission::{Quota, Share};
use crate::app::AppState;
use crate::origin::Caller;
use crate::problem::Problem;
use crate::{api, conditional};

/// How many that are read from the store are made at a time: each holds what was read, the JSON and its
/// compressed form at once.
const TURNS: usize = 4;

/// How many threads compress at a time.
const WORKERS: usize = 4;

/// An answer of fewer bytes costs less than another thread does.
pub(crate) const SMALL: usize = 16 << 10;

/// Bytes of a streamed answer that are made at a time.
const PIECE: usize = 64 << 10;

/// What a streamed answer weighs: its compression, for the most part.
const STREAM_WEIGHT: usize = 8 << 20;

/// What answers under way share.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    under_way: Arc<Quota>,
    bytes: Arc<Quota>,
    turns: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

/// The turn of an answer that is read from the store. It goes with the answer until that is made.
#[derive(Clone, Debug)]
pub(crate) struct Turn(
    #[expect(dead_code, reason = "it is given back by its end")] Arc<OwnedSemaphorePermit>,
);

impl Answers {
    /// `bytes` is shared with requests' bodies.
    pub(crate) fn new(under_way: Arc<Quota>, bytes: Arc<Quota>) -> Self {
        Answers {
            under_way,
            bytes,
            turns: Arc::new(Semaphore::new(TURNS)),
            workers: Arc::new(Semaphore::new(WORKERS)),
        }
    }

    /// Takes a place among the answers under way.
    fn begin(&self, caller: &Caller) -> Result<Held, Problem> {
        let under_way = self.under_way.take(Some(caller.address), 1);
        Ok(Held {
            _under_way: under_way.map_err(|full| full.problem("requests under way"))?,
            bytes: self.weigh(caller)?,
        })
    }

    fn weigh(&self, caller: &Caller) -> Result<Share, Problem> {
        let bytes = self.bytes.take(Some(caller.address), 0);
        bytes.map_err(|full| full.problem("answers that wait to be read"))
    }

    /// Waits for a turn to read from the store.
    ///
    /// # Errors
    /// 429 and 503 where too much waits to be read by then.
    pub(crate) async fn turn(&self, caller: &Caller) -> Result<Turn, Problem> {
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        let permit = permit.map_err(|_| api::failed())?;
        self.weigh(caller)?;
        Ok(Turn(Arc::new(permit)))
    }
}

/// Answers a request that reads within the bounds of [`Answers`], compressed for who can read that.
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    // What writes is answered in few words.
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let answers = &state.answers;
    let mut held = match answers.begin(&caller) {
        Ok(held) => held,
        Err(problem) => return problem.into_response(),
    };
    let asked = request.headers().clone();
    let mut response = next.run(request).await;
    let turn = response.extensions_mut().remove::<Turn>();
    // What the client has already is not compressed to be thrown away.
    let mut response = conditional::answer(&asked, response);
    if response.status() == StatusCode::NOT_MODIFIED {
        let vary = HeaderValue::from_static("accept-encoding");
        response.headers_mut().append(header::VARY, vary);
        return response;
    }
    let bytes = response.body().size_hint().exact();
    let mut encodings = Request::new(());
    for value in asked.get_all(header::ACCEPT_ENCODING) {
        let headers = encodings.headers_mut();
        headers.append(header::ACCEPT_ENCODING, value.clone());
    }
    let response = compress(encodings, response).await;
    let workers = &answers.workers;
    match bytes {
        Some(bytes) => {
            let workers = (bytes as usize > SMALL).then_some(workers);
            whole(response, workers, held, turn).await
        }
        None => match held.bytes.grow(STREAM_WEIGHT) {
            Ok(()) => response.map(|body| Body::new(Stream::new(body, Arc::clone(workers), held))),
            Err(full) => full.problem("answers that wait to be read").into_response(),
        },
    }
}

/// Has the body of an answer compressed while it is read.
async fn compress(asked: Request<()>, response: Response) -> Response {
    let mut response = Some(response);
    let ready = service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(response.take().unwrap_or_default()))
    });
    let compression = Compression::new(ready).quality(CompressionLevel::Precise(6));
    match compression.oneshot(asked).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Makes the whole of a body, on another thread where these are given. What it holds is given back when
/// that is done, also where nobody waits for it any more.
async fn whole(
    response: Response,
    workers: Option<&Arc<Semaphore>>,
    held: Held,
    turn: Option<Turn>,
) -> Response {
    let (head, body) = response.into_parts();
    let made = match workers {
        Some(workers) => {
            let permit = Arc::clone(workers).acquire_owned().await;
            off_thread(move || {
                let made = now(to_bytes(body, usize::MAX));
                drop((permit, turn));
                (made, held)
            })
            .await
        }
        None => Some((to_bytes(body, usize::MAX).await, held)),
    };
    let Some((Ok(octets), mut held)) = made else {
        return api::failed().into_response();
    };
    held.bytes.force(octets.len());
    let octets = Bytes::from_owner(Weighed {
        octets,
        _held: held,
    });
    let body = if head.headers.contains_key(header::CONTENT_ENCODING) {
        // Its length goes by what chance has put into a page, so that HEAD would tell another.
        Body::from_stream(stream::iter([Ok::<_, Infallible>(octets)]))
    } else {
        Body::from(octets)
    };
    Response::from_parts(head, body)
}

/// Does what takes long on a thread that nobody talks on; `None` where it panicked.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Completes what never waits for long, on a thread of [`off_thread`].
fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}

/// What an answer holds of the bounds, until its last octet has gone to the system.
#[derive(Debug)]
struct Held {
    bytes: Share,
    _under_way: Share,
}

/// The octets of an answer. hyper keeps them when it has finished with the body, so they themselves hold
/// what is to be given back.
struct Weighed {
    octets: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Weighed {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// A body that is made piece by piece on other threads, as its reader takes it.
struct Stream {
    state: Streaming,
    workers: Arc<Semaphore>,
    _held: Held,
}

enum Streaming {
    Waits(Body),
    Makes(BoxFuture<'static, Option<Made>>),
    Ended,
}

/// What is left of a body, and its next octets: none at its end.
type Made = (Body, Result<Bytes, axum::Error>);

impl Stream {
    /// `held` has [`STREAM_WEIGHT`] taken for it.
    fn new(body: Body, workers: Arc<Semaphore>, held: Held) -> Self {
        Stream {
            state: Streaming::Waits(body),
            workers,
            _held: held,
        }
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let stream = self.get_mut();
        loop {
            match std::mem::replace(&mut stream.state, Streaming::Ended) {
                Streaming::Waits(body) => {
                    let workers = Arc::clone(&stream.workers);
                    stream.state = Streaming::Makes(
                        async move {
                            let permit = workers.acquire_owned().await;
                            let made = move || {
                                let made = now(piece(body));
                                drop(permit);
                                made
                            };
                            off_thread(made).await
                        }
                        .boxed(),
                    );
                }
                Streaming::Makes(mut making) => {
                    let Poll::Ready(made) = making.as_mut().poll(cx) else {
                        stream.state = Streaming::Makes(making);
                        return Poll::Pending;
                    };
                    return Poll::Ready(match made {
                        Some((_, Ok(octets))) if octets.is_empty() => None,
                        Some((body, Ok(octets))) => {
                            stream.state = Streaming::Waits(body);
                            Some(Ok(Frame::data(octets)))
                        }
                        Some((_, Err(error))) => Some(Err(error)),
                        None => Some(Err(axum::Error::new("an answer could not be made"))),
                    });
                }
                Streaming::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// The next piece of a body.
async fn piece(mut body: Body) -> Made {
    let mut octets = Vec::new();
    while octets.len() < PIECE {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    octets.extend_from_slice(&data);
                }
            }
            Some(Err(error)) => return (body, Err(error)),
            None => break,
        }
    }
    (body, Ok(octets.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread::ThreadId;

    use axum::http::Request;

    use super::*;

    /// An answer of these pieces, and the threads that have made them.
    fn pieces(count: usize, bytes: usize) -> (Response, Arc<Mutex<Vec<ThreadId>>>) {
        let threads = Arc::new(Mutex::new(Vec::new()));
        let made_by = Arc::clone(&threads);
        let pieces = (0..count).map(move |_| {
            made_by.lock().unwrap().push(std::thread::current().id());
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes]))
        });
        let response = Response::new(Body::from_stream(stream::iter(pieces)));
        (response, threads)
    }

    fn held(bytes: &Arc<Quota>) -> Held {
        Held {
            bytes: bytes.take(None, 0).unwrap(),
            _under_way: Quota::new(0, 0).take(None, 1).unwrap(),
        }
    }

    fn brotli() -> Request<()> {
        let asked = Request::builder().header(header::ACCEPT_ENCODING, "br");
        asked.body(()).unwrap()
    }

    #[tokio::test]
    async fn large_answers_are_compressed_on_other_threads() {
        let quota = Quota::new(0, 0);
        let here = std::thread::current().id();
        for is_large in [true, false] {
            let (response, threads) = pieces(40, 1_000);
            let response = compress(brotli(), response).await;
            assert_eq!(response.headers()[header::CONTENT_ENCODING], "br");
            let workers = Arc::new(Semaphore::new(1));
            let response = whole(response, is_large.then_some(&workers), held(&quota), None).await;
            let octets = to_bytes(response.into_body(), usize::MAX).await;
            assert!(octets.unwrap().len() < 1_000);
            let threads = threads.lock().unwrap();
            assert_eq!(threads.len(), 40);
            assert!(threads.iter().all(|thread| (*thread != here) == is_large));
        }
        let (response, threads) = pieces(400, 1_000);
        let response = compress(brotli(), response).await;
        let stream = Stream::new(
            response.into_body(),
            Arc::new(Semaphore::new(1)),
            held(&quota),
        );
        to_bytes(Body::new(stream), usize::MAX).await.unwrap();
        let threads = threads.lock().unwrap();
        assert!(threads.len() == 400 && !threads.contains(&here));
    }

    #[tokio::test]
    async fn a_streamed_answer_is_made_as_it_is_taken_and_whole() {
        let quota = Quota::new(0, 0);
        let (response, threads) = pieces(1_000, 1_000);
        let workers = Arc::new(Semaphore::new(1));
        let mut stream = Stream::new(response.into_body(), workers, held(&quota));
        let mut next = async || {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_frame(cx)).await;
            frame.map(|frame| frame.unwrap().into_data().unwrap().len())
        };
        let first = next().await.unwrap();
        assert!((PIECE..2 * PIECE).contains(&first), "{first}");
        assert!(threads.lock().unwrap().len() < 100);
        let mut all = first;
        while let Some(more) = next().await {
            all += more;
        }
        assert_eq!(all, 1_000_000);
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn octets_weigh_until_the_last_of_them_has_gone() {
        let quota = Quota::new(1_000, 0);
        let (response, _) = pieces(1, 1_000);
        let response = whole(response, None, held(&quota), None).await;
        let mut octets = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        // The body is at its end; hyper holds a part of what it gave.
        drop(octets.split_to(990));
        assert!(quota.take(None, 0).is_err());
        drop(octets);
        assert!(quota.take(None, 0).is_ok());
        let (response, _) = pieces(1, 1);
        let stream = Stream::new(response.into_body(), Arc::new(Semaphore::new(1)), {
            let mut held = held(&quota);
            held.bytes.grow(STREAM_WEIGHT).unwrap();
            held
        });
        assert!(quota.take(None, 0).is_err());
        drop(stream);
        assert!(quota.take(None, 0).is_ok());
    }
}
