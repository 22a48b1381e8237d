use std::collections::{HashMap, HashSet};

use burn::tensor::{TensorData, backend::Backend};
use rekindle_nn::{Architecture, Layout, Network, Variable, assign, read, variables};

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
        values.insert(variable.spec.id, to_burn(variable, checkpoint.read(index)?));
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
            let values = from_burn(&variable, data.convert::<f32>().into_vec().ok()?);
            let (layer, shape) = (variable.layer, variable.spec.shape);
            let info =
                TensorInfo { layer, variable: variable.spec.name.into(), shape, dtype: Dtype::F32 };
            Some((info, values))
        })
        .unzip()
}

/// The values of a Keras variable for its Burn parameter: `[height, width, in, out]` as `[out, in, height, width]`, and so on.
fn to_burn(variable: &Variable, values: Vec<f32>) -> TensorData {
    let shape = &variable.spec.shape;
    match variable.spec.layout {
        Layout::Same => TensorData::new(values, shape.clone()),
        Layout::Conv => {
            let (window, channels) = (shape[0] * shape[1], shape[2] * shape[3]);
            let values = transpose(&values, window, channels);
            let values = (0..shape[3])
                .flat_map(|out| (0..shape[2]).map(move |input| input * shape[3] + out))
                .flat_map(|filter| values[filter * window..][..window].iter().copied())
                .collect();
            TensorData::new(values, [shape[3], shape[2], shape[0], shape[1]])
        }
        Layout::Depthwise => {
            let values = transpose(&values, shape[0] * shape[1], shape[2]);
            TensorData::new(values, [shape[2], 1, shape[0], shape[1]])
        }
    }
}

/// The inverse of [`to_burn`].
fn from_burn(variable: &Variable, values: Vec<f32>) -> Vec<f32> {
    let shape = &variable.spec.shape;
    match variable.spec.layout {
        Layout::Same => values,
        Layout::Conv => {
            let [_, _, input, output] = shape[..] else { return values };
            let window = shape[0] * shape[1];
            let filters: Vec<f32> = (0..input)
                .flat_map(|i| (0..output).map(move |o| o * input + i))
                .flat_map(|filter| values[filter * window..][..window].iter().copied())
                .collect();
            transpose(&filters, input * output, window)
        }
        Layout::Depthwise => transpose(&values, shape[2], shape[0] * shape[1]),
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
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

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use rekindle_nn::VariableSpec;

    use super::*;

    #[test]
    fn layouts_are_permuted_there_and_back() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|value| value as f32).collect();
        let variable = |shape: Vec<usize>, layout| {
            let spec =
                VariableSpec { name: "kernel", shape, layout, id: ParamId::new(), trainable: true };
            Variable { layer: "layer".into(), kind: "Conv2D", spec }
        };
        let conv = variable(vec![2, 3, 4, 5], Layout::Conv);
        let burn = to_burn(&conv, values.clone());
        assert_eq!(burn.shape.to_vec(), [5, 4, 2, 3]);
        let burn = burn.into_vec::<f32>().expect("f32");
        // [height 1, width 2, in 3, out 4] is [out 4, in 3, height 1, width 2].
        assert_eq!(burn[((4 * 4 + 3) * 2 + 1) * 3 + 2], values[((3 + 2) * 4 + 3) * 5 + 4]);
        assert_eq!(from_burn(&conv, burn), values);

        let depthwise = variable(vec![4, 5, 6, 1], Layout::Depthwise);
        let burn = to_burn(&depthwise, values.clone());
        assert_eq!(burn.shape.to_vec(), [6, 1, 4, 5]);
        let burn = burn.into_vec::<f32>().expect("f32");
        assert_eq!(burn[(5 * 4 + 2) * 5 + 3], values[(2 * 5 + 3) * 6 + 5]);
        assert_eq!(from_burn(&depthwise, burn), values);
    }
}
