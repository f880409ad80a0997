//! Forged signatures: none is accepted, in memory by the hundred thousand, and over HTTPS.

use data_encoding::{BASE32, BASE64, HEXLOWER};
use futures_util::StreamExt as _;
use serde_json::json;

use super::fuzzed::signature::{encodings, is_accepted, is_an_encoding};
use crate::harness::signed::mac;
use crate::harness::{Ack, Campaign, Delivery, SECRET, TestRelay, signed};

/// Forgeries of one round.
const ROUND: usize = 10_000;

#[test]
fn no_forged_signature_is_accepted() {
    forgeries(Campaign::brief("forged signatures, 10,000 a round", 5));
}

#[test]
#[ignore = "a part of tests/campaign"]
fn campaign_forgeries() {
    forgeries(Campaign::whole("forged signatures, 10,000 a round", 100));
}

fn forgeries(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        for _ in 0..ROUND {
            let body: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
            let tag = mac(SECRET, &body);
            let value = forged(&tag, &body, &mut rng);
            // A change that only turns the case of a hex digit is none.
            let genuine = is_an_encoding(&value, &tag);
            let accepted = is_accepted(&[SECRET.as_bytes(), b"previous"], &value, &body);
            assert_eq!(accepted, genuine, "{}", value.escape_ascii());
            campaign.count(if genuine { "still genuine, accepted" } else { "forged" }, 1);
        }
        campaign.count("forged, accepted", 0);
    }
}

/// A signature that is wrong in one of many ways, or in a few cases happens to be right.
fn forged(tag: &[u8; 32], body: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let forms = encodings(tag);
    let form = |tag: &[u8], rng: &mut fastrand::Rng| encodings(tag)[rng.usize(..6)].clone().into_bytes();
    let mut value = forms[rng.usize(..6)].clone().into_bytes();
    let length = value.len();
    let place = rng.usize(..length);
    match rng.u8(..14) {
        0 => value[place] ^= 1 << rng.u8(..8),
        1 => value[place] = rng.u8(..),
        2 => value.truncate(place),
        3 => drop(value.drain(..place)),
        4 => value.insert(place, rng.u8(..)),
        5 => value = [&value[..], &value[..]].concat(),
        6 => value = [forms[rng.usize(..6)].as_bytes(), b", ", forms[rng.usize(..6)].as_bytes()].concat(),
        7 => value.swap(place, (place + 1) % length),
        // The right key for other bytes, and another key for the right ones.
        8 => value = form(&mac(SECRET, &[body, b" "].concat()), rng),
        9 => value = form(&mac(&format!("{SECRET}{}", rng.u8(..)), body), rng),
        10 => value = form(&[mac("", body), [0; 32], [0xff; 32]][rng.usize(..3)], rng),
        11 => {
            let mut tag = *tag;
            tag[rng.usize(..32)] ^= 1 << rng.u8(..8);
            value = form(&tag, rng);
        }
        12 => {
            // Encoded twice, or in an encoding that is none of ours.
            let twice = [HEXLOWER.encode(&value), BASE64.encode(&value), BASE32.encode(tag), format!("{tag:?}")];
            value = twice[rng.usize(..4)].clone().into_bytes();
        }
        _ => {
            let prefixes = ["sha1=", "sha512=", "sha256:", "SHA-256=", "v1=", "sha256=sha256=", "hmac-sha256=", "\0"];
            value.splice(..0, prefixes[rng.usize(..8)].bytes());
        }
    }
    value
}

#[tokio::test]
async fn no_forgery_is_accepted_over_https() {
    over_https(Campaign::brief("forged deliveries over HTTPS, 250 a round", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_forgeries_over_https() {
    over_https(Campaign::whole("forged deliveries over HTTPS, 250 a round", 40)).await;
}

async fn over_https(mut campaign: Campaign) {
    // Room for all of them: what is not kept is answered 503.
    let builder = TestRelay::with_file_sink("out").env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", "1000000");
    let relay = builder.start().await;
    let mut genuine = 0;
    while let Some(mut rng) = campaign.round() {
        let deliveries: Vec<Delivery> = (0..250).map(|n| tampered(n, &mut rng)).collect();
        let acks = deliveries.iter().map(|delivery| relay.post(delivery));
        let acks: Vec<Ack> = futures_util::stream::iter(acks).buffered(16).collect().await;
        for (ack, delivery) in acks.iter().zip(&deliveries) {
            assert_eq!(*ack, Ack::refused(401), "{delivery:?}");
        }
        campaign.count("refused with 401", 250);
        genuine += 1;
        let delivery = signed::payin_completed(&format!("evt-genuine-{}-{genuine}", campaign.number()));
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    }
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), genuine, "nothing but the genuine ones");
    assert_eq!(relay.events().await.len(), genuine);
    relay.shutdown().await;
}

/// A genuine delivery with one thing changed on its way.
fn tampered(n: usize, rng: &mut fastrand::Rng) -> Delivery {
    let id = format!("evt-{n}-{}", rng.u32(..));
    let data = json!({"orderId": "Order A", "amounts": {"creditedAmount": {"amount": 100, "currency": "EUR"}}});
    let mut delivery = Delivery::current(&id, "payin_completed", data);
    let body = String::from_utf8(delivery.body.clone()).unwrap();
    let tag = mac(SECRET, &delivery.body);
    let changed = match rng.u8(..10) {
        0 => body.replace("Order A", "order a"),
        1 => body.replace("EUR", "eur"),
        2 => body.replace(':', ": "),
        3 => format!("{body}\n"),
        4 => format!(" {body}"),
        5 => body.replace("100", "100.0"),
        6 => body.replace("Order A", "Order\\u0020A"),
        7 => {
            let other = encodings(&mac("another secret", &delivery.body))[rng.usize(..6)].clone();
            return delivery.with_header("x-signature", &other);
        }
        8 => return delivery.with_header("X-SIGNATURE", "0"),
        _ => {
            let kept = |b: &u8| b.is_ascii_graphic();
            let mut value: Vec<u8> = forged(&tag, &delivery.body, rng).into_iter().filter(kept).collect();
            if is_an_encoding(&value, &tag) {
                value.push(b'0');
            }
            return delivery.with_signature(std::str::from_utf8(&value).unwrap());
        }
    };
    assert_ne!(changed, body);
    delivery.body = changed.into_bytes();
    delivery
}
