//! Models that were read wrongly or refused before give what Keras gives: whole files, from photo to probabilities.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use rekindle_nn::ops::Op;
use rekindle_nn::{Features, Network};
use rekindle_vision::{Pixels, Preprocessing, Resize, resize};
use rekindle_weights::{Checkpoint, ModelCard, load};
use serde_json::Value;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cases").join(name)
}

fn unpacked(name: &str) -> Vec<u8> {
    let packed = std::fs::File::open(golden(&format!("{name}.gz"))).expect("a golden file");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// A `.keras` file of this configuration and weights.
fn keras(folder: &TempDir, config: &[u8], weights: &[u8]) -> PathBuf {
    let path = folder.path().join("model.keras");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("creates"));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("config.json", config), ("model.weights.h5", weights)] {
        archive.start_file(name, options).expect("starts");
        archive.write_all(bytes).expect("writes");
    }
    archive.finish().expect("finishes");
    path
}

/// The photo as the network of the card takes it.
fn pixels(card: &ModelCard, photo: &str) -> Vec<f32> {
    let image = image::open(golden(photo)).expect("a photo").to_rgb8();
    let [height, width, _] = card.graph.input().as_map().expect("images");
    let preprocessing: Preprocessing = card.preprocessing.parse().expect("known");
    let values = match &card.photo_resize {
        Some(Op::Resizing(resizing)) => {
            let whole: Vec<f32> = image.as_raw().iter().map(|&byte| f32::from(byte)).collect();
            let [rows, columns] = [image.height() as usize, image.width() as usize];
            resizing.resize(&whole, [rows, columns, 3]).expect("resizes")
        }
        Some(other) => panic!("photos are resized by {other:?}"),
        None => {
            let name = card.resize.as_deref().unwrap_or("bilinear");
            let by = name.parse::<Resize>().expect("known");
            let Pixels { values, .. } = resize(&image, width, height, by).expect("resizes");
            values
        }
    };
    let (scale, offset) = match preprocessing {
        Preprocessing::Tf => (1.0 / 127.5, -1.0),
        Preprocessing::None => (1.0, 0.0),
        Preprocessing::Rescale { scale, offset } => (scale, offset),
        other => panic!("{other:?}"),
    };
    let mut planes = vec![0.0; values.len()];
    for (index, value) in values.iter().enumerate() {
        let (pixel, channel) = (index / 3, index % 3);
        planes[channel * height * width + pixel] = value * scale + offset;
    }
    planes
}

/// What our reader and network make of a case.
fn answer(folder: &TempDir, config: &[u8], weights: &[u8], photo: &str) -> (ModelCard, Vec<f32>) {
    let path = keras(folder, config, weights);
    let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
    let card = checkpoint.card().cloned();
    let card = card.unwrap_or_else(|| panic!("{:?}", checkpoint.problem()));
    let device = Default::default();
    let network = Network::<Flex>::init(card.graph.clone(), 0, &device);
    let loaded = load(network, "the case", &mut checkpoint).expect("loads");
    assert!(loaded.unused.is_empty(), "{:?}", loaded.unused);
    let input = Features::from_values(pixels(&card, photo), card.graph.input(), &device);
    let mut eager = rekindle_nn::Eager::inference();
    let output = loaded.network.walk(&mut eager, input).expect("runs");
    (card, rekindle_nn::floats(output.into_data()))
}

#[test]
fn every_model_answers_as_keras_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = std::fs::read(golden("cases.json")).expect("golden cases");
    let cases: Vec<Value> = serde_json::from_slice(&cases).expect("JSON");
    assert_eq!(cases.len(), 17);
    for case in &cases {
        let text = |key: &str| case[key].as_str().expect("text").to_owned();
        let name = text("name");
        let config = unpacked(&format!("{name}.json"));
        let weights = unpacked(&format!("{}.h5", text("weights")));
        let (card, ours) = answer(&folder, &config, &weights, &text("photo"));
        let keras: Vec<f64> = serde_json::from_value(case["answer"].clone()).expect("numbers");
        assert_eq!(ours.len(), keras.len(), "{name}");
        let worst = ours.iter().zip(&keras).map(|(a, b)| (f64::from(*a) - b).abs());
        let worst = worst.fold(0.0, f64::max);
        println!("{name}: {worst:e}, assumed {:?}", card.assumed);
        assert!(worst <= 1e-5, "{name}: {worst:e} from Keras: {ours:?}, {keras:?}");
        // A changed base is no MobileNetV2 any more.
        let is_changed = name.starts_with("base_");
        assert_eq!(card.architecture().is_none(), is_changed, "{name}");
        assert_eq!(card.graph.classes(), Some(keras.len()), "{name}");
        // The base ends where maps become a vector.
        let base = card.graph.base();
        assert!(card.graph.shape(base.output).as_map().is_some(), "{name}");
        assert_eq!(card.graph.head()[0].op.class(), "GlobalAveragePooling2D", "{name}");
    }
}

#[test]
fn numbers_that_the_file_does_not_back_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = String::from_utf8(unpacked("control.json")).expect("UTF-8");
    let weights = unpacked("control.h5");
    let refused = |old: &str, new: &str, expected: &[&str]| {
        let changed = config.replace(old, new);
        assert_ne!(changed, config, "{old}");
        let path = keras(&folder, changed.as_bytes(), &weights);
        let checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
        let problem = checkpoint.problem().unwrap_or_else(|| panic!("{new} is taken")).to_owned();
        for word in expected {
            assert!(problem.contains(word), "{new}: {problem}");
        }
    };
    refused("\"units\": 3,", "\"units\": 4000000000,", &["`head`", "4000000000", "1 to 2^31"]);
    refused(
        "\"units\": 3,",
        "\"units\": 4000000,",
        &["`head` (Dense)", "kernel", "[1280, 3]", "[1280, 4000000]"],
    );
    refused("\"filters\": 16,", "\"filters\": 4000000000,", &["Conv1"]);
    // `same` allows any kernel.
    let first = "\"filters\": 16, \"kernel_size\": [3, 3]";
    for (kernel, words) in [
        ("[4000000000, 4000000000]", ["Conv1", "4000000000"]),
        ("[9000000000000000000, 9000000000000000000]", ["Conv1", "9000000000000000000"]),
        ("[0, 3]", ["Conv1", "kernel_size"]),
    ] {
        refused(first, &format!("\"filters\": 16, \"kernel_size\": {kernel}"), &words);
    }
    refused("\"strides\": [2, 2]", "\"strides\": [0, 2]", &["strides"]);
    refused("[null, 96, 96, 3]", "[null, 96000000, 96000000, 3]", &["96000000"]);
    refused("[null, 96, 96, 3]", "[null, 0, 96, 3]", &["a size of 0"]);
    // Settings and classes that nobody knows.
    refused("\"use_bias\": true", "\"use_bias\": true, \"surprise\": 1", &["`surprise`"]);
    refused(
        "\"GlobalAveragePooling2D\"",
        "\"GlobalGeneralPooling2D\"",
        &["(GlobalGeneralPooling2D) is not supported", "GlobalAveragePooling2D"],
    );
    refused(
        "\"module\": \"keras.layers\", \"class_name\": \"Dense\"",
        "\"module\": \"mine\", \"class_name\": \"Dense\"",
        &["`head` (Dense)", "`mine`"],
    );
}
