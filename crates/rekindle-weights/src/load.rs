use std::collections::{HashMap, HashSet};

use burn::tensor::backend::Backend;
use rekindle_nn::{Architecture, Network, Variable, assign, read, variables};

use crate::{Checkpoint, Dtype, TensorInfo, WeightsError};

/// A network with the values of a checkpoint.
#[derive(Debug)]
pub struct Loaded<N> {
    /// The network.
    pub network: N,
    /// The checkpoint's tensors that no variable of the network took, `layer/variable`.
    pub unused: Vec<String>,
    /// The network's variables that the checkpoint has not, which are as they were; see [`load_partial`].
    pub missing: Vec<String>,
}

/// Fills every variable of `network` from the checkpoint's tensors of the same names; `name` is for errors.
///
/// # Errors
/// When a variable is missing, has another shape, or cannot be read; the network is then gone.
pub fn load<B: Backend, N: Network<B>>(
    network: N,
    name: &str,
    checkpoint: &mut Checkpoint,
) -> Result<Loaded<N>, WeightsError> {
    let expected = variables(&network).len();
    let path = checkpoint.path().to_owned();
    let missing = missing(&network, checkpoint);
    if !missing.is_empty() {
        let network = name.to_owned();
        return Err(WeightsError::Missing { path, network, expected, missing });
    }
    fill(network, name, checkpoint, missing)
}

/// The same, but variables that the checkpoint has not are left as they are and reported.
///
/// # Errors
/// When a variable has another shape, or cannot be read; the network is then gone.
pub fn load_partial<B: Backend, N: Network<B>>(
    network: N,
    checkpoint: &mut Checkpoint,
) -> Result<Loaded<N>, WeightsError> {
    let missing = missing(&network, checkpoint);
    fill(network, "the network", checkpoint, missing)
}

/// The network's variables that the checkpoint has not.
fn missing<B: Backend, N: Network<B>>(network: &N, checkpoint: &Checkpoint) -> Vec<String> {
    let there: HashSet<String> = checkpoint.tensors().iter().map(TensorInfo::path).collect();
    let wanted = variables(network).into_iter().map(|variable| variable.path());
    wanted.filter(|path| !there.contains(path)).collect()
}

/// Fills the variables that are not `missing`.
fn fill<B: Backend, N: Network<B>>(
    network: N,
    name: &str,
    checkpoint: &mut Checkpoint,
    missing: Vec<String>,
) -> Result<Loaded<N>, WeightsError> {
    let by_name: HashMap<String, usize> = checkpoint
        .tensors()
        .iter()
        .enumerate()
        .map(|(index, tensor)| (tensor.path(), index))
        .collect();
    let wanted = variables(&network);
    let path = checkpoint.path().to_owned();
    let mut values = HashMap::with_capacity(wanted.len());
    let mut used = HashSet::new();
    for variable in &wanted {
        let Some(&index) = by_name.get(&variable.path()) else { continue };
        let shape = &checkpoint.tensors()[index].shape;
        if *shape != variable.spec.shape {
            return Err(WeightsError::Shape {
                path,
                tensor: variable.path(),
                network: name.to_owned(),
                expected: variable.spec.shape.clone(),
                found: shape.clone(),
            });
        }
        values.insert(variable.spec.id, variable.spec.to_burn(checkpoint.read(index)?));
        used.insert(index);
    }
    let unused = checkpoint.tensors().iter().enumerate().filter(|(index, _)| !used.contains(index));
    let unused = unused.map(|(_, tensor)| tensor.path()).collect();
    Ok(Loaded { network: assign(network, values), unused, missing })
}

/// What [`save`](crate::save) needs to write a network's variables: their descriptions, and their values
/// in Keras's layout.
pub fn variables_to_save<B: Backend, N: Network<B>>(
    network: &N,
) -> (Vec<TensorInfo>, Vec<Vec<f32>>) {
    let mut values = read(network);
    variables(network)
        .into_iter()
        .filter_map(|variable| {
            let data = values.remove(&variable.spec.id)?;
            let values = variable.spec.from_burn(data.convert::<f32>().into_vec().ok()?);
            let (layer, shape) = (variable.layer, variable.spec.shape);
            let info =
                TensorInfo { layer, variable: variable.spec.name.into(), shape, dtype: Dtype::F32 };
            Some((info, values))
        })
        .unzip()
}

/// The first architecture of the registry whose every variable is in the checkpoint, with its shape.
/// Weights do not tell the size of the images, so it is the architecture's default.
#[must_use]
pub(crate) fn guess_architecture<B: Backend>(
    checkpoint: &Checkpoint,
    device: &B::Device,
) -> Option<Architecture> {
    let shapes: HashMap<String, &[usize]> = checkpoint
        .tensors()
        .iter()
        .map(|tensor| (tensor.path(), tensor.shape.as_slice()))
        .collect();
    let classes = shapes.get("predictions/bias").and_then(|shape| shape.first().copied());
    let candidates = Architecture::all().into_iter().map(|found| found.with_top(classes));
    candidates.into_iter().find(|candidate| {
        // Parameters are lazy: this makes names and shapes, no numbers.
        candidate.init::<B>(device).is_ok_and(|network| {
            let fits = |variable: &Variable| {
                shapes.get(&variable.path()).is_some_and(|shape| *shape == variable.spec.shape)
            };
            variables(&network).iter().all(fits)
        })
    })
}
