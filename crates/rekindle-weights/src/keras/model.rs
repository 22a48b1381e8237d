//! A whole Keras model: a network that we know, with what stands before it and on it.

use burn::tensor::backend::Backend;
use rekindle_nn::layers::Padding;
use rekindle_nn::{
    Architecture, Graph, GraphLayer, HeadConfig, HeadLayerConfig, Network, Variable, variables,
};
use serde_json::Value;

use super::config::{KerasLayer, layers};
use super::front::front;
use super::head::{ChainHead, head};
use super::{Filed, Origin, Placed};
use crate::{ModelCard, TensorInfo};

/// A model, and its tensors by the network's names.
pub(crate) struct Recognised {
    pub card: ModelCard,
    pub tensors: Vec<Placed>,
}

/// Reads a model's configuration; the error says what in it is not supported.
pub(crate) fn recognise<B: Backend>(
    config: &Value,
    tensors: &[TensorInfo],
    numbered: bool,
    device: &B::Device,
) -> Result<Recognised, String> {
    let layers = without_stem_padding(layers(config, numbered)?)?;
    let filed = Filed::new(tensors, numbered);
    let mut closest: Option<(usize, String)> = None;
    for architecture in Architecture::all() {
        let network = architecture.init::<B>(device).map_err(|error| error.to_string())?;
        let graph = Graph::of(&network);
        let order = graph.keras_order();
        let Some(start) = find(&graph, &order, &layers) else { continue };
        let base = &layers[start..start + order.len()];
        let mut agreed = 0;
        match placed(&graph, &order, base, &filed, &mut agreed) {
            Ok(placed) => {
                let size = size(&layers[..start])?.unwrap_or(architecture.size());
                let architecture = architecture.with_size(size);
                let model = Base { architecture, placed, start, end: start + order.len() };
                return finish::<B>(model, &layers, &filed, device);
            }
            Err(error) => {
                // The network that agrees for longest is the one that was meant.
                if closest.as_ref().is_none_or(|(longest, _)| agreed > *longest) {
                    closest = Some((agreed, format!("{}: {error}", architecture.name())));
                }
            }
        }
    }
    Err(closest.map(|(_, error)| error).unwrap_or_else(|| {
        let classes = layers.len();
        format!(
            "none of its {classes} layers begin a network that Rekindle knows ({})",
            Architecture::NAMES.join(", ")
        )
    }))
}

/// Keras 2.2 to 2.3 wrote MobileNetV2's first convolution, which has padding `same`, as a ZeroPadding2D and a `valid`
/// one. Becomes `same` where the zeros are those of `same` for the model's images.
fn without_stem_padding(mut layers: Vec<KerasLayer>) -> Result<Vec<KerasLayer>, String> {
    let stem = layers.iter().position(|layer| layer.class == "Conv2D").unwrap_or_default();
    let Some(pad) = stem.checked_sub(1).filter(|&pad| layers[pad].class == "ZeroPadding2D") else {
        return Ok(layers);
    };
    let (zeros, conv) = (&layers[pad].config["padding"], &layers[stem]);
    let (kernel, stride) = (conv.pair("kernel_size"), conv.pair("strides"));
    if let (Some([kernel, _]), Some([stride, _]), Some("valid")) =
        (kernel, stride, conv.text("padding"))
        && let Some(size) = size(&layers[..pad])?
    {
        let same = Padding::Same.amount(size, kernel, stride);
        if *zeros == serde_json::json!([same, same]) {
            let pad = layers.remove(pad);
            let conv = &mut layers[stem - 1];
            conv.config["padding"] = "same".into();
            conv.inputs = pad.inputs;
        }
    }
    Ok(layers)
}

/// Where the network's layers stand, all of them and in Keras's order.
fn find(graph: &Graph, order: &[usize], layers: &[KerasLayer]) -> Option<usize> {
    let is_same = |layer: &KerasLayer, wanted: &GraphLayer| {
        let activations = ["ReLU", "Activation"];
        layer.class == wanted.kind
            // Early versions wrote ReLU(6) as an Activation.
            || activations.contains(&wanted.kind) && activations.contains(&layer.class.as_str())
    };
    (0..=layers.len().checked_sub(order.len())?).find(|&start| {
        let window = layers[start..].iter().zip(order);
        window.into_iter().all(|(layer, &wanted)| is_same(layer, &graph.layers[wanted]))
    })
}

