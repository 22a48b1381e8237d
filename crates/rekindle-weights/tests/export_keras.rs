//! Models that are exported as Keras's files and read again are the same models, and every operation is written as layers
//! of Keras that compute it, or refused by name.
//!
//! Keras itself reads them where tests/keras/export_keras.py is run on what [`writes_files_for_keras`] leaves.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use rekindle_nn::ops::{
    ActivationLayer, BatchNorm, CenterCrop, Concatenate, Conv2d, Cropping2d, Dense,
    DepthwiseConv2d, Dropout, Fit, Flatten, GlobalPool, GroupNorm, Identity, Interpolation,
    LayerNorm, LayerScale, Lrn, Merge, MergeKind, Noise, NoiseKind, Normalization, Permute, Pool2d,
    PoolKind, Prelu, RandomCrop, Rescaling, Reshape, Resizing, ScaledAdd, SeparableConv2d,
    SharedDropout, SoftmaxOver, Statistics, TrainingOnly, UnitNorm, ZeroPadding2d,
};
use rekindle_nn::{
    Activation, Architecture, Eager, FAMILIES, Family, Features, Graph, GraphBuilder, HeadConfig,
    Network, Op, Padding, Shape, Window, floats,
};
use rekindle_weights::{
    Checkpoint, Dtype, ExportOptions, ModelCard, TensorInfo, WeightsError, export, load, save,
    variables_to_save,
};
use serde_json::{Map, json};

/// Networks with more parameters are left out where `REKINDLE_LARGE` is not set.
const LARGE: usize = 30_000_000;

/// The least variant of a family, at its least size.
fn least(family: &'static Family) -> Architecture {
    let mut architecture = Architecture::new(family).with_size(family.least_size);
    let least = family.alphas.iter().copied().min_by(f64::total_cmp);
    architecture.settings.alpha = least.or(architecture.settings.alpha);
    architecture
}

/// The families with their least variants, and how many parameters these have with ImageNet's top.
fn families() -> Vec<(&'static Family, Architecture, usize)> {
    let with_large = std::env::var_os("REKINDLE_LARGE").is_some();
    let count = |known: Architecture| {
        known.with_top(Some(1000)).graph().expect("builds").summary().parameters.total
    };
    let all = FAMILIES.iter().map(|family| (*family, least(family), count(least(family))));
    let (kept, left_out): (Vec<_>, Vec<_>) =
        all.partition(|(_, _, parameters)| *parameters <= LARGE || with_large);
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|(family, _, _)| family.name).collect();
        println!("left out, for REKINDLE_LARGE is not set: {}", names.join(", "));
    }
    kept
}

/// A network without top and a small head.
fn headed(known: Architecture) -> Graph {
    let head = HeadConfig::default().dense(4, Activation::Relu);
    head.graph(&known.graph().expect("builds"), 3).expect("a head")
}

/// A card with something in every field that a trained model has.
fn card(graph: Graph) -> ModelCard {
    let outputs = graph.classes().unwrap_or(0);
    let mut card = ModelCard::new(graph);
    card.classes = (0..outputs).map(|class| format!("class {class}, \u{e4}")).collect();
    card.resize = Some("tf-bilinear".into());
    card.transparency = Some("black".into());
    card.orientation = Some("apply".into());
    card.description = "a test's".into();
    card
}

/// Variables as a trained network may have them: none is only 0 or 1.
fn variables(graph: &Graph) -> Vec<(TensorInfo, Vec<f32>)> {
    let network = Network::<Flex>::init(graph.clone(), 7, &Default::default());
    let (tensors, mut values) = variables_to_save(&network);
    for (tensor, values) in tensors.iter().zip(&mut values) {
        let is_kernel = tensor.variable.contains("kernel");
        for (place, value) in values.iter_mut().enumerate().filter(|_| !is_kernel) {
            let noise = ((place * 7919) % 211) as f32 / 211.0;
            *value = match tensor.variable.as_str() {
                "count" => 3.0,
                "gamma" | "moving_variance" | "variance" => 0.75 + 0.5 * noise,
                _ => 0.2 * noise - 0.1,
            };
        }
    }
    tensors.into_iter().zip(values).collect()
}

