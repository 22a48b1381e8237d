//! One small network: what its file says, what is refused, and what a changed file is read as.

use std::path::Path;

use prost::bytes::Bytes;
use rekindle_nn::ops::{
    ActivationLayer, BatchNorm, Conv2d, Dense, GlobalPool, Interpolation, Resizing,
};
use rekindle_nn::{Activation, Graph, GraphBuilder, Shape};

use super::File;
use super::written::anonymous;
use crate::onnx::written::{Case, answer, loaded, wave};
use crate::{ExportOptions, ModelCard, Origin, export, variables_to_save};

/// A small network: a convolution, a normalization, a clamp, classes.
fn small(preprocessing: &str) -> Case {
    let (mut net, x) = GraphBuilder::new(Shape::map(8, 9, 3));
    let x = net.layer("conv", Conv2d::new(4, [3, 3]).strides(2), &[x]).expect("a layer");
    let x = net.layer("norm", BatchNorm::new(), &[x]).expect("a layer");
    let relu = ActivationLayer::layer(Activation::Relu6);
    let x = net.layer("relu", relu, &[x]).expect("a layer");
    let x = net.layer("pool", GlobalPool::average(), &[x]).expect("a layer");
    let x = net.layer("classes", Dense::new(3, Activation::Softmax), &[x]).expect("a layer");
    let mut card = ModelCard::new(net.finish(x).expect("a graph"));
    card.preprocessing = preprocessing.into();
    card.classes = ["cat", "dog", "\u{20ac}"].map(str::to_owned).to_vec();
    card.resize = Some("bilinear".into());
    let images = wave("small", 2 * 8 * 9 * 3).map(|value| (value + 1.0) * 127.5).collect();
    Case::new("small".into(), card, images)
}

fn bare() -> ExportOptions {
    ExportOptions { preprocessing: false, ..ExportOptions::default() }
}

fn file(path: &Path) -> File {
    File::new(Bytes::from(std::fs::read(path).expect("reads"))).expect("a file")
}

#[test]
fn the_metadata_says_what_is_left_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.tflite");
    let case = small("tf");
    case.export(&path, ExportOptions::default()).expect("writes");
    let first = std::fs::read(&path).expect("reads");
    let said = file(&path).said;
    assert_eq!(said.normalization, Some((vec![0.0], vec![1.0])));
    assert_eq!(said.classes, case.card.classes);
    case.export(&path, ExportOptions::default()).expect("writes");
    assert_eq!(std::fs::read(&path).expect("reads"), first);

    for (mode, mean, std) in [
        ("tf", vec![127.5], vec![127.5]),
        ("torch", vec![123.675, 116.28, 103.53], vec![58.395, 57.12, 57.375]),
        ("none", vec![0.0], vec![1.0]),
        ("rescale:0.5:1", vec![-2.0], vec![2.0]),
    ] {
        let case = small(mode);
        case.export(&path, bare()).expect("writes");
        assert_eq!(file(&path).said.normalization, Some((mean, std)), "{mode}");
        assert_eq!(loaded(&path).0, case.card, "{mode}");
        // By what it says alone.
        let (card, network) = loaded(&anonymous(&path));
        assert_eq!(card.origins.preprocessing, Origin::File, "{mode}");
        let off = case.off(&answer(&network, &card.preprocessing, &case.images));
        assert!(off <= 1e-5, "{mode}: {off:e}");
        assert_eq!(card.classes, case.card.classes, "{mode}");
    }
    let error = small("caffe").export(&path, bare()).expect_err("an error").to_string();
    assert!(error.contains("channels in another order (BGR)"), "{error}");
    small("caffe").export(&path, ExportOptions::default()).expect("writes");
}

#[test]
fn what_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.tflite");
    std::fs::write(&path, "old").expect("writes");
    let refused = |layer: &str, value: f32, half: bool| {
        let case = small("tf");
        let (tensors, mut values) = variables_to_save(&case.network);
        let place = tensors.iter().position(|info| info.layer == layer).expect("a tensor");
        values[place][1] = value;
        let options = ExportOptions { half, ..ExportOptions::default() };
        let error = export(&path, &case.card, &tensors, values, options).expect_err("an error");
        assert_eq!(std::fs::read(&path).expect("reads"), b"old");
        error.to_string()
    };
    let error = refused("conv", 70_000.0, true);
    assert!(error.contains("`conv/kernel`: holds 70000"), "{error}");
    assert!(error.contains("too large for a 16-bit float"), "{error}");
    let error = refused("classes", f32::NAN, false);
    assert!(error.contains("`classes/kernel` holds NaN at position 1"), "{error}");

    let mut case = small("tf");
    case.card.classes[1] = "a\nb".into();
    let error = case.export(&path, ExportOptions::default()).expect_err("an error").to_string();
    assert!(error.contains("has a line break"), "{error}");
    let written = |graph: Graph| {
        let card = ModelCard { preprocessing: "none".into(), ..ModelCard::new(graph) };
        let options = ExportOptions::default();
        export(&path, &card, &[], Vec::new(), options).expect_err("an error").to_string()
    };
    let (mut net, x) = GraphBuilder::new(Shape::Flat(4));
    let tanh = ActivationLayer::named(Activation::Tanh);
    let x = net.layer("tanh", tanh, &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    assert!(error.contains("takes vectors, (None, 4)"), "{error}");
    let (mut net, x) = GraphBuilder::new(Shape::map(20_000, 1, 1));
    let resizing = Resizing::new(10_000, 1).interpolation(Interpolation::Bicubic);
    let x = net.layer("smaller", resizing, &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    let expected = "layer `smaller` (Resizing) cannot be written as TensorFlow Lite: ";
    assert!(error.contains(expected), "{error}");
    let (mut net, x) = GraphBuilder::new(Shape::map(4, 4, 3));
    let x = net.layer("conv", Conv2d::new(4, [3, 3]), &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    assert!(error.contains("`conv/kernel`: it has no values of shape [3, 3, 3, 4]"), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), b"old");
}

/// A card is no excuse: what the operators and constants of a changed file say counts.
#[test]
fn a_changed_file_is_read_by_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.tflite");
    let case = small("tf");
    case.export(&path, ExportOptions::default()).expect("writes");
    let parts = file(&path);
    let whole = std::fs::read(&path).expect("reads");
    // Another value for the first of a constant.
    let changed = |tensor: &str| {
        let found = parts.tensors.iter().find(|found| found.name == tensor).expect("a tensor");
        let at = found.data.clone().expect("values").start;
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&0.75_f32.to_le_bytes());
        std::fs::write(&path, bytes).expect("writes");
        let (card, network) = loaded(&path);
        assert_eq!(card.classes, case.card.classes);
        assert_eq!(card.resize, case.card.resize);
        let is_said = card
            .assumed
            .iter()
            .any(|line| line.contains("another than the one that Rekindle wrote"));
        (case.off(&answer(&network, &card.preprocessing, &case.images)), is_said)
    };
    // What the normalization's variables come to, a part of the preprocessing, and weights of the network's own.
    let (off, is_said) = changed("norm/scale");
    assert!(off > 1e-4 && is_said, "{off}");
    let (off, is_said) = changed("constant/-1");
    assert!(off > 1e-4 && is_said, "{off}");
    let (off, is_said) = changed("classes/bias");
    assert!(off > 1e-4 && !is_said, "{off}");
}
