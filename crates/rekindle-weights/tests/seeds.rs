//! The readers with changed seeds, on stable Rust: no input may end in a panic, or take ten seconds.
//!
//! `REKINDLE_FUZZ_SECONDS` says how long each target has, one second by default. libFuzzer looks longer: docs/reliability.md.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../../fuzz/bodies/mod.rs"]
mod bodies;

/// Longer inputs are changed too slowly.
const LONGEST: usize = 1 << 17;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The files of a folder and of those in it, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("lists").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = match target {
        // The golden photos.
        "photos" => repository("tests/golden/images"),
        target => repository("fuzz/seeds").join(target),
    };
    let files = files(&folder).into_iter().map(|path| std::fs::read(path).expect("reads"));
    files.filter(|bytes| bytes.len() <= LONGEST).collect()
}

/// xorshift64*.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 11) as usize % count.max(1)
    }
}

/// Changes a seed in a few places: bits, bytes, numbers at the edge of their range, parts left out, doubled, or of another.
fn change(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    for _ in 0..1 + chance.below(4) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = chance.below(bytes.len());
        let end = (at + 1 + chance.below(64)).min(bytes.len());
        match chance.below(6) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.next() as u8,
            2 => {
                let edge = EDGES[chance.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][chance.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let from = chance.below(other.len());
                let part = &other[from..(from + 64).min(other.len())];
                bytes.splice(at..end, part.iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST);
}

/// Runs every `step`-th target from `first` on.
fn run(first: usize, step: usize) {
    let seconds = std::env::var("REKINDLE_FUZZ_SECONDS");
    let seconds: f64 = seconds.map_or(1.0, |text| text.parse().expect("a number of seconds"));
    for (name, run) in bodies::ALL.iter().skip(first).step_by(step) {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let (start, mut count) = (Instant::now(), 0_usize);
        for seed in &seeds {
            run(seed);
        }
        while start.elapsed() < Duration::from_secs_f64(seconds) {
            let mut bytes = seeds[chance.below(seeds.len())].clone();
            change(&mut bytes, &seeds[chance.below(seeds.len())], &mut chance);
            let begin = Instant::now();
            let ended = std::panic::catch_unwind(|| run(&bytes));
            let took = begin.elapsed();
            if ended.is_err() || took > Duration::from_secs(10) {
                let path = std::env::temp_dir().join(format!("rekindle-{name}"));
                std::fs::write(&path, &bytes).expect("writes");
                panic!("{name}: input {count}, kept as {}, took {took:?}", path.display());
            }
            count += 1;
        }
        println!("{name}: {count} inputs of {} seeds", seeds.len());
    }
}

#[test]
fn changed_seeds_are_errors_or_models() {
    run(0, 2);
}

/// The others, beside them.
#[test]
fn other_changed_seeds_are_errors_or_models() {
    run(1, 2);
}
