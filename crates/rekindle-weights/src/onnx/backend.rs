//! ONNX's own tests (`tests/golden/onnx`): each passes, or is on the list of those that are refused.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::safetensors::SafeTensors;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use prost::Message;
use rekindle_nn::{Eager, Features, Network, Shape, assign};
use serde_json::Value;

use super::proto::ModelProto;
use super::{Constant, FileTensors, Graph, parsed, read};

/// Largest difference, as a share of the value and of the largest one; ONNX's own runner takes 1e-3 of the value.
const TOLERANCE: (f32, f32) = (1e-4, 1e-5);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/onnx").join(name)
}

/// A file, unpacked as often as its name says.
fn unpacked(name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for _ in name.matches(".gz") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).expect("gzip");
        bytes = plain;
    }
    bytes
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let words = tensor.data().as_chunks::<4>().0.iter();
    (tensor.shape().to_vec(), words.map(|&word| f32::from_le_bytes(word)).collect())
}

/// The network of a model, with its values.
pub(super) fn network(bytes: &[u8]) -> Result<Network<Flex>, String> {
    let model = ModelProto::decode(bytes).map_err(|error| error.to_string())?;
    network_of(&parsed(Path::new("model.onnx"), model)?.0)
}

/// The network of a graph, with its values.
pub(crate) fn network_of(graph: &Graph) -> Result<Network<Flex>, String> {
    let found = read(graph, None)?;
    let mut reader = FileTensors(Arc::clone(&graph.weights));
    let network = Network::<Flex>::init(found.graph, 0, &Default::default());
    let mut constants = found.values.into_iter().flatten();
    let mut values = HashMap::new();
    for variable in network.variables() {
        let constant = constants.next().expect("as many constants as variables");
        values.insert(variable.id, variable.spec.to_burn(constant.read(&mut reader)?));
    }
    assert!(constants.next().is_none());
    Ok(assign(network, values))
}

/// What a network makes of an input in the file's order, in the file's order.
pub(super) fn answer(
    network: &Network<Flex>,
    dims: &[usize],
    input: Vec<f32>,
    output: &[usize],
) -> Vec<f32> {
    let device = Default::default();
    let x = match dims {
        &[samples, features] => {
            Features::Flat(Tensor::from_data(TensorData::new(input, [samples, features]), &device))
        }
        &[samples, a, b, c] => {
            let x =
                Tensor::<Flex, 4>::from_data(TensorData::new(input, [samples, a, b, c]), &device);
            let first = network.graph().input() == Shape::map(b, c, a);
            Features::Map(if first { x } else { x.permute([0, 3, 1, 2]) })
        }
        other => panic!("an input of shape {other:?}"),
    };
    let y = match network.walk(&mut Eager::inference(), x).expect("runs") {
        Features::Map(y) => {
            let first = y.dims()[..] == *output;
            if first { y } else { y.permute([0, 2, 3, 1]) }.into_data()
        }
        Features::Flat(y) => y.into_data(),
    };
    y.into_vec::<f32>().expect("f32")
}

/// How far an answer is from the expected one: at most 1 is within the tolerance.
fn off(own: &[f32], expected: &[f32]) -> f32 {
    if own.len() != expected.len() {
        return f32::INFINITY;
    }
    let largest = expected
        .iter()
        .filter(|value| value.is_finite())
        .fold(0.0, |most: f32, value| most.max(value.abs()));
    own.iter().zip(expected).fold(0.0, |most, (own, expected)| {
        let is_same = own == expected || (own.is_nan() && expected.is_nan());
        let share = TOLERANCE.0 * expected.abs() + TOLERANCE.1 * largest;
        let off = if is_same { 0.0 } else { (own - expected).abs() / share };
        if off.is_nan() { f32::INFINITY } else { most.max(off) }
    })
}

