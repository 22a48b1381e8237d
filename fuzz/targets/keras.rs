#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "attempt.rs"]
mod attempt;

fuzz_target!(|data: &[u8]| attempt::attempt(data, ".keras"));
