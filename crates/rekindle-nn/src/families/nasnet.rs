//! NASNet-A (Zoph et al. 2017), as in Keras's `keras/src/applications/nasnet.py`, with its layer names.
//!
//! Keras numbers some of its layers (`activation`, `activation_1`, ...); the names here are those of the first network
//! that a Keras session makes.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, Cropping2d, Padding, Pool2d, SeparableConv2d};
use crate::{Graph, GraphBuilder, NetworkError, Value};

/// NASNet-A (4 @ 1056).
pub static MOBILE: Family = family(
    ["nasnet-mobile", "NASNetMobile"],
    224,
    (389, Accuracy::new(74.4, 91.9)),
    |settings| {
        let md5s = ["020fb642bf7360b370c678b08e0adf61", "1ed92395b5b598bdda52abe5c0dbfd63"];
        published(settings, "NASNet-mobile", md5s)
    },
    |settings| build(settings, &Form { filters: 44, cells: 4, stem: 32, skips_reduction: false }),
);

/// NASNet-A (6 @ 4032).
pub static LARGE: Family = family(
    ["nasnet-large", "NASNetLarge"],
    331,
    (533, Accuracy::new(82.5, 96.0)),
    |settings| {
        let md5s = ["11577c9a518f0070763c2b964a382f17", "d81d89dc07e6e56530c4e77faddd61b5"];
        published(settings, "NASNet-large", md5s)
    },
    |settings| build(settings, &Form { filters: 168, cells: 6, stem: 96, skips_reduction: true }),
);

typed_network!(
    /// NASNet-A (4 @ 1056) (Zoph et al. 2017), a Burn module.
    NasNetMobile, NasNetMobileConfig, MOBILE
);

typed_network!(
    /// NASNet-A (6 @ 4032) (Zoph et al. 2017), a Burn module.
    NasNetLarge, NasNetLargeConfig, LARGE
);

/// What the two have in common.
const fn family(
    [name, title]: [&'static str; 2],
    default_size: usize,
    (depth, accuracy): (usize, Option<Accuracy>),
    published: fn(&Settings) -> Option<Published>,
    build: fn(&Settings) -> Result<Graph, NetworkError>,
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/1707.07012",
        source: "keras/src/applications/nasnet.py",
        default_size,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "tf",
        depth: Some(depth),
        accuracy,
        published,
        build,
    }
}

/// What the two differ in.
struct Form {
    /// Of each convolution in the first normal cells.
    filters: usize,
    /// Normal cells in a row.
    cells: usize,
    /// Filters of the first convolution.
    stem: usize,
    /// Whether the cell behind a reduction takes the input of the cell before it, and not the reduction's.
    skips_reduction: bool,
}

const NORM: BatchNorm = BatchNorm::new().momentum(0.9997);

fn build(settings: &Settings, form: &Form) -> Result<Graph, NetworkError> {
    let &Form { filters, cells, stem, skips_reduction } = form;
    let (mut net, images) = GraphBuilder::new(settings.input());
    let x = net.conv2d("stem_conv1", images, Conv2d::new(stem, [3, 3]).strides(2).valid())?;
    let x = net.batch_norm("stem_bn1", x, NORM)?;

    // A cell takes what the two before it make; `before` is the older of them.
    let first = reduction_cell(&mut net, None, x, filters / 4, "stem_1")?;
    let second = reduction_cell(&mut net, Some(x), first, filters / 2, "stem_2")?;
    let (mut before, mut x) = (first, second);
    for stage in 0..3 {
        let filters = filters << stage;
        if stage > 0 {
            let id = format!("reduce_{}", stage * cells);
            let reduced = reduction_cell(&mut net, Some(before), x, filters, &id)?;
            if !skips_reduction {
                before = x;
            }
            x = reduced;
        }
        for number in 0..cells {
            let id = (stage * cells + number + usize::from(stage > 0)).to_string();
            let next = normal_cell(&mut net, before, x, filters, &id)?;
            (before, x) = (x, next);
        }
    }
    let last = net.numbered("activation");
    x = net.relu(last, x)?;
    pooled_top(net, x, settings, "global_average_pooling2d")
}

/// Keras's `_normal_a_cell` (figure 4 of the paper): maps of the same size.
fn normal_cell(
    net: &mut GraphBuilder,
    before: Value,
    x: Value,
    filters: usize,
    id: &str,
) -> Result<Value, NetworkError> {
    let p = adjust(net, before, x, filters, id)?;
    let name = |layer: &str| format!("normal_{layer}_{id}");
    let h = squeeze(net, x, filters, [name("conv_1"), name("bn_1")])?;
    let mean = Pool2d::average(3, 1, Padding::Same);

    let left = separable(net, h, filters, 5, 1, &name("left1"))?;
    let right = separable(net, p, filters, 3, 1, &name("right1"))?;
    let one = net.add(name("add_1"), &[left, right])?;

    let left = separable(net, p, filters, 5, 1, &name("left2"))?;
    let right = separable(net, p, filters, 3, 1, &name("right2"))?;
    let two = net.add(name("add_2"), &[left, right])?;

    let left = net.pool2d(name("left3"), h, mean.clone())?;
    let three = net.add(name("add_3"), &[left, p])?;

    let left = net.pool2d(name("left4"), p, mean.clone())?;
    let right = net.pool2d(name("right4"), p, mean)?;
    let four = net.add(name("add_4"), &[left, right])?;

    let left = separable(net, h, filters, 3, 1, &name("left5"))?;
    let five = net.add(name("add_5"), &[left, h])?;
    net.concatenate(name("concat"), &[p, one, two, three, four, five])
}

