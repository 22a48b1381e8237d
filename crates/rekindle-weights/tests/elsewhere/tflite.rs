//! TensorFlow Lite's files, as TensorFlow's converter writes them (`tests/keras/tflite_models.py`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use rekindle_weights::{Checkpoint, Origin};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{answer, golden, open, refused, same};

fn file(name: &str) -> PathBuf {
    golden(&format!("tflite/{name}.tflite"))
}

fn answers(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let text = std::fs::read(folder.join("answers.json")).expect("golden answers");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn what_the_converter_writes_answers_as_keras() {
    let answers = answers(&golden("tflite"));
    assert_eq!(answers.len(), 11);
    for (name, expected) in &answers {
        let model = open(&file(name));
        // Of 16 bits, and of 8.
        let tolerance = match name.as_str() {
            "half" => 1e-3,
            "bytes" => 2e-2,
            _ => 1e-5,
        };
        same(name, &answer(&model), expected, tolerance);
        let card = &model.0;
        let is_told = card.assumed.iter().any(|line| line.contains("8-bit integers"));
        assert_eq!(is_told, name == "bytes", "{name}: {:?}", card.assumed);
    }
    // Others have theirs in the kernel of their first convolution.
    for name in ["mobile", "said"] {
        let (card, _) = open(&file(name));
        assert_eq!(card.preprocessing, "tf", "{name}");
        assert_eq!(card.origins.preprocessing, Origin::File, "{name}");
    }
    let (card, _) = open(&file("said"));
    assert_eq!(card.classes, ["cat", "dog", "cow"]);
}

#[test]
fn a_model_of_integers_is_refused() {
    let error = refused(&file("integers"));
    assert!(error.contains("quantised to integers throughout"), "{error}");
    assert!(error.contains("the float model that it was made of"), "{error}");
}

/// A zip of these files.
fn zipped(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(std::fs::File::create(path).expect("creates"));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).expect("starts");
        zip.write_all(bytes).expect("writes");
    }
    zip.finish().expect("ends");
}

#[test]
fn teachable_machine_s_export_is_opened_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("converted_tflite.zip");
    let model = std::fs::read(file("mobile")).expect("reads");
    let labels = b"0 cat\n1 dog\n2 cow\n";
    zipped(&path, &[("labels.txt", labels), ("model_unquant.tflite", &model)]);
    let found = open(&path);
    assert_eq!(found.0.classes, ["cat", "dog", "cow"]);
    same("zip", &answer(&found), &answers(&golden("tflite"))["mobile"], 1e-5);
    std::fs::write(folder.path().join("model_unquant.tflite"), &model).expect("writes");
    std::fs::write(folder.path().join("labels.txt"), labels).expect("writes");
    assert_eq!(open(folder.path()).0.classes, ["cat", "dog", "cow"]);
    // The quantised one of the two.
    let model = std::fs::read(file("integers")).expect("reads");
    zipped(&path, &[("labels.txt", labels), ("model.tflite", &model)]);
    assert!(refused(&path).contains("quantised"), "{}", refused(&path));
    zipped(
        &path,
        &[
            ("labels.txt", b"cat\n"),
            ("model_unquant.tflite", &std::fs::read(file("mobile")).expect("reads")),
        ],
    );
    assert!(refused(&path).contains("names 1 classes, but the model has 3 outputs"));
}

/// Whether a file is taken as some model; it must not take the program down.
fn is_taken(path: &Path, bytes: &[u8]) -> bool {
    std::fs::write(path, bytes).expect("writes");
    let opened = Checkpoint::open(path).and_then(Checkpoint::resolve);
    opened.is_ok_and(|mut checkpoint| {
        let count = checkpoint.tensors().len();
        checkpoint.card().is_some() && (0..count).all(|index| checkpoint.read(index).is_ok())
    })
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.tflite");
    let (mut changed, mut taken) = (0, 0);
    // With a zip behind it, which is a part of it, since the metadata names a file in it.
    let whole = std::fs::read(file("said")).expect("reads");
    assert!(is_taken(&path, &whole));
    for end in (0..whole.len()).step_by(64) {
        assert!(!is_taken(&path, &whole[..end]), "the first {end} bytes");
    }
    for at in (0..whole.len()).step_by(149) {
        let mut other = whole.clone();
        other[at] ^= 0xff;
        // Most bytes are weights.
        taken += usize::from(is_taken(&path, &other));
        changed += 1;
    }
    println!("{taken} of {changed} changed files are models");
    assert!(taken < changed, "{taken}");
    // Words as if they were places or lengths far outside.
    for (number, at) in (0..whole.len() - 4).step_by(148).enumerate() {
        let mut other = whole.clone();
        let word = [u32::MAX, 0x7fff_ffff, 0, whole.len() as u32][number % 4];
        other[at..at + 4].copy_from_slice(&word.to_le_bytes());
        is_taken(&path, &other);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.tflite");
    std::fs::write(&path, b"\x1c\0\0\0TFL3\x14\0\x20\0").expect("writes");
    let error = refused(&path);
    assert!(
        error.contains("model.tflite") && error.contains("TensorFlow Lite: damaged"),
        "{error}"
    );
    // An operator of another number, in both places where it stands: GELU (150).
    let mut bytes = std::fs::read(file("pixels")).expect("reads");
    let mut found = 0;
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == 150_u32.to_le_bytes() {
            bytes[at] = 116;
            found += 1;
        }
    }
    assert!(found > 0);
    std::fs::write(&path, bytes).expect("writes");
    let error = refused(&path);
    assert!(error.contains("operator ") && error.contains("not supported"), "{error}");
}

/// Keras's applications, as `tests/keras/tflite_models.py FOLDER` has them converted.
#[test]
fn applications_of_a_folder_answer_as_keras() {
    let Some(folder) = std::env::var_os("REKINDLE_READ_TFLITE").map(PathBuf::from) else {
        println!("left out, for REKINDLE_READ_TFLITE is not set");
        return;
    };
    for (name, expected) in &answers(&folder) {
        let mut model = open(&folder.join(format!("{name}.tflite")));
        let known = model.0.architecture().map(|known| known.to_string());
        println!("{name}: {known:?}, `{}`", model.0.preprocessing);
        if model.0.preprocessing == "caffe" {
            // The helper has no such words: as a layer in front it is none of theirs.
            continue;
        }
        model.0.assumed.clear();
        same(name, &answer(&model), expected, 1e-5);
    }
}
