//! Every layer that Rekindle knows, with Keras's answers (`tests/keras/layer_cases.py`). Models that are more than a row of
//! layers are read by the full reader, in rekindle-weights.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::TensorData;
use flate2::read::GzDecoder;
use rekindle_nn::keras::{Generation, LayerConfig};
use rekindle_nn::{Eager, Features, GraphBuilder, Network, Op, Shape, assign, floats};
use safetensors::SafeTensors;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A file of cases.
struct Cases {
    cases: Vec<Value>,
    bytes: Vec<u8>,
}

impl Cases {
    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).expect("golden");
        GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
        let metadata = header.metadata().as_ref().expect("metadata");
        let cases = serde_json::from_str(&metadata["cases"]).expect("cases");
        Self { cases, bytes }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        let values = tensor.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        (tensor.shape().to_vec(), values.collect())
    }
}

fn shape_of(sizes: &[usize]) -> Option<Shape> {
    match *sizes {
        [_, height, width, channels] => Some(Shape::map(height, width, channels)),
        [_, count] => Some(Shape::Flat(count)),
        _ => None,
    }
}

/// Values in Keras's order as `[batch, channels, height, width]`, or the contrary.
fn permuted(values: &[f32], shape: Shape, to_burn: bool) -> Vec<f32> {
    let Shape::Map { height, width, channels } = shape else { return values.to_vec() };
    let (pixels, count) = (height * width, shape.count());
    let mut out = vec![0.0; values.len()];
    for (place, value) in values.iter().enumerate() {
        let (sample, rest) = (place / count, place % count);
        let other = if to_burn {
            (rest % channels) * pixels + rest / channels
        } else {
            (rest % pixels) * channels + rest / pixels
        };
        out[sample * count + other] = *value;
    }
    out
}

/// The layers of a row; nothing where the model is something else.
fn row(config: &Value) -> Option<Vec<&Value>> {
    if config["class_name"] != "Sequential" {
        return None;
    }
    let layers = config["config"]["layers"].as_array()?;
    let is_plain = |layer: &&Value| layer["class_name"] != "Sequential";
    let layers: Vec<&Value> =
        layers.iter().filter(|layer| layer["class_name"] != "InputLayer").collect();
    layers.iter().all(is_plain).then_some(layers)
}

/// What Rekindle answers to a case.
fn answer(cases: &Cases, case: &Value) -> Result<Vec<f32>, String> {
    let name = case["name"].as_str().expect("name");
    let config = &case["config"];
    let layers = row(config).expect("a row");
    let generation =
        if config["keras_version"].is_null() { Generation::Keras3 } else { Generation::Keras2 };
    let of = |key: &str| case[key].as_str().unwrap_or(name).to_owned();
    let (sizes, input) = cases.tensor(&format!("{}/input", of("input_of")));
    let shape = shape_of(&sizes).ok_or("input of another rank")?;
    let (mut graph, mut x) = GraphBuilder::new(shape);
    for layer in layers {
        let class = layer["class_name"].as_str().expect("class");
        let config = layer["config"].as_object().expect("config");
        let layer = config["name"].as_str().expect("name");
        let op = Op::from_keras(LayerConfig::new(layer, class, generation, config))
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("class {class}"))?;
        x = graph.layer(layer, op, &[x]).map_err(|error| error.to_string())?;
    }
    let graph = graph.finish(x).map_err(|error| error.to_string())?;
    let device = Default::default();
    let network = Network::<Flex>::init(graph, 0, &device);

    // Weights by their layers and names; those that have other names in one of the Kerases are in order.
    let mut files: HashMap<String, VecDeque<(String, String)>> = HashMap::new();
    for (index, path) in case["weights"].as_array().expect("weights").iter().enumerate() {
        let path = path.as_str().expect("path").trim_end_matches(":0");
        // Keras 2 has no layer in the names of Normalization's.
        let (layer, variable) = path.rsplit_once('/').unwrap_or(("", path));
        let tensor = format!("{}/weights/{index}", of("weights_of"));
        let layer = layer.rsplit('/').next().expect("layer");
        files.entry(layer.to_owned()).or_default().push_back((variable.to_owned(), tensor));
    }
    let mut values = HashMap::<_, TensorData>::new();
    for variable in network.variables() {
        let key = if files.contains_key(&variable.layer) { variable.layer.as_str() } else { "" };
        let file = files.get_mut(key).unwrap_or_else(|| panic!("{name}: no {}", variable.path()));
        let place = file.iter().position(|(name, _)| *name == variable.spec.name).unwrap_or(0);
        let (_, tensor) = file.remove(place).expect("a weight");
        let (sizes, weights) = cases.tensor(&tensor);
        assert_eq!(sizes, variable.spec.shape, "{name}: {}", variable.path());
        values.insert(variable.id, variable.spec.to_burn(weights));
    }
    assert!(files.values().all(VecDeque::is_empty), "{name}: weights that nothing takes");
    let network = assign(network, values);

    let input = Features::from_values(permuted(&input, shape, true), shape, &device);
    let output = network.walk(&mut Eager::inference(), input).map_err(|error| error.to_string())?;
    let shape = output.shape();
    let (sizes, _) = cases.tensor(&format!("{name}/output"));
    assert_eq!(shape_of(&sizes), Some(shape), "{name}");
    Ok(permuted(&floats(output.into_data()), shape, false))
}