#[test]
fn every_operator_passes_or_is_refused() {
    let bytes = unpacked("nodes.safetensors.gz");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let index: Value = serde_json::from_slice(&unpacked("nodes.json")).expect("JSON");
    let mut wrong = Vec::new();
    let mut refused = BTreeMap::new();
    let mut worst = (0.0, String::new());
    let cases = index["cases"].as_array().expect("cases");
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let model = file.tensor(&format!("{name}/model")).expect("a model");
        let network = match network(model.data()) {
            Ok(network) => network,
            Err(problem) => {
                refused.insert(name.to_owned(), problem);
                continue;
            }
        };
        let (dims, input) = tensor(&file, &format!("{name}/input"));
        let (shape, expected) = tensor(&file, &format!("{name}/output"));
        let off = off(&answer(&network, &dims, input, &shape), &expected);
        if off > worst.0 {
            worst = (off, name.to_owned());
        }
        // What this test expects was rounded to four places.
        let is_rounded = name == "test_averagepool_2d_ceil_last_window_starts_on_pad" && off < 3.0;
        if off > 1.0 && !is_rounded {
            let layers = network.graph().layers().iter().map(|layer| format!("{:?}", layer.op));
            wrong.push(format!(
                "{name}: {off} times the tolerance, as {:?}",
                layers.collect::<Vec<_>>()
            ));
        }
    }
    let lines: String = refused.iter().map(|(name, why)| format!("{name}\t{why}\n")).collect();
    println!("{} cases, {} refused, worst {worst:?}", cases.len(), refused.len());
    println!("{lines}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What they are refused with is for the reader.
    let name = |line: &'static str| line.split('\t').next().unwrap_or_default();
    let expected: Vec<&str> = include_str!("refused.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(name)
        .collect();
    let own: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(own, expected);
}

#[test]
fn light_models_answer_as_onnx_runtime_does() {
    // All of its weights are the same, and too many to compute with here.
    let vgg = ModelProto::decode(unpacked("light/vgg19.onnx.gz").as_slice()).expect("a model");
    let (graph, _) = parsed(Path::new("vgg19.onnx"), vgg).expect("a graph");
    let found = read(&graph, None).expect("reads");
    assert_eq!(found.graph.classes(), Some(1000));
    assert_eq!(found.values.iter().flatten().map(Constant::count).sum::<usize>(), 143_667_240);
    let bytes = unpacked("light.safetensors.gz");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let input: Vec<f32> = (0..3 * 224 * 224).map(|i| (f64::from(i) * 0.01).sin() as f32).collect();
    for name in [
        "bvlc_alexnet.onnx.gz",
        "densenet121.filled.onnx.gz.gz",
        "inception_v1.filled.onnx.gz.gz",
        "inception_v2.filled.onnx.gz.gz",
        "resnet50.filled.onnx.gz.gz",
        "shufflenet.filled.onnx.gz.gz",
        "squeezenet.filled.onnx.gz.gz",
        "zfnet512.onnx.gz",
    ] {
        let network = network(&unpacked(&format!("light/{name}")))
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let key = name.replace(".onnx.gz.gz", "").replace(".onnx.gz", "");
        let (shape, expected) = tensor(&file, &format!("{key}/output"));
        let own = answer(&network, &[1, 3, 224, 224], input.clone(), &shape);
        let off = off(&own, &expected);
        println!("{name}: {off}");
        // Fifty layers of sums in another order.
        assert!(off <= 10.0, "{name}: {off} times the tolerance");
    }
}

/// A checkpoint of `tests/golden/checkpoints`, resolved, its network, and the network as the file has it.
fn resolved(name: &str, folder: &Path) -> (crate::ModelCard, Network<Flex>, Network<Flex>) {
    let bytes = unpacked(&format!("../checkpoints/{name}.gz"));
    let path = folder.join(name);
    std::fs::write(&path, &bytes).expect("writes");
    let checkpoint = crate::Checkpoint::open(&path).expect(name);
    let mut checkpoint = checkpoint.resolve().expect(name);
    assert_eq!(checkpoint.problem(), None, "{name}");
    let card = checkpoint.card().expect(name).clone();
    let empty = Network::<Flex>::init(card.graph.clone(), 0, &Default::default());
    let loaded = crate::load(empty, name, &mut checkpoint).expect(name);
    assert!(loaded.unused.is_empty(), "{name}: {:?}", loaded.unused);
    (card, loaded.network, network(&bytes).expect(name))
}

#[test]
fn folded_networks_are_recognised_and_answer_as_the_file_does() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, known) in [
        ("mobilenet_v2_keras2.onnx", "mobilenet-v2 0.35, 32 x 32, no top"),
        ("mobilenet_v2_keras3.onnx", "mobilenet-v2 0.35, 32 x 32, no top"),
        ("mobilenet_v2_keras3_flatten.onnx", "mobilenet-v2 0.35, 64 x 64, no top"),
        ("mobilenet_v2_keras3_tutorial.onnx", "mobilenet-v2 0.35, 32 x 32, no top"),
        ("inception_v3_keras3.onnx", "inception-v3, 75 x 75, no top"),
    ] {
        let (card, network, raw) = resolved(name, folder.path());
        let architecture = card.architecture().map(|known| known.to_string());
        assert_eq!(architecture.as_deref(), Some(known), "{name}");
        assert!(card.folded, "{name}");
        assert_eq!(card.preprocessing, "tf", "{name}");
        let Shape::Map { height, width, .. } = card.graph.input() else { panic!("{name}") };
        let dims = [2, 3, height, width];
        let pixels = (0..2 * 3 * height * width)
            .map(|i| ((f64::from(i as u32) * 0.37).sin() * 127.0 + 128.0) as f32);
        let pixels: Vec<f32> = pixels.collect();
        let scaled: Vec<f32> = pixels.iter().map(|pixel| pixel / 127.5 - 1.0).collect();
        let has_front = name.contains("tutorial");
        let theirs = answer(&raw, &dims, if has_front { pixels } else { scaled.clone() }, &[]);
        let own = answer(&network, &dims, scaled, &[]);
        let theirs: Vec<f32> = match has_front {
            // One logit for two classes.
            true => theirs
                .iter()
                .flat_map(|z| [1.0 / (1.0 + z.exp()), 1.0 / (1.0 + (-z).exp())])
                .collect(),
            false => theirs,
        };
        assert_eq!(own.len(), theirs.len(), "{name}");
        for (own, theirs) in own.iter().zip(&theirs) {
            assert!((own - theirs).abs() < 1e-5, "{name}: {own} and {theirs}");
        }
    }
}

/// Bits of every test's model are flipped: what comes is a network or an error, at once, and nothing else.
#[test]
fn damaged_models_are_networks_or_errors() {
    let bytes = unpacked("nodes.safetensors.gz");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (mut networks, mut errors) = (0, 0);
    let mut random = 1_u64;
    for (name, tensor) in file.tensors() {
        if !name.ends_with("/model") || tensor.data().len() > 4096 {
            continue;
        }
        for _ in 0..60 {
            let mut bytes = tensor.data().to_vec();
            for _ in 0..2 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % bytes.len();
                bytes[at] ^= 1 << ((random >> 20) % 8);
            }
            let Ok(model) = ModelProto::decode(bytes.as_slice()) else {
                errors += 1;
                continue;
            };
            let found =
                parsed(Path::new("damaged.onnx"), model).and_then(|(graph, _)| read(&graph, None));
            if found.is_ok() { networks += 1 } else { errors += 1 }
        }
    }
    println!("{networks} networks, {errors} errors");
    assert!(networks > 100 && errors > 100);
}
