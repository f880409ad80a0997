//! Holds what one crate cannot hold by itself: who may import whom, which crate is used where, how long files and
//! functions get, and words that have no place here. Every complaint says what to do about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod tidy_source;
use tidy_source::{Source, words};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// What a room may import.
enum May {
    /// These, and what everyone may.
    Only(&'static [&'static str]),
    /// Nothing at all.
    Nothing,
    /// Whatever it needs: wiring.
    Anything,
}

/// The import table of `src/ARCHITECTURE.md`.
const ROOMS: [(&str, May); 21] = [
    ("model", May::Nothing),
    ("clock", May::Only(&[])),
    ("files", May::Only(&[])),
    ("metrics", May::Only(&[])),
    ("throttle", May::Only(&[])),
    ("verify", May::Only(&[])),
    ("inbox", May::Only(&["verify"])),
    ("listener", May::Only(&[])),
    ("ingest", May::Only(&["verify", "inbox", "listener"])),
    ("route", May::Only(&[])),
    ("sink", May::Only(&[])),
    ("consume", May::Only(&["inbox", "route", "sink"])),
    ("jobs", May::Only(&["consume", "inbox", "sink", "verify"])),
    ("provider", May::Only(&["inbox", "verify"])),
    ("records", May::Only(&["inbox", "provider", "route"])),
    ("admin", May::Only(&["consume", "inbox", "listener", "provider", "records", "route"])),
    ("config", May::Only(&["admin", "consume", "inbox", "ingest", "provider", "route", "sink", "verify"])),
    ("app", May::Anything),
    ("lifecycle", May::Anything),
    ("cli", May::Anything),
    ("main", May::Anything),
];

/// Importable by every room but `model`.
const FOR_ALL: [&str; 5] = ["clock", "files", "metrics", "model", "throttle"];

/// Crates (or modules of crates) that have one place, as prefixes of paths.
const PLACES: [(&str, &[&str]); 11] = [
    ("rusqlite", &["src/inbox/sqlite"]),
    ("rusqlite_migration", &["src/inbox/sqlite"]),
    ("lapin", &["src/sink/amqp"]),
    ("actix_web", &["src/ingest", "src/admin", "src/listener"]),
    ("actix_http", &["src/ingest", "src/admin", "src/listener"]),
    ("actix_server", &["src/ingest", "src/admin", "src/listener"]),
    ("actix_service", &["src/ingest", "src/admin", "src/listener"]),
    ("cel", &["src/route"]),
    ("clap", &["src/cli"]),
    ("indicatif", &["src/cli"]),
    ("comfy_table", &["src/cli"]),
];

/// Words that have no place in code: the word, where it is fine all the same, and what to do instead.
const FORBIDDEN: [(&str, &[&str], &str); 13] = [
    ("todo!", &[], "write it, or open an issue and leave no trace here"),
    ("unimplemented!", &[], "write it, or make the type rule it out"),
    ("dbg!", &[], "use tracing, or a test"),
    ("unsafe", &[], "find a safe way: the crate forbids it"),
    (
        "#[ignore",
        &["tests/it/faults", "tests/it/hostile"],
        "make the test quick and sure enough to run always, or delete it",
    ),
    ("#[allow(", &[], "mend what the lint says, or use #[expect(.., reason = \"..\")]"),
    ("#![allow(", &[], "mend what the lint says, or use #![expect(.., reason = \"..\")]"),
    ("tokio::spawn(", &[], "use a TaskTracker or a JoinSet, so that somebody waits for the task"),
    ("thread::sleep", &[], "wait for what you are waiting for: a channel with a timeout, a condition"),
    (
        "println!",
        &["src/cli", "src/sink/stdout", "build.rs", "tests/it/harness/campaign"],
        "results are printed in cli/; everything else logs",
    ),
    ("eprintln!", &["src/cli", "src/consume/simulation", "tests"], "log it with tracing: standard error is the log"),
    ("print!", &["src/cli", "src/sink/stdout"], "results are printed in cli/; everything else logs"),
    ("tokio::signal", &["src/lifecycle", "src/cli"], "signals have one owner: take a CancellationToken from lifecycle"),
];

/// Words that have no place even in comments. Put together here so that this file may hold them.
const MARKERS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

#[test]
fn the_sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(root);
    assert!(files.iter().any(|f| f.path == "src/lib.rs"), "no sources found under {}", root.display());
    let mut problems: Vec<String> = files.iter().flat_map(problems).collect();
    problems.extend(room_problems(&files, &read(&root.join("src/ARCHITECTURE.md"))));
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// Every Rust file of the crate, test-only modules marked as such.
fn rust_files(root: &Path) -> Vec<Source> {
    let mut paths = vec![root.join("build.rs")];
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display())) {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).expect("it was found there").to_string_lossy().into_owned();
    let mut files: Vec<Source> = paths.iter().map(|path| Source::new(&name(path), &read(path))).collect();
    let test_modules: BTreeSet<String> = files.iter().flat_map(Source::test_modules).collect();
    for file in &mut files {
        if test_modules.iter().any(|m| file.path == format!("{m}.rs") || file.path.starts_with(&format!("{m}/"))) {
            file.all_is_test();
        }
    }
    files
}

