//! Just enough of Rust's surface to look for words, imports and functions without a parser: comments and literals are
//! blanked, test-only items are cut out, and everything keeps its line.

/// One Rust file.
pub struct Source {
    /// Relative to the crate, with `/`.
    pub path: String,
    /// As it is.
    pub raw: String,
    /// Without what is in comments and literals.
    pub blanked: String,
    /// `blanked` without items under `#[cfg(test)]`.
    pub code: String,
    /// The rest of `blanked`; everything in an integration test.
    pub tests: String,
    only_test: bool,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// From its `fn` to its closing brace.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, raw: &str) -> Self {
        let blanked = blank(raw);
        let mut code = blanked.clone();
        let mut tests: String = blanked.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        for range in test_items(&blanked) {
            tests.replace_range(range.clone(), &blanked[range.clone()]);
            code.replace_range(range.clone(), &erase(&blanked[range]));
        }
        let mut source = Self { path: path.to_owned(), raw: raw.to_owned(), blanked, code, tests, only_test: false };
        if path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/") {
            source.all_is_test();
        }
        source
    }

    /// The whole file is test code.
    pub fn all_is_test(&mut self) {
        self.tests.clone_from(&self.blanked);
        self.code = erase(&self.blanked);
        self.only_test = true;
    }

    /// Part of the product, and not only of its tests.
    pub fn is_product(&self) -> bool {
        self.path.starts_with("src/") && !self.only_test
    }

    /// The file's room: the first segment under `src/`; none for `src/lib.rs`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (room != "lib").then_some(room)
    }

    /// Lines of `text` (a form of this file) that hold the word, not as a part of a longer name.
    pub fn lines_with(&self, text: &str, word: &str) -> Vec<usize> {
        words(text, word).map(|at| line_of(text, at)).collect()
    }

    /// A line as it is.
    pub fn line(&self, number: usize) -> &str {
        self.raw.lines().nth(number - 1).unwrap_or_default()
    }

    /// First segments of paths from the crate's root, with their lines.
    pub fn imports(&self) -> Vec<(usize, String)> {
        let code = self.code.as_str();
        let mut found = Vec::new();
        for root in ["crate::", "ralio_relay::"] {
            for at in words(code, root) {
                collect_heads(code, at + root.len(), &mut found);
            }
        }
        // `super` once for each folder, and once more for a file that is not its folder's `mod.rs`, is the root.
        let depth = self.path.matches('/').count() - usize::from(self.path.ends_with("/mod.rs"));
        let to_root = "super::".repeat(depth.max(1));
        for at in words(code, &to_root) {
            if depth > 0 && !code[..at].ends_with("super::") {
                collect_heads(code, at + to_root.len(), &mut found);
            }
        }
        found.into_iter().map(|(at, name)| (line_of(code, at), name)).collect()
    }

    /// Paths, without `.rs`, of modules that are declared under `#[cfg(test)]`.
    pub fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            Some(_) => self.path.trim_end_matches(".rs").to_owned(),
            None => return Vec::new(),
        };
        words(&self.tests, "mod")
            .filter_map(|at| {
                let rest = self.tests[at + 3..].trim_start();
                let name = identifier(rest);
                rest[name.len()..].trim_start().starts_with(';').then(|| format!("{folder}/{name}"))
            })
            .collect()
    }

    /// Functions with a body, tests included.
    pub fn functions(&self) -> Vec<Function> {
        let text = self.blanked.as_str();
        words(text, "fn")
            .filter_map(|at| {
                let name = identifier(text[at + 2..].trim_start());
                let open = body(text, at)?;
                let close = closing(text, open)?;
                let line = line_of(text, at);
                let lines = line_of(text, close) - line + 1;
                (!name.is_empty()).then(|| Function { name: name.to_owned(), line, lines })
            })
            .collect()
    }
}

/// Where the word stands alone: neither its first nor its last character runs on into a name.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        let runs_on = |end: Option<char>, next: Option<char>| end.is_some_and(in_name) && next.is_some_and(in_name);
        !runs_on(word.chars().next(), before) && !runs_on(word.chars().next_back(), after)
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn identifier(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// The name at `at`, or each first name of the group `{a, b::c}` there.
fn collect_heads(text: &str, at: usize, found: &mut Vec<(usize, String)>) {
    if !text[at..].starts_with('{') {
        found.push((at, identifier(&text[at..]).to_owned()));
        return;
    }
    let end = closing(text, at).unwrap_or(text.len());
    let mut depth = 0;
    let mut at_head = false;
    for (offset, c) in text[at..end].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (c == '{' || c == ',') {
            at_head = true;
        } else if at_head && !c.is_whitespace() {
            at_head = false;
            found.push((at + offset, identifier(&text[at + offset..]).to_owned()));
        }
    }
}

/// The brace that opens the body of the function at `at`; none for a declaration.
fn body(text: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in text[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at + offset),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + offset);
                }
            }
            _ => {}
        }
    }
    None
}

/// Items under `#[cfg(test)]`, attribute included.
fn test_items(blanked: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, attribute) in blanked.match_indices("#[cfg(test)]") {
        if ranges.last().is_some_and(|last| last.contains(&at)) {
            continue;
        }
        let end = match body(blanked, at + attribute.len()) {
            Some(open) => closing(blanked, open),
            None => blanked[at..].find(';').map(|offset| at + offset),
        };
        ranges.push(at..end.map_or(blanked.len(), |end| end + 1));
    }
    ranges
}

fn erase(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) }).collect()
}

/// Blanks comments and the insides of string and character literals; every line and every offset stays.
fn blank(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(first) = rest.chars().next() {
        let keep_literal = |len: usize| format!("\"{}\"", erase(&rest[1..len - 1]));
        let after_name = out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (len, text) = if rest.starts_with("//") {
            let len = rest.find('\n').unwrap_or(rest.len());
            (len, erase(&rest[..len]))
        } else if rest.starts_with("/*") {
            let len = comment(rest);
            (len, erase(&rest[..len]))
        } else if let Some(len) = raw_string(rest).filter(|_| !after_name) {
            (len, erase(&rest[..len]))
        } else if first == '"' {
            let len = string(rest);
            (len, keep_literal(len))
        } else if let Some(len) = character(rest) {
            (len, keep_literal(len))
        } else {
            (first.len_utf8(), first.to_string())
        };
        out.push_str(&text);
        rest = &rest[len..];
    }
    out
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of `r".."`, `br#".."#` and the like, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, if one begins here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escaped) = inside.strip_prefix('\\') {
        let skip = escaped.chars().next()?.len_utf8();
        return escaped[skip..].find('\'').map(|at| 2 + skip + at + 1);
    }
    let len = inside.chars().next()?.len_utf8();
    inside[len..].starts_with('\'').then_some(len + 2)
}
