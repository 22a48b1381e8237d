//! What tests and benches share: the formula for weights, golden files, the demo photos.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use rekindle::nn::Eager;
use rekindle::nn::{
    Architecture, Family, Features, Interpreter, LayerView, Network, NetworkError, Variable,
};
use rekindle::train::{Event, Observer};
use rekindle::weights::{Checkpoint, Dtype, TensorInfo, load};
use serde_json::Value;

pub mod gpu;

/// A path inside the repository.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Copies the first `count` demo photos of birds and of houses into a folder for each in `to`.
pub fn copy_photos(to: &Path, count: usize) {
    for class in ["birds", "houses"] {
        let from = repository("demo/photos").join(class);
        let files = std::fs::read_dir(from).expect("lists");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("reads").path()).collect();
        files.sort();
        std::fs::create_dir(to.join(class)).expect("creates");
        for file in &files[..count] {
            let to = to.join(class).join(file.file_name().expect("a name"));
            std::fs::copy(file, to).expect("copies");
        }
    }
}

/// Stops a run after so many steps.
#[derive(Debug)]
pub struct StopAfter(pub usize);

impl Observer for StopAfter {
    fn on_event(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step { .. }) {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn stops(&mut self) -> bool {
        self.0 == 0
    }
}

/// `count` values from -1 to 1 without a pattern.
#[must_use]
pub fn wave(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// `count` values in [0, 1), as `tests/keras/formula.py` makes them.
#[must_use]
pub fn uniform(name: &str, count: usize) -> Vec<f64> {
    let seed = crc32fast::hash(name.as_bytes());
    let value = |index: usize| {
        let mut x = (index as u32).wrapping_add(seed);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        f64::from(x >> 8) / f64::from(1 << 24)
    };
    (0..count).map(value).collect()
}

/// The value of one variable, in Keras's layout.
#[must_use]
pub fn formula(variable: &Variable, classifier_gain: f64) -> Vec<f32> {
    let shape = &variable.spec.shape;
    let (centre, width) = match variable.spec.name {
        "kernel" => {
            let fan_in: usize = match variable.kind {
                "DepthwiseConv2D" => shape[..2].iter().product(),
                _ => shape[..shape.len() - 1].iter().product(),
            };
            let is_classifier = ["predictions", "conv_preds"].contains(&variable.layer.as_str());
            let gain = if is_classifier { classifier_gain } else { 1.0 };
            (0.0, gain * (6.0 / fan_in as f64).sqrt())
        }
        // Residual branches are weaker than what they are added to, as in trained networks.
        "gamma" if variable.layer.ends_with("_project_BN") => (0.5, 0.1),
        "gamma" => (1.0, 0.2),
        "beta" => (0.1, 0.2),
        "moving_mean" => (0.0, 0.2),
        "moving_variance" => (1.0, 0.5),
        "bias" => (0.0, 0.1),
        other => panic!("no formula for {other}"),
    };
    let values = uniform(&variable.path(), shape.iter().product());
    values.into_iter().map(|u| (centre + width * (u * 2.0 - 1.0)) as f32).collect()
}

/// How much wider than He's the classifier's kernel is, as in `tests/keras/networks.py`.
#[must_use]
pub fn classifier_gain(architecture: &Architecture) -> f64 {
    match architecture.name() {
        "inception-v3" => 10.0,
        _ => 2.0,
    }
}

/// The network with the formula's weights, through the importer that files go through.
#[must_use]
pub fn formula_network<B: Backend>(architecture: Architecture, device: &B::Device) -> Network<B> {
    let network = architecture.init::<B>(device).expect("valid settings");
    let tensors = network.variables().into_iter().map(|variable| {
        let values = formula(&variable, classifier_gain(&architecture));
        let (layer, shape) = (variable.layer, variable.spec.shape);
        (
            TensorInfo { layer, variable: variable.spec.name.into(), shape, dtype: Dtype::F32 },
            values,
        )
    });
    let mut checkpoint = Checkpoint::from_tensors("formula", tensors.collect());
    load(network, "the formula's network", &mut checkpoint).expect("every variable fits").network
}

/// A picture of byte values, `[size, size, 3]`: coarse noise plus fine noise.
#[must_use]
pub fn picture(name: &str, size: usize) -> Vec<f32> {
    let coarse = uniform(&format!("{name}/coarse"), 8 * 8 * 3);
    let fine = uniform(&format!("{name}/fine"), size * size * 3);
    let mut values = Vec::with_capacity(fine.len());
    for (index, fine) in fine.into_iter().enumerate() {
        let (pixel, channel) = (index / 3, index % 3);
        let (row, column) = (pixel / size * 8 / size, pixel % size * 8 / size);
        let coarse = coarse[(row * 8 + column) * 3 + channel];
        values.push(((0.75 * coarse + 0.25 * fine) * 256.0).floor() as f32);
    }
    values
}

/// The golden inputs: two pictures, preprocessed in Keras's mode `tf`, `[2, 3, size, size]`.
#[must_use]
pub fn pictures(size: usize) -> Vec<f32> {
    let plane = size * size;
    let mut values = Vec::with_capacity(2 * 3 * plane);
    for image in 0..2 {
        let picture = picture(&format!("image/{size}/{image}"), size);
        for channel in 0..3 {
            values.extend((0..plane).map(|pixel| picture[pixel * 3 + channel] / 127.5 - 1.0));
        }
    }
    values
}

/// A golden file: its tensors and metadata.
pub struct Golden {
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// The file's metadata.
    pub metadata: HashMap<String, String>,
}

impl Golden {
    /// Reads `tests/golden/<name>`.
    #[must_use]
    pub fn open(name: &str) -> Self {
        let bytes = std::fs::read(repository("tests/golden").join(name)).expect("a golden file");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid safetensors");
        let (_, header) =
            safetensors::SafeTensors::read_metadata(&bytes).expect("valid safetensors");
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let words = view.data().as_chunks::<4>().0.iter();
            (name, (view.shape().to_vec(), words.map(|&word| f32::from_le_bytes(word)).collect()))
        });
        Self { tensors: tensors.collect(), metadata: header.metadata().clone().unwrap_or_default() }
    }