/// A network of these variables.
fn network(graph: &Graph, variables: Vec<(TensorInfo, Vec<f32>)>) -> Network<Flex> {
    let network = Network::<Flex>::init(graph.clone(), 1, &Default::default());
    let mut checkpoint = Checkpoint::from_tensors("memory", variables);
    load(network, "it", &mut checkpoint).expect("loads").network
}

fn written(
    path: &Path,
    card: &ModelCard,
    variables: &[(TensorInfo, Vec<f32>)],
    options: ExportOptions,
) -> Result<(), WeightsError> {
    let (tensors, values): (Vec<_>, Vec<_>) = variables.iter().cloned().unzip();
    export(path, card, &tensors, values, options).map(drop)
}

/// What a file holds: its card, and its network.
fn opened(path: &Path) -> (ModelCard, Network<Flex>) {
    let what = path.display();
    let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
    let card = checkpoint.card().cloned();
    let card = card.unwrap_or_else(|| panic!("{what}: {:?}", checkpoint.problem()));
    let network = Network::<Flex>::init(card.graph.clone(), 1, &Default::default());
    let loaded = load(network, "it", &mut checkpoint).unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.unused.is_empty(), "{what}: {:?}", loaded.unused);
    (card, loaded.network)
}

/// Sees that a file is the model of this card.
fn is_again(path: &Path, card: &ModelCard, variables: &[(TensorInfo, Vec<f32>)]) {
    let what = path.display();
    let (found, network) = opened(path);
    for (found, expected) in found.graph.layers().iter().zip(card.graph.layers()) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.graph.base(), card.graph.base(), "{what}");
    assert_eq!(found, *card, "{what}");
    let (tensors, values) = variables_to_save(&network);
    let mut found: HashMap<String, Vec<f32>> =
        tensors.iter().map(TensorInfo::path).zip(values).collect();
    for (tensor, expected) in variables {
        let found = found.remove(&tensor.path()).unwrap_or_default();
        let is_same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(is_same, "{what}: {}", tensor.path());
    }
}

#[test]
fn every_family_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for (family, base, parameters) in families() {
        let topped = base.with_top(Some(1000)).graph().expect("builds");
        let headed = headed(base);
        // Both ways to both formats where it is cheap.
        let ways = [(&headed, "keras"), (&topped, "h5"), (&headed, "h5"), (&topped, "keras")];
        for (graph, ending) in ways.into_iter().take(if parameters < 6_000_000 { 4 } else { 2 }) {
            let path = folder.path().join(format!("{}.{ending}", family.name));
            let (card, variables) = (card(graph.clone()), variables(graph));
            written(&path, &card, &variables, ExportOptions::default()).expect("exports");
            is_again(&path, &card, &variables);
            std::fs::remove_file(&path).expect("removes");
        }
    }
}

const FUNCTIONS: &[Activation] = &[
    Activation::Linear,
    Activation::Relu,
    Activation::Relu6,
    Activation::ReluOf { max_value: Some(3.0), negative_slope: 0.1, threshold: 0.5 },
    Activation::LeakyRelu(0.2),
    Activation::LeakyRelu(0.1),
    Activation::LeakyRelu(-0.5),
    Activation::Elu(1.0),
    Activation::Elu(0.5),
    Activation::Selu,
    Activation::Celu(1.0),
    Activation::Celu(0.5),
    Activation::Gelu,
    Activation::GeluApproximate,
    Activation::Silu,
    Activation::HardSilu,
    Activation::HardSigmoid,
    Activation::HARD_SIGMOID_2,
    Activation::Sigmoid,
    Activation::LogSigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::Softsign,
    Activation::Exponential,
    Activation::Mish,
    Activation::Clip { low: -2.0, high: 3.0 },
    Activation::Clip { low: -1.0, high: 1.0 },
    Activation::Clip { low: 0.0, high: 2.5 },
    Activation::Clip { low: 0.5, high: f32::MAX as f64 },
    Activation::Clip { low: f32::MIN as f64, high: 0.5 },
    Activation::TanhShrink,
    Activation::SoftShrink(0.5),
    Activation::SoftShrink(0.25),
    Activation::HardShrink(0.5),
    Activation::HardShrink(0.75),
    Activation::Squareplus(4.0),
    Activation::Squareplus(2.0),
    Activation::SparsePlus,
    Activation::Threshold { threshold: 1.0, value: 0.0 },
    Activation::Threshold { threshold: 1.0, value: -2.0 },
    Activation::Softmax,
    Activation::LogSoftmax,
];

