//! Characters that are not seen: what a sender writes with them could steer a terminal, or hide something from who reads it.

/// Characters that are not seen, or turn the direction of writing, or break lines: those that Unicode calls default
/// ignorable, its separators of lines and paragraphs, and its marks of annotations.
pub fn hides(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// What is neither seen nor a line break.
pub fn steers(c: char) -> bool {
    c != '\n' && (c.is_control() || hides(c))
}

/// Makes of lines of JSON others that mean the same, without anything that could steer a terminal: such characters
/// can only stand in strings.
pub fn escape_json(lines: &mut Vec<u8>) {
    let is_plain = |byte: &u8| byte.is_ascii() && *byte != 0x7f;
    if lines.iter().all(is_plain) {
        return;
    }
    let Ok(text) = std::str::from_utf8(lines) else { return };
    if !text.contains(steers) {
        return;
    }
    let mut done = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                done.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            done.push(c);
        }
    }
    *lines = done.into_bytes();
}
