//! How PyTorch's tensors lie, and how Keras's variables are made of them.

use rekindle_nn::{Graph, Layer, Op, Source, VariableSpec};

use crate::checkpoint::ReadTensor;

/// What a module's tensor of a layer's variable is called.
pub(super) fn tensor(module: &str, layer: &Layer, variable: &str) -> String {
    // A parameter of the block itself.
    if matches!(layer.op, Op::LayerScale(_)) {
        return module.to_owned();
    }
    let own = match variable {
        "kernel" | "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        "depthwise_kernel" => "conv1.weight",
        "pointwise_kernel" => "pointwise.weight",
        other => other,
    };
    format!("{module}.{own}")
}

/// What is done with a tensor's values.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Burn's layout is PyTorch's.
    FromBurn(VariableSpec),
    /// Rows become columns.
    Transposed {
        /// How many rows.
        rows: usize,
    },
    /// Each row is maps, `[channels, pixels]`; it becomes a column of `[pixels, channels]`.
    Flattened {
        /// How many rows.
        rows: usize,
        /// Channels of a map.
        channels: usize,
    },
    /// Each value behind a zero, since one output became two.
    BehindZeros(Box<Change>),
}

/// The shape of a variable as a module has it. `axes` is how many axes the weight has, where it is not as many as the
/// layer's kernel.
pub(super) fn shape(
    graph: &Graph,
    position: usize,
    spec: &VariableSpec,
    axes: Option<usize>,
) -> Result<Vec<usize>, String> {
    let op = &graph.layers()[position].op;
    let mut shape = match (op, spec.shape.as_slice()) {
        (Op::Dense(_), &[inputs, outputs]) => match flattened(graph, position) {
            Some([height, width, channels]) if axes == Some(4) => {
                vec![outputs, channels, height, width]
            }
            _ => vec![outputs, inputs],
        },
        _ => spec.burn_shape(),
    };
    let is_weight = spec.name == "kernel" || matches!(op, Op::LayerScale(_));
    if let Some(axes) = axes.filter(|_| is_weight) {
        while shape.len() > axes && shape.last() == Some(&1) {
            shape.pop();
        }
        while shape.len() < axes {
            shape.push(1);
        }
        if shape.len() != axes {
            return Err(format!("its shape is {shape:?}, expected {axes} axes"));
        }
    }
    Ok(shape)
}

/// A variable's values, in Keras's layout, as a module has them.
pub(super) fn written(
    graph: &Graph,
    position: usize,
    spec: &VariableSpec,
    values: Vec<f32>,
) -> Result<Vec<f32>, String> {
    if values.len() != spec.count() {
        return Err(format!(
            "found {} values, expected {shape:?}",
            values.len(),
            shape = spec.shape
        ));
    }
    let (Op::Dense(_), &[inputs, _]) = (&graph.layers()[position].op, spec.shape.as_slice()) else {
        return spec.to_burn(values).into_vec::<f32>().map_err(|error| error.to_string());
    };
    let rows = transposed(&values, inputs);
    Ok(match flattened(graph, position) {
        // Each row by channels.
        Some([height, width, _]) => {
            rows.chunks(inputs.max(1)).flat_map(|row| transposed(row, height * width)).collect()
        }
        None => rows,
    })
}

/// The maps that a dense layer takes as a vector: height, width, channels.
fn flattened(graph: &Graph, position: usize) -> Option<[usize; 3]> {
    match graph.layers()[position].inputs.first() {
        Some(Source::Layer(input)) if matches!(graph.layers()[*input].op, Op::Flatten(_)) => {
            graph.input_shapes(*input).first().and_then(|shape| shape.as_map())
        }
        _ => None,
    }
}

/// The axes that are not of size 1.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&extent| extent != 1).collect()
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent))
}

