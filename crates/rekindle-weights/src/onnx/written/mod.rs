//! What is written is read again with the same answer: every operation, every family, and networks that chance makes.
//!
//! With `REKINDLE_WRITE_ONNX=FOLDER` the files stay there with inputs and answers, for `tests/keras/export_onnx.py`.

pub(crate) mod cases;
mod small;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype as SafeDtype, TensorView};
use burn::backend::Flex;
use prost::Message;
use rekindle_nn::{
    Architecture, Eager, FAMILIES, Features, Graph, HeadConfig, Network, Op, Shape, assign, floats,
};
use rekindle_pixels::{Linear, Preprocessing};
use tempfile::TempDir;

use super::backend;
use super::proto::ModelProto;
use crate::{Checkpoint, ExportOptions, ModelCard, WeightsError, export, load, variables_to_save};
use cases::{cases, random};

/// Networks with more parameters are left out where `REKINDLE_LARGE` is not set.
const LARGE: usize = 30_000_000;

/// Where files go, and stay if somebody asks for them.
pub(crate) struct Folder {
    pub path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    pub fn new(variable: &str) -> Self {
        match std::env::var_os(variable) {
            Some(path) => Self { path: path.into(), temporary: None },
            None => {
                let temporary = tempfile::tempdir().expect("a folder");
                Self { path: temporary.path().to_owned(), temporary: Some(temporary) }
            }
        }
    }

    pub fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }
}

