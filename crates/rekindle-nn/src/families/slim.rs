//! What TF-Slim's Inceptions share: `research/slim/nets/inception_utils.py` of the repository `tensorflow/models`.
//!
//! Layers are called as the variables of TF-Slim's checkpoints are, without the network's name in front. Where TF-Slim
//! pools with a window of the default size's maps, the pool here is over all of the map: the same at that size.

use super::Settings;
use crate::ops::{BatchNorm, Conv2d, GlobalPool, Padding, Pool2d, PoolKind, Reshape};
use crate::{Activation, GraphBuilder, NetworkError, Value};

/// One step of a branch, by the letters in its name: `Conv2d_0b_3x3` is `0b`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Filters, kernel height, kernel width; stride 1, padding `same`; with normalization and ReLU.
    Conv(&'static str, usize, [usize; 2]),
    /// The same with this stride and padding.
    Strided(&'static str, usize, [usize; 2], usize, Padding),
    /// A pool: kind, size, stride, padding.
    Pool(&'static str, PoolKind, usize, usize, Padding),
    /// Two convolutions side by side, concatenated.
    Fork([(&'static str, usize, [usize; 2]); 2]),
}

/// 3x3 average, stride 1.
pub(super) const AVG: Step = Step::Pool("0a", PoolKind::Average, 3, 1, Padding::Same);
/// 3x3 maximum, stride 1.
pub(super) const MAX: Step = Step::Pool("0a", PoolKind::Max, 3, 1, Padding::Same);

/// The steps of a branch, one behind the other.
pub(super) fn branch(
    net: &mut GraphBuilder,
    scope: &str,
    mut x: Value,
    steps: &[Step],
) -> Result<Value, NetworkError> {
    for step in steps {
        x = match *step {
            Step::Conv(tag, filters, kernel) => {
                unit(net, scope, tag, x, Conv2d::new(filters, kernel))?
            }
            Step::Strided(tag, filters, kernel, stride, padding) => {
                let mut conv = Conv2d::new(filters, kernel).strides(stride);
                conv.window.padding = padding;
                unit(net, scope, tag, x, conv)?
            }
            Step::Pool(tag, kind, size, stride, padding) => {
                let (class, pool) = match kind {
                    PoolKind::Max => ("MaxPool", Pool2d::max(size, stride, padding)),
                    PoolKind::Average => ("AvgPool", Pool2d::average(size, stride, padding)),
                };
                net.pool2d(format!("{scope}{class}_{tag}_{size}x{size}"), x, pool)?
            }
            Step::Fork(two) => {
                let two = two.map(|(tag, filters, kernel)| {
                    unit(net, scope, tag, x, Conv2d::new(filters, kernel))
                });
                let [a, b] = two;
                net.concatenate(format!("{scope}concat"), &[a?, b?])?
            }
        };
    }
    Ok(x)
}

/// Branches side by side, concatenated: `Mixed_3b` has `Mixed_3b/Branch_0`, ...
pub(super) fn mixed(
    net: &mut GraphBuilder,
    name: &str,
    x: Value,
    branches: &[&[Step]],
) -> Result<Value, NetworkError> {
    let branches = branches
        .iter()
        .enumerate()
        .map(|(number, steps)| branch(net, &format!("{name}/Branch_{number}/"), x, steps));
    let branches = branches.collect::<Result<Vec<Value>, _>>()?;
    net.concatenate(format!("{name}/concat"), &branches)
}

/// `slim.conv2d` as `inception_arg_scope` has it: convolution, BatchNorm without gamma, ReLU.
pub(super) fn unit(
    net: &mut GraphBuilder,
    scope: &str,
    tag: &str,
    x: Value,
    conv: Conv2d,
) -> Result<Value, NetworkError> {
    let [height, width] = conv.window.kernel;
    let name = format!("{scope}Conv2d_{tag}_{height}x{width}");
    let x = net.conv2d(&name, x, conv)?;
    let norm = BatchNorm { momentum: 0.9997, ..BatchNorm::new().scale(false) };
    let x = net.batch_norm(format!("{name}/BatchNorm"), x, norm)?;
    net.relu(format!("{name}/Relu"), x)
}

/// The top of V1 and V2: its dense layer is a convolution of one pixel.
pub(super) fn convolutional_top(
    net: &mut GraphBuilder,
    settings: &Settings,
    tag: &str,
    x: Value,
) -> Result<Value, NetworkError> {
    let Some(classes) = settings.classes else { return Ok(x) };
    let x = net.layer("Logits/AvgPool", GlobalPool::average().keep_dims(), &[x])?;
    let x = net.dropout("Logits/Dropout", x, 0.2)?;
    let conv = Conv2d::new(classes, [1, 1]).with_bias();
    let x = net.conv2d(format!("Logits/Conv2d_{tag}_1x1"), x, conv)?;
    let x = net.layer("Logits/SpatialSqueeze", Reshape { target: vec![classes as i64] }, &[x])?;
    net.activation("Predictions", x, Activation::Softmax)
}
