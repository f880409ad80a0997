//! Bodies of every kind of JSON and of what is nearly JSON, each by itself and as a part of an event: valid ones (`y_`), broken
//! ones (`n_`), and those over which readers differ (`i_`). Made here, after the idea of the public JSONTestSuite.

/// A body, and what has to be read in it.
#[derive(Clone, Debug)]
pub struct JsonFile {
    pub name: String,
    pub body: Vec<u8>,
    /// Whether it is JSON.
    pub is_json: bool,
    /// The id of the event that it is; `None` for a bare value.
    pub id: Option<String>,
    /// What is read where that is another text than the body's own.
    pub read_as: Option<String>,
}

impl JsonFile {
    fn new(name: String, body: Vec<u8>, is_json: bool) -> Self {
        Self { name, body, is_json, id: None, read_as: None }
    }

    /// Too deep for a reader that recurses.
    pub fn is_deep(&self) -> bool {
        self.name.contains("deep")
    }
}

/// Every file, each with a name and a body of its own.
pub fn json_set() -> Vec<JsonFile> {
    let valid = valid().into_iter().flat_map(|(name, text)| both(&format!("y_{name}"), text.as_bytes(), true, None));
    let broken = broken().into_iter().flat_map(|(name, text)| both(&format!("n_{name}"), text.as_bytes(), false, None));
    let open = open()
        .into_iter()
        .flat_map(|(name, bytes, is_json, read_as)| both(&format!("i_{name}"), &bytes, is_json, read_as));
    let mut all: Vec<JsonFile> = valid.chain(broken).chain(open).chain(marked()).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|file| seen.insert(file.body.clone()));
    all
}

/// The value by itself, and in an event.
fn both(name: &str, value: &[u8], is_json: bool, read_as: Option<&str>) -> [JsonFile; 2] {
    let bare = JsonFile::new(format!("{name}_alone"), value.to_vec(), is_json);
    let bare = JsonFile { read_as: read_as.map(str::to_owned), ..bare };
    let within = |value: &[u8]| {
        let begin = format!(
            r#"{{"eventId":"{name}","eventType":"payin_completed","timestamp":"2026-02-26T17:02:28Z","data":{{"orderId":"o-{name}","x":"#
        );
        [begin.as_bytes(), value, b"}}"].concat()
    };
    let event = JsonFile::new(format!("{name}_in_event"), within(value), is_json);
    let read_as = read_as.map(|text| String::from_utf8(within(text.as_bytes())).unwrap());
    [bare, JsonFile { id: is_json.then(|| name.to_owned()), read_as, ..event }]
}

/// With a byte order mark before it.
fn marked() -> Vec<JsonFile> {
    let [bare, event] = both("i_byte_order_mark", b"[1.10]", true, None);
    [bare, event]
        .into_iter()
        .map(|file| {
            let read_as = String::from_utf8(file.body.clone()).ok();
            JsonFile { body: [b"\xef\xbb\xbf", &file.body[..]].concat(), read_as, ..file }
        })
        .collect()
}

const VALID_NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "1.5",
    "-1.5",
    "0.1",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "1.5e3",
    "-0.0",
    "0e0",
    "1.10",
    "123456789012345678",
    "9007199254740993",
    "18446744073709551615",
    "1e308",
    "5e-324",
    "0.30000000000000004",
];

const VALID_STRINGS: &[&str] = &[
    r#""""#,
    r#""a""#,
    r#"" ""#,
    r#""é""#,
    r#""😀""#,
    r#""\u00e9""#,
    r#""\ud83d\ude00""#,
    r#""\n\t\r\b\f""#,
    r#""\/""#,
    r#""\u0000""#,
    r#""\u001F""#,
    r#""\"""#,
    r#""\\""#,
    "\"\u{2028}\"",
    "\"\u{7f}\"",
    "\"\u{feff}\"",
    r#""}""#,
    r#""]""#,
    r#""{\"a\":1}""#,
    r#""//""#,
    r#""/* */""#,
    "\"\u{ffff}\"",
    "\"\u{10ffff}\"",
    "\"\u{202e}\"",
    "\"e\u{301}\"",
    r#""\uFFFE\uABCD""#,
    "\"\u{80}\"",
];