impl Change {
    /// How a variable is made of a tensor of this shape; nothing where it is not.
    pub fn of(
        graph: &Graph,
        position: usize,
        spec: &VariableSpec,
        found: &[usize],
    ) -> Option<Self> {
        let layer = &graph.layers()[position];
        let (Op::Dense(_), &[inputs, outputs]) = (&layer.op, spec.shape.as_slice()) else {
            let is_alike = squeezed(&spec.burn_shape()) == squeezed(found)
                && count(found) == Some(spec.count());
            return is_alike.then(|| Self::FromBurn(spec.clone()));
        };
        if found.first() != Some(&outputs) || count(found) != inputs.checked_mul(outputs) {
            return None;
        }
        match (flattened(graph, position), found) {
            (Some([_, _, channels]), &[_, _]) => Some(Self::Flattened { rows: outputs, channels }),
            (Some([height, width, channels]), rest) => (rest == [outputs, channels, height, width])
                .then_some(Self::Flattened { rows: outputs, channels }),
            (None, rest) => {
                (rest.get(1) == Some(&inputs)).then_some(Self::Transposed { rows: outputs })
            }
        }
    }

    /// The same for a layer whose one output became two.
    pub fn behind_zeros(self) -> Self {
        Self::BehindZeros(Box::new(self))
    }

    fn apply(&self, values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::FromBurn(spec) => spec.from_burn(values),
            Self::Transposed { rows } => transposed(&values, *rows),
            Self::Flattened { rows, channels } => {
                let width = values.len() / (*rows).max(1);
                let row = |row: &[f32]| transposed(row, *channels);
                let turned: Vec<f32> = values.chunks(width.max(1)).flat_map(row).collect();
                transposed(&turned, *rows)
            }
            Self::BehindZeros(change) => {
                change.apply(values).into_iter().flat_map(|value| [0.0, value]).collect()
            }
        }
    }
}

/// A matrix of so many rows, by its columns.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    let mut result = Vec::with_capacity(values.len());
    for column in 0..columns {
        result.extend((0..rows).map(|row| values[row * columns + column]));
    }
    result
}

/// Reads tensors and changes them.
pub(super) struct Reader {
    inner: Box<dyn ReadTensor>,
    recipes: Vec<(usize, Change)>,
}

impl Reader {
    pub fn new(inner: Box<dyn ReadTensor>, recipes: Vec<(usize, Change)>) -> Self {
        Self { inner, recipes }
    }
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let (index, change) = self.recipes.get(index).ok_or("no such tensor")?;
        Ok(change.apply(self.inner.read(*index)?))
    }
}

#[cfg(test)]
mod tests {
    use rekindle_nn::Architecture;

    use super::*;

    /// PyTorch flattens maps by channels, Keras by pixels.
    #[test]
    fn a_dense_layer_behind_maps_is_permuted() {
        let known = Architecture::by_name("vgg-16").expect("known").with_size(64);
        let graph = known.with_top(Some(5)).graph().expect("valid");
        let position = graph.position("fc1").expect("a layer");
        let spec = graph.variables(position).remove(0);
        assert_eq!(spec.shape, [2 * 2 * 512, 4096]);
        let (rows, channels) = (4096, 512);
        for shape in [vec![rows, 2 * 2 * channels], vec![rows, channels, 2, 2]] {
            let change = Change::of(&graph, position, &spec, &shape).expect("fits");
            assert!(
                matches!(change, Change::Flattened { rows: 4096, channels: 512 }),
                "{change:?}"
            );
        }
        assert!(Change::of(&graph, position, &spec, &[rows, channels, 4, 1]).is_none());
        assert!(Change::of(&graph, position, &spec, &[2 * 2 * channels, rows]).is_none());
        // Two rows of three channels of two pixels.
        let values = (0..12).map(|value| value as f32).collect();
        let turned = Change::Flattened { rows: 2, channels: 3 }.apply(values);
        assert_eq!(turned, [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
        let one = Change::Transposed { rows: 1 }.behind_zeros().apply(vec![1.0, 2.0]);
        assert_eq!(one, [0.0, 1.0, 0.0, 2.0]);
    }
}
