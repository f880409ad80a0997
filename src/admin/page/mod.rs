//! The files of the page. They hold no data and need no token: whoever opens the page gives it the token.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_SECURITY_POLICY;

/// Nothing but what is served here runs or is shown.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file of the page.
struct File {
    /// Where it is served.
    path: &'static str,
    /// Its media type.
    kind: &'static str,
    content: &'static [u8],
}

const FILES: [File; 1] = [File { path: "/", kind: "text/html; charset=utf-8", content: include_bytes!("index.html") }];

/// The file at this path of the listener, if it is one of the page's.
pub(super) fn file(path: &str) -> Option<HttpResponse> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let mut response = HttpResponse::Ok();
    response.content_type(file.kind).insert_header((CONTENT_SECURITY_POLICY, POLICY));
    Some(response.body(file.content))
}