/// Values from -1 to 1 without a pattern.
pub(crate) fn wave(name: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let seed =
        name.bytes().fold(17_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..count).map(move |index| {
        let mut x = (index as u32).wrapping_add(seed);
        for factor in [0x7feb_352d, 0x846c_a68b] {
            x ^= x >> 16;
            x = u32::wrapping_mul(x, factor);
            x ^= x >> 15;
        }
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// A network whose values neither grow nor die.
fn filled(graph: Graph) -> Network<Flex> {
    let network = Network::<Flex>::init(graph, 0, &Default::default());
    let values = network.variables().into_iter().map(|variable| {
        let shape = &variable.spec.shape;
        let (centre, width) = match variable.spec.name {
            "kernel" | "depthwise_kernel" | "pointwise_kernel" => {
                let inputs = match variable.spec.name == "depthwise_kernel"
                    || variable.kind == "DepthwiseConv2D"
                {
                    true => 2,
                    false => shape.len() - 1,
                };
                (0.0, (6.0 / shape[..inputs].iter().product::<usize>() as f32).sqrt())
            }
            "gamma" if variable.layer.to_lowercase().ends_with("_project_bn") => (0.5, 0.1),
            "gamma" => (1.0, 0.2),
            "beta" => (0.1, 0.2),
            "moving_variance" | "variance" => (1.0, 0.5),
            "count" => (0.0, 0.0),
            _ => (0.0, 0.2),
        };
        let values = wave(&variable.path(), variable.spec.count());
        let values = values.map(|value| centre + width * value).collect();
        (variable.id, variable.spec.to_burn(values))
    });
    let values: HashMap<_, _> = values.collect();
    assign(network, values)
}

/// Samples `[height, width, channels]` as `[channels, height, width]`, or the contrary.
fn turned(values: &[f32], shape: Shape, to_first: bool) -> Vec<f32> {
    let Some([height, width, channels]) = shape.as_map() else { return values.to_vec() };
    let (rows, columns) =
        if to_first { (height * width, channels) } else { (channels, height * width) };
    let at = |sample: &[f32]| -> Vec<f32> {
        (0..sample.len()).map(|place| sample[place % rows * columns + place / rows]).collect()
    };
    values.chunks(shape.count()).flat_map(at).collect()
}

/// A model that is written, and what comes in and out: pixels `[2, height, width, channels]`, and the answer in the same
/// order of axes.
pub(crate) struct Case {
    pub name: String,
    pub card: ModelCard,
    pub network: Network<Flex>,
    pub images: Vec<f32>,
    pub answer: Vec<f32>,
}

impl Case {
    pub fn new(name: String, card: ModelCard, images: Vec<f32>) -> Self {
        let network = filled(card.graph.clone());
        let answer = answer(&network, &card.preprocessing, &images);
        Self { name, card, network, images, answer }
    }

    pub fn of_ops(name: String, graph: Graph) -> Self {
        let images = wave(&name, 2 * graph.input().count()).map(|value| value * 2.0).collect();
        let mut card = ModelCard::new(graph);
        card.preprocessing = "none".into();
        Self::new(name, card, images)
    }

    pub fn export(&self, path: &Path, options: ExportOptions) -> Result<(), WeightsError> {
        let (tensors, values) = variables_to_save(&self.network);
        export(path, &self.card, &tensors, values, options).map(drop)
    }

    /// How far an answer is from this model's, as a share of the largest value.
    pub fn off(&self, other: &[f32]) -> f32 {
        assert_eq!(other.len(), self.answer.len(), "{}", self.name);
        let largest = self.answer.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        let pairs = other.iter().zip(&self.answer);
        pairs.fold(0.0, |most: f32, (a, b)| match (a - b).abs() / largest {
            off if off.is_nan() => f32::INFINITY,
            off => most.max(off),
        })
    }

    /// Leaves the case's input and answer beside its file; an empty file says that channels come first in it.
    pub fn keep(&self, path: &Path, channels_first: bool) {
        if channels_first {
            std::fs::write(path.with_extension("first"), "").expect("writes");
        }
        let bytes = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let (images, answer) = (bytes(&self.images), bytes(&self.answer));
        let view = |bytes, count: usize| {
            TensorView::new(SafeDtype::F32, vec![2, count / 2], bytes).expect("a view")
        };
        let tensors = BTreeMap::from([
            ("input", view(&images, self.images.len())),
            ("output", view(&answer, self.answer.len())),
        ]);
        let metadata = HashMap::from([("name".to_owned(), self.name.clone())]);
        ::safetensors::serialize_to_file(
            tensors,
            Some(metadata),
            &path.with_extension("safetensors"),
        )
        .expect("writes");
    }
}

/// What a network makes of pixels in Keras's order, in Keras's order.
pub(crate) fn answer(network: &Network<Flex>, preprocessing: &str, images: &[f32]) -> Vec<f32> {
    let shape = network.graph().input();
    let channels = shape.channels();
    let mode: Preprocessing = preprocessing.parse().expect("a mode");
    let Linear { source, scale, offset } = mode.linear(channels);
    let pixels = images.chunks(channels).flat_map(|pixel| {
        let own = source.iter().zip(scale.iter().zip(&offset));
        own.map(|(&from, (scale, offset))| (f64::from(pixel[from]) * scale + offset) as f32)
            .collect::<Vec<f32>>()
    });
    let pixels: Vec<f32> = pixels.collect();
    let x = Features::from_values(turned(&pixels, shape, true), shape, &Default::default());
    let y = network.walk(&mut Eager::inference(), x).expect("an answer");
    let shape = y.shape();
    turned(&floats(y.into_data()), shape, false)
}

/// A file as a network, as whoever loads it gets it.
pub(crate) fn loaded(path: &Path) -> (ModelCard, Network<Flex>) {
    let checkpoint = Checkpoint::open(path).expect("opens");
    let mut checkpoint = checkpoint.resolve().expect("resolves");
    assert_eq!(checkpoint.problem(), None, "{}", path.display());
    let card = checkpoint.card().expect("a card").clone();
    let empty = Network::<Flex>::init(card.graph.clone(), 0, &Default::default());
    let found = load(empty, "the file's network", &mut checkpoint).expect("loads");
    assert!(found.unused.is_empty(), "{:?}", found.unused);
    (card, found.network)
}

/// The same file without what only Rekindle knows.
fn anonymous(path: &Path) -> PathBuf {
    let bytes = std::fs::read(path).expect("reads");
    let mut model = ModelProto::decode(bytes.as_slice()).expect("ONNX");
    model.metadata_props.clear();
    let other = path.with_extension("anonymous.onnx");
    std::fs::write(&other, model.encode_to_vec()).expect("writes");
    other
}

/// The same file as its nodes alone say it: without names, too.
fn nameless(path: &Path) -> PathBuf {
    let other = anonymous(path);
    let bytes = std::fs::read(&other).expect("reads");
    let mut model = ModelProto::decode(bytes.as_slice()).expect("ONNX");
    let graph = model.graph.as_mut().expect("a graph");
    graph.name.clear();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut rename = |name: &mut String| {
        // An input that is left out has no name.
        if !name.is_empty() {
            let next = known.len();
            *name = format!("v{}", known.entry(std::mem::take(name)).or_insert(next));
        }
    };
    graph.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
    let ends = graph.input.iter_mut().chain(&mut graph.output);
    ends.for_each(|value| rename(&mut value.name));
    for node in &mut graph.node {
        node.name.clear();
        node.input.iter_mut().chain(&mut node.output).for_each(&mut rename);
    }
    std::fs::write(&other, model.encode_to_vec()).expect("writes");
    other
}

/// Sees that the file of halves beside another is read as the same network.
fn is_written_in_halves(case: &Case, path: &Path, channels_first: bool) {
    let path = path.with_extension("half.onnx");
    let options = ExportOptions { channels_first, half: true, ..ExportOptions::default() };
    case.export(&path, options).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let (card, network) = loaded(&path);
    assert_eq!(card, case.card, "{}", case.name);
    let off = case.off(&answer(&network, &card.preprocessing, &case.images));
    assert!(off <= 1e-2, "{}: in halves {off:e}", case.name);
    if channels_first {
        std::fs::write(path.with_extension("first"), "").expect("writes");
    }
}

#[test]
fn every_operation_is_written_and_read() {
    let folder = Folder::new("REKINDLE_WRITE_ONNX");
    let mut seen = BTreeSet::new();
    let (mut by_nodes, mut refused) = (0, BTreeMap::<String, usize>::new());
    let mut worst = 0.0_f32;
    let all: Vec<(String, Graph)> = cases().into_iter().chain(random()).collect();
    for (place, (name, graph)) in all.into_iter().enumerate() {
        seen.extend(graph.layers().iter().map(|layer| layer.op.name()));
        let case = Case::of_ops(name, graph);
        let path = folder.path.join(format!("op_{place}.onnx"));
        let channels_first = place % 3 == 0;
        let options = ExportOptions { channels_first, ..ExportOptions::default() };
        case.export(&path, options).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        // As it was.
        let (card, network) = loaded(&path);
        assert_eq!(card, case.card, "{}", case.name);
        let off = case.off(&answer(&network, &card.preprocessing, &case.images));
        assert!(off <= 1e-6, "{}: {off:e}", case.name);
        // By its nodes alone.
        let other = anonymous(&path);
        let bytes = std::fs::read(&other).expect("reads");
        std::fs::remove_file(other).expect("removes");
        match backend::network(&bytes) {
            Ok(network) => {
                // Without a transposition nothing says which axis is which.
                let [height, width, channels] = case.card.graph.input().as_map().expect("images");
                let is_clear = height != width && width != channels && channels != height;
                if !is_clear || network.graph().input() != case.card.graph.input() {
                    *refused.entry("another order of axes".into()).or_default() += 1;
                } else {
                    let found = answer(&network, "none", &case.images);
                    let off = case.off(&found);
                    worst = worst.max(off);
                    assert!(off <= 1e-5, "{}: by its nodes {off:e}", case.name);
                    by_nodes += 1;
                }
            }
            Err(reason) => *refused.entry(reason).or_default() += 1,
        }
        if !case.name.starts_with("random") {
            is_written_in_halves(&case, &path, channels_first);
        }
        if folder.is_kept() {
            case.keep(&path, channels_first);
        }
    }
    println!("{by_nodes} are read by their nodes, at most {worst:e} off; others are refused:");
    refused.iter().for_each(|(reason, count)| println!("{count} {reason}"));
    let missing: Vec<_> = Op::NAMES.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "operations without a case: {missing:?}");
}

#[test]
fn every_family_is_written_and_read() {
    let with_large = std::env::var_os("REKINDLE_LARGE").is_some();
    let folder = Folder::new("REKINDLE_WRITE_ONNX");
    let (mut unknown, mut lite_unknown) = (Vec::new(), Vec::new());
    for (place, family) in FAMILIES.iter().enumerate() {
        let mut architecture = Architecture::new(family).with_size(family.least_size);
        if place % 2 == 0 {
            architecture = architecture.with_top(Some(10));
        }
        let graph = architecture.graph().expect("builds");
        let parameters = graph.summary().parameters.total;
        if parameters > LARGE && !with_large {
            println!("left out, for REKINDLE_LARGE is not set: {}", family.name);
            continue;
        }
        let graph = match architecture.classes() {
            Some(_) => graph,
            None => HeadConfig::default().graph(&graph, 5).expect("a head"),
        };
        let images = wave(family.name, 2 * graph.input().count());
        let images = images.map(|value| ((value + 1.0) * 127.5).round()).collect();
        let mut card = ModelCard::new(graph);
        card.classes =
            (0..card.graph.classes().expect("classes")).map(|c| format!("class {c}")).collect();
        let case = Case::new(family.name.into(), card, images);
        let path = folder.path.join(format!("{}.onnx", family.name));
        case.export(&path, ExportOptions::default()).expect("writes");
        let (card, network) = loaded(&path);
        assert_eq!(card, case.card, "{}", case.name);
        let off = case.off(&answer(&network, &card.preprocessing, &case.images));
        assert!(off <= 1e-6, "{}: {off:e}", case.name);
        drop(network);
        let other = nameless(&path);
        let (card, network) = loaded(&other);
        let off = case.off(&answer(&network, &card.preprocessing, &case.images));
        println!(
            "{}: by its nodes {off:e}, {:?}",
            family.name,
            card.architecture().map(|known| known.to_string())
        );
        assert!(off <= 1e-5, "{}: by its nodes {off:e}", case.name);
        if card.architecture().map(|known| known.family.name) != Some(family.name) {
            unknown.push(family.name);
        }
        std::fs::remove_file(other).expect("removes");
        is_written_in_halves(&case, &path, false);
        // The network and its answer take longest to make.
        crate::tflite::written::family(&case, &mut lite_unknown);
        if folder.is_kept() {
            case.keep(&path, false);
        } else {
            std::fs::remove_file(&path).expect("removes");
            std::fs::remove_file(path.with_extension("half.onnx")).expect("removes");
        }
    }
    assert!(unknown.is_empty(), "not recognised by their nodes: {unknown:?}");
    assert!(lite_unknown.is_empty(), "not recognised by their operators: {lite_unknown:?}");
}
