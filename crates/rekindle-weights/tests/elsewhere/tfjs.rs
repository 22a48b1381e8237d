//! TF.js's layers models, and what Teachable Machine exports.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use rekindle_nn::Op;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{answer, copied, golden, open, refused, same};

/// What the class names of the golden export are.
const LABELS: [&str; 3] = ["Class 1", "ein Hund", "3 cats"];

fn answers() -> BTreeMap<String, Vec<f32>> {
    let text = std::fs::read(golden("tfjs/answers.json")).expect("golden answers");
    serde_json::from_slice(&text).expect("JSON")
}

/// A zip of a golden folder, stored or not, with this in front of every name.
fn zipped(folder: &TempDir, name: &str, is_stored: bool, prefix: &str) -> PathBuf {
    let path = folder.path().join("export.zip");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("creates"));
    let method = match is_stored {
        true => zip::CompressionMethod::Stored,
        false => zip::CompressionMethod::Deflated,
    };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for file in std::fs::read_dir(golden(name)).expect("a folder") {
        let file = file.expect("a file");
        let name = file.file_name().into_string().expect("UTF-8");
        archive.start_file(format!("{prefix}{name}"), options).expect("starts");
        archive.write_all(&std::fs::read(file.path()).expect("reads")).expect("writes");
    }
    archive.finish().expect("finishes");
    path
}

#[test]
fn every_way_of_writing_answers_as_keras_does() {
    let answers = answers();
    assert_eq!(answers.len(), 7);
    for (name, expected) in answers.iter().filter(|(name, _)| *name != "keras_zip") {
        let model = open(&golden(&format!("tfjs/{name}/model.json")));
        same(name, &answer_as_tf(&model), expected, 1e-6);
    }
}

/// The converter's files do not say their preprocessing; the goldens' is `tf`.
fn answer_as_tf(
    (card, network): &(rekindle_weights::ModelCard, rekindle_nn::Network<burn::backend::Flex>),
) -> Vec<f32> {
    let mut card = card.clone();
    if card.preprocessing == "none" {
        assert!(
            card.assumed.iter().any(|line| line.contains("no preprocessing")),
            "{:?}",
            card.assumed
        );
        card.preprocessing = "tf".into();
    }
    answer(&(card, network.clone()))
}

#[test]
fn exports_of_teachable_machine_are_opened_as_they_are() {
    let answers = answers();
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["keras_zip", "teachable"] {
        for (is_stored, prefix) in [(true, ""), (false, ""), (false, "converted/")] {
            let path = zipped(&folder, &format!("tfjs/{name}"), is_stored, prefix);
            let model = open(&path);
            assert_eq!(model.0.classes, LABELS, "{name}");
            assert_eq!(model.0.preprocessing, "tf");
            let says = |what: &str| model.0.assumed.iter().any(|line| line.contains(what));
            assert!(says("Teachable Machine"), "{:?}", model.0.assumed);
            same(name, &answer(&model), &answers[name], 1e-6);
        }
    }
    let (card, _) = open(&golden("tfjs/teachable/model.json"));
    assert!(matches!(card.photo_resize, Some(Op::Resizing(_))), "{:?}", card.photo_resize);
    assert_eq!(card.classes, LABELS);
}

