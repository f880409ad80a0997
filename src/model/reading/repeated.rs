//! Members that an object gives twice. Readers differ over which of them counts, so nobody may have to choose.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::json;

/// In smaller objects each name is compared with the others.
const FEW: usize = 16;

/// A member whose name an earlier one of the same object has.
#[derive(Debug)]
pub(super) struct Repeated {
    /// Its name as it is written, with quotes.
    pub name: Range<usize>,
    /// From the comma before it to the end of its value.
    whole: Range<usize>,
}

/// A member of an object that is open. Places are 32 bits wide: a body may hold millions of members.
struct Member {
    name: (u32, u32),
    comma: u32,
    is_escaped: bool,
}

/// An array that is open, in the list of open objects and arrays.
const ARRAY: u32 = u32::MAX;

/// Every repeated member of every object, in the order of their ends. One pass without recursion. Of what is no JSON it says
/// nothing that can be relied on, but it ends.
pub(super) fn find(text: &str) -> Vec<Repeated> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    if u32::try_from(bytes.len()).is_err() {
        return found;
    }
    // Of each open object, the place of its first member.
    let (mut open, mut members) = (Vec::<u32>::new(), Vec::<Member>::new());
    let (mut at, mut comma, mut expects_name) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let (end, is_escaped) = end_of_string(bytes, at + 1);
                if std::mem::take(&mut expects_name) {
                    members.push(Member { name: (at as u32, end as u32), comma, is_escaped });
                }
                at = end;
                continue;
            }
            b'{' => {
                open.push(members.len() as u32);
                (comma, expects_name) = (at as u32, true);
            }
            b'[' => {
                open.push(ARRAY);
                expects_name = false;
            }
            b',' => {
                expects_name = open.last().is_some_and(|&first| first != ARRAY);
                comma = at as u32;
            }
            b'}' | b']' => {
                expects_name = false;
                if let Some(first) = open.pop().filter(|&first| first != ARRAY) {
                    compare(text, &members[first as usize..], at, &mut found);
                    members.truncate(first as usize);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The place after the closing quote, and whether an escape is before it.
fn end_of_string(bytes: &[u8], begin: usize) -> (usize, bool) {
    let (mut at, mut is_escaped) = (begin, false);
    while let Some(length) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) {
        at += length;
        if bytes[at] == b'"' {
            return (at + 1, is_escaped);
        }
        is_escaped = true;
        at += 2;
    }
    (bytes.len(), is_escaped)
}

/// Finds repeated ones among all members of an object that ends at `end`.
fn compare(text: &str, members: &[Member], end: usize, found: &mut Vec<Repeated>) {
    let name = |member: &Member| &text[member.name.0 as usize..member.name.1 as usize];
    let mut note = |place: usize| {
        let end = members.get(place + 1).map_or(end, |next| next.comma as usize);
        let Member { name: (from, to), comma, .. } = members[place];
        found.push(Repeated { name: from as usize..to as usize, whole: comma as usize..end });
    };
    if members.len() <= FEW && members.iter().all(|member| !member.is_escaped) {
        for place in 1..members.len() {
            if members[..place].iter().any(|earlier| name(earlier) == name(&members[place])) {
                note(place);
            }
        }
        return;
    }
    let mut names: HashSet<Cow<'_, [u8]>> = HashSet::with_capacity(members.len());
    for (place, member) in members.iter().enumerate() {
        if !names.insert(json::name_bytes(name(member))) {
            note(place);
        }
    }
}

/// The text without these members.
pub(super) fn without(text: &str, repeated: &[Repeated]) -> String {
    let mut cuts: Vec<&Range<usize>> = repeated.iter().map(|member| &member.whole).collect();
    cuts.sort_by_key(|cut| cut.start);
    let (mut rest, mut from) = (String::with_capacity(text.len()), 0);
    for cut in cuts {
        // One within another has gone with it.
        if cut.start >= from {
            rest.push_str(&text[from..cut.start]);
            from = cut.end;
        }
    }
    rest.push_str(&text[from..]);
    rest
}
