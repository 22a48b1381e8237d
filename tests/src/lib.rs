//! What tests and benches share: the formula for weights, golden files, the demo photos.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use rekindle::nn::Eager;
use rekindle::nn::{Architecture, Features, Interpreter, LayerView, NetworkError};
use rekindle::prelude::Preprocessing;
use rekindle::train::{Event, Observer};
use rekindle::vision::Pixels;

mod families;
mod formula;
pub mod gpu;

pub use families::{FamilyCase, cases};
pub use formula::{Formula, formula_network};

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
    preprocessed_pictures(size, Preprocessing::Tf)
}

/// Two pictures as a network takes them, `[2, 3, size, size]`.
#[must_use]
pub fn preprocessed_pictures(size: usize, preprocessing: Preprocessing) -> Vec<f32> {
    let picture = |image| Pixels {
        width: size,
        height: size,
        values: picture(&format!("image/{size}/{image}"), size),
    };
    (0..2).flat_map(|image| preprocessing.apply(&picture(image))).collect()
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

/// As many samples of a layer's output as `golden` has, as `tests/keras/networks.py` takes them, and behind them
/// max |value|.
#[must_use]
pub fn sample(values: &[f32], golden: &[f32]) -> Vec<f32> {
    const PRIME: u64 = 15_485_863;
    let highest = values.iter().fold(0.0_f32, |highest, value| highest.max(value.abs()));
    let count = golden.len() as u64 - 1;
    let mut picked = if values.len() as u64 > count {
        (0..count).map(|i| values[(i * PRIME % values.len() as u64) as usize]).collect()
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

/// A network's height and width, which are the same here.
#[must_use]
pub fn size(architecture: &Architecture) -> usize {
    let [height, width] = architecture.size().pixels();
    assert_eq!(height, width, "the golden networks are for squares");
    height
}
