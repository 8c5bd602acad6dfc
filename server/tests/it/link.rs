//! A stream of STOMP's octets over each transport, from the client's side.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::exchange::Exchange;

/// What carries STOMP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    /// `/ws/chat`
    WebSocket,
    /// `/ws/chat/{server}/{session}/websocket`
    SockJsWebSocket,
    Xhr,
    XhrStreaming,
    EventSource,
    HtmlFile,
    Jsonp,
}

/// Makes a test over each transport of a function that takes one.
macro_rules! over_each_transport {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::link::Carrier;

            $crate::link::over!($name: websocket WebSocket, sockjs_websocket SockJsWebSocket);
            $crate::link::over!($name: xhr Xhr, xhr_streaming XhrStreaming);
            $crate::link::over!($name: eventsource EventSource, htmlfile HtmlFile, jsonp Jsonp);
        }
    )+};
}
macro_rules! over {
    ($name:ident: $($transport:ident $carrier:ident),+) => {$(
        #[tokio::test]
        async fn $transport() {
            super::$name(Carrier::$carrier).await;
        }
    )+};
}
pub(crate) use {over, over_each_transport};

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Ended {
    fn without_code(reason: impl ToString) -> Self {
        Ended {
            code: None,
            reason: reason.to_string(),
        }
    }
}

/// One connection.
pub(crate) enum Link {
    WebSocket {
        socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>,
        /// Reads SockJS's frames; else each message is a payload.
        frames: Option<Frames>,
    },
    Requests(Box<Requests>),
}

/// What came in SockJS's frames.
#[derive(Default)]
pub(crate) struct Frames {
    inbound: VecDeque<String>,
    ended: Option<Ended>,
}

/// A SockJS session made of requests.
pub(crate) struct Requests {
    carrier: Carrier,
    address: SocketAddr,
    /// The path of its session.
    path: String,
    headers: Vec<(String, String)>,
    receiver: Option<Exchange>,
    frames: Frames,
}

impl Frames {
    fn read(&mut self, frame: &str) {
        use shared::sockjs::Frame;
        match Frame::read(frame).unwrap_or_else(|| panic!("no frame: {frame}")) {
            Frame::Open | Frame::HeartBeat => {}
            Frame::Messages(array) => {
                let messages: Vec<String> = serde_json::from_str(array).unwrap();
                self.inbound.extend(messages);
            }
            Frame::Close(array) => {
                let (code, reason) = serde_json::from_str(array).unwrap();
                self.ended = Some(Ended {
                    code: Some(code),
                    reason,
                });
            }
        }
    }

    fn take(&mut self) -> Option<Result<Bytes, Ended>> {
        if let Some(message) = self.inbound.pop_front() {
            return Some(Ok(message.into()));
        }
        self.ended.clone().map(Err)
    }
}

impl Link {
    /// Opens one with these headers in each request.
    pub(crate) async fn open(
        carrier: Carrier,
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Ended> {
        let path = format!("/ws/chat/000/{}", uuid::Uuid::new_v4());
        let path = match carrier {
            Carrier::WebSocket => "/ws/chat".to_owned(),
            Carrier::SockJsWebSocket => format!("{path}/websocket"),
            _ => {
                let owned = headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                let mut requests = Requests {
                    carrier,
                    address,
                    path,
                    headers: owned.collect(),
                    receiver: None,
                    frames: Frames::default(),
                };
                // Until `o` has come there is no session to send to.
                requests.receive().await?;
                return Ok(Link::Requests(Box::new(requests)));
            }
        };
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let opened = tokio_tungstenite::connect_async(request).await;
        let (socket, _) = opened.map_err(Ended::without_code)?;
        Ok(Link::WebSocket {
            socket: Box::new(socket),
            frames: (carrier == Carrier::SockJsWebSocket).then(Frames::default),
        })
    }

    pub(crate) async fn send(&mut self, text: &str) -> Result<(), Ended> {
        match self {
            Link::WebSocket { socket, frames } => {
                let text = match frames {
                    Some(_) => serde_json::to_string(&[text]).unwrap(),
                    None => text.to_owned(),
                };
                socket
                    .send(Message::text(text))
                    .await
                    .map_err(Ended::without_code)
            }
            Link::Requests(requests) => requests.send(text).await,
        }
    }

    /// Sends what need not be text, as WebSocket alone can.
    pub(crate) async fn send_binary(&mut self, octets: Vec<u8>) -> Result<(), Ended> {
        let Link::WebSocket { socket, .. } = self else {
            panic!("SockJS carries text alone");
        };
        let sent = socket.send(Message::binary(octets)).await;
        sent.map_err(Ended::without_code)
    }

    /// The next payload, or the end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Ended> {
        loop {
            match self {
                Link::WebSocket { socket, frames } => {
                    if let Some(found) = frames.as_mut().and_then(Frames::take) {
                        return found;
                    }
                    let octets = match socket.next().await {
                        Some(Ok(Message::Text(text))) => Bytes::from(text),
                        Some(Ok(Message::Binary(octets))) => octets,
                        Some(Ok(Message::Close(close))) => {
                            // Lets the library answer the close.
                            drop(socket.next().await);
                            return Err(close.map_or_else(
                                || Ended::without_code(""),
                                |close| Ended {
                                    code: Some(close.code.into()),
                                    reason: close.reason.to_string(),
                                },
                            ));
                        }
                        Some(Ok(_)) => continue,
                        Some(Err(Error::Utf8(error))) => panic!("{error}"),
                        Some(Err(_)) | None => return Err(Ended::without_code("")),
                    };
                    match frames {
                        Some(frames) => frames.read(std::str::from_utf8(&octets).unwrap()),
                        None => return Ok(octets),
                    }
                }
                Link::Requests(requests) => {
                    if let Some(found) = requests.frames.take() {
                        return found;
                    }
                    requests.receive().await?;
                }
            }
        }
    }
}

