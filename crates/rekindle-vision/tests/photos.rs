//! Photos of every kind, against the bytes that Pillow and TensorFlow decode (`tests/keras/photos.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use rekindle_vision::{
    Channels, Decoding, JpegDecoder, Orientation, Photo, Transparency, orientation,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    name: String,
    pillow: BTreeMap<Channels, Option<String>>,
    tensorflow: BTreeMap<Channels, Option<String>>,
    orientation: Option<u8>,
    upright: Option<(usize, usize, String)>,
    #[serde(default)]
    draft: BTreeMap<usize, (usize, usize, String)>,
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images").join(name)
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden("photos.json")).expect("the list of photos");
    serde_json::from_str(&text).expect("a list of photos")
}

impl Case {
    fn path(&self) -> PathBuf {
        golden("photos").join(&self.name)
    }

    /// Whether it goes plane by plane.
    fn is_unusual(&self) -> bool {
        ["rich-chroma", "ycck-4", "cmyk-4"].iter().any(|name| self.name.contains(name))
    }

    fn is_jpeg(&self) -> bool {
        self.name.ends_with(".jpg")
    }
}

fn digest(photo: &Photo) -> String {
    Sha256::digest(photo.bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is decoded otherwise than Keras does, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("sampling-33.jpg", "read, though units of 12 blocks are more than the standard allows"),
    ("sampling-33-progressive.jpg", "the same"),
    (
        "sampling-uneven.jpg tensorflow grey",
        "refused for its colors, though only brightness is wanted",
    ),
    ("sampling-uneven-progressive.jpg tensorflow grey", "the same"),
    ("loud-3.jpg tensorflow", "TensorFlow's fast DCT overflows 16 bits"),
    ("grey-16.png pillow rgb", "Pillow makes white of all that is above 255 of 65535"),
    ("grey-16.png pillow rgba", "the same"),
    ("one-bit.png tensorflow rgba", "TensorFlow gives an opacity of 1 of 255"),
    ("rgba.bmp tensorflow rgba", "opaque, as in Pillow"),
    ("clear.gif tensorflow rgb", "TensorFlow makes black of what is transparent"),
];

fn keras() -> Decoding {
    Decoding::default().with_transparency(Transparency::Drop)
}

fn compare(decoder: JpegDecoder, theirs: impl Fn(&Case) -> &BTreeMap<Channels, Option<String>>) {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases() {
        for (&channels, expected) in theirs(&case) {
            let Some(expected) = expected else { continue };
            let decoding = keras().with_jpeg(decoder).with_channels(channels);
            let found = decoding.open(case.path());
            let name = format!("{} {} {}", case.name, decoder.name(), channels.name());
            if EXCEPTIONS.iter().any(|(exception, _)| name.starts_with(exception)) {
                continue;
            }
            // TensorFlow reads fewer kinds, and fewer of them with any channels.
            let is_ours = decoder == JpegDecoder::Tensorflow
                && (!case.is_jpeg() || channels == Channels::Rgba);
            compared += 1;
            match (&found, expected.as_str()) {
                (Err(_), "error") => {}
                (Ok(_), "error") if is_ours => {}
                (Ok(photo), expected) if digest(photo) == expected => {}
                (Ok(photo), _) => wrong.push(format!("{name}: {}", digest(photo))),
                (Err(error), _) => wrong.push(format!("{name}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 300, "{compared}");
}

#[test]
fn pillow_s_bytes() {
    compare(JpegDecoder::Pillow, |case| &case.pillow);
}

#[test]
fn tensorflow_s_bytes() {
    compare(JpegDecoder::Tensorflow, |case| &case.tensorflow);
}

#[test]
fn orientations_are_read_and_applied() {
    let mut turned = 0;
    for case in cases() {
        let Some(expected) = case.orientation else { continue };
        let found = orientation(case.path()).map(|found| found.to_exif());
        assert!(matches!(found, Ok(found) if found == expected), "{}: {found:?}", case.name);
        let Some((width, height, expected)) = &case.upright else { continue };
        let photo =
            keras().with_orientation(Orientation::Apply).open(case.path()).expect(&case.name);
        assert_eq!((photo.width(), photo.height()), (*width, *height), "{}", case.name);
        assert_eq!(digest(&photo), *expected, "{}", case.name);
        turned += 1;
    }
    assert!(turned >= 10, "{turned}");
}

#[test]
fn fast_decoding_is_pillow_s_draft() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases() {
        // Always decoded whole.
        if case.is_unusual() {
            continue;
        }
        for (scale, (width, height, expected)) in &case.draft {
            let full = keras().open(case.path()).expect(&case.name);
            let wanted = [full.width() / scale, full.height() / scale];
            let photo = keras().with_fast(Some(wanted)).open(case.path()).expect(&case.name);
            compared += 1;
            if (photo.width(), photo.height()) != (*width, *height) || digest(&photo) != *expected {
                wrong.push(format!("{} 1/{scale}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "{compared}");
}
