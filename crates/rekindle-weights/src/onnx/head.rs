//! What stands before and behind the network in a graph: preprocessing, and a head of dense layers.

use burn::tensor::backend::Backend;
use rekindle_nn::layers::Activation;
use rekindle_nn::{Architecture, HeadConfig, HeadLayerConfig, Network, Shape};

use super::find::{Found, described, is_relu6};
use super::graph::{Graph, Node, Value};
use super::recipe::{Affine, Recipe, Step};
use crate::checkpoint::Checkpoint;
use crate::keras::{Front, classifier, crown};
use crate::{ModelCard, TensorInfo};

/// Layers of a head; a real one has a handful.
const MOST_LAYERS: usize = 64;

/// A layer of the head, and the tensors of its kernel (and whether it is transposed) and bias.
pub(super) type HeadLayer = (HeadLayerConfig, Option<(usize, bool, Option<usize>)>);

/// The layers behind the network's features, those features, and whether they are brought to Keras's order,
/// channels last, before they are flattened.
pub(super) fn head(checkpoint: &Checkpoint, graph: &Graph) -> (Value, Vec<HeadLayer>, bool) {
    let mut layers = Vec::new();
    let mut value = graph.output;
    // A damaged file may go in circles.
    while layers.len() < MOST_LAYERS {
        let (inner, reshaped) = graph.behind(value);
        let pooling = graph.maker(inner).and_then(|node| match node.op.as_str() {
            "GlobalAveragePool" | "ReduceMean" => Some(HeadLayerConfig::GlobalAveragePooling2d),
            "GlobalMaxPool" | "ReduceMax" => Some(HeadLayerConfig::GlobalMaxPooling2d),
            _ => None,
        });
        if let (Some(pooling), Some(input)) = (pooling, graph.maker(inner).and_then(|n| n.input(0)))
        {
            layers.push((pooling, None));
            value = input;
            break;
        }
        let activated = graph.maker(inner).and_then(|node| {
            let activation = match node.op.as_str() {
                "Softmax" => Activation::Softmax,
                "Sigmoid" => Activation::Sigmoid,
                "Relu" => Activation::Relu,
                "Clip" if is_relu6(graph, node) => Activation::Relu6,
                _ => return None,
            };
            Some((activation, graph.behind(node.input(0)?).0))
        });
        let (activation, product) = activated.unwrap_or((Activation::Linear, inner));
        let Some((input, kernel, transposed, bias)) = dense(checkpoint, graph, product) else {
            if reshaped && !layers.is_empty() {
                layers.push((HeadLayerConfig::Flatten, None));
            }
            break;
        };
        let shape = &checkpoint.tensors()[kernel].shape;
        let units = shape[usize::from(!transposed)];
        layers.push((
            HeadLayerConfig::Dense { units, activation, l2: 0.0 },
            Some((kernel, transposed, bias)),
        ));
        value = input;
    }
    layers.reverse();
    (value, layers, graph.turns_channels_last(value))
}

/// Input and kernel of a `MatMul`.
fn product_of(checkpoint: &Checkpoint, graph: &Graph, node: &Node) -> Option<(Value, usize)> {
    let (input, kernel, first) = graph.with_constant(node)?;
    (!first && checkpoint.tensors()[kernel].shape.len() == 2).then_some((input, kernel))
}

/// Input, kernel, whether the kernel is `[out, in]`, and bias of a fully connected layer.
fn dense(
    checkpoint: &Checkpoint,
    graph: &Graph,
    value: Value,
) -> Option<(Value, usize, bool, Option<usize>)> {
    let node = graph.maker(value)?;
    let is_kernel = |tensor: &usize| checkpoint.tensors()[*tensor].shape.len() == 2;
    match node.op.as_str() {
        "Gemm" => {
            let kernel = graph.tensor(node.input(1)?).filter(is_kernel)?;
            let bias = node.input(2).map(|bias| graph.tensor(bias));
            let is_plain = node.int("transA").unwrap_or(0) == 0
                && node.float("alpha").unwrap_or(1.0) == 1.0
                && node.float("beta").unwrap_or(1.0) == 1.0;
            let bias = match bias {
                Some(bias) => Some(bias?),
                None => None,
            };
            is_plain.then_some((node.input(0)?, kernel, node.int("transB") == Some(1), bias))
        }
        "MatMul" => {
            let (input, kernel) = product_of(checkpoint, graph, node)?;
            Some((input, kernel, false, None))
        }
        "Add" => {
            let (product, bias, _) = graph.with_constant(node)?;
            let node = graph.maker(graph.behind(product).0).filter(|node| node.op == "MatMul")?;
            let (input, kernel) = product_of(checkpoint, graph, node)?;
            Some((input, kernel, false, Some(bias)))
        }
        _ => None,
    }
}