/// What the files of an operation's example are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Both formats.
    Both,
    /// `.keras` alone: Keras 2 has no such layer.
    New,
    /// None.
    Neither,
}

/// Operations on maps of 7 x 9 and 4 channels, or of these and others, with settings that are not Keras's own.
fn examples() -> Vec<(Op, Written)> {
    use Written::{Both, Neither, New};
    let window =
        Window { kernel: [3, 5], stride: [2, 2], padding: Padding::Valid, dilation: [1, 1] };
    let skewed = Window { stride: [2, 1], padding: Padding::Same, ..window };
    let dilated = Window { stride: [1, 1], dilation: [2, 2], ..window };
    let explicit = Window { padding: Padding::Explicit([[1, 1], [2, 1]]), ..window };
    let around = Window { padding: Padding::Explicit([[2, 0], [0, 0]]), ..window };
    let pool = |kind, window, counts_padding| Pool2d { kind, window, counts_padding };
    let (max, average) = (PoolKind::Max, PoolKind::Average);
    let same = Window { padding: Padding::Same, ..window };
    let statistics =
        Statistics { mean: vec![0.5, 1.0, -1.0, 0.0], variance: vec![2.0, 3.0, 0.5, 1.0] };
    let one = Statistics { mean: vec![0.5], variance: vec![2.0] };
    let only = |class: &str, settings: Map<String, serde_json::Value>| {
        Op::from(TrainingOnly { class: class.into(), settings })
    };
    let mode = Map::from_iter([("mode".to_owned(), json!("horizontal"))]);
    let factor = Map::from_iter([("factor".to_owned(), json!(0.2))]);
    let resizing = Resizing::new(5, 6);
    let depthwise = DepthwiseConv2d::new([3, 5]);
    let mut examples: Vec<(Op, Written)> = vec![
        (Conv2d { window, groups: 2, ..Conv2d::new(8, [3, 5]).with_bias() }.into(), Both),
        (Conv2d { window: dilated, ..Conv2d::new(8, [3, 5]) }.into(), Both),
        (Conv2d { window: explicit, ..Conv2d::new(8, [3, 5]) }.into(), Both),
        (
            Conv2d { window: Window { dilation: [2, 1], ..window }, ..Conv2d::new(8, [3, 5]) }
                .into(),
            Neither,
        ),
        (DepthwiseConv2d { window, depth_multiplier: 2, ..depthwise.clone() }.into(), Both),
        (
            DepthwiseConv2d {
                window: skewed,
                depth_multiplier: 2,
                bias: true,
                ..depthwise.clone()
            }
            .into(),
            Both,
        ),
        (DepthwiseConv2d { window: explicit, ..depthwise }.into(), Both),
        (
            SeparableConv2d { window, depth_multiplier: 2, ..SeparableConv2d::new(6, [3, 5]) }
                .into(),
            Both,
        ),
        (
            SeparableConv2d { window: explicit, ..SeparableConv2d::new(6, [3, 5]).with_bias() }
                .into(),
            Both,
        ),
        (SeparableConv2d { window: skewed, ..SeparableConv2d::new(6, [3, 5]) }.into(), Neither),
        (Dense::new(7, Activation::Softmax).into(), Both),
        (Dense { bias: false, l2: 0.01, ..Dense::new(7, Activation::Relu) }.into(), Both),
        (BatchNorm { center: false, ..BatchNorm::new().momentum(0.9).epsilon(1e-5) }.into(), Both),
        (BatchNorm::new().scale(false).into(), Both),
        (LayerNorm { axes: vec![1, 2, 3], epsilon: 1e-6, center: false, scale: true }.into(), New),
        (LayerNorm { scale: false, ..LayerNorm::new() }.into(), Both),
        (GroupNorm { center: false, epsilon: 0.1, ..GroupNorm::new(2) }.into(), Both),
        (GroupNorm { groups: None, scale: false, ..GroupNorm::new(1) }.into(), Both),
        (UnitNorm { axes: vec![1, 2] }.into(), New),
        (UnitNorm { axes: vec![-1] }.into(), Both),
        (Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 2.0 }.into(), Neither),
        (Normalization::new().into(), Both),
        (Normalization { axes: Vec::new(), given: None, invert: false }.into(), New),
        (Normalization { axes: Vec::new(), given: Some(one), invert: true }.into(), Both),
        (Normalization { axes: vec![-1], given: Some(statistics), invert: false }.into(), Both),
        (LayerScale { initial: 0.1, channels: 4 }.into(), Both),
        (SoftmaxOver { axes: vec![1] }.into(), Both),
        (SoftmaxOver { axes: vec![1, 2] }.into(), New),
        (Prelu { shared_axes: vec![1, 2] }.into(), Both),
        (Prelu { shared_axes: Vec::new() }.into(), Both),
        (pool(max, same, false).into(), Both),
        (pool(max, window, false).into(), Both),
        (pool(max, explicit, false).into(), Both),
        (pool(max, around, false).into(), Neither),
        (pool(max, Window { dilation: [2, 1], ..window }, false).into(), Neither),
        (pool(average, same, false).into(), Both),
        (pool(average, same, true).into(), Both),
        (pool(average, explicit, false).into(), Both),
        (pool(average, explicit, true).into(), Both),
        (GlobalPool::average().keep_dims().into(), Both),
        (GlobalPool::max().into(), Both),
        (ZeroPadding2d { padding: [[1, 2], [3, 4]] }.into(), Both),
        (Cropping2d { cropping: [[1, 2], [3, 1]] }.into(), Both),
        (CenterCrop { height: 3, width: 4 }.into(), Both),
        (RandomCrop { height: 3, width: 4, resizes: false }.into(), New),
        (RandomCrop { height: 3, width: 4, resizes: true }.into(), Both),
        (resizing.into(), Both),
        (resizing.interpolation(Interpolation::Area).into(), Both),
        (resizing.interpolation(Interpolation::Bicubic).fit(Fit::Crop).into(), Both),
        (resizing.interpolation(Interpolation::Nearest).fit(Fit::Pad(7.5)).into(), New),
        (Resizing { antialias: true, ..resizing }.into(), New),
        (resizing.interpolation(Interpolation::Gaussian).into(), Neither),
        (Flatten {}.into(), Both),
        (Reshape { target: vec![3, -1, 2] }.into(), Both),
        (Permute { dims: vec![3, 1, 2] }.into(), Both),
        (Rescaling { scale: vec![0.1, 0.2, 0.3, 0.4], offset: vec![-1.0] }.into(), Both),
        (Dropout { rate: 0.3 }.into(), Both),
        (SharedDropout::of_channels(0.3).into(), Both),
        (SharedDropout::of_samples(0.3).into(), Both),
        (only("RandomFlip", mode), Both),
        (only("RandomGrayscale", factor.clone()), New),
        (only("RandomHeight", factor), Neither),
        (ScaledAdd { scale: 0.17 }.into(), Both),
        (Concatenate::new().into(), Both),
        (Identity {}.into(), Both),
    ];
    let merges = [
        MergeKind::Add,
        MergeKind::Subtract,
        MergeKind::Multiply,
        MergeKind::Average,
        MergeKind::Maximum,
        MergeKind::Minimum,
    ];
    examples.extend(merges.map(|kind| (Op::from(Merge { kind }), Both)));
    let noise = [
        (NoiseKind::AlphaDropout, 0.25),
        (NoiseKind::GaussianDropout, 0.5),
        (NoiseKind::GaussianNoise, 0.75),
    ];
    examples.extend(noise.map(|(kind, amount)| (Op::from(Noise { kind, amount }), Both)));
    let loud = Noise { kind: NoiseKind::GaussianNoise, amount: 1.5 };
    examples.push((loud.into(), Neither));
    for &function in FUNCTIONS {
        let formats = match function {
            Activation::Squareplus(_) | Activation::LogSoftmax => New,
            Activation::Threshold { value, .. } if value != 0.0 => Neither,
            _ => Both,
        };
        examples.push((ActivationLayer::named(function).into(), formats));
        examples.push((ActivationLayer::layer(function).into(), formats));
        examples.push((Dense::new(3, function).into(), formats));
        examples.push((Conv2d::new(3, [1, 1]).activation(function).into(), formats));
    }
    examples
}

