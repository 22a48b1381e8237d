//! From a file to a model card, and tensors under the names of the card's network.

use std::path::Path;
use std::sync::Arc;

use rekindle_nn::Op;

use super::file::File;
use super::nodes::{constants, translated};
use super::own;
use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};
use crate::onnx::{self, Constant, Said, Weight};
use crate::{ModelCard, Origin, TensorInfo, WeightsError};

/// A file whose network is not known yet.
pub(crate) struct Opened {
    pub(super) file: File,
    constants: Vec<TensorProto>,
    weights: Arc<Vec<Weight>>,
    /// The number of each tensor's weight, where it has one.
    numbers: Vec<Option<usize>>,
    /// Whether weights were integers of 8 bits.
    has_bytes: bool,
}

impl Opened {
    /// The constants of a file, and their names.
    pub(super) fn new(path: &Path, file: File) -> Result<(Self, Vec<TensorInfo>), String> {
        let (constants, has_bytes) = constants(&file)?;
        let graph = GraphProto { initializer: constants.clone(), ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let (graph, tensors) = onnx::parsed(path, model)?;
        let mut numbers = Vec::with_capacity(file.tensors.len());
        let (mut own, mut next) = (constants.iter(), 0);
        for tensor in &file.tensors {
            let is_float = match &tensor.data {
                Some(_) => own.next().is_some_and(|own| onnx::dtype(own.data_type).is_some()),
                None => false,
            };
            numbers.push(is_float.then_some(next));
            next += usize::from(is_float);
        }
        let weights = graph.weights();
        Ok((Self { file, constants, weights, numbers, has_bytes }, tensors))
    }

    pub(super) fn weights(&self) -> Arc<Vec<Weight>> {
        Arc::clone(&self.weights)
    }

    /// The number of a tensor's weight.
    pub(super) fn number(&self, tensor: usize) -> Option<usize> {
        self.numbers.get(tensor).copied().flatten()
    }

    /// A tensor as a constant.
    pub(super) fn constant(&self, tensor: usize) -> Option<Constant> {
        let number = self.number(tensor)?;
        Some(Constant::file(number, self.weights.get(number)?))
    }
}

/// The checkpoint with the variables of the network that its graph computes; where that is none of ours, with the reason.
pub(crate) fn resolve(
    checkpoint: Checkpoint,
    opened: &Opened,
    size: Option<[usize; 2]>,
    beside: &Beside,
) -> Result<Checkpoint, WeightsError> {
    let written = own::card(&opened.file);
    let known = written.as_ref().and_then(|card| Some((card.clone(), own::own(opened, card)?)));
    if let Some((card, placed)) = known {
        return Ok(onnx::rearranged(&checkpoint, &opened.weights, card, placed));
    }
    let path = checkpoint.path().to_owned();
    match read(&path, opened, size, beside) {
        Ok((card, placed, weights)) => {
            let card = match written {
                Some(written) => onnx::with_names(card, written),
                None => card,
            };
            Ok(onnx::rearranged(&checkpoint, &weights, card, placed))
        }
        Err(problem) => Ok(checkpoint.with_problem(problem)),
    }
}

type Placed = (ModelCard, Vec<(TensorInfo, Constant)>, Arc<Vec<Weight>>);

/// Reads a file by its operators.
fn read(
    path: &Path,
    opened: &Opened,
    size: Option<[usize; 2]>,
    beside: &Beside,
) -> Result<Placed, String> {
    let mut first = once(path, opened, size, beside, false)?;
    if first.0.architecture().is_none() {
        // Where no known network has its activations as layers, one may have them in its layers: no file says which it was.
        let second = once(path, opened, size, beside, true)?;
        if second.0.architecture().is_some() {
            first = second;
        }
    }
    Ok(first)
}

fn once(
    path: &Path,
    opened: &Opened,
    size: Option<[usize; 2]>,
    beside: &Beside,
    joins: bool,
) -> Result<Placed, String> {
    let Opened { file, constants, has_bytes, .. } = opened;
    let nodes = translated(file, constants, joins)?;
    let (mut graph, _) = onnx::parsed(path, nodes.model)?;
    graph.is_channels_last(nodes.labels);
    let metadata = &file.said;
    let (said, front) = match &metadata.normalization {
        None => (beside.preprocessing.clone().map(Said::Assumed), None),
        Some((mean, std)) => {
            let is_same = mean.iter().all(|&mean| mean == 0.0) && std.iter().all(|&std| std == 1.0);
            match is_same {
                true => (Some(Said::File("none".into())), None),
                false => (None, Some(affine(mean, std)?)),
            }
        }
    };
    graph.begins_with(front);
    let weights = graph.weights();
    let (mut card, placed) = onnx::placed(&graph, size, said)?;
    if metadata.normalization.is_some() {
        card.origins.preprocessing = Origin::File;
    }
    if *has_bytes {
        card.assumed.push(
            "weights are 8-bit integers in the file: they are read as the numbers that these stand for, and nothing else is \
             rounded to 8 bits as the interpreter may do it"
                .into(),
        );
    }
    if metadata.classes.is_empty() {
        beside.apply(&mut card)?;
    } else {
        let labels = Beside {
            file: super::metadata::NAME.into(),
            classes: metadata.classes.clone(),
            ..Beside::default()
        };
        labels.apply(&mut card)?;
        Beside { classes: Vec::new(), ..beside.clone() }.apply(&mut card)?;
    }
    Ok((card, placed, weights))
}

/// `(x - mean) / std` as a layer.
fn affine(mean: &[f32], std: &[f32]) -> Result<Op, String> {
    let count = mean.len().max(std.len());
    let fits = |values: &[f32]| matches!(values.len(), 1) || values.len() == count;
    if !fits(mean) || !fits(std) {
        return Err(format!(
            "its metadata's normalization has {} means and {} deviations",
            mean.len(),
            std.len()
        ));
    }
    let at = |values: &[f32], place: usize| {
        let value = values.get(place).or(values.first()).copied().unwrap_or(0.0);
        value.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(value))
    };
    let pairs = (0..count).map(|place| (at(mean, place), at(std, place)));
    let (scale, offset) = pairs.map(|(mean, std)| (1.0 / std, -mean / std)).unzip();
    Ok(rekindle_nn::ops::Rescaling { scale, offset }.into())
}
