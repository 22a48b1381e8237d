//! Every case of `tests/golden/layers`: Keras's answer, or an error, and never another answer.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use ::safetensors::SafeTensors;
use burn::backend::Flex;
use rekindle_nn::{Architecture, ConvNextTinyConfig, MobileNetV2Config};
use rekindle_nn::{Features, Network, Shape};
use serde_json::{Value, json};

use super::config::{Argument, Link, flatten};
use super::{read, resolve, weights_only};
use crate::checkpoint::Naming;
use crate::{Checkpoint, Dtype, TensorInfo, load};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// A file of cases, unpacked.
struct Cases {
    bytes: Vec<u8>,
    cases: Vec<Value>,
}

impl Cases {
    fn open(path: &Path) -> Self {
        let packed = std::fs::File::open(path).expect("a golden file");
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("safetensors");
        let texts = metadata.metadata().clone().expect("metadata");
        let cases = serde_json::from_str(&texts["cases"]).expect("a list");
        Self { bytes, cases }
    }

    fn tensor(&self, file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        (tensor.shape().to_vec(), floats(tensor.data()))
    }
}

/// The case's tensors, filed as Keras's HDF5 files by name have them.
fn tensors(cases: &Cases, file: &SafeTensors<'_>, case: &Value) -> Vec<(TensorInfo, Vec<f32>)> {
    let name = case["name"].as_str().expect("a name");
    let owner = case["weights_of"].as_str().unwrap_or(name);
    let paths = case["weights"].as_array().expect("paths");
    let mut seen = HashMap::new();
    let tensors = paths.iter().enumerate().map(|(index, path)| {
        let path = path.as_str().expect("a path");
        let path = path.strip_suffix(":0").unwrap_or(path);
        // tf-keras names a Normalization's own variables without the layer, which the file has them under.
        let (layer, variable) = path.rsplit_once('/').unwrap_or(("normalization", path));
        let layer = layer.rsplit_once('/').map_or(layer, |(_, layer)| layer).to_owned();
        let variable = match variable {
            "depthwise_kernel" if !case.to_string().contains("pointwise_kernel") => "kernel",
            other => other,
        };
        let (shape, values) = cases.tensor(file, &format!("{owner}/weights/{index}"));
        let again = seen.insert((layer.clone(), variable.to_owned()), index);
        assert_eq!(again, None, "{name}: two variables are called {path}");
        (TensorInfo { layer, variable: variable.into(), shape, dtype: Dtype::F32 }, values)
    });
    tensors.collect()
}

/// What the reader's network answers, in Keras's order; the error says why it has none.
fn answer(cases: &Cases, case: &Value) -> Result<Vec<f32>, String> {
    let file = SafeTensors::deserialize(&cases.bytes).expect("safetensors");
    let name = case["name"].as_str().expect("a name");
    let (shape, input) =
        cases.tensor(&file, &format!("{}/input", case["input_of"].as_str().unwrap_or(name)));
    let tensors = tensors(cases, &file, case);
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let size = match *shape.as_slice() {
        [_, height, width, _] => Some([height, width]),
        _ => None,
    };
    let model = read(&case["config"], &infos, false, size)?;
    let device = Default::default();
    let placed = model.tensors.iter().map(|(info, origin)| match origin {
        super::Origin::Same(index) | super::Origin::BehindZeros(index) => {
            (info.clone(), tensors[*index].1.clone())
        }
    });
    let mut checkpoint = Checkpoint::from_tensors("case", placed.collect());
    let network = Network::<Flex>::init(model.graph, 0, &device);
    let loaded = load(network, name, &mut checkpoint).map_err(|error| error.to_string())?;
    let (batch, [height, width, channels]) = match shape[..] {
        [batch, height, width, channels] => (batch, [height, width, channels]),
        [batch, count] => (batch, [1, 1, count]),
        _ => return Err("neither images nor vectors".into()),
    };
    let mut images = vec![0.0; input.len()];
    for sample in 0..batch {
        for pixel in 0..height * width {
            for channel in 0..channels {
                images[(sample * channels + channel) * height * width + pixel] =
                    input[(sample * height * width + pixel) * channels + channel];
            }
        }
    }
    let input = Features::from_values(images, loaded.network.graph().input(), &device);
    let mut eager = rekindle_nn::Eager::inference();
    let features = loaded.network.walk(&mut eager, input).map_err(|error| error.to_string())?;
    let shape = features.shape();
    let values = match features {
        Features::Map(x) => x.permute([0, 2, 3, 1]).into_data(),
        Features::Flat(x) => x.into_data(),
    };
    let (expected, _) = cases.tensor(&file, &format!("{name}/output"));
    let own = match shape {
        Shape::Map { height, width, channels } => vec![batch, height, width, channels],
        Shape::Flat(count) => vec![batch, count],
    };
    assert_eq!(own, expected, "{name}: another shape than Keras's");
    values.into_vec::<f32>().map_err(|error| format!("{error:?}"))
}