/// A network of one operation, which has an ending and a name that Keras does not take.
fn example(op: &Op) -> Graph {
    let (mut net, x) = GraphBuilder::new(Shape::map(7, 9, 4));
    let x = net.layer("in front", Rescaling::new(0.02, -2.5), &[x]).expect("a layer");
    let y = net.layer("other/1", Rescaling::new(0.5, 1.0), &[x]).expect("a layer");
    let is_merge = matches!(op, Op::Merge(_) | Op::ScaledAdd(_) | Op::Concatenate(_));
    let inputs = if is_merge { vec![y, x] } else { vec![x] };
    let x = net.layer("the/layer:0", op.clone(), &inputs).expect("a layer");
    net.finish(x).expect("a graph")
}

/// A network with more names than one attribute of an HDF5 has room for.
fn long() -> Graph {
    let (mut net, mut x) = GraphBuilder::new(Shape::map(3, 4, 2));
    for number in 0..1_500 {
        let name = format!("a_layer_with_a_name_that_is_about_as_long_as_any_{number}");
        x = net.layer(name, Identity {}, &[x]).expect("a layer");
    }
    let x = net.conv2d("end", x, Conv2d::new(2, [2, 2]).with_bias()).expect("a layer");
    net.finish(x).expect("a graph")
}

