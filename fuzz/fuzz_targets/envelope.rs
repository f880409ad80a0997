#![no_main]

#[path = "../properties/envelope.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::holds(input));