const VALID_LISTS: &[&str] = &[
    "[]",
    "[ ]",
    "[1]",
    "[1,2]",
    "[[]]",
    "[[[1]]]",
    "[null]",
    r#"[1,"a",true,null,{}]"#,
    "[1 , 2]",
    "[\n1\n]",
    "[\t1\r\n]",
    "[1,1]",
    r#"["a","a"]"#,
];

const VALID_OBJECTS: &[&str] = &[
    "{}",
    "{ }",
    r#"{"a":1}"#,
    r#"{"a":{"b":1}}"#,
    r#"{"":0}"#,
    r#"{"a b":1}"#,
    r#"{"\u0061\u0062":1}"#,
    r#"{"\u0000":1}"#,
    r#"{"é":1}"#,
    r#"{"a":1,"b":2}"#,
    r#"{"a":[{}]}"#,
    r#"{"a":1,"b":{"a":1}}"#,
    r#"{"a":1,"A":1}"#,
    r#"{"__proto__":1}"#,
    r#"{"constructor":{}}"#,
    "{\n  \"a\" : 1 ,\r\n\t\"b\" : [ ]\n}",
];

const BROKEN_LISTS: &[&str] = &[
    "[",
    "]",
    "[1",
    "[1,",
    "[,1]",
    "[1,,2]",
    "[1 2]",
    "[1;2]",
    "[1,]",
    "[1]]",
    "[1][2]",
    "[1}",
    r#"["": 1]"#,
    "[\"a\",\n",
    "[\\u0020]",
    "[*]",
];

const BROKEN_OBJECTS: &[&str] = &[
    "{",
    "}",
    r#"{"a"}"#,
    r#"{"a":}"#,
    "{:1}",
    "{a:1}",
    "{'a':1}",
    r#"{"a":1,}"#,
    r#"{,"a":1}"#,
    r#"{"a":1 "b":2}"#,
    r#"{"a"::1}"#,
    r#"{"a":1}}"#,
    r#"{"a":1]"#,
    "{}{}",
    "{1:1}",
    "{null:1}",
    r#"{"a" 1}"#,
    r#"{"a":1,,"b":2}"#,
    "{\"a\t\":1}",
    "{\"\n\":1}",
    "{\"a\0\":1}",
];

const BROKEN_WORDS: &[&str] = &[
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "FALSE",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "<a/>",
    "a",
    "\\",
    "tru\0e",
    "1 2",
    "// a\n1",
    "/* a */ 1",
    "1 # a",
    "\u{a0}1",
    "\u{2028}1",
    "\u{c}1",
    "1\0",
    "\u{200b}1",
    "[1]x",
];

const BROKEN_NUMBERS: &[&str] = &[
    "-", "+1", "01", "-01", "1.", ".5", "1.e5", "1e", "1e+", "0x1F", "1_000", "1,000", "--1", "1-1", "1e1.5", "0.1.2",
    "1a", "\u{ff11}", "- 1",
];

const BROKEN_STRINGS: &[&str] = &[
    "\"",
    "\"a",
    "a\"",
    "'a'",
    r#""\x""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\""#,
    "\"\t\"",
    "\"\n\"",
    "\"\0\"",
    "\"\u{1f}\"",
    r#""\u{41}""#,
    r#""\'""#,
    "\u{201c}a\u{201d}",
    r#""a""b""#,
    "\"\\\u{e9}\"",
];

const VALID_BLANKS: &[&str] = &[" 1 ", "\n{} \n", "\t[]", "\r\n1", "true", "false", "null", " null\n"];

/// Names each of many texts.
fn named(kind: &str, texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().enumerate().map(|(n, text)| (format!("{kind}_{n}"), (*text).to_owned())).collect()
}

fn valid() -> Vec<(String, String)> {
    let mut all = named("number", VALID_NUMBERS);
    all.extend(named("string", VALID_STRINGS));
    all.extend(named("list", VALID_LISTS));
    all.extend(named("object", VALID_OBJECTS));
    all.extend(named("blank", VALID_BLANKS));
    all.push(("hundred_levels".to_owned(), format!("{}{}", "[".repeat(100), "]".repeat(100))));
    all.push(("thousand_numbers".to_owned(), format!("[{}0]", "1,".repeat(1000))));
    let members: String = (0..1000).map(|n| format!("\"m{n}\":{n},")).collect();
    all.push(("thousand_members".to_owned(), format!("{{{members}\"m\":0}}")));
    all.push(("long_string".to_owned(), format!("\"{}\"", "x".repeat(100_000))));
    all
}