/// A network that was found.
pub(super) struct Base {
    pub architecture: Architecture,
    /// Its tensors, how they are made, and whether its normalizations are folded.
    pub found: (Vec<TensorInfo>, Vec<Recipe>, bool),
    /// What is done to its input.
    pub front: Affine,
    /// Whether its features are brought to Keras's order.
    pub channels_last: bool,
}

/// What the graph does to its input, where it is the same for all channels.
fn front(graph: &Graph, affine: &Affine) -> Result<Front, String> {
    let mut front = Front::default();
    for step in &affine.0 {
        let (scale, offset) = front.rescale.unwrap_or((1.0, 0.0));
        let scalar = |&tensor: &usize| {
            graph.scalar(tensor).ok_or("the graph preprocesses each channel in its own way, which is not supported; export the model without that")
        };
        front.rescale = Some(match step {
            Step::Multiply(tensor) => (scale * scalar(tensor)?, offset * scalar(tensor)?),
            Step::Divide(tensor) => (scale / scalar(tensor)?, offset / scalar(tensor)?),
            Step::Add(tensor) => (scale, offset + scalar(tensor)?),
            Step::Subtract(tensor) => (scale, offset - scalar(tensor)?),
            Step::Normalize(..) => return Err(
                "the graph normalizes its input by a BatchNormalization, which is not supported"
                    .into(),
            ),
        });
    }
    Ok(front)
}

/// Adds the head to the network that was found.
pub(super) fn finish<B: Backend>(
    base: Base,
    layers: Vec<HeadLayer>,
    checkpoint: &Checkpoint,
    graph: &Graph,
    device: &B::Device,
) -> Result<Found, String> {
    let text = |error: rekindle_nn::NetworkError| error.to_string();
    let (mut tensors, mut recipes, folded) = base.found;
    let mut card = ModelCard::new(base.architecture);
    card.folded = folded;
    if let Some(preprocessing) = front(graph, &base.front)?.preprocessing() {
        card.preprocessing = preprocessing;
    }
    let pools_only = matches!(layers.as_slice(), [(HeadLayerConfig::GlobalAveragePooling2d, _)]);
    if layers.is_empty() || pools_only {
        return Ok(Found { card, tensors, recipes });
    }
    let (chain, weights): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    let (config, units, sigmoid) = classifier(chain)?;
    let weights: Vec<_> = weights.into_iter().flatten().collect();
    // ImageNet's classes: Keras's own classifier. Any other head stays one, so that it can be trained further.
    let is_top = config == HeadConfig::global_average_pooling() && !sigmoid && units == 1000;
    if config.layers.first() == Some(&HeadLayerConfig::Flatten) && !base.channels_last {
        let network = base.architecture.init::<B>(device).map_err(text)?;
        // One pixel has one order.
        let features = network.output_shape(base.architecture.input()).map_err(text)?;
        if matches!(features, Shape::Map { height: 2.., .. }) {
            return Err("the graph flattens its features channels first, expected channels last as Keras does".into());
        }
    }
    let wanted = crown::<B>(&mut card, &config, units, is_top, device)?;
    for (number, pair) in wanted.chunks_exact(2).enumerate() {
        let [kernel, bias] = pair else { unreachable!("pairs") };
        let Some(&(weight, transposed, weight_bias)) = weights.get(number) else {
            return Err(format!("`{}` has no weights in the graph", kernel.layer));
        };
        let is_sigmoid = sigmoid && number + 1 == weights.len();
        let &[rows, columns] = kernel.spec.shape.as_slice() else {
            return Err(format!("`{}` is no dense layer", kernel.layer));
        };
        let columns = if is_sigmoid { 1 } else { columns };
        let found = &checkpoint.tensors()[weight];
        let expected = if transposed { [columns, rows] } else { [rows, columns] };
        if found.shape != expected {
            return Err(format!(
                "`{}` is filled by a matrix of shape {:?}, expected {expected:?}",
                kernel.layer, found.shape
            ));
        }
        let recipe = match (is_sigmoid, transposed) {
            (true, _) => Recipe::BehindZeros(weight),
            (false, true) => Recipe::Transposed(weight, [rows, columns]),
            (false, false) => Recipe::Same(weight),
        };
        let bias_recipe = match weight_bias {
            Some(index) if checkpoint.tensors()[index].count() != columns => {
                return Err(format!("`{}` has a bias of another length", kernel.layer));
            }
            Some(index) if is_sigmoid => Recipe::BehindZeros(index),
            Some(index) => Recipe::Same(index),
            // Exporters leave zeros out.
            None => Recipe::Constant(0.0, bias.spec.shape[0]),
        };
        tensors.push(described(checkpoint, &kernel.layer, &kernel.spec, &recipe));
        tensors.push(described(checkpoint, &bias.layer, &bias.spec, &bias_recipe));
        recipes.extend([recipe, bias_recipe]);
    }
    Ok(Found { card, tensors, recipes })
}
