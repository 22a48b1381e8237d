//! Files that TensorFlow wrote (`tests/keras/tf_checkpoints.py`), whole and damaged.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Checkpoint;

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints");
    folder.join("tensorflow").join(name)
}

#[derive(Deserialize)]
struct Expected {
    /// Values by name in the file.
    by_name: HashMap<String, BTreeMap<String, Vec<f32>>>,
    /// Values in the model's order.
    in_order: HashMap<String, Vec<Vec<f32>>>,
}

fn expected() -> Expected {
    let text = std::fs::read_to_string(golden("values.json")).expect("a golden file");
    serde_json::from_str(&text).expect("values")
}

fn paths(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.tensors().iter().map(crate::TensorInfo::path).collect()
}

fn values(checkpoint: &mut Checkpoint) -> Vec<Vec<f32>> {
    let numbers = 0..checkpoint.tensors().len();
    numbers.map(|index| checkpoint.read(index).expect("reads")).collect()
}

/// The files of a checkpoint in a folder of their own, unpacked.
fn unpacked(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for ending in ["", ".index", ".data-00000-of-00001"] {
        let packed = std::fs::File::open(golden(&format!("{name}{ending}.gz")));
        let Ok(packed) = packed else { continue };
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
        std::fs::write(folder.path().join(format!("{name}{ending}")), bytes).expect("writes");
    }
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
fn every_value_is_the_one_that_was_saved() {
    for (file, expected) in expected().by_name {
        let mut checkpoint = Checkpoint::open(golden(&file)).expect(&file);
        let all = values(&mut checkpoint);
        for (index, found) in all.iter().enumerate() {
            let name = checkpoint.name_in_file(index);
            assert_eq!(*found, expected[name], "{file}: {name}");
        }
        let is_weight = |name: &&String| {
            !name.contains("RMSProp")
                && !["global_step", "AuxLogits", "Average"].iter().any(|part| name.contains(part))
        };
        assert_eq!(all.len(), expected.keys().filter(is_weight).count(), "{file}");
    }
}

#[test]
fn names_of_tf_slim_are_kerass() {
    for file in ["slim_v1.ckpt", "slim_v2.ckpt"] {
        let checkpoint = Checkpoint::open(golden(file)).expect(file);
        let mut names = paths(&checkpoint);
        names.sort();
        let block = "Mixed_3b/Branch_0/Conv2d_0a_1x1";
        let expected = [
            "Conv2d_1a_7x7/depthwise_kernel".to_owned(),
            "Conv2d_1a_7x7/pointwise_kernel".to_owned(),
            "Conv2d_2a/kernel".to_owned(),
            "Logits/Conv2d_0c_1x1/bias".to_owned(),
            "Logits/Conv2d_0c_1x1/kernel".to_owned(),
            format!("{block}/BatchNorm/beta"),
            format!("{block}/BatchNorm/moving_mean"),
            format!("{block}/BatchNorm/moving_variance"),
            format!("{block}/kernel"),
        ];
        assert_eq!(names, expected);
        let said = checkpoint.left_out().join("\n");
        for part in ["`global_step`", "12 tensors", "`InceptionV1/AuxLogits/Conv2d_1c/weights`"] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn objects_are_in_the_order_of_layers() {
    for (file, expected) in expected().in_order {
        let mut checkpoint = Checkpoint::open(golden(&file)).expect(&file);
        let found: Vec<Vec<f32>> = values(&mut checkpoint);
        // Of a layer the order of variables is that of its attributes.
        let sorted = |mut all: Vec<Vec<f32>>| {
            all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            all
        };
        assert_eq!(sorted(found), sorted(expected), "{file}");
        let mut layers: Vec<&str> = Vec::new();
        for tensor in checkpoint.tensors() {
            if layers.last() != Some(&tensor.layer.as_str()) {
                layers.push(&tensor.layer);
            }
        }
        let classes = ["normalization", "conv2d", "batch_normalization", "conv2d_1"];
        let classes = [&classes[..], &["depthwise_conv2d", "separable_conv2d", "dense"]].concat();
        assert_eq!(layers, classes, "{file}");
        let names = paths(&checkpoint);
        for name in ["normalization/count", "depthwise_conv2d/kernel", "dense/bias"] {
            assert!(names.iter().any(|own| own == name), "{file}: no {name} in {names:?}");
        }
    }
}

#[test]
fn a_known_network_is_found_by_order_and_by_name() {
    // The last is of version 1, with its tensors in several blocks.
    for name in ["mobilenet", "mobilenet_v2.ckpt", "mobilenet_v1.ckpt"] {
        let (_folder, path) = unpacked(name);
        for ending in ["", ".index", ".data-00000-of-00001"] {
            if name == "mobilenet_v1.ckpt" && !ending.is_empty() {
                continue;
            }
            let path = PathBuf::from(format!("{}{ending}", path.display()));
            let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("reads");
            let card = checkpoint.card().expect("a known network");
            let known = card.architecture().expect("known").to_string();
            assert!(known.starts_with("mobilenet 0.25"), "{known}");
            let graph = &card.graph;
            let order = graph.keras_order().into_iter().flat_map(|position| {
                let layer = &graph.layers()[position].name;
                let variables = graph.variables(position).into_iter();
                variables.map(move |variable| format!("{layer}/{}", variable.name))
            });
            let order: Vec<String> = order.collect();
            assert_eq!(order.len(), checkpoint.tensors().len());
            // Keras's order, from 1 on.
            for (index, own) in paths(&checkpoint).iter().enumerate() {
                let number = order.iter().position(|name| name == own).expect("a variable") + 1;
                let values = checkpoint.read(index).expect("reads");
                assert!(values.iter().all(|value| *value == number as f32), "{own}: {number}");
            }
        }
    }
}

#[test]
fn what_is_left_out_is_said_on_the_card() {
    let (_folder, path) = unpacked("mobilenet");
    let checkpoint = Checkpoint::open(path).expect("opens").with_left_out(vec!["a line".into()]);
    let card = checkpoint.resolve().expect("resolves").card().cloned().expect("known");
    assert!(card.assumed.contains(&"a line".to_owned()), "{:?}", card.assumed);
    let trained = Checkpoint::open(golden("keras2_weights")).expect("opens");
    assert!(trained.left_out()[0].contains("optimizer/"), "{:?}", trained.left_out());
}

pub(super) fn refused(path: &Path) -> String {
    let error = Checkpoint::open(path).expect_err("refused").to_string();
    assert!(error.contains("tensorflow") || error.contains("/tmp"), "names the file: {error}");
    error
}

#[test]
fn partitioned_variables_are_refused_by_name() {
    for file in ["partitioned_v1", "partitioned_v2"] {
        let error = refused(&golden(file));
        assert!(error.contains("`net/b/weights`") && error.contains("slices"), "{error}");
    }
}

/// Opens a file and reads all of it.
pub(super) fn whole(path: &Path) -> Result<(), String> {
    let mut checkpoint = Checkpoint::open(path).map_err(|error| error.to_string())?;
    for index in 0..checkpoint.tensors().len() {
        checkpoint.read(index).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error() {
    let files: [(&str, &[&str]); 3] = [
        ("types_v1.ckpt", &[""]),
        ("types_v2.ckpt", &[".index", ".data-00000-of-00001"]),
        ("keras2_checkpoint", &[".index"]),
    ];
    for (name, endings) in files {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |ending: &str| folder.path().join(format!("{name}{ending}"));
        let all = if endings == [""] { vec![""] } else { vec![".index", ".data-00000-of-00001"] };
        for ending in all {
            std::fs::copy(golden(&format!("{name}{ending}")), place(ending)).expect("copies");
        }
        for ending in endings {
            let bytes = std::fs::read(place(ending)).expect("reads");
            let check = |changed: &[u8], what: String| {
                std::fs::write(place(ending), changed).expect("writes");
                whole(&place(ending)).expect_err(&what)
            };
            for length in 0..bytes.len() {
                check(&bytes[..length], format!("{name}{ending} of {length} bytes"));
            }
            for position in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[position] ^= 1;
                check(&changed, format!("byte {position} of {name}{ending}"));
            }
            std::fs::write(place(ending), &bytes).expect("writes");
        }
    }
}