fn broken() -> Vec<(String, String)> {
    let mut all = named("list", BROKEN_LISTS);
    all.extend(named("object", BROKEN_OBJECTS));
    all.extend(named("word", BROKEN_WORDS));
    all.extend(named("number", BROKEN_NUMBERS));
    all.extend(named("string", BROKEN_STRINGS));
    all.push(("endless".to_owned(), "[".repeat(10_000)));
    all
}

type Open = (&'static str, Vec<u8>, bool, Option<&'static str>);

/// What the standard leaves open, or readers do differently: whether the relay takes it for JSON, and what it reads.
fn open() -> Vec<Open> {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let twice = |body: &str, read_as: &'static str| (body.as_bytes().to_vec(), Some(read_as));
    let mut all: Vec<Open> = Vec::new();
    let texts: [(&str, &str); 14] = [
        ("huge", "1e999"),
        ("huge_negative", "-1E999"),
        ("tiny", "1e-999"),
        ("beyond_64_bits", "123456789012345678901234567890"),
        ("beyond_double", "1.7976931348623159e308"),
        ("huge_exponent", "1e99999999999999999999"),
        ("half_pair", r#""\ud800""#),
        ("other_half", r#""\uDC00a""#),
        ("two_halves", r#""\ud800\ud800""#),
        ("pair_reversed", r#""\ude00\ud83d""#),
        ("half_and_escape", r#""\ud83d\n""#),
        ("half_as_name", r#"{"\ud800":1}"#),
        ("halves_in_list", r#"["\ud800",1e999,{"a":-1e400}]"#),
        ("sixteen_digits", "[0.1234567890123456789]"),
    ];
    all.extend(texts.map(|(name, text)| (name, text.as_bytes().to_vec(), true, None)));
    let bytes: [(&str, &[u8]); 8] = [
        ("byte_ff", b"\"\xff\""),
        ("latin_1", b"\"J\xfcrgen\""),
        ("truncated", b"\"\xc3\""),
        ("surrogate_as_utf8", b"\"\xed\xa0\x80\""),
        ("beyond_unicode", b"\"\xf4\x90\x80\x80\""),
        ("overlong", b"\"\xc0\xaf\""),
        ("byte_in_name", b"{\"\xfe\":1}"),
        ("lone_continuation", b"[\"\x81\",\"a\"]"),
    ];
    all.extend(bytes.map(|(name, bytes)| (name, bytes.to_vec(), true, None)));
    let repeated = [
        ("twice", twice(r#"{"a":1,"a":2}"#, r#"{"a":1}"#)),
        ("twice_alike", twice(r#"{"a":1, "a":1}"#, r#"{"a":1}"#)),
        ("twice_escaped", twice(r#"{"a":1,"\u0061":2,"b":3}"#, r#"{"a":1,"b":3}"#)),
        ("twice_objects", twice(r#"{"a":{"b":1,"b":2},"a":{"b":3}}"#, r#"{"a":{"b":1}}"#)),
        ("twice_in_list", twice(r#"[{"a":1,"a":2},{"a":3}]"#, r#"[{"a":1},{"a":3}]"#)),
        ("thrice", twice(r#"{"b":0,"a":1,"a":2,"a":3}"#, r#"{"b":0,"a":1}"#)),
    ];
    all.extend(repeated.map(|(name, (body, read_as))| (name, body, true, read_as)));
    all.extend(
        [("deep_200", 200), ("deep_1000", 1000), ("deep_100000", 100_000)]
            .map(|(name, levels)| (name, nested(levels), true, None)),
    );
    let objects = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    all.push(("deep_objects", objects.into_bytes(), true, None));
    all.push(("utf_16", utf16("[1]"), false, None));
    all.push(("utf_16_marked", utf16("\u{feff}{\"a\":1}"), false, None));
    all.push(("mark_within", b"\xef\xbb\xbf\xef\xbb\xbf1".to_vec(), false, None));
    all.push(("mark_alone", b"\xef\xbb\xbf".to_vec(), false, None));
    all.push(("byte_alone", b"\xff".to_vec(), false, None));
    all.push(("byte_after", b"1\xff".to_vec(), false, None));
    all
}
