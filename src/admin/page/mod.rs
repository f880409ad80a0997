//! The page for people: its files, as they are in the binary. They hold no data and need no token: whoever opens the page
//! gives it the token. Nothing that a browser runs comes from anywhere else. What each part of the page does is told at the
//! head of its file.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_SECURITY_POLICY;

/// Nothing but what is served here runs or is shown, and no text becomes code or markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
struct File {
    /// Where it is served.
    path: &'static str,
    /// Its media type.
    kind: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal $kind:ident $name:literal)*) => {
        &[$(File { path: $path, kind: $kind, content: include_bytes!($name) }),*]
    };
}

/// Every file.
const FILES: &[File] = files! {
    "/page/api.js" SCRIPT "api.js"
    "/page/body.js" SCRIPT "body.js"
    "/page/choosing.js" SCRIPT "choosing.js"
    "/page/dialog.js" SCRIPT "dialog.js"
    "/page/dom.js" SCRIPT "dom.js"
    "/page/event.js" SCRIPT "event.js"
    "/page/events.js" SCRIPT "events.js"
    "/page/filters.js" SCRIPT "filters.js"
    "/page/format.js" SCRIPT "format.js"
    "/page/icon.svg" SVG "icon.svg"
    "/" HTML "index.html"
    "/page/json.js" SCRIPT "json.js"
    "/page/letters.js" SCRIPT "letters.js"
    "/page/main.js" SCRIPT "main.js"
    "/page/mask.js" SCRIPT "mask.js"
    "/page/messages.js" SCRIPT "messages.js"
    "/page/overview.js" SCRIPT "overview.js"
    "/page/parked.js" SCRIPT "parked.js"
    "/page/parts.js" SCRIPT "parts.js"
    "/page/plan.js" SCRIPT "plan.js"
    "/page/poll.js" SCRIPT "poll.js"
    "/page/quarantine.js" SCRIPT "quarantine.js"
    "/page/record.js" SCRIPT "record.js"
    "/page/replays.js" SCRIPT "replays.js"
    "/page/signin.js" SCRIPT "signin.js"
    "/page/sinks.js" SCRIPT "sinks.js"
    "/page/sources.js" SCRIPT "sources.js"
    "/page/style.css" CSS "style.css"
    "/page/time.js" SCRIPT "time.js"
    "/page/who.js" SCRIPT "who.js"
};

/// The file at this path of the listener, if it is one of the page's.
pub(super) fn file(path: &str) -> Option<HttpResponse> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let mut response = HttpResponse::Ok();
    response.content_type(file.kind).insert_header((CONTENT_SECURITY_POLICY, POLICY));
    Some(response.body(file.content))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A limit on scripts as on Rust files.
    const MAX_LINES: usize = 500;

    /// What would bring code, style or anything else from outside, or would read text as HTML.
    const FORBIDDEN: [&str; 10] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "style=",
        "https://",
        "javascript:",
    ];

    #[test]
    fn every_file_of_the_folder_is_served_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut there: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let name = |file: &File| match file.path {
            "/" => "index.html".to_owned(),
            path => path.strip_prefix("/page/").unwrap().to_owned(),
        };
        there.retain(|name| name != "mod.rs");
        let mut served: Vec<_> = FILES.iter().map(name).collect();
        there.sort_unstable();
        served.sort_unstable();
        assert_eq!(there, served);
        assert!(file("/page/main.js").is_some() && file("/page/nothing.js").is_none());
    }

    #[test]
    fn files_are_short_and_bring_nothing_from_outside() {
        for file in FILES {
            let text = std::str::from_utf8(file.content).unwrap();
            assert!(text.lines().count() < MAX_LINES, "{} is too long: split it", file.path);
            for forbidden in FORBIDDEN {
                assert!(!text.contains(forbidden), "{} holds {forbidden}", file.path);
            }
            // Modules and styles that are asked for are served.
            for (_, rest) in text.match_indices("from './").map(|(at, found)| (at, &text[at + found.len()..])) {
                let name = rest.split('\'').next().unwrap();
                assert!(super::file(&format!("/page/{name}")).is_some(), "{} asks for {name}", file.path);
            }
        }
    }
}
