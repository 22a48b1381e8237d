//! Every resize against Keras's (`tests/keras/photos.py`): Pillow's to the byte, TensorFlow's to a ten-thousandth.

use std::path::PathBuf;

use rekindle_vision::{Channels, Decoding, Photo, Resize};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    source: String,
    channels: Channels,
    to: [usize; 2],
    method: Resize,
    /// Of the bytes.
    sha256: Option<String>,
    /// The first of the floats.
    first: Option<usize>,
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images").join(name)
}

impl Case {
    /// The channels that the generator makes of a picture's red, green and blue.
    fn photo(&self) -> Photo {
        let rgb =
            Decoding::default().open(golden(&format!("{}.png", self.source))).expect("a photo");
        let (pixels, _) = rgb.bytes().as_chunks::<3>();
        let bytes: Vec<u8> = match self.channels {
            Channels::Grey => pixels.iter().map(|pixel| pixel[0]).collect(),
            Channels::Rgba => {
                let place =
                    |at: usize| at / rgb.width() * rgb.width() + rgb.width() - 1 - at % rgb.width();
                let alpha =
                    |at: usize| (i32::from(pixels[place(at)][1]) * 2 - 128).clamp(0, 255) as u8;
                let pixel = |(at, &[r, g, b]): (usize, &[u8; 3])| [r, g, b, alpha(at)];
                pixels.iter().enumerate().flat_map(pixel).collect()
            }
            _ => rgb.bytes().to_vec(),
        };
        Photo::new(rgb.width(), rgb.height(), self.channels, bytes).expect("its bytes")
    }
}

#[test]
fn resizes_are_keras_s() {
    let cases: Vec<Case> = serde_json::from_str(
        &std::fs::read_to_string(golden("resizes.json")).expect("the list of resizes"),
    )
    .expect("a list of resizes");
    let floats = std::fs::read(golden("resizes.f32")).expect("the resized");
    let floats: Vec<f32> =
        floats.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let [width, height] = case.to;
        let pixels = case.photo().resize(width, height, case.method).expect("resizes");
        assert_eq!(
            (pixels.width, pixels.height, pixels.channels()),
            (width, height, case.channels.count())
        );
        let name =
            format!("{} {:?} {:?} {}", case.source, case.channels, case.to, case.method.name());
        if let Some(expected) = &case.sha256 {
            assert!(case.method.is_whole());
            let bytes: Vec<u8> = pixels.values.iter().map(|&value| value as u8).collect();
            let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            if found != *expected {
                wrong.push(name);
            }
        } else if let Some(first) = case.first {
            let theirs = &floats[first..][..pixels.values.len()];
            let apart = |(a, b): (&f32, &f32)| (a - b).abs();
            let most = pixels.values.iter().zip(theirs).map(apart).fold(0.0, f32::max);
            // Positions in f32 lose their last bits far out, and with them the weights.
            if most > 2e-4 {
                wrong.push(format!("{name}: {most}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for method in Resize::ALL {
        assert!(cases.iter().any(|case| case.method == *method), "{}", method.name());
    }
}
