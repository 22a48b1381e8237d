use burn::tensor::{Tensor, backend::Backend};
use serde_json::{Value, json};

use crate::variable::Initializer;
use crate::{Features, Layout, Shape, VariableSpec};

/// Keras's name of the channels' axis.
pub(super) fn last() -> i64 {
    -1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_last(axis: &i64) -> bool {
    *axis == last()
}

/// Whether an axis is the channels': -1, or as a file has it 3 of maps and 1 of vectors.
pub(super) fn is_channels(axis: i64, input: Shape) -> bool {
    let count = match input {
        Shape::Map { .. } => 3,
        Shape::Flat(_) => 1,
    };
    axis == last() || axis == count
}

/// The error for an axis that is not the channels'.
pub(super) fn channels(axis: i64, input: Shape) -> Result<(), String> {
    if is_channels(axis, input) {
        return Ok(());
    }
    Err(format!("channels on the last axis, not on axis {axis}"))
}

/// The sizes of one sample along Keras's axes: height, width and channels, or features.
fn sizes(input: Shape) -> Vec<usize> {
    match input {
        Shape::Map { height, width, channels } => vec![height, width, channels],
        Shape::Flat(count) => vec![count],
    }
}

/// Which axes of one sample Keras's `axes` are: 0 is the first behind the batch. They are sorted, as Keras sorts them.
pub(super) fn resolve(axes: &[i64], input: Shape) -> Result<Vec<usize>, String> {
    let rank = sizes(input).len();
    let mut found = Vec::with_capacity(axes.len());
    for &axis in axes {
        // Keras counts the batch, and from the end.
        let place =
            if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { axis.checked_sub(1) };
        match place.and_then(|place| usize::try_from(place).ok()) {
            Some(place) if place < rank && !found.contains(&place) => found.push(place),
            _ => {
                return Err(format!(
                    "an input with axes {axes:?}, each once, none of them the batch"
                ));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The same in a layer whose [`Operation::output`](super::Operation::output) has seen that the input has them.
pub(super) fn seen(axes: &[i64], input: Shape) -> Vec<usize> {
    resolve(axes, input)
        .unwrap_or_else(|error| unreachable!("an operation's output refuses other axes: {error}"))
}

/// The last axis by its one name, where `axes` are it alone.
pub(super) fn settle(axes: &mut Vec<i64>, inputs: &[Shape]) {
    let is_last =
        |input: &Shape| resolve(axes, *input).is_ok_and(|found| found == [sizes(*input).len() - 1]);
    if inputs.iter().all(is_last) {
        *axes = vec![-1];
    }
}

/// A variable with one value for each place along `axes`; none, where the input has no such axes.
pub(super) fn variable(
    name: &'static str,
    axes: &[i64],
    input: Shape,
    value: f32,
    trainable: bool,
) -> Option<VariableSpec> {
    let sizes = sizes(input);
    let shape: Vec<usize> =
        resolve(axes, input).ok()?.into_iter().map(|axis| sizes[axis]).collect();
    let layout = if shape.len() == 1 { Layout::Same } else { Layout::Flat };
    let initializer = Initializer::Constant(value);
    Some(VariableSpec { name, shape, layout, trainable, initializer })
}

/// What `f` makes of maps; a vector is maps of one pixel meanwhile.
pub(super) fn as_maps<B: Backend>(
    x: Features<B>,
    f: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>,
) -> Features<B> {
    match x {
        Features::Map(x) => Features::Map(f(x)),
        flat @ Features::Flat(_) => {
            let y = f(flat.into_map());
            let [batch, features, ..] = y.dims();
            Features::Flat(y.reshape([batch, features]))
        }
    }
}

/// Axes of one sample as axes of Burn's maps, where channels come first.
pub(super) fn of_burn(axes: &[usize], input: Shape) -> Vec<usize> {
    let places: &[usize] = match input {
        Shape::Map { .. } => &[2, 3, 1],
        Shape::Flat(_) => &[1],
    };
    axes.iter().filter_map(|&axis| places.get(axis).copied()).collect()
}

/// Values for each place along `axes`, in Keras's order, so that they stretch over maps.
pub(super) fn stretch<B: Backend>(
    values: Tensor<B, 1>,
    axes: &[usize],
    input: Shape,
) -> Tensor<B, 4> {
    let sizes = sizes(input);
    let size = |axis: usize| if axes.contains(&axis) { sizes[axis] } else { 1 };
    match input {
        Shape::Map { .. } => values.reshape([1, size(0), size(1), size(2)]).permute([0, 3, 1, 2]),
        Shape::Flat(_) => values.reshape([1, size(0), 1, 1]),
    }
}

/// The mean over some of Burn's axes, which stay as sizes of 1.
pub(super) fn mean<B: Backend>(x: Tensor<B, 4>, axes: &[usize]) -> Tensor<B, 4> {
    axes.iter().fold(x, |x, &axis| x.mean_dim(axis))
}

/// As Keras writes axes: a single one alone.
pub(super) fn written(axes: &[i64]) -> Value {
    match axes {
        [one] => json!(one),
        more => json!(more),
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::Shape;

    #[test]
    fn axes_are_counted_as_keras_counts_them() {
        let map = Shape::map(4, 5, 6);
        assert_eq!(resolve(&[-1], map), Ok(vec![2]));
        assert_eq!(resolve(&[3, 1], map), Ok(vec![0, 2]));
        assert_eq!(resolve(&[-2, -1], map), Ok(vec![1, 2]));
        assert_eq!(resolve(&[1], Shape::Flat(7)), Ok(vec![0]));
        for wrong in [vec![0], vec![4], vec![-4], vec![-1, 3], vec![i64::MIN], vec![i64::MAX]] {
            assert!(resolve(&wrong, map).is_err(), "{wrong:?}");
        }
    }
}
