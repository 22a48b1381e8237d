//! Checkpoints of `tf.train.Saver`, whose tensors have the variables' own names: TF-Slim's
//! (`InceptionV1/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights`) or Keras's (`block_1/Conv1/kernel`).
//!
//! TF-Slim's kernels have Keras's layout, so that only names differ: the network's own name, which comes first, is
//! dropped, and `weights` is Keras's `kernel`.

use std::collections::HashSet;

use super::Described;
use crate::hdf5::split_name;

/// A tensor that is a network's.
pub(super) struct Kept {
    /// Its number in the file.
    pub index: usize,
    pub layer: String,
    pub variable: String,
}

pub(super) struct Found {
    pub kept: Vec<Kept>,
    /// Whether they are in the order of the network's layers.
    pub is_ordered: bool,
    /// What was left out; each is a sentence.
    pub left_out: Vec<String>,
}

/// What optimizers and averages keep of a variable, under its name; `_1`, `_2` may follow.
const SLOTS: [&str; 9] = [
    "RMSProp",
    "RMSprop",
    "Adam",
    "Adagrad",
    "Adadelta",
    "Ftrl",
    "Momentum",
    "ExponentialMovingAverage",
    "SGD",
];
/// What counts steps.
const COUNTERS: [&str; 4] = ["global_step", "beta1_power", "beta2_power", "save_counter"];
/// TF-Slim's classifier within the network, which helps training.
const AUXILIARY: &str = "AuxLogits";

/// What of a checkpoint is no weight of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Counter,
    Slot,
    Auxiliary,
    NoNumbers,
}

impl Other {
    fn said(self, number: usize, first: &str) -> String {
        let counted = if number == 1 {
            format!("`{first}`")
        } else {
            format!("{number} tensors, the first `{first}`")
        };
        let what = match self {
            Self::Counter => "the training's counters",
            Self::Slot => "the optimizer's state and averages of weights",
            Self::Auxiliary => "the auxiliary classifier, which only training uses",
            Self::NoNumbers => "what is no number",
        };
        format!("left out of the TensorFlow checkpoint: {what} ({counted})")
    }
}

pub(super) fn read(all: &[Described]) -> Result<Found, String> {
    let known: HashSet<&str> = all.iter().map(|tensor| tensor.name.as_str()).collect();
    let others: Vec<Option<Other>> = all.iter().map(|tensor| other(tensor, &known)).collect();
    let kinds = [Other::Counter, Other::Slot, Other::Auxiliary, Other::NoNumbers];
    let left_out = kinds.iter().filter_map(|kind| {
        let mut names = all.iter().zip(&others).filter(|(_, other)| **other == Some(*kind));
        let (first, _) = names.next()?;
        Some(kind.said(1 + names.count(), &first.name))
    });
    let left_out = left_out.collect();
    let own = others.iter().enumerate().filter(|(_, other)| other.is_none());
    let own: Vec<(usize, &str)> = own.map(|(index, _)| (index, all[index].name.as_str())).collect();
    let network = slim_network(&own);
    let mut taken = HashSet::new();
    let mut kept = Vec::with_capacity(own.len());
    for (index, name) in own {
        let candidates = match &network {
            Some(network) => vec![slim(name, network, &known)],
            // Layers of two models may have one name: the second's is qualified.
            None => vec![keras("", name, &known), whole(name)],
        };
        let free = candidates.into_iter().find(|candidate| !taken.contains(candidate));
        let Some((layer, variable)) = free else {
            return Err(format!("`{name}`: another of the file's tensors means the same variable"));
        };
        taken.insert((layer.clone(), variable.clone()));
        kept.push(Kept { index, layer, variable });
    }
    Ok(Found { kept, is_ordered: false, left_out })
}

fn other(tensor: &Described, known: &HashSet<&str>) -> Option<Other> {
    let name = tensor.name.as_str();
    let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
    let plain = match last.rsplit_once('_') {
        Some((plain, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => last,
    };
    // `training/Adam/Conv1/kernel/m`: Keras's optimizers.
    let is_keras_slot =
        || name.starts_with("training/") || path.split('/').any(|part| SLOTS.contains(&part));
    if COUNTERS.contains(&plain) {
        Some(Other::Counter)
    } else if SLOTS.contains(&plain) || known.contains(path) || is_keras_slot() {
        Some(Other::Slot)
    } else if name.split('/').any(|part| part == AUXILIARY) {
        Some(Other::Auxiliary)
    } else {
        // Text and the like; other kinds of numbers are the caller's to refuse.
        matches!(tensor.r#type, 7 | 20 | 21).then_some(Other::NoNumbers)
    }
}

/// What TF-Slim calls variables, and Keras.
fn slim_variable<'a>(path: &str, variable: &'a str, known: &HashSet<&str>) -> &'a str {
    match variable {
        "weights" => "kernel",
        "pointwise_weights" => "pointwise_kernel",
        "biases" => "bias",
        // A separable convolution has two kernels, one by channels only has one.
        "depthwise_weights" if known.contains(format!("{path}/pointwise_weights").as_str()) => {
            "depthwise_kernel"
        }
        "depthwise_weights" => "kernel",
        other => other,
    }
}

/// The network's name, where the tensors have TF-Slim's names: all begin with it.
fn slim_network(own: &[(usize, &str)]) -> Option<String> {
    let is_slim = own.iter().any(|(_, name)| {
        let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
        ["weights", "biases", "depthwise_weights", "pointwise_weights"].contains(&last)
            || path.ends_with("/BatchNorm")
    });
    let mut networks = own.iter().map(|(_, name)| name.split('/').next().unwrap_or(name));
    let first = networks.next()?;
    // Of two networks each keeps its name.
    let network =
        if networks.all(|name| name == first) { format!("{first}/") } else { String::new() };
    is_slim.then_some(network)
}

fn slim(name: &str, network: &str, known: &HashSet<&str>) -> (String, String) {
    let Some((path, variable)) = name.rsplit_once('/') else { return whole(name) };
    let layer = path.strip_prefix(network).unwrap_or(path);
    (layer.to_owned(), slim_variable(path, variable, known).to_owned())
}

/// The layer and the variable that Keras's name of a variable means.
pub(super) fn keras(group: &str, name: &str, known: &HashSet<&str>) -> (String, String) {
    let (layer, variable) = split_name(group, name);
    let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
    // A separable convolution has two kernels.
    if last == "depthwise_kernel" && known.contains(format!("{path}/pointwise_kernel").as_str()) {
        return (layer, last.to_owned());
    }
    (if layer.is_empty() { "variable".into() } else { layer }, variable)
}

fn whole(name: &str) -> (String, String) {
    let (layer, variable) = name.rsplit_once('/').unwrap_or(("variable", name));
    (layer.to_owned(), variable.to_owned())
}