/// What is refused: words of the case's name, and of the message.
const REFUSED: &[(&str, &str)] = &[
    // Functions of pairs of channels, and one that sorts them.
    ("'glu'", "`activation` is \"glu\""),
    ("'sparsemax'", "`activation` is \"sparsemax\""),
    ("Conv2D(activation=Softmax(1))", "`axis` is [1]"),
    // Values with other axes than a batch of maps or of vectors.
    ("on rows", "another rank"),
    ("Masking", "another rank"),
    ("Reshape(target_shape=(12, 14))", "`target_shape` is [12, 14]"),
    ("Reshape(target_shape=(5, 2))", "`target_shape` is [5, 2]"),
    ("RepeatVector", "class RepeatVector"),
    // Layers that no image classifier is made of.
    ("Conv2DTranspose", "class Conv2DTranspose"),
    ("EinsumDense", "class EinsumDense"),
    ("AutoContrast", "class AutoContrast"),
    ("ContrastLimited", "class ContrastLimited"),
    ("RMSNormalization", "class RMSNormalization"),
    ("SpectralNormalization", "class SpectralNormalization"),
    ("AdaptiveAveragePooling2D", "class AdaptiveAveragePooling2D"),
    ("AdaptiveMaxPooling2D", "class AdaptiveMaxPooling2D"),
    ("UpSampling2D", "class UpSampling2D"),
    // Settings.
    ("lora_rank", "`lora_rank` is 2"),
    ("renorm=True", "`renorm` is true"),
    ("rms_scaling=True", "`rms_scaling` is true"),
    ("channels_first", "`data_format` is channels_first"),
    ("BatchNormalization(axis=1)", "not on axis 1"),
    ("BatchNormalization(axis=2)", "not on axis 2"),
    ("GroupNormalization(groups=3, axis=1", "not on axis 1"),
];

/// Keras computes these in halves, or stores their weights so.
fn tolerance(name: &str) -> f32 {
    if name.contains("float16") { 3e-3 } else { 1e-5 }
}

#[test]
fn layers_answer_as_keras_does() {
    let folder = golden().join("layers");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("file").path()).collect();
    files.sort();
    let (mut agree, mut refused, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let group =
            file.file_name().expect("name").to_string_lossy().replace(".safetensors.gz", "");
        let cases = Cases::read(&file);
        for case in &cases.cases {
            if row(&case["config"]).is_none() {
                continue;
            }
            let name = case["name"].as_str().expect("name");
            let found = match answer(&cases, case) {
                Ok(found) => found,
                Err(reason) => {
                    let is_known = |(case, message): &&(&str, &str)| {
                        name.contains(case) && reason.contains(message)
                    };
                    match REFUSED.iter().find(is_known) {
                        Some(_) => refused += 1,
                        None => wrong.push(format!("{group}: {name}: refused: {reason}")),
                    }
                    continue;
                }
            };
            let (_, expected) = cases.tensor(&format!("{name}/output"));
            let off =
                |(found, expected): (&f32, &f32)| (found - expected).abs() / (1.0 + expected.abs());
            let worst = found.iter().zip(&expected).map(off).fold(0.0, f32::max);
            if found.len() == expected.len() && worst <= tolerance(name) {
                agree += 1;
            } else {
                wrong.push(format!("{group}: {name}: off by {worst:.1e}"));
            }
        }
    }
    println!("{agree} agree, {refused} are refused");
    assert!(agree > 650, "{agree}");
    assert!(wrong.is_empty(), "another answer than Keras's:\n{}", wrong.join("\n"));
}