/// The network's tensors, once its connections, windows and shapes are seen to be the file's; `agreed` becomes
/// how many of them were.
fn placed(
    graph: &Graph,
    order: &[usize],
    base: &[KerasLayer],
    filed: &Filed<'_>,
    agreed: &mut usize,
) -> Result<Vec<Placed>, String> {
    let mut at = vec![0; graph.layers.len()];
    for (position, &layer) in order.iter().enumerate() {
        at[layer] = position;
    }
    let mut placed = Vec::new();
    for (layer, &number) in base.iter().zip(order) {
        *agreed = placed.len();
        let wanted = &graph.layers[number];
        let differs = |what: &str, found: String, expected: String| {
            format!("`{}` has {what} {found}, expected {expected}", layer.name)
        };
        for (found, wanted) in layer.inputs.iter().zip(&wanted.inputs) {
            if let Some(wanted) = wanted.map(|input| &base[at[input]].name)
                && found != wanted
            {
                return Err(differs("input", format!("`{found}`"), format!("`{wanted}`")));
            }
        }
        if let Some(window) = wanted.window {
            let padding = match window.padding {
                Padding::Same => "same",
                Padding::Valid => "valid",
            };
            let kernel =
                if layer.class.ends_with("Pooling2D") { "pool_size" } else { "kernel_size" };
            for (setting, expected) in [(kernel, window.kernel), ("strides", window.stride)] {
                if let Some(found) = layer.pair(setting).filter(|found| *found != expected) {
                    return Err(differs(setting, format!("{found:?}"), format!("{expected:?}")));
                }
            }
            // A window of one pixel is never padded.
            let is_one = window.kernel == [1, 1];
            if let Some(found) = layer.text("padding").filter(|found| *found != padding && !is_one)
            {
                return Err(differs("padding", found.to_owned(), padding.to_owned()));
            }
        }
        let found = filed.of(&layer.key).len();
        if found != wanted.variables.len() {
            let expected = wanted.variables.len().to_string();
            return Err(differs("variables in the file:", found.to_string(), expected));
        }
        for (number, variable) in wanted.variables.iter().enumerate() {
            let Some(index) = filed.variable(&layer.key, variable.name, number) else {
                return Err(format!("`{}` has no {} in the file", layer.name, variable.name));
            };
            let info = &filed.tensors[index];
            if info.shape != variable.shape {
                let (found, expected) =
                    (format!("{:?}", info.shape), format!("{:?}", variable.shape));
                return Err(differs(variable.name, found, expected));
            }
            let (layer, variable) = (wanted.name.clone(), variable.name.to_owned());
            placed.push((TensorInfo { layer, variable, ..info.clone() }, Origin::Same(index)));
        }
    }
    Ok(placed)
}

/// Height and width of the images, where the input layer says.
fn size(front: &[KerasLayer]) -> Result<Option<usize>, String> {
    let mut size = None;
    for layer in front.iter().filter(|layer| layer.class == "InputLayer") {
        let shape = ["batch_shape", "batch_input_shape"]
            .into_iter()
            .find_map(|setting| layer.config[setting].as_array());
        let Some([_, height, width, channels]) = shape.map(Vec::as_slice) else { continue };
        if channels.as_u64().is_some_and(|channels| channels != 3) {
            return Err(format!("the model takes {channels} channels, expected 3"));
        }
        match (height.as_u64(), width.as_u64()) {
            (Some(height), Some(width)) if height == width => size = usize::try_from(height).ok(),
            (None, None) => {}
            _ => {
                return Err(format!(
                    "the model takes images of {height} x {width}, expected squares"
                ));
            }
        }
    }
    Ok(size)
}

struct Base {
    architecture: Architecture,
    placed: Vec<Placed>,
    start: usize,
    end: usize,
}

