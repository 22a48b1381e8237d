//! safetensors: our own files, and those whose names follow Keras's variables (`Conv1/kernel`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ::safetensors::tensor::{Dtype as SafeDtype, Metadata};
use half::{bf16, f16};
use serde_json::json;
use sha2::{Digest, Sha256};

use rekindle_nn::RoundedWeights;

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::hdf5::split_name;
use crate::{Dtype, ModelCard, TensorInfo, WeightsError, torch, write_atomic};

/// The metadata key of the [`ModelCard`].
const CARD: &str = "rekindle";
/// The metadata key of the hash over the card and all tensors.
const HASH: &str = "sha256";
/// Behind the name of a tensor of bytes, that of the tensor with its steps.
const STEPS: &str = ":steps";
/// The longest header that is read, as in the safetensors library.
const MAX_HEADER: u64 = 100_000_000;

trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    open_source(Box::new(file), length, path)
}

pub(crate) fn open_bytes(bytes: &'static [u8], name: &Path) -> Result<Checkpoint, WeightsError> {
    open_source(Box::new(std::io::Cursor::new(bytes)), bytes.len() as u64, name)
}

fn open_source(
    mut source: Box<dyn Source>,
    length: u64,
    path: &Path,
) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let mut prefix = [0; 8];
    source.read_exact(&mut prefix).map_err(io)?;
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER || header.saturating_add(8) > length {
        return Err(wrong(format!(
            "a header of {header} bytes in a file of {length}: truncated, or not safetensors"
        )));
    }
    let mut bytes = prefix.to_vec();
    source.by_ref().take(header).read_to_end(&mut bytes).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&bytes[8..])
        .map_err(|error| wrong(format!("the safetensors header is damaged: {error}")))?;
    let expected = 8 + header + metadata.data_len() as u64;
    if expected != length {
        return Err(wrong(format!(
            "found {length} bytes, expected {expected}: the file is truncated or altered"
        )));
    }
    let mut names = metadata.offset_keys();
    names.retain(|name| metadata.info(name).is_some());
    let texts = metadata.metadata().clone().unwrap_or_default();
    let is_ours = texts.contains_key(CARD);
    let is_torch = !is_ours && torch::is_named(names.iter().map(String::as_str));
    // The steps of bytes are a part of these.
    let is_steps = |name: &String| is_ours && name.ends_with(STEPS);
    let (steps, names): (Vec<String>, Vec<String>) = names.into_iter().partition(is_steps);
    let (mut tensors, mut places) = (Vec::new(), Vec::<Place>::new());
    for name in &names {
        let Some(info) = metadata.info(name) else { continue };
        let at = |[start, end]: [usize; 2]| (8 + header + start as u64, end - start);
        let mut steps_at = None;
        let dtype = match info.dtype {
            SafeDtype::F16 => Dtype::F16,
            SafeDtype::BF16 => Dtype::Bf16,
            SafeDtype::F32 => Dtype::F32,
            SafeDtype::F64 => Dtype::F64,
            SafeDtype::I32 => Dtype::I32,
            SafeDtype::I64 => Dtype::I64,
            SafeDtype::I8 if is_ours => {
                let name_of_steps = format!("{name}{STEPS}");
                let steps = steps.contains(&name_of_steps).then(|| metadata.info(&name_of_steps));
                let count: usize = info.shape.iter().product();
                // As many as the last axes have outputs.
                let fits = |steps: usize| {
                    let mut outputs = info.shape.iter().rev().scan(1, |product, size| {
                        *product *= size;
                        Some(*product)
                    });
                    steps > 0 && count > 0 && outputs.any(|outputs| outputs == steps)
                };
                match steps.flatten() {
                    Some(steps)
                        if steps.dtype == SafeDtype::F32
                            && steps.shape.len() == 1
                            && fits(steps.shape[0]) =>
                    {
                        steps_at = Some(at(steps.data_offsets.into()));
                    }
                    Some(steps) => {
                        return Err(wrong(format!(
                            "`{name_of_steps}`: found {} values of shape {extents:?}, expected an F32 for each output of {shape:?}",
                            steps.dtype,
                            extents = steps.shape,
                            shape = info.shape
                        )));
                    }
                    None => {
                        return Err(wrong(format!(
                            "`{name}` has bytes, and there is no `{name_of_steps}`"
                        )));
                    }
                }
                Dtype::I8
            }
            other => {
                return Err(wrong(format!(
                    "`{name}`: found {other} values, expected F16, BF16, F32 or F64"
                )));
            }
        };
        let (offset, length) = at(info.data_offsets.into());
        let place = Place { offset, length, dtype, steps: steps_at };
        if is_torch {
            let (layer, variable) = torch::split(name);
            tensors.push(TensorInfo { layer, variable, shape: info.shape.clone(), dtype });
            places.push(place);
            continue;
        }
        if !name.contains('/') {
            return Err(wrong(format!(
                "`{name}` is not named `layer/variable`, as Keras's variables are"
            )));
        }
        let (layer, variable) = match name.rsplit_once('/') {
            // Names of layers may have a `/` of their own.
            Some((layer, variable)) if is_ours => (layer.to_owned(), variable.to_owned()),
            _ => split_name("", name),
        };
        tensors.push(TensorInfo { layer, variable, shape: info.shape.clone(), dtype });
        places.push(place);
    }
    let of_none = steps.iter().find(|steps| {
        let own = steps.strip_suffix(STEPS).and_then(|name| metadata.info(name));
        own.is_none_or(|info| info.dtype != SafeDtype::I8)
    });
    if let Some(steps) = of_none {
        return Err(wrong(format!("`{steps}` are steps of no bytes")));
    }
    let card = texts.get(CARD).map(|text| parse_card(text, path)).transpose()?;
    let mut reader = Reader { source, places };
    if card.is_some() && !texts.contains_key(HASH) {
        return Err(wrong(
            "the content's hash is missing: the file was altered after it was written".into(),
        ));
    }
    if let Some(expected) = texts.get(HASH) {
        let mut hash = ContentHash::new(texts.get(CARD).map_or("", String::as_str));
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&index| tensors[index].path());
        for index in order {
            let bytes = reader.bytes(index).map_err(|error| wrong(error.to_string()))?;
            hash.tensor(&tensors[index].path(), &tensors[index].shape, &bytes);
            if let Some(place) = reader.places[index].steps {
                let steps = reader.bytes_at(place).map_err(|error| wrong(error.to_string()))?;
                hash.steps(&steps);
            }
        }
        let found = hash.finish();
        if found != *expected {
            return Err(wrong(format!(
                "the content's SHA-256 is {found}, expected {expected}: the file was altered after it was written"
            )));
        }
    }
    let naming = if is_torch { Naming::Modules } else { Naming::Names };
    let checkpoint = Checkpoint::new(path, tensors, card, Box::new(reader));
    let checkpoint = checkpoint.with_names(names).with_naming(naming);
    match texts.get(torch::PROGRAM_CONFIG).filter(|_| is_torch) {
        Some(config) => {
            let beside = torch::beside(config, texts.get(torch::RECORD)).map_err(wrong)?;
            Ok(checkpoint.with_beside(beside))
        }
        None => Ok(checkpoint),
    }
}

