//! Reads all photos at an address, a batch at a time, and prints how many there are, a SHA-256 of all of them in their order, and
//! how long it took: `cargo run --example read --features store -- s3://BUCKET/FOLDER`.

use std::time::Instant;

use rekindle_vision::{Sample, Shard, read_elsewhere};
use sha2::{Digest, Sha256};

/// Photos at a time.
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args_os().nth(1).ok_or("name an address")?;
    let start = Instant::now();
    let share = rekindle_cloud::share(address.as_ref(), true, false, Shard::WHOLE)?;
    let listed = start.elapsed();
    let (mut hash, mut bytes, mut lost) = (Sha256::new(), 0, 0);
    let samples: Vec<&Sample> = share.photos.iter().map(|photo| &photo.sample).collect();
    for batch in samples.chunks(BATCH) {
        for (sample, file) in batch.iter().zip(read_elsewhere(batch)) {
            match file.unwrap_or_else(|| sample.bytes()) {
                Ok(file) => {
                    bytes += file.len();
                    hash.update(file);
                }
                Err(error @ rekindle_vision::VisionError::Image { .. }) => {
                    lost += 1;
                    println!("lost: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let digits: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{} photos of {} classes, {lost} lost, {bytes} bytes, {digits}; listed in {:.1} s, read in {:.1} s",
        samples.len(),
        share.classes.len(),
        listed.as_secs_f64(),
        (start.elapsed() - listed).as_secs_f64()
    );
    Ok(())
}
