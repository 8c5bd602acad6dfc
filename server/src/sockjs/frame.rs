//! The page for frames: in one of the server's own origin a page of another origin has the transports
//! that go to one's own origin alone (SockJS 0.3.3, "Iframe page"). A script runs in it, so it says whose.

use std::hash::{DefaultHasher, Hasher as _};
use std::str::FromStr;

use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use url::Url;

use super::{Settings, cached};
use crate::assets::File;

/// Which sockjs-client the page loads.
#[derive(Clone, Debug)]
pub(crate) enum FrameClient {
    /// That of the page which embeds it, from here: `sockjs-{version}.js`.
    Own(&'static [File]),
    /// The one that the operator names.
    Named(ClientUrl),
}

/// The address of a sockjs-client, with the hash of what is to be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientUrl {
    /// Absolute, or a path on this host.
    url: String,
    /// What a `Content-Security-Policy` calls it.
    source: String,
    /// As the attribute `integrity` has it.
    integrity: Option<String>,
}

impl FromStr for ClientUrl {
    type Err = String;

    /// Reads `{url}#{integrity}`. On this host, where the URL is a path, the integrity may be left out.
    ///
    /// # Errors
    /// A sentence on what is no such address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, integrity) = match text.trim().split_once('#') {
            Some((address, integrity)) => (address, Some(integrity)),
            None => (text.trim(), None),
        };
        let is_path = address.starts_with('/') && !address.starts_with("//");
        let base = Url::parse("http://here").ok().filter(|_| is_path);
        let parsed = Url::options().base_url(base.as_ref()).parse(address);
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https");
        let Some(url) = parsed.ok().filter(is_web) else {
            return Err(format!(
                "`{text}` is no address of a script; give one such as {EXAMPLE}, or a path on this host"
            ));
        };
        if !integrity.is_none_or(is_integrity) {
            return Err(format!(
                "what follows # in `{text}` is no integrity; give one such as {EXAMPLE}"
            ));
        }
        if integrity.is_none() && !is_path {
            return Err(format!(
                "`{text}` is on another host, whose script would run here whatever it is: \
                 say which it must be, as in {EXAMPLE}"
            ));
        }
        // What divides a policy may not be in it.
        let escaped = |text: &str| text.replace(';', "%3B").replace(',', "%2C");
        let origin = url.origin().ascii_serialization();
        let query = url.query().map(|query| format!("?{query}"));
        Ok(ClientUrl {
            url: format!(
                "{}{}{}",
                if is_path { "" } else { &origin },
                url.path(),
                query.unwrap_or_default()
            ),
            source: match is_path {
                true => "'self'".to_owned(),
                false => escaped(&format!("{origin}{}", url.path())),
            },
            integrity: integrity.map(str::to_owned),
        })
    }
}

const EXAMPLE: &str = "https://cdn.example.org/sockjs-client@1.6.1/sockjs.min.js#sha384-…";

/// Whether it is a hash as Subresource Integrity, 3.5, has it.
fn is_integrity(text: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let (algorithm, hash) = text.split_once('-').unwrap_or_default();
    let chars = match algorithm {
        "sha256" => 44,
        "sha384" => 64,
        "sha512" => 88,
        _ => return false,
    };
    hash.len() == chars && hash.chars().all(is_base64)
}

impl ClientUrl {
    /// The attributes of a script that loads it.
    fn attributes(&self) -> String {
        let src = format!("src=\"{}\"", escape_attribute(&self.url));
        match &self.integrity {
            Some(hash) => format!("{src} integrity=\"{hash}\" crossorigin=\"anonymous\""),
            None => src,
        }
    }
}

