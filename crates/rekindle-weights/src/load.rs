use std::collections::{HashMap, HashSet};

use burn::tensor::backend::Backend;
use rekindle_nn::{Network, assign, floats, read};

use crate::{Checkpoint, Dtype, TensorInfo, WeightsError};

/// A network with the values of a checkpoint.
#[derive(Debug)]
pub struct Loaded<B: Backend> {
    /// The network.
    pub network: Network<B>,
    /// The checkpoint's tensors that no variable of the network took, `layer/variable`.
    pub unused: Vec<String>,
    /// The network's variables that the checkpoint has not, which are as they were; see [`load_partial`].
    pub missing: Vec<String>,
}

/// Fills every variable of `network` from the checkpoint's tensors of the same names; `name` is for errors.
///
/// # Errors
/// When a variable is missing, has another shape, or cannot be read; the network is then gone.
pub fn load<B: Backend>(
    network: impl Into<Network<B>>,
    name: &str,
    checkpoint: &mut Checkpoint,
) -> Result<Loaded<B>, WeightsError> {
    let network = network.into();
    let expected = network.variables().len();
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
pub fn load_partial<B: Backend>(
    network: impl Into<Network<B>>,
    checkpoint: &mut Checkpoint,
) -> Result<Loaded<B>, WeightsError> {
    let network = network.into();
    let missing = missing(&network, checkpoint);
    fill(network, "the network", checkpoint, missing)
}

/// The network's variables that the checkpoint has not.
fn missing<B: Backend>(network: &Network<B>, checkpoint: &Checkpoint) -> Vec<String> {
    let there: HashSet<String> = checkpoint.tensors().iter().map(TensorInfo::path).collect();
    let wanted = network.variables().into_iter().map(|variable| variable.path());
    wanted.filter(|path| !there.contains(path)).collect()
}

/// Fills the variables that are not `missing`.
fn fill<B: Backend>(
    network: Network<B>,
    name: &str,
    checkpoint: &mut Checkpoint,
    missing: Vec<String>,
) -> Result<Loaded<B>, WeightsError> {
    let by_name: HashMap<String, usize> = checkpoint
        .tensors()
        .iter()
        .enumerate()
        .map(|(index, tensor)| (tensor.path(), index))
        .collect();
    let wanted = network.variables();
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
        values.insert(variable.id, variable.spec.to_burn(checkpoint.read(index)?));
        used.insert(index);
    }
    let unused = checkpoint.tensors().iter().enumerate().filter(|(index, _)| !used.contains(index));
    let unused = unused.map(|(_, tensor)| tensor.path()).collect();
    Ok(Loaded { network: assign(network, values), unused, missing })
}

/// What [`save`](crate::save) needs to write a network's variables: their descriptions, and their values
/// in Keras's layout.
pub fn variables_to_save<B: Backend>(network: &Network<B>) -> (Vec<TensorInfo>, Vec<Vec<f32>>) {
    let mut values = read(network);
    let variables = network.variables().into_iter().filter_map(|variable| {
        // Every variable is a parameter of the network.
        let values = variable.spec.from_burn(floats(values.remove(&variable.id)?));
        let (layer, shape) = (variable.layer, variable.spec.shape);
        let info =
            TensorInfo { layer, variable: variable.spec.name.into(), shape, dtype: Dtype::F32 };
        Some((info, values))
    });
    variables.unzip()
}