/// Values from 0 to 255, no two of which are equal.
fn pixels(count: usize) -> Vec<f32> {
    (0..count).map(|place| ((place * 7919) % 1009) as f32 * (255.0 / 1009.0)).collect()
}

/// Two samples for a network, in Keras's order: [batch, height, width, channels].
fn input(shape: Shape) -> (Vec<f32>, Vec<usize>) {
    let [height, width, channels] = shape.as_map().expect("images");
    (pixels(2 * shape.count()), vec![2, height, width, channels])
}

/// What a network answers to [`input`], in Keras's order.
fn answer(network: &Network<Flex>) -> (Vec<f32>, Vec<usize>) {
    let shape = network.graph().input();
    let (values, dims) = input(shape);
    let [height, width, channels] = shape.as_map().expect("images");
    let mut planes = vec![0.0; values.len()];
    for (place, value) in values.into_iter().enumerate() {
        let (pixel, channel) = (place / channels, place % channels);
        let (sample, pixel) = (pixel / (height * width), pixel % (height * width));
        planes[(sample * channels + channel) * height * width + pixel] = value;
    }
    let images = Features::from_values(planes, shape, &Default::default());
    let output = network.walk(&mut Eager::inference(), images).expect("an answer");
    match output {
        Features::Map(x) => {
            let [_, channels, height, width] = x.dims();
            let data = x.permute([0, 2, 3, 1]).into_data();
            (floats(data), vec![dims[0], height, width, channels])
        }
        Features::Flat(x) => {
            let dims = x.dims().to_vec();
            (floats(x.into_data()), dims)
        }
    }
}

