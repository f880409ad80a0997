use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use jiff::Timestamp;
use proptest::prelude::*;

use super::signature::decode;
use super::*;

const SECRET: &[u8] = b"whsec_current";

fn keys() -> Keys {
    Keys::new(&[SECRET, b"whsec_previous"]).unwrap()
}

fn tag(body: &[u8]) -> [u8; 32] {
    HEXLOWER.decode(sign(SECRET, body).as_bytes()).unwrap().try_into().unwrap()
}

fn delivery(body: &[u8], signatures: &[&str]) -> Unverified {
    Unverified {
        source: SourceName::new("test").unwrap(),
        signatures: signatures.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        content_type: Some("application/json".to_owned()),
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body),
    }
}

#[test]
fn what_is_printed_holds_no_body_and_no_signature() {
    let (good, bad) = (delivery(b"private", &[&sign(SECRET, b"private")]), delivery(b"private", &["0123"]));
    let printed = format!("{good:?} {:?} {:?}", good.clone().verify(&keys()), bad.verify(&keys()));
    for part in ["private", "0123", &sign(SECRET, b"private")] {
        assert!(!printed.contains(part), "{printed}");
    }
    assert!(printed.contains("body_bytes: 7") && printed.contains("Undecodable"), "{printed}");
}

fn reason(body: &[u8], signatures: &[&str]) -> Rejection {
    delivery(body, signatures).verify(&keys()).unwrap_err().reason
}

fn encodings(tag: &[u8]) -> [String; 7] {
    [
        HEXLOWER.encode(tag),
        HEXUPPER.encode(tag),
        BASE64.encode(tag),
        BASE64_NOPAD.encode(tag),
        BASE64URL.encode(tag),
        BASE64URL_NOPAD.encode(tag),
        // Either case, mixed.
        HEXLOWER.encode(tag).replace('a', "A"),
    ]
}

#[test]
fn each_slot_signs_and_is_named() {
    let verified = delivery(b"{}", &[&sign(b"whsec_previous", b"{}")]).verify(&keys()).unwrap();
    assert_eq!(verified.slot(), 1);
    let verified = delivery(b"{}", &[&sign(SECRET, b"{}")]).verify(&keys()).unwrap();
    assert_eq!(verified.slot(), 0);
    let twice = Keys::new(&[SECRET, SECRET]).unwrap();
    assert_eq!(delivery(b"{}", &[&sign(SECRET, b"{}")]).verify(&twice).unwrap().slot(), 0);
}

#[test]
fn each_failure_has_its_reason() {
    let good = sign(SECRET, b"{}");
    assert_eq!(reason(b"{}", &[]), Rejection::Missing);
    let stranger = sign(b"stranger", b"{}");
    let (good, other) = (good.as_str(), stranger.as_str());
    for differing in [[good, other], [other, good], [good, ""], ["", good], ["", ""], [good, "x"]] {
        assert_eq!(reason(b"{}", &differing), Rejection::Repeated);
        assert_eq!(reason(b"{}", &[&differing.join(", ")]), Rejection::Repeated);
    }
    assert_eq!(reason(b"{}", &[good, good, &format!("{good},{other}")]), Rejection::Repeated);
    assert_eq!(reason(b"{}", &[other, other]), Rejection::Mismatch);
    assert_eq!(reason(b"{}", &[&format!("\"{good}\"")]), Rejection::Undecodable);
    assert_eq!(reason(b"{}", &[""]), Rejection::Undecodable);
    assert_eq!(reason(b"{}", &["sha256="]), Rejection::Undecodable);
    assert_eq!(reason(b"{}", &[&good[..62]]), Rejection::Undecodable);
    assert_eq!(reason(b"{}", &[&sign(b"stranger", b"{}")]), Rejection::Mismatch);
    assert_eq!(reason(b"{} ", &[good]), Rejection::Mismatch);
}

/// A proxy that doubles the header, as two lines or as a list, costs nothing; what is handed on is one signature.
#[test]
fn several_signatures_that_agree_are_one() {
    let good = sign(SECRET, b"{}");
    let [list, upper] = [format!(" {good} ,\t{good}"), good.to_uppercase()];
    for agreeing in [vec![&*good, &good], vec![&list], vec![&good, &list, &upper]] {
        let verified = delivery(b"{}", &agreeing).verify(&keys()).unwrap();
        assert_eq!((verified.signature(), verified.slot()), (&*good, 0));
    }
}

/// A proxy has copied the header, joined its values, or quoted them in another encoding.
#[test]
fn signatures_that_agree_are_one() {
    let (hex, base64) = (sign(SECRET, b"{}"), BASE64.encode(&tag(b"{}")));
    for values in [vec![&hex[..], &hex], vec![&hex, &base64, &hex], vec![&format!("{hex}, {hex}")]] {
        let verified = delivery(b"{}", &values).verify(&keys()).unwrap();
        assert_eq!((verified.slot(), verified.signature()), (0, &hex[..]), "{values:?}");
    }
}

/// The tag that stands in for an undecodable signature opens nothing, even where it would be the right one.
#[test]
fn the_dummy_tag_is_no_signature() {
    assert_eq!(decode("0".repeat(64).as_bytes()), Some([0; 32]));
    assert_eq!(reason(b"{}", &[&"0".repeat(64)]), Rejection::Mismatch);
}

#[test]
fn what_came_in_is_given_back_untouched() {
    let signature = format!(" SHA256={} ", sign(SECRET, b"{}"));
    let verified = delivery(b"{}", &[&signature]).verify(&keys()).unwrap();
    assert_eq!(verified.signature(), signature);
    assert_eq!(verified.body(), &b"{}"[..]);
    assert_eq!(verified.content_type(), Some("application/json"));
}

