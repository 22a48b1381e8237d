//! One small network: what its file looks like, what is refused, and what a changed file is read as.

use prost::Message;
use rekindle_nn::ops::{
    ActivationLayer, Conv2d, Dense, GlobalPool, Interpolation, Rescaling, Resizing,
};
use rekindle_nn::{Activation, Graph, GraphBuilder, Shape};

use super::{Case, Folder, ModelProto, anonymous, answer, loaded, wave};
use crate::{ExportOptions, ModelCard, export, variables_to_save};

/// A small network: a scale in front, a convolution, a clamp, classes.
fn small() -> Case {
    let (mut net, x) = GraphBuilder::new(Shape::map(8, 8, 3));
    let x = net.layer("scale", Rescaling::new(1.0 / 255.0, 0.0), &[x]).expect("a layer");
    let x = net.layer("conv", Conv2d::new(4, [3, 3]).strides(2), &[x]).expect("a layer");
    let clip = Activation::Clip { low: -0.25, high: 0.5 };
    let x = net.layer("clip", ActivationLayer::named(clip), &[x]).expect("a layer");
    let x = net.layer("pool", GlobalPool::average(), &[x]).expect("a layer");
    let x = net.layer("classes", Dense::new(3, Activation::Softmax), &[x]).expect("a layer");
    let mut card = ModelCard::new(net.finish(x).expect("a graph"));
    card.preprocessing = "none".into();
    card.classes = ["cat", "dog", "\u{20ac}"].map(str::to_owned).to_vec();
    card.resize = Some("bilinear".into());
    let images = wave("small", 2 * 8 * 8 * 3).map(|value| (value + 1.0) * 127.5).collect();
    Case::new("small".into(), card, images)
}

/// What writing a network says where one of its values is another.
fn refused(layer: &str, value: f32, options: ExportOptions) -> String {
    let (folder, case) = (tempfile::tempdir().expect("a folder"), small());
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "old").expect("writes");
    let (tensors, mut values) = variables_to_save(&case.network);
    let place = tensors.iter().position(|info| info.layer == layer).expect("a tensor");
    values[place][1] = value;
    let error = export(&path, &case.card, &tensors, values, options).expect_err("an error");
    assert_eq!(std::fs::read(&path).expect("reads"), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
    error.to_string()
}