/// Sees that two answers are the same but for rounding.
fn close(what: &str, (found, shape): &(Vec<f32>, Vec<usize>), expected: &(Vec<f32>, Vec<usize>)) {
    assert_eq!(*shape, expected.1, "{what}");
    for (found, expected) in found.iter().zip(&expected.0) {
        let is_close = (found - expected).abs() <= 1e-5 * (1.0 + expected.abs());
        assert!(is_close, "{what}: {found} {expected}");
    }
}

#[test]
fn every_operation_is_written_or_refused() {
    let examples = examples();
    for name in Op::NAMES {
        assert!(examples.iter().any(|(op, _)| op.name() == *name), "{name} has no example");
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (op, formats) in examples {
        let graph = example(&op);
        let (card, variables) = (card(graph.clone()), variables(&graph));
        let expected = answer(&network(&graph, variables.clone()));
        for ending in ["keras", "h5"] {
            let path = folder.path().join(format!("one.{ending}"));
            let what = format!("{ending}: {op:?}");
            let is_there = match formats {
                Written::Both => true,
                Written::New => ending == "keras",
                Written::Neither => false,
            };
            match written(&path, &card, &variables, ExportOptions::default()) {
                Ok(()) => {
                    assert!(is_there, "{what}: expected to be refused");
                    let (found, network) = opened(&path);
                    close(&what, &answer(&network), &expected);
                    let last = found.graph.layers().last().expect("a layer");
                    let names: Vec<&str> =
                        found.graph.layers().iter().map(|layer| layer.name.as_str()).collect();
                    assert!(names.contains(&"in front"), "{what}: {names:?}, {last:?}");
                    std::fs::remove_file(&path).expect("removes");
                }
                Err(error) => {
                    assert!(!is_there, "{what}: {error}");
                    let error = error.to_string();
                    assert!(error.contains("the/layer:0") && !path.exists(), "{what}: {error}");
                }
            }
        }
    }
}

#[test]
fn long_lists_of_names_are_split_as_keras_splits_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = long();
    let (card, variables) = (card(graph.clone()), variables(&graph));
    for ending in ["keras", "h5"] {
        let path = folder.path().join(format!("long.{ending}"));
        written(&path, &card, &variables, ExportOptions::default()).expect("exports");
        is_again(&path, &card, &variables);
    }
}

/// The same model is the same bytes.
#[test]
fn nothing_of_the_clock_is_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = example(&Conv2d::new(3, [1, 1]).with_bias().into());
    let (card, variables) = (card(graph.clone()), variables(&graph));
    for ending in ["keras", "h5", "weights.h5"] {
        let bytes = [0, 1].map(|number| {
            let path = folder.path().join(format!("{number}.{ending}"));
            written(&path, &card, &variables, ExportOptions::default()).expect("exports");
            std::fs::read(path).expect("reads")
        });
        assert!(bytes[0] == bytes[1], "{ending}");
    }
}

/// Weights alone are read by name or by class and number as the network's.
#[test]
fn weights_alone_are_the_network_s() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = ExportOptions::default();
    options.weights_only = true;
    for (family, base, parameters) in families() {
        if parameters > 9_000_000 && !family.name.starts_with("convnext") {
            continue;
        }
        let graph = base.with_top(Some(1000)).graph().expect("builds");
        let variables = variables(&graph);
        for ending in ["h5", "weights.h5"] {
            let path = folder.path().join(format!("{}.{ending}", family.name));
            written(&path, &ModelCard::new(graph.clone()), &variables, options).expect("exports");
            let (found, network) = opened(&path);
            let own = base.with_top(Some(1000));
            assert_eq!(
                found.architecture().map(|known| known.name()),
                Some(own.name()),
                "{ending}"
            );
            let (_, values) = variables_to_save(&network);
            let expected: Vec<&Vec<f32>> = variables.iter().map(|(_, values)| values).collect();
            assert!(values.iter().eq(expected), "{}: {ending}", family.name);
            std::fs::remove_file(&path).expect("removes");
        }
    }
}