fn parse_card(text: &str, path: &Path) -> Result<ModelCard, WeightsError> {
    serde_json::from_str(text).map_err(|error| {
        WeightsError::format(path, format!("the model card is damaged or does not fit: {error}"))
    })
}

/// Where a tensor lies.
struct Place {
    /// In the file.
    offset: u64,
    /// In bytes.
    length: usize,
    dtype: Dtype,
    /// Offset and length of the steps of bytes.
    steps: Option<(u64, usize)>,
}

struct Reader {
    source: Box<dyn Source>,
    places: Vec<Place>,
}

impl Reader {
    fn bytes(&mut self, index: usize) -> std::io::Result<Vec<u8>> {
        let Place { offset, length, .. } = self.places[index];
        self.bytes_at((offset, length))
    }

    fn bytes_at(&mut self, (offset, length): (u64, usize)) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.source.seek(SeekFrom::Start(offset))?;
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let text = |error: std::io::Error| error.to_string();
        let bytes = self.bytes(index).map_err(text)?;
        let Some(place) = self.places[index].steps else {
            return Ok(decode(&bytes, self.places[index].dtype));
        };
        let steps = decode(&self.bytes_at(place).map_err(text)?, Dtype::F32);
        if let Some(step) = steps.iter().find(|step| !step.is_finite()) {
            return Err(format!("a step of its bytes is {step}"));
        }
        let bytes = bytes.into_iter().map(u8::cast_signed).collect();
        Ok(RoundedWeights { bytes, steps }.weights())
    }
}

