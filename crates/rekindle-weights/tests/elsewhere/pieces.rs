//! Keras 3's sharded weights, and NumPy's archives: the same weights as in one file.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rekindle_weights::Checkpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{golden, refused};

/// Unpacks a golden file into the folder.
fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let packed = std::fs::File::open(golden(&format!("{name}.gz"))).expect("a golden file");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
    let path = folder.join(Path::new(name).file_name().expect("a name"));
    std::fs::write(&path, bytes).expect("writes");
    path
}

/// The index of the sharded file, with its shards beside it.
fn sharded() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for shard in 0..3 {
        unpacked(folder.path(), &format!("pieces/sharded_{shard:05}.weights.h5"));
    }
    let index = folder.path().join("sharded.weights.json");
    std::fs::copy(golden("pieces/sharded.weights.json"), &index).expect("copies");
    (folder, index)
}

/// The network's name, and every value by its variable's name.
fn values(path: &Path) -> (String, BTreeMap<String, Vec<f32>>) {
    let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
    let card = checkpoint.card().unwrap_or_else(|| panic!("{:?}", checkpoint.problem()));
    let network = card.architecture().expect("a known network").to_string();
    let all = 0..checkpoint.tensors().len();
    let values = all
        .map(|index| (checkpoint.tensors()[index].path(), checkpoint.read(index).expect("reads")));
    (network, values.collect())
}

#[test]
fn pieces_hold_what_one_file_holds() {
    let (folder, index) = sharded();
    let whole = values(&unpacked(folder.path(), "checkpoints/mobilenet_v2_keras3.weights.h5"));
    assert_eq!(whole.0, "mobilenet-v2 0.35, 224 x 224, no top");
    assert!(values(&index) == whole, "sharded");
    assert!(values(&golden("pieces/named.npz")) == whole, "named");
    assert!(values(&golden("pieces/order.npz")) == whole, "in order");
}

#[test]
fn a_damaged_index_is_an_error() {
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 5] = [
        (|map| map["/layers/conv2d/vars"] = json!("../x.weights.h5"), &["its own folder"]),
        (|map| map["/layers/conv2d/vars"] = json!(["gone.weights.h5"]), &["gone.weights.h5"]),
        (|map| map["/layers/conv2d/vars"] = json!(7), &["not the index"]),
        (
            |map| map["/layers/conv2d_999/vars"] = json!(["sharded_00000.weights.h5"]),
            &["`/layers/conv2d_999/vars`", "but it does not"],
        ),
        (
            |map| *map = json!({"/optimizer/vars": "sharded_00000.weights.h5"}),
            &["lists no tensors"],
        ),
    ];
    for (change, expected) in changes {
        let (_folder, path) = sharded();
        let text = std::fs::read(&path).expect("reads");
        let mut index: Value = serde_json::from_slice(&text).expect("JSON");
        change(&mut index["weight_map"]);
        std::fs::write(&path, index.to_string()).expect("writes");
        let error = refused(&path);
        for word in expected {
            assert!(error.contains(word), "{error}");
        }
    }
}

/// An array as NumPy writes it.
fn npy(header: &str, values: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

#[test]
fn arrays_that_are_not_weights_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.npz");
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
    for (name, header, length, expected) in [
        ("a/b", good.to_owned(), 7, "expected 75 for a shape of [2]"),
        ("a/b", good.replace("<f4", "|O"), 8, "pickled"),
        ("a/b", good.replace("<f4", ">f4"), 8, "found values of the kind `>f4`"),
        ("a/b", good.replace("(2,)", "(1, 2)").replace("False", "True"), 8, "Fortran"),
        ("a/b", good.replace("(2,)", "(9000000000000000000, 9)"), 8, "more than memory"),
        ("a/b", good.replace("(2,)", "(-2,)"), 8, "header is damaged"),
        ("a/b", good.replace("shape", "form"), 8, "header is damaged"),
        ("kernel", good.to_owned(), 8, "`kernel`: expected `layer/variable`"),
        ("arr_1", good.to_owned(), 8, "`arr_0` is missing"),
    ] {
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("creates"));
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(format!("{name}.npy"), options).expect("starts");
        archive.write_all(&npy(&header, &vec![0; length])).expect("writes");
        archive.finish().expect("finishes");
        assert!(refused(&path).contains(expected), "{expected}: {}", refused(&path));
    }
}
