//! From a file's graph to a model card, and tensors under the names of the card's network.

use std::collections::HashMap;
use std::sync::Arc;

use super::constant::{Binary, Constant, Kitchen};
use super::folded::restored;
use super::own;
use super::weight::Weight;
use super::{Found, Graph, read};
use crate::checkpoint::Checkpoint;
use crate::recognise::{Recognised, recognise};
use crate::whole::{Settled, Whole, settle};
use crate::{Dtype, ModelCard, Origin, TensorInfo, WeightsError};

/// The checkpoint with the variables of the network that its graph computes; where that is none of ours, with the reason.
///
/// # Errors
/// None yet: the signature is that of the other formats' readers.
pub(crate) fn resolve(
    checkpoint: Checkpoint,
    graph: Graph,
    size: Option<[usize; 2]>,
) -> Result<Checkpoint, WeightsError> {
    let written = own::card(&graph);
    let known = written.as_ref().and_then(|card| Some((card.clone(), own::own(&graph, card)?)));
    let (card, placed) = match known {
        Some(found) => found,
        None => match (placed(&graph, size, None), written) {
            (Ok((card, placed)), None) => (card, placed),
            (Ok((card, placed)), Some(written)) => (with_names(card, written), placed),
            (Err(problem), _) => return Ok(checkpoint.with_problem(problem)),
        },
    };
    Ok(rearranged(&checkpoint, &graph.weights, card, placed))
}

/// The checkpoint of a card's network, whose variables are made of a file's tensors.
pub(crate) fn rearranged(
    checkpoint: &Checkpoint,
    weights: &Arc<Vec<Weight>>,
    card: ModelCard,
    placed: Vec<(TensorInfo, Constant)>,
) -> Checkpoint {
    let made = || "(made)".to_owned();
    let names = placed.iter().map(|(_, constant)| match constant.source() {
        Some(index) if index < checkpoint.tensors().len() => {
            checkpoint.name_in_file(index).to_owned()
        }
        Some(_) | None => made(),
    });
    let names = names.collect();
    let path = checkpoint.path().to_owned();
    let (tensors, recipes) = placed.into_iter().unzip();
    let kitchen = Box::new(Kitchen { weights: Arc::clone(weights), recipes });
    Checkpoint::new(&path, tensors, Some(card), kitchen).with_names(names)
}

/// What something beside the graph says of its preprocessing, for a graph that has none itself.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// The file says it.
    File(String),
    /// It is assumed; and the sentence that says why.
    Assumed((String, String)),
}

/// The card with what no node says: the classes' names, and how photos become images.
pub(crate) fn with_names(mut card: ModelCard, written: ModelCard) -> ModelCard {
    card.assumed.push(
        "the file is another than the one that Rekindle wrote: classes and the resizing of photos are those of its metadata"
            .into(),
    );
    if card.graph.classes() == Some(written.classes.len()) {
        card.classes = written.classes;
    }
    let ModelCard { resize, photo_resize, photo_middle, transparency, orientation, .. } = written;
    ModelCard { resize, photo_resize, photo_middle, transparency, orientation, ..card }
}

/// Reads a graph for images of the size that it says, or that is asked for; or else for those of the family that it turns
/// out to be.
fn sized(graph: &Graph, size: Option<[usize; 2]>) -> Result<(Found, Origin), String> {
    // Any will do to recognise the layers.
    const FIRST: usize = 224;
    let problem = match read(graph, size) {
        Ok(found) => return Ok((restored(found, graph), Origin::File)),
        Err(problem) if size.is_none() && graph.has_open_size() => problem,
        Err(problem) => return Err(problem),
    };
    let first = restored(read(graph, Some([FIRST, FIRST]))?, graph);
    let known = match recognise(&first.graph) {
        Ok(Recognised { graph, .. }) => graph.base().architecture,
        Err(begins) => begins.map(|begins| begins.architecture),
    };
    let family = known.ok_or(problem)?.family;
    let size = family.default_size;
    let mut found = match size {
        FIRST => first,
        size => restored(read(graph, Some([size, size]))?, graph),
    };
    found.assumed.push(format!(
        "the file does not say the images' size: {size} x {size}, which is {}'s, is assumed",
        family.title
    ));
    Ok((found, Origin::Network))
}

/// The card of the network that a graph computes, and how its variables are made of the file's tensors.
///
/// # Errors
/// When the graph is none that Rekindle can use; the message says why.
pub(crate) fn placed(
    graph: &Graph,
    size: Option<[usize; 2]>,
    said: Option<Said>,
) -> Result<(ModelCard, Vec<(TensorInfo, Constant)>), String> {
    let (found, size_origin) = sized(graph, size)?;
    let Found { graph: network, values, folded, assumed } = found;
    if network.input().as_map().is_none() {
        return Err(format!("the graph takes vectors, {}, expected images", network.input()));
    }
    let names_in_file: Vec<String> =
        network.layers().iter().map(|layer| layer.name.clone()).collect();
    // Keras's reader ends in the same steps: preprocessing, probabilities, known names.
    let (preprocessing, is_assumed) = match said {
        None => (None, true),
        Some(Said::Assumed(said)) => (Some(said), true),
        Some(Said::File(said)) => (Some((said, String::new())), false),
    };
    let settled = settle(Whole { graph: network, ends: Vec::new(), preprocessing })?;
    let Settled { mut card, names, two_classes } = settled;
    if !is_assumed {
        card.assumed.retain(|sentence| !sentence.is_empty());
    }
    card.folded = folded;
    card.origins.size = size_origin;
    card.assumed = assumed.into_iter().chain(card.assumed).collect();
    let mut by_name: HashMap<&str, (usize, bool)> = HashMap::new();
    for (position, name) in names_in_file.iter().enumerate() {
        let now = names.get(name).unwrap_or(name);
        by_name.insert(now, (position, two_classes.as_ref() == Some(name)));
    }
    let mut placed = Vec::new();
    for (position, layer) in card.graph.layers().iter().enumerate() {
        let specs = card.graph.variables(position);
        if specs.is_empty() {
            continue;
        }
        let wrong =
            || format!("layer `{}` ({}) has no values in the file", layer.name, layer.op.class());
        let &(own, doubled) = by_name.get(layer.name.as_str()).ok_or_else(wrong)?;
        let made = values.get(own).filter(|made| made.len() == specs.len()).ok_or_else(wrong)?;
        for (spec, constant) in specs.into_iter().zip(made) {
            let mut constant = constant.clone();
            if doubled {
                // (0, x) in the place of x: its softmax is (1 - sigmoid(x), sigmoid(x)).
                constant = constant.binary(Binary::Multiply, &Constant::given(vec![0.0, 1.0]))?;
            }
            if constant.count() != spec.count() {
                return Err(wrong());
            }
            let dtype = constant.source().and_then(|index| Some(graph.weights.get(index)?.dtype));
            let info = TensorInfo {
                layer: layer.name.clone(),
                variable: spec.name.to_owned(),
                shape: spec.shape,
                dtype: dtype.unwrap_or(Dtype::F32),
            };
            placed.push((info, constant));
        }
    }
    Ok((card, placed))
}