    /// The shape of a tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no golden `{name}`")).0
    }

    /// The values of a tensor.
    #[must_use]
    pub fn values(&self, name: &str) -> &[f32] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no golden `{name}`")).1
    }
}

/// A family's golden file: what Keras's own networks of it compute.
pub struct FamilyGolden {
    /// The outputs.
    pub values: Golden,
    /// The networks.
    pub cases: Vec<FamilyCase>,
}

/// One network of a [`FamilyGolden`].
pub struct FamilyCase {
    /// Before the layers' names in the file.
    pub key: String,
    /// The network.
    pub architecture: Architecture,
    /// The layers whose outputs are there, the last one at the end.
    pub layers: Vec<String>,
    /// Keras's count of all parameters.
    pub parameters: usize,
    /// Keras's count of those that train.
    pub trainable: usize,
}

impl FamilyGolden {
    /// Reads the golden file of a family: `tests/golden/mobilenet_v2.safetensors`.
    #[must_use]
    pub fn open(family: &'static Family) -> Self {
        let values = Golden::open(&format!("{}.safetensors", family.name.replace('-', "_")));
        let cases: Vec<Value> = serde_json::from_str(&values.metadata["cases"]).expect("JSON");
        let count = |value: &Value| value.as_u64().expect("a number") as usize;
        let case = |case: Value| {
            let mut architecture = Architecture::new(family).with_size(count(&case["size"]));
            if let Some(alpha) = case["alpha"].as_f64() {
                architecture = architecture.with_alpha(alpha);
            }
            let classes = case["classes"].as_u64().map(|classes| classes as usize);
            FamilyCase {
                key: case["key"].as_str().expect("a key").to_owned(),
                architecture: architecture.with_top(classes),
                layers: serde_json::from_value(case["layers"].clone()).expect("names"),
                parameters: count(&case["parameters"]),
                trainable: count(&case["trainable"]),
            }
        };
        Self { values, cases: cases.into_iter().map(case).collect() }
    }
}