#[test]
fn what_cannot_be_written_is_named() {
    let half = ExportOptions { half: true, ..ExportOptions::default() };
    let error = refused("conv", 70_000.0, half);
    assert!(error.contains("`conv/kernel` holds 70000"), "{error}");
    assert!(error.contains("too large for a 16-bit float"), "{error}");
    let error = refused("classes", f32::NAN, ExportOptions::default());
    assert!(error.contains("`classes/kernel` holds NaN at position 1"), "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    let written = |graph: Graph| {
        let case = ModelCard { preprocessing: "none".into(), ..ModelCard::new(graph) };
        export(&path, &case, &[], Vec::new(), ExportOptions::default())
            .expect_err("an error")
            .to_string()
    };
    let (mut net, x) = GraphBuilder::new(Shape::Flat(4));
    let x = net.layer("tanh", ActivationLayer::named(Activation::Tanh), &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    assert!(error.contains("takes vectors, (None, 4)"), "{error}");
    let (mut net, x) = GraphBuilder::new(Shape::map(20_000, 1, 1));
    let resizing = Resizing::new(10_000, 1).interpolation(Interpolation::Bicubic);
    let x = net.layer("smaller", resizing, &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    let expected = "layer `smaller` (Resizing) cannot be written as ONNX: ONNX's Resize computes bicubic of 20000";
    assert!(error.contains(expected), "{error}");
    let (mut net, x) = GraphBuilder::new(Shape::map(4, 4, 3));
    let x = net.layer("conv", Conv2d::new(4, [3, 3]), &[x]).expect("a layer");
    let error = written(net.finish(x).expect("a graph"));
    assert!(error.contains("`conv/kernel` has no values of shape [3, 3, 3, 4]"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_same_model_is_the_same_bytes() {
    let (folder, case) = (tempfile::tempdir().expect("a folder"), small());
    let [a, b] = ["a.onnx", "b.onnx"].map(|name| {
        let path = folder.path().join(name);
        case.export(&path, ExportOptions::default()).expect("writes");
        std::fs::read(path).expect("reads")
    });
    assert_eq!(a, b);
    let model = ModelProto::decode(a.as_slice()).expect("ONNX");
    let entry = |key: &str| {
        let entry = model.metadata_props.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.clone())
    };
    assert_eq!(entry("classes").as_deref(), Some("[\"cat\",\"dog\",\"\u{20ac}\"]"));
    assert_eq!(entry("preprocessing").as_deref(), Some("none"));
    assert!(model.doc_string.contains("`image`, float32 [batch, 8, 8, 3], RGB from 0 to 255"));
    let graph = model.graph.expect("a graph");
    let names: Vec<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
    let expected = [
        "image/Transpose",
        "scale",
        "conv",
        "clip",
        "pool/GlobalAveragePool",
        "pool",
        "classes/Gemm",
        "classes",
    ];
    assert_eq!(names, expected);
    let names: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let expected = [
        "constant/0.003921569",
        "conv/kernel",
        "constant/-0.25",
        "constant/0.5",
        "classes/kernel",
        "classes/bias",
    ];
    assert_eq!(names, expected);
}

/// Layers may be called as what a file has names for too.
#[test]
fn names_of_layers_are_no_others() {
    let (folder, image) = (Folder::new("REKINDLE_WRITE_ONNX"), Shape::map(8, 7, 3));
    let (mut net, x) = GraphBuilder::new(image);
    let x = net.layer("image", Rescaling::new(0.5, 0.25), &[x]).expect("a layer");
    let x = net.layer("conv", Conv2d::new(4, [3, 3]), &[x]).expect("a layer");
    let tanh = ActivationLayer::named(Activation::Tanh);
    let x = net.layer("conv/kernel", tanh.clone(), &[x]).expect("a layer");
    let x = net.layer("constant/0.5", GlobalPool::average(), &[x]).expect("a layer");
    let x = net.layer("probabilities", Dense::new(3, Activation::Softmax), &[x]).expect("a layer");
    let case = Case::of_ops("names".into(), net.finish(x).expect("a graph"));
    let path = folder.path.join("op_names.onnx");
    case.export(&path, ExportOptions::default()).expect("writes");
    let (card, network) = loaded(&path);
    assert_eq!(card, case.card);
    assert!(case.off(&answer(&network, "none", &case.images)) <= 1e-6);
    let (card, network) = loaded(&anonymous(&path));
    assert!(case.off(&answer(&network, &card.preprocessing, &case.images)) <= 1e-6);
    std::fs::remove_file(path.with_extension("anonymous.onnx")).expect("removes");
    if folder.is_kept() {
        case.keep(&path, false);
    }
}

/// A card is no excuse: what the nodes and constants of a changed file say counts.
#[test]
fn a_changed_file_is_read_by_what_it_says() {
    let (folder, case) = (tempfile::tempdir().expect("a folder"), small());
    let path = folder.path().join("model.onnx");
    case.export(&path, ExportOptions::default()).expect("writes");
    let whole = ModelProto::decode(std::fs::read(&path).expect("reads").as_slice()).expect("ONNX");
    let is_other = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = whole.clone();
        change(&mut model);
        std::fs::write(&path, model.encode_to_vec()).expect("writes");
        let (card, network) = loaded(&path);
        // What no node says.
        assert_eq!(card.classes, case.card.classes);
        assert_eq!(card.resize, case.card.resize);
        let is_said = card
            .assumed
            .iter()
            .any(|line| line.contains("another than the one that Rekindle wrote"));
        (case.off(&answer(&network, &card.preprocessing, &case.images)), is_said)
    };
    assert_eq!(is_other(&|_| ()), (0.0, false));
    let constant = |name: &'static str, value: f32| {
        move |model: &mut ModelProto| {
            let tensors = &mut model.graph.as_mut().expect("a graph").initializer;
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).expect("a constant");
            tensor.raw_data = value.to_le_bytes().to_vec().into();
        }
    };
    let (off, is_said) = is_other(&constant("constant/0.5", 0.125));
    assert!(off > 1e-4 && is_said, "{off}");
    let (off, is_said) = is_other(&constant("constant/0.003921569", 0.01));
    assert!(off > 1e-4 && is_said, "{off}");
    let (off, is_said) = is_other(&|model| {
        let nodes = &mut model.graph.as_mut().expect("a graph").node;
        let clip = nodes.iter_mut().find(|node| node.op_type == "Clip").expect("a clamp");
        (clip.op_type, clip.input) = ("Relu".into(), clip.input[..1].to_vec());
    });
    assert!(off > 1e-4 && is_said, "{off}");
    let (off, is_said) = is_other(&|model| {
        let nodes = &mut model.graph.as_mut().expect("a graph").node;
        let conv = nodes.iter_mut().find(|node| node.op_type == "Conv").expect("a convolution");
        let pads = conv.attribute.iter_mut().find(|found| found.name == "pads").expect("pads");
        pads.ints = vec![1, 1, 0, 0];
    });
    assert!(off > 1e-4 && is_said, "{off}");
    // Other weights are the network's own.
    let (off, is_said) = is_other(&|model| {
        let tensors = &mut model.graph.as_mut().expect("a graph").initializer;
        let bias = tensors.iter_mut().find(|tensor| tensor.name == "classes/bias").expect("a bias");
        bias.raw_data = [1.0_f32, 0.0, -1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    });
    assert!(off > 1e-4 && !is_said, "{off}");
}
