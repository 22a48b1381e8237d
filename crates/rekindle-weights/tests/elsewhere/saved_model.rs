//! Keras 2's SavedModel folders.

use std::collections::BTreeMap;

use rekindle_weights::Checkpoint;

use super::{answer, copied, golden, open, refused, same};

#[test]
fn folders_of_keras_2_answer_as_it_does() {
    let text = std::fs::read(golden("saved_model/answers.json")).expect("golden answers");
    let answers: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(answers.len(), 2);
    for (name, expected) in &answers {
        for file in ["", "/saved_model.pb"] {
            let model = open(&golden(&format!("saved_model/{name}{file}")));
            same(name, &answer(&model), expected, 1e-6);
            assert_eq!(model.0.preprocessing, "tf");
            let is_told = model.0.assumed.iter().any(|line| line.contains("optimizer"));
            assert!(is_told, "{:?}", model.0.assumed);
        }
    }
    let model = open(&golden("saved_model/keras2/keras_metadata.pb"));
    same("keras_metadata.pb", &answer(&model), &answers["keras2"], 1e-6);
}

#[test]
fn folders_without_a_configuration_say_what_to_do() {
    for (name, expected) in [
        ("exported", &["saved_model.pb", "`model.export()`", "model.save(\"name.keras\")"][..]),
        ("own", &["keras_metadata.pb", "`Own`", "expected a Sequential or functional model"]),
    ] {
        let error = Checkpoint::open(golden(&format!("saved_model/{name}"))).expect_err(name);
        for word in expected {
            assert!(error.to_string().contains(word), "{name}: {error}");
        }
    }
}

#[test]
fn incomplete_and_damaged_folders_are_errors() {
    for file in ["variables/variables.index", "variables/variables.data-00000-of-00001"] {
        let folder = tempfile::tempdir().expect("a folder");
        copied(&folder, "saved_model/keras2");
        std::fs::remove_file(folder.path().join(file)).expect("removes");
        let error = refused(folder.path());
        assert!(error.contains(file), "{error}");
    }
    let (mut read, mut cut) = (0, 0);
    for file in ["keras24/saved_model.pb", "keras2/keras_metadata.pb"] {
        let (name, file) = file.split_once('/').expect("both");
        let folder = tempfile::tempdir().expect("a folder");
        copied(&folder, &format!("saved_model/{name}"));
        let path = folder.path().join(file);
        let whole = std::fs::read(&path).expect("reads");
        for at in (0..whole.len()).step_by(61) {
            std::fs::write(&path, &whole[..at]).expect("writes");
            // Only where one of its parts ends behind the model's own is the rest a whole file.
            let opened = Checkpoint::open(folder.path()).and_then(Checkpoint::resolve);
            cut += usize::from(opened.is_ok_and(|checkpoint| checkpoint.card().is_some()));
            let mut flipped = whole.clone();
            flipped[at] ^= 0x41;
            std::fs::write(&path, flipped).expect("writes");
            // Most of it is text that no answer depends on.
            let opened = Checkpoint::open(folder.path()).and_then(Checkpoint::resolve);
            read += usize::from(opened.is_ok());
        }
    }
    assert!(read > 100 && cut < 5, "{read}, {cut}");
    let empty = tempfile::tempdir().expect("a folder");
    assert!(refused(empty.path()).contains("a folder of no known kind"));
}
