//! What the fuzz targets hold, held against changed seeds: without coverage to guide it, but in every test run.

use std::panic::{RefUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use crate::harness::Campaign;
use crate::harness::json_set::json_set;

#[path = "../../../fuzz/properties/config.rs"]
mod config;
#[path = "../../../fuzz/properties/envelope.rs"]
mod envelope;
#[cfg(feature = "filters")]
#[path = "../../../fuzz/properties/filter.rs"]
mod filter;
#[path = "../../../fuzz/properties/head.rs"]
mod head;
#[path = "../../../fuzz/properties/reading.rs"]
mod reading;
#[path = "../../../fuzz/properties/signature.rs"]
pub mod signature;

#[test]
fn signature_headers() {
    changed_seeds(Campaign::brief("signature headers", 2000), "signature", signature::holds);
}

#[test]
fn envelopes() {
    changed_seeds(Campaign::brief("envelopes", 2000), "envelope", envelope::holds);
}

#[test]
fn heads() {
    changed_seeds(Campaign::brief("heads", 2000), "head", head::holds);
}

#[test]
fn readings() {
    changed_seeds(Campaign::brief("readings", 2000), "reading", reading::holds);
    json_set().iter().for_each(|file| reading::holds(&file.body));
    json_set().iter().for_each(|file| envelope::holds(&file.body));
}

#[cfg(feature = "filters")]
#[test]
fn filters() {
    changed_seeds(Campaign::brief("filters", 500), "filter", filter::holds);
}

#[test]
fn configurations() {
    changed_seeds(Campaign::brief("configurations", 1000), "config", config::holds);
}

fn changed_seeds(mut campaign: Campaign, target: &str, holds: impl Fn(&[u8]) + RefUnwindSafe) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| holds(seed));
    while let Some(mut rng) = campaign.round() {
        let input = changed(&seeds, &mut rng);
        if let Err(panic) = catch_unwind(|| holds(&input)) {
            eprintln!("the input was \"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    }
}

/// One of the seeds with a few bytes changed, put in, taken out, repeated, or taken from another seed.
fn changed(seeds: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..8) {
        let other = &seeds[rng.usize(..seeds.len())];
        let from = rng.usize(..=input.len());
        let to = rng.usize(from..=input.len().min(from + 8));
        let place = rng.usize(..other.len());
        let piece = match rng.u8(..5) {
            0 => vec![rng.u8(..)],
            1 => vec![b"\"\\{}[]()=.,:-0e\n\0\xff"[rng.usize(..18)]],
            2 => other[place..other.len().min(place + 16)].to_vec(),
            3 => input[from..to].repeat(rng.usize(1..40)),
            _ => Vec::new(),
        };
        input.splice(from..to, piece);
    }
    input
}
