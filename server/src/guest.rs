//! Who a browser is: the guest's signed cookie, or the same words in `x-guest` where a browser keeps no
//! cookies (docs/wire.md, "Names").

use std::path::Path;

use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse as _;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};
use cookie::CookieJar;
use uuid::Uuid;

use crate::data_dir;

const COOKIE: &str = "sarangbang_guest";

/// Its name over https (RFC 6265bis, section 4.1.3): a browser takes it from this host alone. Without that
/// a neighbour under the same domain, or who can change what goes over http, could make its guest of
/// whoever visits, and so speak for them. Such a cookie is for all paths of the host: where the server
/// stands under one of them, that follows, as there may be another one beside it.
const HOST_COOKIE: &str = "__Host-sarangbang_guest";

/// Signs and reads guests' cookies.
#[derive(Clone)]
pub(crate) struct Guests {
    key: Key,
    /// The path under which the server stands.
    base: String,
    /// The cookie's name over https.
    host_cookie: String,
}

/// What a request says of its guest.
pub(crate) struct Visit {
    /// The guest of a valid cookie.
    pub(crate) known: Option<Uuid>,
    /// The guest to introduce by `Set-Cookie` where there is no valid cookie.
    pub(crate) new: Uuid,
}

/// Whose a connection is, as far as its handshake tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Visitor {
    /// The guest's of a valid cookie.
    Known(Uuid),
    /// A browser's that brought none: a new guest's.
    New(Uuid),
    /// No browser's.
    #[default]
    Program,
}

impl Visitor {
    /// The guest, if it is anybody's.
    pub(crate) fn guest(self) -> Option<Uuid> {
        match self {
            Visitor::Known(guest) | Visitor::New(guest) => Some(guest),
            Visitor::Program => None,
        }
    }
}

impl Guests {
    /// Reads the key in the data directory, or makes it; `base` is the path under which the server stands.
    pub(crate) fn open(data_dir: &Path, base: &str) -> std::io::Result<Self> {
        let path = data_dir.join(data_dir::COOKIE_KEY);
        let with = |key| Guests {
            key,
            base: base.to_owned(),
            // As `Set-Cookie` encodes it.
            host_cookie: [HOST_COOKIE, base.trim_end_matches('/')].concat(),
        };
        match std::fs::read(&path) {
            Ok(bytes) => match Key::try_from(bytes.as_slice()) {
                Ok(key) => Ok(with(key)),
                Err(_) => Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!(
                        "{} is not a cookie key of 64 bytes; restore or remove it",
                        path.display()
                    ),
                )),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Key::generate();
                data_dir::write(&path, key.master())?;
                Ok(with(key))
            }
            Err(error) => Err(error),
        }
    }

    /// The cookie's name, where the browser came by https, or not. Only that one is read.
    fn cookie_name(&self, is_secure: bool) -> &str {
        if is_secure { &self.host_cookie } else { COOKIE }
    }

    /// Reads the cookie of a request, which came by https, or not.
    pub(crate) fn visit(&self, headers: &HeaderMap, is_secure: bool) -> Visit {
        let jar = SignedCookieJar::from_headers(headers, self.key.clone());
        let known = jar
            .get(self.cookie_name(is_secure))
            .and_then(|cookie| Uuid::try_parse(cookie.value()).ok());
        Visit {
            known,
            new: Uuid::new_v4(),
        }
    }

    /// The `Set-Cookie` that introduces a guest.
    pub(crate) fn cookie(&self, guest: Uuid, is_secure: bool) -> HeaderValue {
        let name = self.cookie_name(is_secure).to_owned();
        let path = if is_secure { "/" } else { &self.base };
        let cookie = Cookie::build((name, guest.to_string()))
            .path(path.to_owned())
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(is_secure)
            .permanent()
            .build();
        let jar = SignedCookieJar::new(self.key.clone()).add(cookie);
        let response = jar.into_response();
        let set = response.headers().get(SET_COOKIE);
        set.expect("a cookie was added").clone()
    }

    /// The signed id of a guest: what their cookie holds, for who keeps it by other means.
    pub(crate) fn sign(&self, guest: Uuid) -> String {
        let mut jar = CookieJar::new();
        jar.signed_mut(&self.key).add((COOKIE, guest.to_string()));
        let signed = jar.get(COOKIE);
        signed.expect("it was added").value().to_owned()
    }

    /// Reads what [`Guests::sign`] gave; `None` when it is nothing such.
    pub(crate) fn read(&self, signed: &str) -> Option<Uuid> {
        let cookie = Cookie::new(COOKIE, signed.to_owned());
        let cookie = CookieJar::new().signed(&self.key).verify(cookie)?;
        Uuid::try_parse(cookie.value()).ok()
    }
}