/// The file with another record of Rekindle's in it, or none, as Keras would leave it.
fn with_record(path: &Path, change: impl FnOnce(String) -> Option<String>) -> PathBuf {
    let changed = path.with_extension("changed.keras");
    let mut old = zip::ZipArchive::new(std::fs::File::open(path).expect("opens")).expect("a zip");
    let mut new = zip::ZipWriter::new(std::fs::File::create(&changed).expect("creates"));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut change = Some(change);
    for index in 0..old.len() {
        let mut member = old.by_index(index).expect("a member");
        let name = member.name().expect("a name").into_owned();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).expect("reads");
        if name == "metadata.json" {
            let mut metadata: Map<String, serde_json::Value> =
                serde_json::from_slice(&bytes).expect("JSON");
            let record = metadata.remove("rekindle").expect("a record").to_string();
            let change = change.take().expect("one record");
            if let Some(text) = change(record) {
                metadata.insert("rekindle".into(), serde_json::from_str(&text).expect("JSON"));
            }
            bytes = serde_json::to_vec(&metadata).expect("JSON");
        }
        new.start_file(name, stored).expect("writes");
        new.write_all(&bytes).expect("writes");
    }
    new.finish().expect("writes");
    changed
}

/// Keras saves a model again without Rekindle's record: the preprocessing that is in it is not done twice.
#[test]
fn without_its_record_a_file_answers_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["mobilenet", "resnet-50", "densenet-121", "mobilenet-v3-small"] {
        let family = Family::by_name(name).expect("known");
        let graph = headed(least(family));
        let variables = variables(&graph);
        let expected = answer_to_photos(&network(&graph, variables.clone()), &card(graph.clone()));
        let path = folder.path().join(format!("{name}.keras"));
        written(&path, &card(graph.clone()), &variables, ExportOptions::default())
            .expect("exports");
        let (found, network) = opened(&with_record(&path, |_| None));
        assert_eq!(found.architecture(), graph.base().architecture, "{name}");
        assert!(found.classes.is_empty(), "{name}");
        close(name, &answer_to_photos(&network, &found), &expected);
    }
}

