//! Times JPEG decoders on one core, in turns: `cargo run --release --example decoding_speed -- PHOTO.jpg...`.
//!
//! `image` is the decoder (zune-jpeg) that the project had before.

use std::time::Instant;

use rekindle_vision::{Decoding, JpegDecoder, Resize};

const ROUNDS: usize = 15;
const SIZE: usize = 224;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let open = |decoding: Decoding| {
            let bytes = &bytes;
            move || decoding.decode(bytes, "photo".as_ref()).map(|photo| photo.width())
        };
        let pillow = Decoding::default();
        let tensorflow = pillow.with_jpeg(JpegDecoder::Tensorflow);
        let fast = pillow.with_fast(Some([SIZE, SIZE]));
        let ways: [(&str, &dyn Fn() -> bool); 5] = [
            ("image", &|| image::load_from_memory(&bytes).map(|image| image.into_rgb8()).is_ok()),
            ("pillow", &|| open(pillow)().is_ok()),
            ("tensorflow", &|| open(tensorflow)().is_ok()),
            ("pillow, fast", &|| open(fast)().is_ok()),
            ("pillow, resized", &|| {
                let photo = pillow.decode(&bytes, "photo".as_ref());
                photo.is_ok_and(|photo| photo.resize(SIZE, SIZE, Resize::Bilinear).is_ok())
            }),
        ];
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for ((name, decode), times) in ways.iter().zip(&mut times) {
                let start = Instant::now();
                assert!(decode(), "{name} does not decode {path}");
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        for ((name, _), times) in ways.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            println!("{path} {name}: median {:.1} ms, best {:.1}", times[ROUNDS / 2], times[0]);
        }
    }
    Ok(())
}