impl FrameClient {
    /// The page for frames. `version` is that of the client which asks for it, where its path says so: those
    /// before 1.0 do.
    pub(super) fn page(&self, version: Option<&str>, settings: &Settings) -> Response {
        let (attributes, source) = match self {
            FrameClient::Own(files) => {
                let script = version.map(|version| format!("sockjs-{version}.js"));
                let is_known = |script: &String| files.iter().any(|file| file.name == script);
                let script = script.filter(is_known);
                let script = script.as_deref().unwrap_or(LOADER);
                (format!("src=\"{script}\""), "'self'")
            }
            FrameClient::Named(named) => (named.attributes(), named.source.as_str()),
        };
        let page = IFRAME.replace("{attributes}", &attributes);
        let policy = format!(
            "default-src 'none'; script-src {source} '{INLINE_HASH}'; connect-src 'self'; \
             frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}",
            settings.origins.sources()
        );
        let mut hasher = DefaultHasher::new();
        hasher.write(page.as_bytes());
        hasher.write(policy.as_bytes());
        let tag = format!("\"{:016x}\"", hasher.finish());
        let content_type = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
        let mut response = (content_type, page).into_response();
        let headers = response.headers_mut();
        cached(headers);
        for (name, value) in [
            (header::ETAG, tag),
            (header::CONTENT_SECURITY_POLICY, policy),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// A script that the page loads from here; `None` when there is no such.
    pub(super) fn script(&self, name: &str, asked: &HeaderMap) -> Option<Response> {
        let FrameClient::Own(files) = self else {
            return None;
        };
        if name == LOADER {
            // The page is cached for a year, and this may change before.
            let mut hasher = DefaultHasher::new();
            hasher.write(LOADER_SCRIPT.as_bytes());
            let headers = [
                (
                    header::CONTENT_TYPE,
                    "text/javascript; charset=utf-8".to_owned(),
                ),
                (header::CACHE_CONTROL, "no-cache".to_owned()),
                (header::ETAG, format!("\"{:016x}\"", hasher.finish())),
            ];
            return Some((headers, LOADER_SCRIPT).into_response());
        }
        let file = files.iter().find(|file| file.name == name)?;
        let mut response = file.answer(asked, name);
        cached(response.headers_mut());
        Some(response)
    }
}

fn escape_attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

/// What finds out which sockjs-client to load.
const LOADER: &str = "sockjs.js";
const LOADER_SCRIPT: &str = include_str!("frame.js");

/// The page, as the protocol has it.
pub(super) const IFRAME: &str = r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script>
    document.domain = document.domain;
    _sockjs_onload = function(){SockJS.bootstrap_iframe();};
  </script>
  <script {attributes}></script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"#;

/// The script that stands in the page, as its policy names it.
const INLINE_HASH: &str = "sha256-jUnPHLZyjq+9Z9HFM1Hc23fEo3zUJ8Fu4xXvZgcyb1Q=";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_the_script_that_stands_in_the_page() {
        let script = IFRAME.split("<script>").nth(1).unwrap();
        let script = script.split("</script>").next().unwrap();
        let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
        assert_eq!(INLINE_HASH, format!("sha256-{hash}"));
    }

    #[test]
    fn a_client_of_another_host_has_an_integrity() {
        let hash = format!("sha384-{}", "A".repeat(64));
        for (address, url, source) in [
            (
                "https://cdn.example/a.js",
                "https://cdn.example/a.js",
                "https://cdn.example/a.js",
            ),
            (
                "https://CDN.example:8443/a;b,c.js?d=\"&e",
                "https://cdn.example:8443/a;b,c.js?d=%22&e",
                "https://cdn.example:8443/a%3Bb%2Cc.js",
            ),
            ("/static/a.js?v=1", "/static/a.js?v=1", "'self'"),
        ] {
            let read: ClientUrl = format!(" {address}#{hash} ").parse().unwrap();
            assert_eq!((&*read.url, &*read.source), (url, source));
            assert_eq!(read.integrity.as_deref(), Some(&*hash));
            let bare = address.parse::<ClientUrl>();
            assert_eq!(bare.is_ok(), address.starts_with('/'), "{address}");
        }
        for broken in [
            "",
            "sockjs.js",
            "//cdn.example/a.js",
            "javascript:alert(1)",
            "data:text/javascript,1",
            "https://cdn.example/a.js#",
            "https://cdn.example/a.js#sha384-x",
            "https://cdn.example/a.js#md5-AAAA",
            "/a.js#\"><script>",
        ] {
            assert!(broken.parse::<ClientUrl>().is_err(), "{broken}");
        }
        let unchecked = "https://cdn.example/a.js".parse::<ClientUrl>();
        assert!(unchecked.unwrap_err().contains("#sha384-"));
    }
}