/// Cases in which Keras rounds to 16 bits and we do not, which a card says (`assumed`), and how far that is from Keras.
const ROUNDED: &[(&str, f32)] = &[
    ("layouts: Conv2D and Dense in float16", 2e-4),
    ("layouts: Conv2D and Dense in mixed_float16", 1e-4),
    ("layouts: Conv2D and Dense in mixed_bfloat16", 2e-3),
    ("operators: ops.cast to float16", 5e-4),
    ("tf_keras: tf.cast to float16", 5e-4),
    ("tf_keras: Conv2D and Dense in mixed_float16", 6e-4),
];

#[test]
fn every_setting_is_honoured_or_refused() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden("layers"))
        .expect("golden files")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let changes = golden("setting_changes.safetensors.gz");
    files.extend(changes.is_file().then_some(changes));
    files.sort();
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let (mut agreed, mut wrong) = (0, Vec::new());
    for path in files {
        let cases = Cases::open(&path);
        let file_name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let file = SafeTensors::deserialize(&cases.bytes).expect("safetensors");
        for case in &cases.cases {
            let name = case["name"].as_str().expect("a name");
            let full = format!("{}: {name}", file_name.trim_end_matches(".safetensors.gz"));
            match answer(&cases, case) {
                Ok(ours) => {
                    let (_, keras) = cases.tensor(&file, &format!("{name}/output"));
                    let worst = ours.iter().zip(&keras).fold(0.0_f32, |worst, (a, b)| {
                        let difference = (a - b).abs() / b.abs().max(1.0);
                        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
                    });
                    let tolerance = ROUNDED.iter().find(|(rounded, _)| *rounded == full);
                    if worst > tolerance.map_or(1e-5, |(_, tolerance)| *tolerance) {
                        wrong.push(format!("{full}: {worst:e} from Keras"));
                    }
                    agreed += 1;
                }
                Err(reason) => {
                    refused.insert(full, reason);
                }
            }
        }
    }
    for (name, reason) in &refused {
        println!("refused {name}: {reason}");
    }
    println!("{agreed} as Keras, {} refused", refused.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let list = include_str!("refused.txt");
    let expected: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let found: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
}

/// Keras 3's tensor.
fn tensor(layer: &str) -> Value {
    json!({"class_name": "__keras_tensor__", "config": {"keras_history": [layer, 0, 0]}})
}