pub(crate) fn decode(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F16 => pairs.map(|&pair| f16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::Bf16 => pairs.map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
        }
        Dtype::I8 => bytes.iter().map(|&byte| f32::from(byte.cast_signed())).collect(),
        Dtype::F64 => {
            bytes.as_chunks::<8>().0.iter().map(|&word| f64::from_le_bytes(word) as f32).collect()
        }
        Dtype::I32 => {
            bytes.as_chunks::<4>().0.iter().map(|&word| i32::from_le_bytes(word) as f32).collect()
        }
        Dtype::I64 => {
            bytes.as_chunks::<8>().0.iter().map(|&word| i64::from_le_bytes(word) as f32).collect()
        }
    }
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => words(values, |value| f16::from_f32(value).to_le_bytes()),
        Dtype::Bf16 => words(values, |value| bf16::from_f32(value).to_le_bytes()),
        Dtype::F32 => words(values, f32::to_le_bytes),
        Dtype::I8 => words(values, |value| (value as i8).to_le_bytes()),
        Dtype::F64 => words(values, |value| f64::from(value).to_le_bytes()),
        Dtype::I32 => words(values, |value| (value as i32).to_le_bytes()),
        Dtype::I64 => words(values, |value| (value as i64).to_le_bytes()),
    }
}

/// Each value's bytes, one after the other.
fn words<const N: usize>(values: &[f32], word: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    let places = bytes.as_chunks_mut::<N>().0.iter_mut();
    places.zip(values).for_each(|(place, &value)| *place = word(value));
    bytes
}

/// SHA-256 over the card and, by name, every tensor.
struct ContentHash(Sha256);

impl ContentHash {
    fn new(card: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((card.len() as u64).to_le_bytes());
        hash.update(card);
        Self(hash)
    }

    fn tensor(&mut self, name: &str, shape: &[usize], bytes: &[u8]) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
        self.0.update((shape.len() as u64).to_le_bytes());
        for &extent in shape {
            self.0.update((extent as u64).to_le_bytes());
        }
        self.0.update(bytes);
    }

    /// Those of the tensor before.
    fn steps(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Gives the values of the tensor with this index, in Keras's layout.
pub type TensorSource<'a> = dyn FnMut(usize) -> Result<Vec<f32>, WeightsError> + 'a;

/// Writes tensors and their card as safetensors, atomically, one tensor in memory at a time. Weights of a quantized network are
/// written as bytes.
///
/// `read` is asked for each tensor twice: for the hash, which stands at the file's start, and to write it.
///
/// # Errors
/// When a value is not finite or does not fit into its kind of number, or the file cannot be written.
pub fn save(
    path: &Path,
    card: &ModelCard,
    tensors: &[TensorInfo],
    read: &mut TensorSource<'_>,
) -> Result<(), WeightsError> {
    // How many steps each tensor has that is written as bytes.
    let steps: Vec<Option<usize>> = tensors.iter().map(|info| steps(card, info)).collect();
    let is_other = |(info, steps): &(&TensorInfo, &Option<usize>)| {
        steps.is_some() && !matches!(info.dtype, Dtype::F32 | Dtype::I8)
    };
    if let Some((info, _)) = tensors.iter().zip(&steps).find(is_other) {
        let (tensor, dtype) = (info.path(), info.dtype);
        let reason = format!(
            "`{tensor}` of a quantized network is bytes and cannot be {dtype}; leave the kind of numbers out"
        );
        return Err(WeightsError::format(path, reason));
    }
    let as_written = |(info, steps): (&TensorInfo, &Option<usize>)| TensorInfo {
        dtype: if steps.is_some() { Dtype::I8 } else { info.dtype },
        ..info.clone()
    };
    let tensors: Vec<TensorInfo> = tensors.iter().zip(&steps).map(as_written).collect();
    let card = serde_json::to_string(card)
        .map_err(|error| WeightsError::format(path, error.to_string()))?;
    // A tensor's bytes, and those of its steps.
    let mut encoded = |index: usize| {
        let info: &TensorInfo = &tensors[index];
        let values = read(index)?;
        let limit = if info.dtype == Dtype::F16 { f16::MAX.to_f32() } else { f32::MAX };
        let wrong = |&value: &f32| !value.is_finite() || value.abs() > limit;
        if let Some(position) = values.iter().position(wrong) {
            let (path, tensor, value) = (path.to_owned(), info.path(), values[position]);
            return Err(WeightsError::NotFinite { path, tensor, value, position });
        }
        let Some(steps) = steps[index] else {
            return Ok((encode(&values, info.dtype), Vec::new()));
        };
        let rounded = RoundedWeights::of(&values, steps);
        let is_off =
            |((number, value), step): ((&f32, &f32), &f32)| (number - value).abs() > 1e-3 * step;
        let numbers = rounded.weights();
        if numbers.iter().zip(&values).zip(rounded.steps.iter().cycle()).any(is_off) {
            let reason = format!("`{}` is not rounded to bytes, as the card says", info.path());
            return Err(WeightsError::format(path, reason));
        }
        let bytes = rounded.bytes.iter().map(|byte| byte.cast_unsigned()).collect();
        Ok((bytes, encode(&rounded.steps, Dtype::F32)))
    };
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| tensors[index].path());
    let mut hash = ContentHash::new(&card);
    for &index in &order {
        let (bytes, steps) = encoded(index)?;
        hash.tensor(&tensors[index].path(), &tensors[index].shape, &bytes);
        hash.steps(&steps);
    }
    let metadata = BTreeMap::from([(CARD, card), (HASH, hash.finish())]);
    // What is written: each tensor, and behind those of bytes their steps.
    let mut listed: Vec<(String, Vec<usize>, Dtype)> = Vec::new();
    let mut parts = Vec::new();
    for (index, info) in tensors.iter().enumerate() {
        listed.push((info.path(), info.shape.clone(), info.dtype));
        parts.push((index, false));
        if let Some(count) = steps[index] {
            listed.push((format!("{}{STEPS}", info.path()), vec![count], Dtype::F32));
            parts.push((index, true));
        }
    }
    write_encoded(path, &metadata, &listed, &mut |part| {
        let (index, is_steps) = parts[part];
        let (bytes, steps) = encoded(index)?;
        Ok(if is_steps { steps } else { bytes })
    })
}