#[test]
fn a_source_needs_a_secret() {
    assert_eq!(Keys::new::<&str>(&[]).unwrap_err(), NoSecret);
    assert_eq!(Keys::new(&["good", ""]).unwrap_err(), NoSecret);
}

#[test]
fn debug_output_reveals_nothing() {
    assert_eq!(format!("{:?}", keys()), "Keys { .. }");
}

#[test]
fn labels_lead_back() {
    for rejection in Rejection::ALL {
        assert_eq!(Rejection::from_label(rejection.label()), Some(rejection));
    }
    assert_eq!(Rejection::from_label("good"), None);
}

/// RFC 4231, test cases 1 to 4, 6 and 7.
#[test]
fn signatures_match_the_published_vectors() {
    let long = [0xaa; 131];
    let cases: [(&[u8], &[u8], &str); 6] = [
        (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25],
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            &long,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &long,
            b"This is a test using a larger than block-size key and a larger than block-size data. \
              The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (key, message, expected) in cases {
        assert_eq!(sign(key, message), expected);
    }
}

proptest! {
    #[test]
    fn every_encoding_is_accepted(body: Vec<u8>, prefix in "|sha256=|SHA256=|Sha256=", pad in "[ \t]{0,2}") {
        for encoded in encodings(&tag(&body)) {
            let value = format!("{pad}{prefix}{encoded}{pad}");
            prop_assert!(delivery(&body, &[&value]).verify(&keys()).is_ok(), "{}", value);
            let list = format!("{value},{}", encodings(&tag(&body))[0]);
            prop_assert!(delivery(&body, &[&list, &value]).verify(&keys()).is_ok(), "{}", list);
        }
    }

    #[test]
    fn one_bit_of_the_body_is_enough(body in prop::collection::vec(any::<u8>(), 1..300), at: prop::sample::Index, bit in 0..8) {
        let signature = sign(SECRET, &body);
        let mut other = body.clone();
        other[at.index(body.len())] ^= 1_u8 << bit;
        prop_assert_eq!(reason(&other, &[&signature]), Rejection::Mismatch);
    }

    #[test]
    fn one_bit_of_the_tag_is_enough(body: Vec<u8>, at in 0_usize..32, bit in 0..8) {
        let mut tag = tag(&body);
        tag[at] ^= 1_u8 << bit;
        for encoded in encodings(&tag) {
            prop_assert_eq!(reason(&body, &[&encoded]), Rejection::Mismatch);
        }
    }

    /// Text is compared as what it decodes to: only the case of a hex digit may change.
    #[test]
    fn one_bit_of_the_text_is_enough(body: Vec<u8>, which in 0_usize..7, at: prop::sample::Index, bit in 0..8) {
        let good = encodings(&tag(&body))[which].clone();
        let mut text = good.clone().into_bytes();
        let at = at.index(text.len());
        text[at] ^= 1_u8 << bit;
        let hex_case = good.len() == 64 && text.eq_ignore_ascii_case(good.as_bytes());
        let mut check = keys().begin();
        check.update(&body);
        prop_assert_eq!(check.finish(&[text.into()]).is_ok(), hex_case);
    }

    #[test]
    fn garbage_is_refused(body: Vec<u8>, values: Vec<Vec<u8>>) {
        let mut garbage = delivery(&body, &[]);
        garbage.signatures = values.into_iter().map(Bytes::from).collect();
        prop_assert!(garbage.verify(&keys()).is_err());
    }

    #[test]
    fn a_body_in_pieces_is_one_body(pieces: Vec<Vec<u8>>) {
        let mut check = keys().begin();
        pieces.iter().for_each(|piece| check.update(piece));
        prop_assert_eq!(check.finish(&[sign(SECRET, &pieces.concat()).into()]), Ok(0));
    }

    #[test]
    fn decoding_never_panics(value: Vec<u8>) {
        decode(&value);
    }
}

/// A check that has begun ends with the secrets that it began with, whatever is taken instead meanwhile.
#[test]
fn secrets_are_replaced_for_every_clone_and_between_two_checks() {
    let keys = Keys::new(&["old"]).unwrap();
    let shared = keys.clone();
    let signed = |secret: &str| vec![Bytes::from(sign(secret.as_bytes(), b"body"))];
    let ask = |keys: &Keys, secret: &str| {
        let mut check = keys.begin();
        check.update(b"body");
        check.finish(&signed(secret))
    };
    let mut begun = shared.begin();
    begun.update(b"body");
    let (first, second) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    assert_eq!(shared.since(), [None]);
    keys.replace(&["new", "old"], first).unwrap();
    assert_eq!(begun.finish(&signed("old")), Ok(0));
    assert_eq!((ask(&shared, "new"), ask(&shared, "old")), (Ok(0), Ok(1)));
    assert_eq!(keys.replace(&["new", ""], first), Err(NoSecret));
    assert_eq!(keys.replace::<&str>(&[], first), Err(NoSecret));
    assert_eq!(shared.since(), [Some(first), None], "the old one has only moved");
    keys.replace(&["new", "newest"], second).unwrap();
    assert_eq!(shared.since(), [Some(first), Some(second)], "the first has stayed");
    keys.replace(&["new"], second).unwrap();
    assert_eq!((ask(&shared, "new"), ask(&shared, "old")), (Ok(0), Err(Rejection::Mismatch)));
}
