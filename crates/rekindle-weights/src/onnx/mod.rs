//! ONNX: the graph that a file holds becomes a network of ours, operator by operator.
//!
//! `graph.rs` has the file's nodes and constants, `read.rs` makes layers of them (`dispatch.rs` says which operator is
//! read where), `data.rs` keeps track of what the file's axes are, `constant.rs` of how weights are made of the file's
//! tensors, and `tidy.rs` puts together what exporters take apart.

mod activations;
#[cfg(test)]
pub(crate) mod backend;
mod constant;
mod data;
mod dispatch;
mod folded;
mod graph;
mod integers;
mod layout;
mod name;
mod node;
mod norm;
mod own;
mod pointwise;
mod pool;
pub(crate) mod proto;
mod read;
mod resolve;
mod shapes;
mod shaping;
#[cfg(test)]
mod tests;
mod tidy;
mod weight;
mod weighted;
mod write;
#[cfg(test)]
pub(crate) mod written;

pub(crate) use constant::{Constant, FileTensors};
pub(crate) use graph::Graph;
pub(crate) use resolve::{Said, placed, rearranged, resolve, with_names};
pub(crate) use weight::{Weight, dtype};
pub(crate) use write::write;

use std::path::Path;
use std::sync::Arc;

use prost::Message;

use crate::checkpoint::{Checkpoint, Naming};
use crate::{TensorInfo, WeightsError};
use proto::ModelProto;

/// ONNX's own limit for one file.
const LONGEST: u64 = 1 << 31;
/// Where a file of ours has its model card, as JSON.
const CARD: &str = "rekindle";
/// Where a file of ours has what it was written with: `preprocessing`, `channels_first`, `half`.
const SETTINGS: &str = "rekindle.export";

/// A network as a file has it.
#[derive(Debug)]
pub(crate) struct Found {
    /// The network, its layers called as in the file.
    pub graph: rekindle_nn::Graph,
    /// How the variables of each layer are made of the file's tensors, in the order of the layer's variables.
    pub values: Vec<Vec<Constant>>,
    /// Whether normalizations that do nothing were put where an exporter has folded the trained ones.
    pub folded: bool,
    /// What was assumed, since the file does not say it.
    pub assumed: Vec<String>,
}

/// Reads the network of a graph; `size` is height and width of its images where the file leaves them open.
///
/// # Errors
/// When something in it cannot be honoured: the message names node, operator, setting, found and expected.
pub(crate) fn read(graph: &Graph, size: Option<[usize; 2]>) -> Result<Found, String> {
    read::read(graph, size)
}

/// Opens a file; its tensors have the file's names until the network is known.
pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LONGEST {
        return Err(wrong(format!("{length} bytes, but an ONNX file has at most {LONGEST}")));
    }
    let bytes = prost::bytes::Bytes::from(std::fs::read(path).map_err(io)?);
    let mut model =
        ModelProto::decode(bytes).map_err(|error| wrong(format!("damaged ONNX: {error}")))?;
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        weight::fetch_integers(path, tensor)
            .map_err(|reason| wrong(format!("`{}`: {reason}", tensor.name)))?;
    }
    let (graph, tensors) = parsed(path, model).map_err(wrong)?;
    let reader = Box::new(FileTensors(Arc::clone(&graph.weights)));
    let checkpoint = Checkpoint::new(path, tensors, None, reader);
    Ok(checkpoint.with_naming(Naming::Graph(Box::new(graph))))
}

/// The graph of a model, and its tensors of numbers.
///
/// # Errors
/// When it is damaged.
pub(crate) fn parsed(path: &Path, model: ModelProto) -> Result<(Graph, Vec<TensorInfo>), String> {
    let (mut tensors, mut weights) = (Vec::new(), Vec::new());
    let mut graph = Graph::new(model, |tensor| {
        // Shapes and axes are integers.
        let Some(dtype) = dtype(tensor.data_type) else { return Ok(None) };
        let name = tensor.name.clone();
        let weight =
            Weight::new(path, tensor, dtype).map_err(|reason| format!("`{name}`: {reason}"))?;
        let (layer, variable) = name.rsplit_once('/').unwrap_or(("onnx", &name));
        let (layer, variable) = (layer.to_owned(), variable.to_owned());
        tensors.push(TensorInfo { layer, variable, shape: weight.shape.clone(), dtype });
        weights.push(weight);
        Ok(Some(weights.len() - 1))
    })?;
    graph.weights = Arc::new(weights);
    Ok((graph, tensors))
}