impl Requests {
    async fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&str>,
    ) -> Result<Exchange, Ended> {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        headers.push(("content-type", kind));
        headers.push(("connection", "close"));
        let path = format!("{}{path}", self.path);
        let begun = Exchange::begin_with("HTTP/1.1", self.address, method, &path, &headers, body);
        begun.await.map_err(Ended::without_code)
    }

    async fn send(&self, text: &str) -> Result<(), Ended> {
        let array = serde_json::to_string(&[text]).unwrap();
        let answer = if self.carrier == Carrier::Jsonp {
            let form: String = array.bytes().map(|octet| format!("%{octet:02x}")).collect();
            let kind = "application/x-www-form-urlencoded";
            let form = format!("d={form}");
            self.request("POST", "/jsonp_send", kind, Some(&form))
                .await?
        } else {
            self.request("POST", "/xhr_send", "text/plain", Some(&array))
                .await?
        };
        if matches!(answer.status, 200 | 204) {
            Ok(())
        } else {
            Err(Ended::without_code(answer.status))
        }
    }

    /// Reads one piece of the receiver, which it opens where none is.
    async fn receive(&mut self) -> Result<(), Ended> {
        if self.receiver.is_none() {
            let (method, path, body) = match self.carrier {
                Carrier::Xhr => ("POST", "/xhr", Some("")),
                Carrier::XhrStreaming => ("POST", "/xhr_streaming", Some("")),
                Carrier::EventSource => ("GET", "/eventsource", None),
                Carrier::HtmlFile => ("GET", "/htmlfile?c=callback", None),
                _ => ("GET", "/jsonp?c=callback", None),
            };
            let receiver = self.request(method, path, "text/plain", body).await?;
            if receiver.status != 200 {
                return Err(Ended::without_code(receiver.status));
            }
            self.receiver = Some(receiver);
        }
        let Some(receiver) = &mut self.receiver else {
            return Ok(());
        };
        let piece = receiver.try_piece().await.map_err(Ended::without_code)?;
        let Some(piece) = piece else {
            self.receiver = None;
            return Ok(());
        };
        let piece = String::from_utf8(piece).unwrap();
        if let Some(frame) = frame_of(self.carrier, &piece) {
            self.frames.read(&frame);
        }
        Ok(())
    }

    /// The path of its session.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Cuts the open receiver off.
    pub(crate) fn cut(&mut self) {
        self.receiver = None;
    }

    /// How a closed session answers one more receiver.
    pub(crate) async fn ended_anew(&mut self) -> Result<Ended, Ended> {
        self.receiver = None;
        self.frames.ended = None;
        loop {
            if let Some(found) = self.frames.take() {
                return Ok(found.expect_err("the end, not a message"));
            }
            self.receive().await?;
        }
    }
}

/// The frame in a piece of a receiver's body; none in what comes before the first.
fn frame_of(carrier: Carrier, piece: &str) -> Option<String> {
    let unquote = |string: &str| serde_json::from_str(string).unwrap();
    match carrier {
        Carrier::Xhr => piece.strip_suffix('\n').map(str::to_owned),
        Carrier::XhrStreaming if piece.starts_with("hh") => None,
        Carrier::XhrStreaming => piece.strip_suffix('\n').map(str::to_owned),
        Carrier::EventSource => {
            let frame = piece.strip_prefix("data: ")?;
            Some(frame.trim_end_matches("\r\n").to_owned())
        }
        Carrier::HtmlFile => {
            let call = piece.strip_prefix("<script>\np(")?;
            call.strip_suffix(");\n</script>\r\n").map(unquote)
        }
        _ => {
            let call = piece.strip_prefix("/**/callback(")?;
            call.strip_suffix(");\r\n").map(unquote)
        }
    }
}