/// Writes tensors of these names, shapes and numbers, and metadata, atomically.
pub(crate) fn write(
    path: &Path,
    metadata: BTreeMap<&str, String>,
    tensors: &[(String, Vec<usize>, Dtype)],
    read: &mut TensorSource<'_>,
) -> Result<(), WeightsError> {
    write_encoded(path, &metadata, tensors, &mut |index| {
        Ok(encode(&read(index)?, tensors[index].2))
    })
}

fn write_encoded(
    path: &Path,
    metadata: &BTreeMap<&str, String>,
    tensors: &[(String, Vec<usize>, Dtype)],
    encoded: &mut dyn FnMut(usize) -> Result<Vec<u8>, WeightsError>,
) -> Result<(), WeightsError> {
    // As the safetensors library does it: the widest numbers first, so that all are aligned.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| (usize::MAX - tensors[index].2.size(), tensors[index].0.clone()));
    let (mut entries, mut end) = (BTreeMap::new(), 0);
    for &index in &order {
        let (name, shape, dtype) = &tensors[index];
        let start = end;
        end += shape.iter().product::<usize>() * dtype.size();
        let dtype = match dtype {
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
            Dtype::I32 => "I32",
            Dtype::I64 => "I64",
            Dtype::I8 => "I8",
        };
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        entries.insert(name.clone(), entry);
    }
    // Sorted by name: the same model is the same bytes.
    let failed = |error: serde_json::Error| WeightsError::format(path, error.to_string());
    let mut header = serde_json::to_string(&json!({ "__metadata__": metadata })).map_err(failed)?;
    let listed = serde_json::to_string(&entries).map_err(failed)?;
    if entries.len() < tensors.len() {
        return Err(WeightsError::format(path, "two tensors have one name".to_owned()));
    }
    if !entries.is_empty() {
        header.pop();
        header = format!("{header},{}", &listed[1..]);
    }
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    write_atomic(path, |temporary| {
        let io = |error| WeightsError::io(temporary, error);
        let mut file = BufWriter::new(File::create(temporary).map_err(io)?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(header.as_bytes()).map_err(io)?;
        for &index in &order {
            file.write_all(&encoded(index)?).map_err(io)?;
        }
        file.flush().map_err(io)
    })
}

/// How many steps a tensor has that is written as bytes.
fn steps(card: &ModelCard, info: &TensorInfo) -> Option<usize> {
    let layers = card.graph.layers().iter();
    let layer =
        layers.filter(|_| card.quantization.is_some()).find(|layer| layer.name == info.layer)?;
    let quantization = card.quantization.as_ref()?;
    let count = quantization.steps(&info.layer, &layer.op, &info.variable, &info.shape)?;
    (info.count() > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{GraphBuilder, Shape};

    use super::*;

    fn card() -> ModelCard {
        // As short as a card can be: each of its bytes is changed below.
        let (net, image) = GraphBuilder::new(Shape::image(1));
        ModelCard {
            preprocessing: "tf".into(),
            ..ModelCard::new(net.finish(image).expect("valid"))
        }
    }

    fn written(dtype: Dtype) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.safetensors");
        let card = card();
        let tensor = |layer: &str, shape: Vec<usize>| TensorInfo {
            layer: layer.into(),
            variable: "kernel".into(),
            shape,
            dtype,
        };
        let tensors = [tensor("b", vec![2, 2]), tensor("a", vec![3])];
        let values = [vec![1.0, -2.5, 0.0, 1e-3], vec![65504.0, 7.0, -0.5]];
        save(&path, &card, &tensors, &mut |index| Ok(values[index].clone())).expect("saves");
        (dir, path)
    }

    #[test]
    fn what_is_saved_is_read_back() {
        for (dtype, tolerance) in
            [(Dtype::F32, 0.0), (Dtype::F64, 0.0), (Dtype::F16, 1e-6), (Dtype::Bf16, 1e-5)]
        {
            let (_dir, path) = written(dtype);
            let mut checkpoint = Checkpoint::open(&path).expect("opens");
            assert_eq!(checkpoint.card(), Some(&card()));
            let index =
                checkpoint.tensors().iter().position(|tensor| tensor.layer == "b").expect("there");
            assert_eq!(checkpoint.tensors()[index].dtype, dtype);
            let values = checkpoint.read(index).expect("reads");
            assert!((values[3] - 1e-3).abs() <= tolerance, "{dtype:?} {values:?}");
            assert_eq!(values[..3], [1.0, -2.5, 0.0]);
        }
    }

    #[test]
    fn the_library_reads_what_is_saved() {
        let (_dir, path) = written(Dtype::F32);
        let bytes = std::fs::read(path).expect("reads");
        let file = ::safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        assert_eq!(file.tensor("a/kernel").expect("there").shape(), [3]);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error() {
        let (dir, path) = written(Dtype::F32);
        let bytes = std::fs::read(path).expect("reads");
        let damaged = dir.path().join("damaged.safetensors");
        for length in 0..bytes.len() {
            std::fs::write(&damaged, &bytes[..length]).expect("writes");
            let error = Checkpoint::open(&damaged).expect_err("truncated").to_string();
            assert!(error.contains("damaged.safetensors"), "{error}");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            std::fs::write(&damaged, &changed).expect("writes");
            assert!(Checkpoint::open(&damaged).is_err(), "byte {position} of {}", bytes.len());
        }
    }

    #[test]
    fn the_same_model_is_the_same_bytes() {
        let first = written(Dtype::F32);
        let first = std::fs::read(&first.1).expect("reads");
        for _ in 0..20 {
            let again = written(Dtype::F32);
            assert_eq!(std::fs::read(&again.1).expect("reads"), first);
        }
    }

    #[test]
    fn names_with_slashes_are_kept() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.safetensors");
        let info = TensorInfo {
            layer: "block/1".into(),
            variable: "depthwise_kernel".into(),
            shape: vec![1],
            dtype: Dtype::F32,
        };
        save(&path, &card(), std::slice::from_ref(&info), &mut |_| Ok(vec![1.0])).expect("saves");
        assert_eq!(Checkpoint::open(&path).expect("opens").tensors(), [info]);
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let (_dir, path) = written(Dtype::F32);
        let before = std::fs::read(&path).expect("reads");
        let card = card();
        for (dtype, value) in [(Dtype::F32, f32::NAN), (Dtype::F16, 70_000.0)] {
            let info =
                TensorInfo { layer: "a".into(), variable: "kernel".into(), shape: vec![1], dtype };
            let error = save(&path, &card, &[info], &mut |_| Ok(vec![value])).expect_err("refused");
            assert!(error.to_string().contains("a/kernel"), "{error}");
        }
        assert_eq!(std::fs::read(&path).expect("reads"), before);
    }
}