/// Samples of a layer's output as `tests/keras/networks.py` takes them, and behind them max |value|.
#[must_use]
pub fn sample(values: &[f32]) -> Vec<f32> {
    const SAMPLES: u64 = 500;
    const PRIME: u64 = 15_485_863;
    let highest = values.iter().fold(0.0_f32, |highest, value| highest.max(value.abs()));
    let mut picked = if values.len() as u64 > SAMPLES {
        (0..SAMPLES).map(|i| values[(i * PRIME % values.len() as u64) as usize]).collect()
    } else {
        values.to_vec()
    };
    picked.push(highest);
    picked
}

/// Computes with [`Eager`], and keeps the outputs of some layers in Keras's order, `[batch, height, width, channels]`.
pub struct Tap {
    wanted: Vec<String>,
    /// The outputs by layer.
    pub seen: HashMap<String, Vec<f32>>,
}

impl Tap {
    /// Keeps the outputs of these layers.
    #[must_use]
    pub fn new(wanted: &[String]) -> Self {
        Self { wanted: wanted.to_vec(), seen: HashMap::new() }
    }
}

impl<B: Backend> Interpreter<B> for Tap {
    type Value = Features<B>;

    fn layer(
        &mut self,
        layer: LayerView<'_, B>,
        inputs: Vec<Features<B>>,
    ) -> Result<Features<B>, NetworkError> {
        let (name, output) = (layer.name, Eager::inference().layer(layer, inputs)?);
        if self.wanted.iter().any(|wanted| wanted == name) {
            let data = match output.clone() {
                Features::Map(x) => x.permute([0, 2, 3, 1]).into_data(),
                Features::Flat(x) => x.into_data(),
            };
            let values = data.convert::<f32>().into_vec().expect("converted to f32");
            self.seen.insert(name.to_owned(), values);
        }
        Ok(output)
    }
}

/// `max |ours - golden| / max |golden|` for samples with the maximum behind them.
#[must_use]
pub fn relative_difference(ours: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(ours.len(), golden.len());
    let largest = golden[golden.len() - 1];
    let difference = ours.iter().zip(golden).fold(0.0_f32, |most, (a, b)| {
        let difference = (a - b).abs();
        // NaN must not look like agreement.
        if difference.is_nan() { f32::INFINITY } else { most.max(difference) }
    });
    difference / largest
}

/// `max |ours - theirs| / max |theirs|`; infinite where either has NaN.
#[must_use]
pub fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    let largest = theirs.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let theirs = [theirs, &[largest]].concat();
    relative_difference(&[ours, &[largest]].concat(), &theirs)
}

/// Runs a network on the golden pictures and compares every recorded layer; the largest difference.
pub fn compare<B: Backend>(
    network: &Network<B>,
    golden: &Golden,
    key: &str,
    layers: &[String],
    device: &B::Device,
    tolerance: f32,
) {
    let input = network.graph().input();
    let [size, ..] = input.as_map().expect("images are maps");
    let images = Features::<B>::from_values(pictures(size), input, device);
    let mut tap = Tap::new(layers);
    network.walk(&mut tap, images).expect("the pictures fit");
    for layer in layers {
        let ours = sample(&tap.seen[layer]);
        let theirs = golden.values(&format!("{key}/{layer}"));
        let difference = relative_difference(&ours, theirs);
        assert!(difference <= tolerance, "{key} {layer}: relative difference {difference:e}");
        if layer == "predictions" {
            let absolute =
                ours.iter().zip(theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(absolute <= tolerance / 10.0, "{key} {layer}: difference {absolute:e}");
            // A network that has died gives every class the same.
            assert!(
                theirs[theirs.len() - 1] > 2.0 / network.graph().classes().unwrap_or(1) as f32,
                "{key}"
            );
        }
    }
}

/// A network's height and width, which are the same here.
#[must_use]
pub fn size(architecture: &Architecture) -> usize {
    let [height, width] = architecture.size().pixels();
    assert_eq!(height, width, "the golden networks are for squares");
    height
}