fn problems(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    length_problems(file, &mut found);
    word_problems(file, &mut found);
    if file.is_product() {
        place_problems(file, &mut found);
        import_problems(file, &mut found);
        if !file.raw.starts_with("//!") && file.path != "src/lib.rs" {
            found.push(format!("{}:1: no `//!` line: say in one sentence what the file holds", file.path));
        }
    }
    found
}

fn length_problems(file: &Source, found: &mut Vec<String>) {
    let lines = file.raw.lines().count();
    if lines > MAX_FILE_LINES {
        found.push(format!(
            "{}: {lines} lines, {MAX_FILE_LINES} are the limit: split it along its nouns, or move its tests to tests.rs",
            file.path
        ));
    }
    for function in file.functions() {
        if function.lines > MAX_FUNCTION_LINES {
            found.push(format!(
                "{}:{}: fn {} has {} lines, {MAX_FUNCTION_LINES} are the limit: name its steps",
                file.path, function.line, function.name, function.lines
            ));
        }
    }
}

fn word_problems(file: &Source, found: &mut Vec<String>) {
    for (word, fine_in, instead) in FORBIDDEN {
        if fine_in.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for line in file.lines_with(&file.blanked, word) {
            found.push(format!("{}:{line}: `{word}`: {instead}", file.path));
        }
    }
    for marker in MARKERS {
        for line in file.lines_with(&file.raw, marker) {
            found.push(format!("{}:{line}: `{marker}`: do it, or open an issue", file.path));
        }
    }
    for line in file.lines_with(&file.tests, "sleep(") {
        if file.line(line).contains("Duration::from_") {
            found.push(format!("{}:{line}: a fixed sleep in a test: wait for a condition", file.path));
        }
    }
}

fn place_problems(file: &Source, found: &mut Vec<String>) {
    for (name, places) in PLACES {
        if places.iter().any(|place| file.path.starts_with(place)) || file.path == "src/main.rs" {
            continue;
        }
        for line in file.lines_with(&file.code, name) {
            found.push(format!("{}:{line}: `{name}` belongs in {} only: hide it there", file.path, places.join(", ")));
        }
    }
}

fn import_problems(file: &Source, found: &mut Vec<String>) {
    let Some(room) = file.room() else { return };
    let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else { return };
    for (line, import) in file.imports() {
        let fine = import == room
            || match may {
                May::Anything => true,
                May::Nothing => false,
                May::Only(rooms) => FOR_ALL.contains(&import.as_str()) || rooms.contains(&import.as_str()),
            };
        // A name that is no room is an item of the crate's root, such as a macro.
        if !fine && ROOMS.iter().any(|(name, _)| *name == import) {
            found.push(format!(
                "{}:{line}: {room} may not import {import}: turn the dependency round, pass a value in, or move the \
                 code to the room that may (table in src/ARCHITECTURE.md)",
                file.path
            ));
        }
    }
}

/// Every room is in the table and in the architecture's text.
fn room_problems(files: &[Source], architecture: &str) -> Vec<String> {
    let rooms: BTreeSet<&str> = files.iter().filter(|f| f.is_product()).filter_map(Source::room).collect();
    let mut found = Vec::new();
    for room in rooms {
        if !ROOMS.iter().any(|(name, _)| *name == room) {
            found
                .push(format!("src/{room}: an unknown room: add it to ROOMS in tests/tidy.rs with what it may import"));
        }
        let (folder, file) = (format!("`{room}/`"), format!("`{room}.rs`"));
        if room != "main" && !architecture.contains(&folder) && !architecture.contains(&file) {
            found.push(format!("src/{room}: not in src/ARCHITECTURE.md: say there what it holds and may import"));
        }
    }
    found
}

