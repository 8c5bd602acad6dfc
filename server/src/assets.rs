//! The web client's package, inside the binary: wasm, script and style, compressed beforehand; and the
//! sockjs-clients for frames.

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

include!(concat!(env!("OUT_DIR"), "/package.rs"));

/// One file in its three forms.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) plain: &'static [u8],
    pub(crate) brotli: &'static [u8],
    pub(crate) gzip: &'static [u8],
}

impl File {
    /// Answers with the form that the request takes. `tag` is another wherever the content is.
    pub(crate) fn answer(&self, asked: &HeaderMap, tag: &str) -> Response {
        let (bytes, encoding) = match negotiate(asked) {
            Encoding::Brotli => (self.brotli, Some("br")),
            Encoding::Gzip => (self.gzip, Some("gzip")),
            Encoding::Identity => (self.plain, None),
        };
        let mut response = bytes.into_response();
        let answer = response.headers_mut();
        let mut set = |name, value| answer.insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, content_type(self.name));
        set(header::VARY, "accept-encoding");
        if let Some(encoding) = encoding {
            set(header::CONTENT_ENCODING, encoding);
        }
        // Each form has a tag of its own.
        let tag = format!("\"{tag}-{}\"", encoding.unwrap_or("plain"));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            answer.insert(header::ETAG, tag);
        }
        response
    }
}

/// Whether the server was built with the web client.
pub(crate) fn is_built_in() -> bool {
    !FILES.is_empty()
}

/// The package's folder in a path; its name holds a hash of all that is in it.
pub(crate) fn package_dir() -> &'static str {
    PACKAGE_DIR
}

/// Answers `GET /{package_dir}/{file}`, to be kept for good.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let name = uri
        .path()
        .trim_start_matches('/')
        .trim_start_matches(PACKAGE_DIR);
    let Some(file) = FILES
        .iter()
        .find(|file| file.name == name.trim_start_matches('/'))
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // The folder's name holds the hash of all that is in it.
    let mut response = file.answer(&headers, PACKAGE_DIR);
    let control = HeaderValue::from_static("public, max-age=31536000, immutable");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, control);
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("wasm") => "application/wasm",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    Brotli,
    Gzip,
    Identity,
}

/// Chooses the smallest form that `Accept-Encoding` allows (RFC 9110, section 12.5.3).
fn negotiate(headers: &HeaderMap) -> Encoding {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let text: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let accepts = |coding: &str| {
        let quality = |wanted: &str| {
            text.iter()
                .flat_map(|value| value.split(','))
                .find_map(|item| {
                    let mut parts = item.split(';').map(str::trim);
                    let named = parts.next()?.eq_ignore_ascii_case(wanted);
                    let zero = parts.any(|part| {
                        part.strip_prefix("q=")
                            .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
                    });
                    named.then_some(!zero)
                })
        };
        quality(coding).or_else(|| quality("*")).unwrap_or(false)
    };
    if accepts("br") {
        Encoding::Brotli
    } else if accepts("gzip") {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_form_that_is_accepted_is_chosen() {
        for (accept, expected) in [
            (None, Encoding::Identity),
            (Some("gzip, deflate, br, zstd"), Encoding::Brotli),
            (Some("gzip;q=1.0, br;q=0"), Encoding::Gzip),
            (Some("br;q=0.1"), Encoding::Brotli),
            (Some("*"), Encoding::Brotli),
            (Some("identity"), Encoding::Identity),
            (Some("GZIP"), Encoding::Gzip),
            (Some("*;q=0"), Encoding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
            }
            assert_eq!(negotiate(&headers), expected, "{accept:?}");
        }
    }
}
