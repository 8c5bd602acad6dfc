//! Who a browser is: the guest's signed cookie (contract, section 3).

use std::path::Path;

use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse as _;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};
use uuid::Uuid;

use crate::data_dir;

const COOKIE: &str = "sarangbang_guest";

/// Signs and reads guests' cookies.
#[derive(Clone)]
pub(crate) struct Guests {
    key: Key,
}

/// What a request says of its guest.
pub(crate) struct Visit {
    /// The guest of a valid cookie.
    pub(crate) known: Option<Uuid>,
    /// The guest to introduce by `Set-Cookie` where there is no valid cookie.
    pub(crate) new: Uuid,
}

impl Guests {
    /// Reads the key in the data directory, or makes it.
    pub(crate) fn open(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(data_dir::COOKIE_KEY);
        match std::fs::read(&path) {
            Ok(bytes) => match Key::try_from(bytes.as_slice()) {
                Ok(key) => Ok(Guests { key }),
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
                Ok(Guests { key })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the cookie of a request.
    pub(crate) fn visit(&self, headers: &HeaderMap) -> Visit {
        let jar = SignedCookieJar::from_headers(headers, self.key.clone());
        let known = jar
            .get(COOKIE)
            .and_then(|cookie| Uuid::try_parse(cookie.value()).ok());
        Visit {
            known,
            new: Uuid::new_v4(),
        }
    }

    /// The `Set-Cookie` that introduces a guest.
    pub(crate) fn cookie(&self, guest: Uuid, secure: bool) -> HeaderValue {
        let cookie = Cookie::build((COOKIE, guest.to_string()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(secure)
            .permanent()
            .build();
        let jar = SignedCookieJar::new(self.key.clone()).add(cookie);
        let response = jar.into_response();
        let set = response.headers().get(SET_COOKIE);
        set.expect("a cookie was added").clone()
    }
}