mod the_checker_can_fail {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        problems(&Source::new(path, &format!("//! Doc.\n{text}")))
    }

    #[track_caller]
    fn complains(path: &str, text: &str, about: &str) {
        let found = complaints(path, text);
        assert!(found.len() == 1 && found[0].contains(about), "wanted one about `{about}`, got {found:#?}");
    }

    #[track_caller]
    fn is_silent(path: &str, text: &str) {
        assert_eq!(complaints(path, text), Vec::<String>::new());
    }

    #[test]
    fn about_imports() {
        complains("src/sink/http.rs", "use crate::inbox::Inbox;", "sink may not import inbox");
        complains("src/verify/mod.rs", "use crate::{clock, ingest::Config};", "verify may not import ingest");
        complains("src/route/mod.rs", "use super::consume;", "route may not import consume");
        complains("src/inbox/sqlite/reader.rs", "use super::super::super::route::Glob;", "inbox may not import route");
        complains("src/model/ids.rs", "fn f(m: &crate::metrics::Metrics) {}", "model may not import metrics");
        complains("src/inbox/mod.rs", "use ralio_relay::sink::Sink;", "inbox may not import sink");
        is_silent("src/inbox/mod.rs", "use crate::model::Seq;\nuse crate::verify::Verified;\nuse super::clock;");
        is_silent("src/inbox/sqlite/writer.rs", "use super::super::Config;\nuse crate::inbox::Attempt;");
        is_silent("src/app.rs", "use crate::{sink, inbox, ingest::Config};");
    }

    #[test]
    fn about_imports_but_not_in_tests_comments_and_texts() {
        is_silent("src/sink/http.rs", "#[cfg(test)]\nmod tests {\n    use crate::inbox::Inbox;\n}");
        is_silent("src/sink/http.rs", "// use crate::inbox;\n/* use crate::inbox; */");
        is_silent("src/sink/http.rs", "const A: &str = \"use crate::inbox;\";\nconst B: char = '\"';");
        is_silent("src/sink/http.rs", "const A: &str = r#\"\" crate::inbox\"#;\nfn f<'a>(x: &'a str) {}");
        complains(
            "src/sink/http.rs",
            "#[cfg(test)]\nmod tests {\n}\nuse crate::inbox::Inbox;",
            "sink may not import inbox",
        );
    }

    #[test]
    fn about_crates_out_of_place() {
        complains("src/consume/mod.rs", "use rusqlite::Connection;", "`rusqlite` belongs in src/inbox/sqlite");
        complains("src/inbox/mod.rs", "type C = rusqlite::Connection;", "`rusqlite` belongs in");
        complains("src/sink/http.rs", "use lapin::Channel;", "`lapin` belongs in");
        complains("src/app.rs", "use actix_web::App;", "`actix_web` belongs in");
        complains("src/config/mod.rs", "#[derive(clap::Args)]\nstruct A;", "`clap` belongs in");
        is_silent("src/sink/amqp/topology.rs", "use lapin::Channel;");
        is_silent("src/consume/mod.rs", "fn clapped() {}");
    }

    #[test]
    fn about_lengths() {
        let long_function = format!("fn long() {{\n{}}}", "    step();\n".repeat(MAX_FUNCTION_LINES - 1));
        complains("src/app.rs", &long_function, "fn long has 71 lines");
        let fine_function = format!("fn fine() {{\n{}}}", "    step();\n".repeat(MAX_FUNCTION_LINES - 2));
        is_silent("src/app.rs", &fine_function);
        complains("src/app.rs", &"\n".repeat(MAX_FILE_LINES), "501 lines");
        complains("tests/it/dev.rs", &"\n".repeat(MAX_FILE_LINES), "501 lines");
    }

    #[test]
    fn about_words() {
        for (word, _, _) in FORBIDDEN {
            complains("src/app.rs", &format!("fn f() {{ {word}) }}"), word);
            is_silent("src/app.rs", &format!("const WORD: &str = \"{word}\"; // {word}"));
        }
        for marker in MARKERS {
            complains("src/app.rs", &format!("// {marker}: later"), marker);
        }
        complains("tests/it/dev.rs", "fn f() { tokio::time::sleep(Duration::from_secs(1)).await; }", "fixed sleep");
        complains(
            "src/app.rs",
            "#[cfg(test)]\nmod tests {\n    fn f() { sleep(Duration::from_millis(5)).await; }\n}",
            "fixed sleep",
        );
        is_silent("src/app.rs", "fn f() { sleep(Duration::from_secs(1)).await; }");
        is_silent("src/cli/sign.rs", "fn f() { println!(); }");
    }

    #[test]
    fn about_missing_docs_and_rooms() {
        let bare = Source::new("src/sink/nats.rs", "use bytes::Bytes;\n");
        assert!(problems(&bare)[0].contains("no `//!` line"));
        let unknown = [Source::new("src/kitchen/mod.rs", "//! Doc.\n")];
        assert!(room_problems(&unknown, "`kitchen/`")[0].contains("unknown room"));
        let untold = [Source::new("src/sink/mod.rs", "//! Doc.\n")];
        assert!(room_problems(&untold, "nothing")[0].contains("not in src/ARCHITECTURE.md"));
    }

    #[test]
    fn finding_words_whole() {
        assert_eq!(words("crate::a; crates", "crate").count(), 1);
    }
}