#[test]
fn what_metadata_says_is_checked() {
    for (setting, value, expected) in [
        ("imageSize", json!(224), "224 x 224, but the model takes 16 x 16"),
        ("imageSize", json!(-1), "`imageSize` is -1"),
        ("imageSize", json!("big"), "`imageSize` is \"big\""),
        ("labels", json!(["a", "b"]), "names 2 classes, but the model has 3 outputs"),
        ("labels", json!([1, 2, 3]), "not all texts"),
        ("labels", json!({}), "expected a list"),
        ("packageName", json!("@teachablemachine/pose"), "`@teachablemachine/pose`"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        copied(&folder, "tfjs/teachable");
        let model = folder.path().join("model.json");
        let path = folder.path().join("metadata.json");
        let text = std::fs::read(&path).expect("reads");
        let mut metadata: Value = serde_json::from_slice(&text).expect("JSON");
        metadata[setting] = value;
        std::fs::write(&path, metadata.to_string()).expect("writes");
        assert!(refused(&model).contains(expected), "{setting}: {}", refused(&model));
    }
}

#[test]
fn damaged_models_are_errors_that_say_what_is_wrong() {
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 12] = [
        (
            |model| model["weightsManifest"][0]["paths"][0] = json!("../secret"),
            &["`../secret`", "its own folder"],
        ),
        (
            |model| model["weightsManifest"][0]["paths"][0] = json!("gone.bin"),
            &["`gone.bin`", "one folder"],
        ),
        (
            |model| model["weightsManifest"][0]["weights"][0]["shape"][0] = json!(u64::MAX),
            &["`Conv1/kernel`", "truncated"],
        ),
        (|model| model["weightsManifest"][0]["weights"][0]["shape"][0] = json!(2), &["expected"]),
        (
            |model| model["weightsManifest"][0]["weights"][0]["dtype"] = json!("string"),
            &["`Conv1/kernel`", "string"],
        ),
        (
            |model| model["weightsManifest"][0]["weights"][1]["name"] = json!("Conv1/kernel"),
            &["`Conv1/kernel`", "same variable"],
        ),
        (
            |model| model["weightsManifest"][0]["weights"][0]["name"] = json!("kernel"),
            &["`kernel`", "layer/variable"],
        ),
        (|model| model["weightsManifest"] = json!({}), &["`weightsManifest`"]),
        (|model| model["weightsManifest"] = Value::Null, &["no weights"]),
        (|model| model["format"] = json!("graph-model"), &["graph model", "tfjs_layers_model"]),
        (|model| model["modelTopology"] = json!({"node": []}), &["TensorFlow graph"]),
        (|model| model["modelTopology"] = json!([1]), &["no Keras configuration"]),
    ];
    for (number, (change, expected)) in changes.iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        copied(&folder, "tfjs/keras2");
        let path = folder.path().join("model.json");
        let mut model: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
        change(&mut model);
        std::fs::write(&path, model.to_string()).expect("writes");
        let error = refused(&path);
        for word in *expected {
            assert!(error.contains(word), "{number}: {error}");
        }
        assert!(error.contains("model.json"), "{number}: {error}");
    }
}

#[test]
fn quantization_is_checked() {
    for (setting, value, expected) in [
        ("scale", json!("wide"), "a scale of \"wide\""),
        ("min", Value::Null, "a min of null"),
        ("dtype", json!("int4"), "quantized to \"int4\""),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        copied(&folder, "tfjs/uint8");
        let path = folder.path().join("model.json");
        let mut model: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
        model["weightsManifest"][0]["weights"][0]["quantization"][setting] = value;
        std::fs::write(&path, model.to_string()).expect("writes");
        let error = refused(&path);
        assert!(error.contains(expected) && error.contains("`Conv1/kernel`"), "{error}");
    }
}

#[test]
fn truncated_and_longer_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    copied(&folder, "tfjs/keras2");
    let path = folder.path().join("model.json");
    let shard = folder.path().join("group1-shard2of3.bin");
    let bytes = std::fs::read(&shard).expect("reads");
    std::fs::write(&shard, &bytes[..bytes.len() - 1]).expect("writes");
    assert!(refused(&path).contains("truncated"), "{}", refused(&path));
    std::fs::write(&shard, [bytes.as_slice(), &[0]].concat()).expect("writes");
    assert!(refused(&path).contains("expected 1520"), "{}", refused(&path));
    let whole = std::fs::read(&path).expect("reads");
    for length in (1..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..length]).expect("writes");
        assert!(refused(&path).contains("damaged JSON"), "{}", refused(&path));
    }
}

#[test]
fn other_zips_say_what_they_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, expected) in [
        ("model.savedmodel/saved_model.pb", "unpack the zip"),
        ("photo.jpg", "neither Keras's `.keras`"),
    ] {
        let path = folder.path().join("other.zip");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("creates"));
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(name, options).expect("starts");
        archive.write_all(b"bytes").expect("writes");
        archive.finish().expect("finishes");
        assert!(refused(&path).contains(expected), "{}", refused(&path));
    }
}
