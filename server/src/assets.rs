//! placeholder
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
pub(crate) fn package_dir() -> &'static str {
    "pkg"
}
pub(crate) async fn serve(_uri: Uri, _headers: HeaderMap) -> Response {
    StatusCode::NOT_FOUND.into_response()
}