/// Adds what stands before and behind the network.
fn finish<B: Backend>(
    base: Base,
    layers: &[KerasLayer],
    filed: &Filed<'_>,
    device: &B::Device,
) -> Result<Recognised, String> {
    let front = front(&layers[..base.start])?;
    let mut card = ModelCard::new(base.architecture);
    if let Some(preprocessing) = front.preprocessing() {
        card.preprocessing = preprocessing;
    }
    card.resize = front.resize.map(str::to_owned);
    let mut tensors = base.placed;
    if base.end == layers.len() {
        return Ok(Recognised { card, tensors });
    }
    let head = head(&layers[base.end..], base.end)?;
    // Keras's own classifier; any other head stays one, so that it can be trained further.
    let is_top = head.config.layers == [HeadLayerConfig::GlobalAveragePooling2d]
        && !head.sigmoid
        && layers.last().is_some_and(|layer| ["predictions", "Logits"].contains(&&*layer.name));
    let wanted = crown::<B>(&mut card, &head.config, head.units, is_top, device)?;
    tensors.extend(fill(&head, &wanted, filed)?);
    Ok(Recognised { card, tensors })
}

/// Puts a head on the card's network, or its own top, and gives the variables of that alone.
pub(crate) fn crown<B: Backend>(
    card: &mut ModelCard,
    head: &HeadConfig,
    units: usize,
    is_top: bool,
    device: &B::Device,
) -> Result<Vec<Variable>, String> {
    let text = |error: rekindle_nn::NetworkError| error.to_string();
    let network = card.architecture.init::<B>(device).map_err(text)?;
    if is_top {
        card.architecture = card.architecture.with_top(Some(units));
        let all = variables(&card.architecture.init::<B>(device).map_err(text)?);
        return Ok(all.into_iter().skip(variables(&network).len()).collect());
    }
    let features = network.output_shape(card.architecture.input()).map_err(text)?;
    card.classes = (0..units).map(|class| class.to_string()).collect();
    card.head = Some(head.clone());
    Ok(variables(&head.init::<B>(features, units, 0, device).map_err(text)?))
}

/// The head's variables from the file's layers, in order.
fn fill(head: &ChainHead, wanted: &[Variable], filed: &Filed<'_>) -> Result<Vec<Placed>, String> {
    let mut placed = Vec::new();
    let mut layers: Vec<&str> = wanted.iter().map(|variable| variable.layer.as_str()).collect();
    layers.dedup();
    for (number, (layer, key)) in layers.iter().zip(&head.keys).enumerate() {
        let is_sigmoid = head.sigmoid && number + 1 == layers.len();
        let variables = wanted.iter().filter(|variable| variable.layer == *layer);
        for (number, variable) in variables.enumerate() {
            let (name, expected) = (variable.spec.name, &variable.spec.shape);
            let mut in_file = expected.clone();
            if is_sigmoid {
                in_file.pop();
                in_file.push(1);
            }
            let (index, origin) = match filed.variable(key, name, number) {
                Some(index) if is_sigmoid && name == "kernel" => {
                    (index, Origin::SigmoidKernel(index))
                }
                Some(index) if is_sigmoid => (index, Origin::SigmoidBias(index)),
                Some(index) => (index, Origin::Same(index)),
                // Dense(use_bias=False)
                None if name == "bias" && !filed.of(key).is_empty() => {
                    let dtype = filed.tensors[filed.of(key)[0]].dtype;
                    let (layer, shape) = ((*layer).to_owned(), expected.clone());
                    let info = TensorInfo { layer, variable: name.into(), shape, dtype };
                    placed.push((info, Origin::Zeros));
                    continue;
                }
                None => return Err(format!("`{key}` has no {name} in the file")),
            };
            let found = &filed.tensors[index];
            if found.shape != in_file {
                return Err(format!(
                    "`{key}` has a {name} of shape {:?}, expected {in_file:?}",
                    found.shape
                ));
            }
            let (layer, variable, shape) = ((*layer).to_owned(), name.to_owned(), expected.clone());
            placed.push((TensorInfo { layer, variable, shape, dtype: found.dtype }, origin));
        }
    }
    Ok(placed)
}