/// A record that does not fit the configuration beside it is an error.
#[test]
fn a_record_of_another_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = headed(least(Family::by_name("mobilenet-v2").expect("known")));
    let path = folder.path().join("model.keras");
    let variables = variables(&graph);
    written(&path, &card(graph), &variables, ExportOptions::default()).expect("exports");
    let problem = |from: &str, to: &str| {
        let changed = with_record(&path, |text| {
            assert!(text.contains(from), "{text}");
            Some(text.replacen(from, to, 1))
        });
        match Checkpoint::open(changed).and_then(Checkpoint::resolve) {
            Ok(checkpoint) => checkpoint.problem().expect("a problem").to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let other = problem(r#""preprocessing":"tf""#, r#""preprocessing":"torch""#);
    assert!(other.contains("one of both was changed"), "{other}");
    let other = problem(r#"["rescaling"]"#, r#"["Conv1"]"#);
    assert!(other.contains("`Conv1`"), "{other}");
    for (from, to) in [(r#""card""#, r#""cart""#), (r#""format":2"#, r#""format":9"#)] {
        let other = problem(from, to);
        assert!(other.contains("record"), "{other}");
    }
}

/// Leaves what tests/keras/export_keras.py compares with Keras in the folder `REKINDLE_EXPORT_DIR`.
#[test]
#[ignore = "writes seven gigabytes for tests/keras/export_keras.py"]
fn writes_files_for_keras() {
    let folder = std::env::var_os("REKINDLE_EXPORT_DIR").map(PathBuf::from);
    let folder = folder.expect("REKINDLE_EXPORT_DIR is a folder");
    let mut cases = Vec::new();
    let mut answers: Vec<(TensorInfo, Vec<f32>)> = Vec::new();
    let mut note = |name: &str, what: &str, (values, shape): (Vec<f32>, Vec<usize>)| {
        let (layer, variable) = (name.to_owned(), what.to_owned());
        answers.push((TensorInfo { layer, variable, shape, dtype: Dtype::F32 }, values));
    };
    let long = (format!("{} layers", long().layers().len()), long(), Written::Both);
    let operations = examples().into_iter().map(|(op, formats)| {
        let graph = example(&op);
        (format!("{op:?}"), graph, formats)
    });
    for (number, (what, graph, formats)) in operations.chain([long]).enumerate() {
        if formats == Written::Neither {
            continue;
        }
        let name = format!("op_{number}");
        let variables = variables(&graph);
        let plain = network(&graph, variables.clone());
        note(&name, "input", input(graph.input()));
        note(&name, "output", answer(&plain));
        let card = card(graph);
        let endings = if formats == Written::Both { vec!["keras", "h5"] } else { vec!["keras"] };
        for ending in &endings {
            let path = folder.join(format!("{name}.{ending}"));
            written(&path, &card, &variables, ExportOptions::default()).expect("exports");
        }
        cases.push(json!({ "name": name, "what": what, "endings": endings }));
    }
    for (family, base, _) in families() {
        for (kind, graph) in
            [("head", headed(base)), ("top", base.with_top(Some(1000)).graph().expect("builds"))]
        {
            let name = format!("{}_{kind}", family.name);
            let variables = variables(&graph);
            let card = card(graph.clone());
            for ending in ["keras", "h5"] {
                let path = folder.join(format!("{name}.{ending}"));
                written(&path, &card, &variables, ExportOptions::default()).expect("exports");
            }
            // The preprocessing is a part of what Keras reads.
            let network = network(&graph, variables.clone());
            note(&name, "input", input(graph.input()));
            note(&name, "output", answer_to_photos(&network, &card));
            let mut case =
                json!({ "name": name, "what": family.title, "endings": ["keras", "h5"] });
            if kind == "top" && family.source.starts_with("keras/") {
                let mut options = ExportOptions::default();
                options.weights_only = true;
                for ending in ["published.h5", "weights.h5"] {
                    let path = folder.join(format!("{name}.{ending}"));
                    written(&path, &card, &variables, options).expect("exports");
                }
                case["application"] = json!(family.title);
                case["alpha"] = json!(base.settings.alpha);
                case["size"] = json!(base.size().pixels());
            }
            cases.push(case);
        }
    }
    let mut written = ModelCard::new(example(&Identity {}.into()));
    written.description = serde_json::to_string(&cases).expect("JSON");
    std::fs::write(folder.join("cases.json"), &written.description).expect("writes");
    let (tensors, values): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let path = folder.join("answers.safetensors");
    save(&path, &written, &tensors, &mut |index| Ok(values[index].clone())).expect("saves");
}

/// What a network answers to [`input`] behind its card's preprocessing.
fn answer_to_photos(network: &Network<Flex>, card: &ModelCard) -> (Vec<f32>, Vec<usize>) {
    let mode: rekindle_pixels::Preprocessing = card.preprocessing.parse().expect("a mode");
    let shape = network.graph().input();
    let [height, width, channels] = shape.as_map().expect("images");
    let (values, _) = input(shape);
    let mut planes = vec![0.0; values.len()];
    let plane = height * width;
    for sample in 0..2 {
        for channel in 0..channels {
            for pixel in 0..plane {
                let from = (sample * plane + pixel) * channels + mode.source(channel);
                planes[(sample * channels + channel) * plane + pixel] =
                    mode.scale(channel, values[from]);
            }
        }
    }
    let images = Features::from_values(planes, shape, &Default::default());
    let output = network.walk(&mut Eager::inference(), images).expect("an answer");
    let output = output.flat().expect("classes");
    let dims = output.dims().to_vec();
    (floats(output.into_data()), dims)
}