/// Keras's `_reduction_a_cell` (figure 4 of the paper): maps of half the size.
fn reduction_cell(
    net: &mut GraphBuilder,
    before: Option<Value>,
    x: Value,
    filters: usize,
    id: &str,
) -> Result<Value, NetworkError> {
    let p = before.map_or(Ok(x), |before| adjust(net, before, x, filters, id))?;
    let name = |layer: &str| format!("reduction_{layer}_{id}");
    let h = squeeze(net, x, filters, [name("conv_1"), name("bn_1")])?;
    let padded = net.correct_pad(name("pad_1"), h, 3)?;
    let max = Pool2d::max(3, 2, Padding::Valid);

    let left = separable(net, h, filters, 5, 2, &name("left1"))?;
    let right = separable(net, p, filters, 7, 2, &name("right1"))?;
    let one = net.add(name("add_1"), &[left, right])?;

    let left = net.pool2d(name("left2"), padded, max.clone())?;
    let right = separable(net, p, filters, 7, 2, &name("right2"))?;
    let two = net.add(name("add_2"), &[left, right])?;

    let left = net.pool2d(name("left3"), padded, Pool2d::average(3, 2, Padding::Valid))?;
    let right = separable(net, p, filters, 5, 2, &name("right3"))?;
    let three = net.add(name("add3"), &[left, right])?;

    let left = net.pool2d(name("left4"), one, Pool2d::average(3, 1, Padding::Same))?;
    let four = net.numbered("add");
    let four = net.add(four, &[two, left])?;

    let left = separable(net, one, filters, 3, 1, &name("left4"))?;
    let right = net.pool2d(name("right5"), padded, max)?;
    let five = net.add(name("add4"), &[left, right])?;
    net.concatenate(name("concat"), &[two, three, four, five])
}

/// Keras's `_adjust_block`: brings `before` to the width of `x` and to `filters` channels.
fn adjust(
    net: &mut GraphBuilder,
    before: Value,
    x: Value,
    filters: usize,
    id: &str,
) -> Result<Value, NetworkError> {
    let name = |layer: &str| format!("adjust_{layer}_{id}");
    let columns = |value: Value| value.shape().as_map().map(|[_, columns, _]| columns);
    if columns(before) != columns(x) {
        // Every second pixel of every second row, and those below and right of them.
        let half = Conv2d::new(filters / 2, [1, 1]);
        let skip = Pool2d::average(1, 2, Padding::Valid);
        let before = net.relu(name("relu_1"), before)?;
        let even = net.pool2d(name("avg_pool_1"), before, skip.clone())?;
        let even = net.conv2d(name("conv_1"), even, half.clone())?;
        let [pad, crop] = ["zero_padding2d", "cropping2d"].map(|class| net.numbered(class));
        let odd = net.zero_padding2d(pad, before, [[0, 1], [0, 1]])?;
        let odd = net.layer(crop, Cropping2d { cropping: [[1, 0], [1, 0]] }, &[odd])?;
        let odd = net.pool2d(name("avg_pool_2"), odd, skip)?;
        let odd = net.conv2d(name("conv_2"), odd, half)?;
        let both = net.numbered("concatenate");
        let both = net.concatenate(both, &[even, odd])?;
        net.batch_norm(name("bn"), both, NORM)
    } else if before.channels() != filters {
        squeeze(net, before, filters, [name("conv_projection"), name("bn")])
    } else {
        Ok(before)
    }
}

/// ReLU, a convolution of single pixels, BatchNorm.
fn squeeze(
    net: &mut GraphBuilder,
    x: Value,
    filters: usize,
    [conv, norm]: [String; 2],
) -> Result<Value, NetworkError> {
    let relu = net.numbered("activation");
    let x = net.relu(relu, x)?;
    let x = net.conv2d(conv, x, Conv2d::new(filters, [1, 1]))?;
    net.batch_norm(norm, x, NORM)
}

/// Keras's `_separable_conv_block`: twice ReLU, separable convolution, BatchNorm.
fn separable(
    net: &mut GraphBuilder,
    x: Value,
    filters: usize,
    kernel: usize,
    stride: usize,
    id: &str,
) -> Result<Value, NetworkError> {
    let name = |layer: &str| format!("separable_conv_{layer}_{id}");
    let conv = SeparableConv2d::new(filters, [kernel, kernel]);
    let relu = net.numbered("activation");
    let mut x = net.relu(relu, x)?;
    let mut first = conv.clone().strides(stride);
    if stride == 2 {
        x = net.correct_pad(name("1_pad"), x, kernel)?;
        first = first.valid();
    }
    let x = net.separable_conv2d(name("1"), x, first)?;
    let x = net.batch_norm(name("1_bn"), x, NORM)?;
    let relu = net.numbered("activation");
    let x = net.relu(relu, x)?;
    let x = net.separable_conv2d(name("2"), x, conv)?;
    net.batch_norm(name("2_bn"), x, NORM)
}

fn published(settings: &Settings, network: &str, md5s: [&'static str; 2]) -> Option<Published> {
    let remote = format!("{network}{}.h5", settings.by_top(["", "-no-top"]));
    // Keras keeps it under another name than its server does.
    let file = remote.replace('-', "_").to_lowercase();
    Some(Published {
        remote: Some(remote),
        ..Published::new("nasnet/", file, Some(settings.by_top(md5s)))
    })
}