fn model(layers: Value, output: &str) -> Value {
    json!({"class_name": "Functional", "config": {
        "name": "model", "layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [[output, 0, 0]]}})
}

fn input() -> Value {
    json!({"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 4, 4, 3]}, "inbound_nodes": []})
}

fn preprocessed(layers: &[Value], output: &str) -> Result<String, String> {
    let pool = json!({"class_name": "GlobalAveragePooling2D", "config": {"name": "pool"},
        "inbound_nodes": [{"args": [tensor(output)], "kwargs": {}}]});
    let layers: Vec<Value> =
        [input()].into_iter().chain(layers.iter().cloned()).chain([pool]).collect();
    let read = read(&model(layers.into(), "pool"), &[], true, None)?;
    Ok(resolve(read, &crate::beside::Beside::default())?.card.preprocessing)
}

#[test]
fn every_way_to_write_the_preprocessing_is_the_same() {
    let op = |class: &str, name: &str, args: Value| {
        json!({"module": "keras.src.ops.numpy", "class_name": class, "name": name, "config": {"name": name},
            "inbound_nodes": [{"args": args, "kwargs": {}}]})
    };
    let old = |function: &str, name: &str, of: &str, y: f64| {
        json!({"class_name": "TFOpLambda", "name": name, "config": {"name": name, "function": function},
            "inbound_nodes": [[of, 0, 0, {"y": y, "name": null}]]})
    };
    let rescaling = |scale: f64, offset: f64| {
        json!({"class_name": "Rescaling", "config": {"name": "a", "scale": scale, "offset": offset},
            "inbound_nodes": [{"args": [tensor("in")], "kwargs": {}}]})
    };
    let keras_3 = [
        op("TrueDivide", "a", json!([tensor("in"), 127.5])),
        op("Subtract", "b", json!([tensor("a"), 1.0])),
    ];
    let keras_2 = [old("math.truediv", "a", "in", 127.5), old("math.subtract", "b", "a", 1.0)];
    let flip = json!({"class_name": "RandomFlip", "config": {"name": "f", "mode": "horizontal"},
        "inbound_nodes": [{"args": [tensor("a")], "kwargs": {"training": true}}]});
    let tf = Ok("tf".to_owned());
    assert_eq!(preprocessed(&[rescaling(1.0 / 127.5, -1.0)], "a"), tf);
    assert_eq!(preprocessed(&[rescaling(1.0 / 127.5, -1.0), flip], "f"), tf);
    assert_eq!(preprocessed(&keras_3, "b"), tf);
    assert_eq!(preprocessed(&keras_2, "b"), tf);
    assert_eq!(preprocessed(&[rescaling(0.5, 0.0)], "a"), Ok("rescale:0.5:0".into()));
    assert_eq!(preprocessed(&[], "in"), Ok("none".into()));
    let reversed = [keras_3[0].clone(), op("Subtract", "b", json!([1.0, tensor("a")]))];
    let found = preprocessed(&reversed, "b").expect("reads");
    assert_eq!(found, format!("rescale:{}:1", -1.0 / 127.5));
    let lambda = json!({"class_name": "Lambda", "config": {"name": "mine"},
        "inbound_nodes": [{"args": [tensor("in")], "kwargs": {}}]});
    let error = preprocessed(&[lambda], "mine").expect_err("code");
    assert!(error.contains("layer 0, `mine` (Lambda)"), "{error}");
}

#[test]
fn layers_of_both_keras_versions_are_numbered_and_connected() {
    let dense = |name: &str, inputs: Value| json!({"class_name": "Dense", "config": {"name": name}, "inbound_nodes": [{"args": inputs, "kwargs": {"training": false}}]});
    let layers = json!([
        input(),
        dense("a", json!([tensor("in")])),
        {"module": "keras.src.ops.numpy", "class_name": "TrueDivide", "name": "divide", "config": {"name": "divide"},
            "inbound_nodes": [{"args": [tensor("a"), 127.5], "kwargs": {}}]},
        dense("b", json!([tensor("divide")])),
    ]);
    let flat = flatten(&model(layers, "b"), true).expect("reads");
    let keys: Vec<&str> = flat.nodes.iter().map(|node| node.key.as_str()).collect();
    assert_eq!(keys, ["dense", "true_divide", "dense_1"]);
    assert_eq!(flat.nodes[0].arguments, [Argument::Value(Link::Image)]);
    let constant = Argument::Constant(vec![127.5], Vec::new());
    assert_eq!(flat.nodes[1].arguments, [Argument::Value(Link::Node(0)), constant]);
    assert_eq!((flat.output, flat.images), (Link::Node(2), vec![[Some(4), Some(4), Some(3)]]));

    // Keras 2.0's Sequential is the list itself; a model in the model has tensors of its own.
    let keras_2 = json!({"class_name": "Sequential", "config": [
        {"class_name": "Sequential", "config": {"name": "inner", "layers": [
            {"class_name": "Dense", "config": {"name": "a/b", "batch_input_shape": [null, 4, 4, 1]}}]}},
        {"class_name": "Dense", "config": {"name": "c"}},
    ]});
    let flat = flatten(&keras_2, false).expect("reads");
    let keys: Vec<Vec<String>> = flat.nodes.iter().map(|node| node.keys()).collect();
    assert_eq!(keys, [vec!["inner/a/b".to_owned(), "a/b".into()], vec!["c".into()]]);
    assert_eq!(flatten(&keras_2, true).expect("reads").nodes[0].key, "sequential/dense");

    let two = json!({"class_name": "Functional", "config": {"layers": [], "output_layers": [["a", 0, 0], ["b", 0, 0]]}});
    assert!(flatten(&two, true).expect_err("two outputs").contains("2 outputs (a, b)"));
    let circle =
        json!([input(), dense("a", json!([tensor("b")])), dense("b", json!([tensor("a")]))]);
    assert!(flatten(&model(circle, "b"), true).expect_err("a circle").contains("its own output"));
    let mut deep = json!({"class_name": "Sequential", "config": {"name": "s", "layers": []}});
    for _ in 0..20 {
        deep = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [deep]}});
    }
    assert!(flatten(&deep, true).expect_err("too deep").contains("more than 16 deep"));
}

fn info(layer: &str, variable: &str, shape: &[usize]) -> TensorInfo {
    let (layer, variable) = (layer.into(), variable.into());
    TensorInfo { layer, variable, shape: shape.to_vec(), dtype: Dtype::F32 }
}

/// What a file of a network's weights holds.
fn tensors_of(architecture: &Architecture) -> Vec<TensorInfo> {
    let graph = architecture.graph().expect("valid");
    let layers = graph.layers().iter().enumerate();
    let tensors = layers.flat_map(|(position, layer)| {
        let variables = graph.variables(position).into_iter();
        variables.map(|variable| info(&layer.name, variable.name, &variable.shape))
    });
    tensors.collect()
}

/// ConvNeXt normalizes each pixel at its end without top, and the means with it: the same variables otherwise.
#[test]
fn names_say_whether_a_normalization_is_the_top_s() {
    let known = Architecture::from(ConvNextTinyConfig::new().with_size(32));
    for classes in [7, 1000] {
        let topped = tensors_of(&known.with_top(Some(classes)));
        let (card, _) =
            weights_only(&topped, &Naming::Names, None).expect("one").expect("ConvNeXt");
        assert_eq!(card.graph.layers().len(), card.graph.base().layers + 3);
        // One of the user's own behind the network without top.
        let plain = tensors_of(&known);
        let head = [info("mine", "kernel", &[768, classes]), info("mine", "bias", &[classes])];
        let tensors: Vec<TensorInfo> = plain.into_iter().chain(head).collect();
        let (card, _) =
            weights_only(&tensors, &Naming::Names, None).expect("one").expect("ConvNeXt");
        assert_eq!(card.graph.layers().len(), card.graph.base().layers + 2);
    }
}

#[test]
fn weights_only_are_of_the_network_whose_variables_they_are() {
    let known = Architecture::from(MobileNetV2Config::new().with_alpha(0.35));
    let own = tensors_of(&known);
    let found =
        |tensors: &[TensorInfo]| weights_only(tensors, &Naming::Names, None).expect("one at most");
    let (card, placed) = found(&own).expect("MobileNetV2");
    assert_eq!(
        (card.architecture(), placed.len(), card.assumed.len()),
        (Some(known), own.len(), 0)
    );
    // One is missing: it is no other, smaller network.
    assert!(found(&own[1..]).is_none());
    // What is behind it is not said.
    for (units, outputs, word) in [(3, 3, "softmax"), (1, 2, "sigmoid")] {
        let head = [info("mine", "kernel", &[1280, units]), info("mine", "bias", &[units])];
        let tensors: Vec<TensorInfo> = own.iter().cloned().chain(head).collect();
        let (card, placed) = found(&tensors).expect("MobileNetV2 and a head");
        assert_eq!((card.graph.classes(), placed.len()), (Some(outputs), tensors.len()));
        assert!(card.assumed.iter().any(|said| said.contains(word)), "{:?}", card.assumed);
    }
    // No head that we know of: it is left out, and nothing is made of it.
    let other = [info("mine", "kernel", &[99, 3])];
    let tensors: Vec<TensorInfo> = own.iter().cloned().chain(other).collect();
    let (card, placed) = found(&tensors).expect("MobileNetV2");
    assert_eq!((card.graph.head().len(), placed.len()), (0, own.len()));
}

/// EfficientNet's second rescaling has no weights: a file of weights does not say whether it is there.
#[test]
fn what_keras_adds_for_imagenet_s_weights_is_said() {
    for (name, is_said) in [("efficientnet-b0", true), ("efficientnet-v2-b0", false)] {
        let known = Architecture::by_name(name).expect("known");
        let found = weights_only(&tensors_of(&known), &Naming::Names, None);
        let (card, _) = found.expect("one").expect("known");
        assert_eq!(card.architecture(), Some(known));
        let said = card.assumed.iter().any(|sentence| sentence.contains("with ImageNet's weights"));
        assert_eq!(said, is_said, "{name}: {:?}", card.assumed);
    }
}
