//! Networks of one layer or two, so that each operation is there with each way that it is written.

use rekindle_nn::ops::{
    ActivationLayer, BatchNorm, CenterCrop, Concatenate, Conv2d, Cropping2d, Dense,
    DepthwiseConv2d, Dropout, Fit, Flatten, GlobalPool, GroupNorm, Identity, Interpolation,
    LayerNorm, LayerScale, Lrn, Merge, MergeKind, Noise, NoiseKind, Normalization, Permute, Pool2d,
    PoolKind, Prelu, RandomCrop, Rescaling, Reshape, Resizing, ScaledAdd, SeparableConv2d,
    SharedDropout, SoftmaxOver, Statistics, TrainingOnly, UnitNorm, ZeroPadding2d,
};
use rekindle_nn::{
    Activation, Graph, GraphBuilder, NetworkError, Op, Padding, Shape, Value, Window,
};

/// Every activation, with settings where it has any.
fn activations() -> Vec<Activation> {
    let relu = |max_value, negative_slope, threshold| Activation::ReluOf {
        max_value,
        negative_slope,
        threshold,
    };
    let named = Activation::NAMES.iter().map(|(_, activation)| *activation);
    let others = [
        relu(Some(1.5), 0.0, 0.0),
        relu(None, 0.25, 0.5),
        relu(Some(1.0), 0.1, -0.5),
        relu(Some(1.0), 0.1, 0.0),
        Activation::Elu(0.7),
        Activation::Celu(0.6),
        Activation::GeluApproximate,
        Activation::HARD_SIGMOID_2,
        Activation::Clip { low: -0.5, high: 0.75 },
        Activation::Clip { low: -0.5, high: f64::from(f32::MAX) },
        Activation::Threshold { threshold: 0.2, value: -0.1 },
    ];
    named.chain(others).collect()
}

/// Settings of operations that take one value of this shape.
pub(super) fn settings(input: Shape) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let all = activations();
    ops.extend(all.iter().map(|&function| ActivationLayer::named(function).into()));
    ops.extend([
        Dense::new(5, Activation::Softmax).into(),
        Dense { bias: false, ..Dense::new(4, Activation::Tanh) }.into(),
        BatchNorm::new().into(),
        BatchNorm::new().scale(false).epsilon(1e-5).into(),
        BatchNorm { center: false, ..BatchNorm::new() }.into(),
        LayerNorm::new().into(),
        LayerNorm { center: false, ..LayerNorm::new() }.epsilon(1e-6).into(),
        LayerNorm { scale: false, ..LayerNorm::new() }.into(),
        GroupNorm::new(2).into(),
        GroupNorm { groups: None, ..GroupNorm::new(1) }.into(),
        GroupNorm { center: false, scale: false, ..GroupNorm::new(3) }.into(),
        UnitNorm { axes: vec![-1] }.into(),
        Normalization::new().into(),
        Normalization { invert: true, ..Normalization::new() }.into(),
        Normalization {
            given: Some(Statistics { mean: vec![0.3], variance: vec![0.5] }),
            ..Normalization::new()
        }
        .into(),
        Normalization {
            axes: Vec::new(),
            given: Some(Statistics { mean: vec![0.3], variance: vec![0.0] }),
            invert: true,
        }
        .into(),
        LayerScale { initial: 0.5, channels: input.channels() }.into(),
        SoftmaxOver { axes: vec![1] }.into(),
        Prelu { shared_axes: Vec::new() }.into(),
        Rescaling::new(1.0 / 127.5, -1.0).into(),
        Rescaling::new(1.0, 0.0).into(),
        Rescaling::new(1e-6, 1.0).into(),
        Flatten {}.into(),
        Reshape { target: vec![-1] }.into(),
        Reshape { target: vec![2, -1, 3] }.into(),
        Dropout { rate: 0.4 }.into(),
        Noise { kind: NoiseKind::AlphaDropout, amount: 0.2 }.into(),
        Noise { kind: NoiseKind::GaussianNoise, amount: 0.2 }.into(),
        TrainingOnly { class: "RandomFlip".into(), settings: serde_json::Map::new() }.into(),
        Identity {}.into(),
    ]);
    let each = |step: f64| (0..input.channels()).map(|c| 0.5 + step * c as f64).collect();
    ops.push(Rescaling { scale: each(0.2), offset: each(-0.3) }.into());
    if input.as_map().is_some() {
        ops.extend(of_maps(input.channels()));
    }
    ops
}

fn of_maps(channels: usize) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let explicit = Padding::Explicit([[1, 0], [1, 1]]);
    for padding in [Padding::Same, Padding::Valid, explicit] {
        let window = Window { stride: [2, 1], ..Window::new([3, 2], padding) };
        let dilated = Window { dilation: [1, 2], ..Window::new([2, 3], padding) };
        for window in [window, dilated] {
            let conv = Conv2d { window, ..Conv2d::new(6, [3, 2]) };
            ops.push(conv.clone().activation(Activation::Silu).into());
            ops.push(Conv2d { groups: 3, ..conv.with_bias() }.into());
            for kind in [PoolKind::Max, PoolKind::Average] {
                for counts_padding in [false, true] {
                    ops.push(Pool2d { kind, window, counts_padding }.into());
                }
            }
        }
        let window = Window::new([3, 2], padding).with_stride(2);
        for depth_multiplier in [1, 2] {
            let conv = DepthwiseConv2d { window, depth_multiplier, ..DepthwiseConv2d::new([3, 2]) };
            ops.push(conv.clone().into());
            ops.push(conv.with_bias().activation(Activation::HardSilu).into());
            let conv = SeparableConv2d {
                window,
                depth_multiplier,
                ..SeparableConv2d::new(4, [3, 2]).with_bias()
            };
            ops.push(conv.activation(Activation::Softplus).into());
        }
    }
    // Padding of a dilated window that has more rows than taps.
    let wide =
        Window { dilation: [3, 1], ..Window::new([2, 2], Padding::Explicit([[3, 2], [1, 0]])) };
    for kind in [PoolKind::Max, PoolKind::Average] {
        ops.push(Pool2d { kind, window: wide, counts_padding: false }.into());
        ops.push(GlobalPool { kind, keep_dims: false }.into());
        ops.push(GlobalPool { kind, keep_dims: true }.into());
    }
    for axes in [vec![1, 2, 3], vec![1, 2], vec![2, 3], vec![1], vec![2], vec![1, 3]] {
        ops.push(LayerNorm { axes: axes.clone(), ..LayerNorm::new() }.into());
        ops.push(UnitNorm { axes: axes.clone() }.into());
        ops.push(SoftmaxOver { axes: axes.clone() }.into());
        ops.push(Normalization { axes: axes.clone(), ..Normalization::new() }.into());
        ops.push(Prelu { shared_axes: axes }.into());
    }
    ops.extend((1..6).map(|size| Lrn { size, alpha: 0.5, beta: 0.75, bias: 1.5 }.into()));
    ops.extend(
        [[2, 1, 3], [3, 1, 2], [1, 3, 2], [3, 2, 1], [2, 3, 1], [1, 2, 3]]
            .map(|dims| Op::from(Permute { dims: dims.to_vec() })),
    );
    ops.extend([
        ZeroPadding2d { padding: [[1, 2], [0, 3]] }.into(),
        Cropping2d { cropping: [[1, 2], [0, 3]] }.into(),
        CenterCrop { height: 3, width: 4 }.into(),
        CenterCrop { height: 9, width: 4 }.into(),
        RandomCrop { height: 3, width: 4, resizes: true }.into(),
        RandomCrop { height: 3, width: 4, resizes: false }.into(),
        Reshape { target: vec![-1, 1, channels as i64] }.into(),
        SharedDropout::of_channels(0.3).into(),
        SharedDropout::of_samples(0.3).into(),
    ]);
    for (_, interpolation) in Interpolation::NAMES {
        for fit in [Fit::Stretch, Fit::Crop, Fit::Pad(0.25), Fit::Pad(0.0)] {
            for (height, width) in [(5, 7), (10, 14), (3, 10), (13, 4)] {
                let resizing = Resizing::new(height, width).interpolation(interpolation).fit(fit);
                ops.push(resizing.into());
                ops.push(Resizing { antialias: true, ..resizing }.into());
            }
        }
    }
    ops
}

type Made = Result<Graph, NetworkError>;

/// Networks of several values.
fn of_several(input: Shape) -> Vec<(String, Made)> {
    let mut all = Vec::new();
    let kinds = [
        MergeKind::Add,
        MergeKind::Subtract,
        MergeKind::Multiply,
        MergeKind::Average,
        MergeKind::Maximum,
        MergeKind::Minimum,
    ];
    let mut add = |name: String, make: &dyn Fn(GraphBuilder, Value) -> Made| {
        let (net, x) = GraphBuilder::new(input);
        all.push((name, make(net, x)));
    };
    let single = || ActivationLayer::named(Activation::Tanh);
    for kind in kinds {
        add(format!("{kind:?} of two"), &|mut net, x| {
            let y = net.layer("tanh", single(), &[x])?;
            let z = net.layer("merge", Merge { kind }, &[x, y])?;
            net.finish(z)
        });
        if kind != MergeKind::Subtract {
            add(format!("{kind:?} of three"), &|mut net, x| {
                let y = net.layer("tanh", single(), &[x])?;
                let z = net.layer("silu", ActivationLayer::named(Activation::Silu), &[x])?;
                let z = net.layer("merge", Merge { kind }, &[x, y, z])?;
                net.finish(z)
            });
        }
        let one = Dense::new(1, Activation::Linear);
        add(format!("{kind:?} of one channel and all"), &|mut net, x| {
            let y = net.layer("one", one.clone(), &[x])?;
            let z = net.layer("merge", Merge { kind }, &[y, x])?;
            net.finish(z)
        });
        if let Some([height, width, _]) = input.as_map() {
            for kernel in [[height, 1], [1, width], [height, width]] {
                let window = Window::new(kernel, Padding::Valid);
                let pool = Pool2d { window, ..Pool2d::max(1, 1, Padding::Valid) };
                add(format!("{kind:?} of a pool of {kernel:?} and all"), &|mut net, x| {
                    let y = net.layer("pool", pool.clone(), &[x])?;
                    let z = net.layer("merge", Merge { kind }, &[x, y])?;
                    net.finish(z)
                });
            }
        }
    }
    add("ScaledAdd".into(), &|mut net, x| {
        let y = net.layer("tanh", single(), &[x])?;
        let z = net.layer("add", ScaledAdd { scale: 0.17 }, &[x, y])?;
        net.finish(z)
    });
    add("Concatenate".into(), &|mut net, x| {
        let y = net.layer("tanh", single(), &[x])?;
        let z = net.layer("join", Concatenate::new(), &[x, y, x])?;
        net.finish(z)
    });
    add("Concatenate of one".into(), &|mut net, x| {
        let z = net.layer("join", Concatenate::new(), &[x])?;
        net.finish(z)
    });
    all
}

/// The reader knows the axes of maps that come out by their meaning, not by their order: where that changes, the end is a
/// vector.
fn flattened(net: &mut GraphBuilder, op: &Op, x: Value) -> Result<Value, NetworkError> {
    if matches!(op, Op::Permute(_) | Op::Reshape(_)) {
        return net.layer("flat", Flatten {}, &[x]);
    }
    Ok(x)
}

/// Every case: its name and its network. Vectors are what a pool makes of images.
pub(crate) fn cases() -> Vec<(String, Graph)> {
    // No two sizes are the same, so that it is seen which axis is which.
    let image = Shape::map(5, 7, 6);
    let mut all: Vec<(String, Made)> = Vec::new();
    for op in settings(image) {
        let (mut net, x) = GraphBuilder::new(image);
        let made = net.layer("layer", op.clone(), &[x]);
        let made = made.and_then(|x| flattened(&mut net, &op, x));
        all.push((format!("{op:?}"), made.and_then(|x| net.finish(x))));
    }
    all.extend(of_several(image));
    for op in settings(Shape::Flat(6)) {
        let (mut net, x) = GraphBuilder::new(image);
        let made = net.layer("means", GlobalPool::average(), &[x]);
        let made = made.and_then(|x| net.layer("layer", op.clone(), &[x]));
        let made = made.and_then(|x| flattened(&mut net, &op, x));
        all.push((format!("{op:?} of vectors"), made.and_then(|x| net.finish(x))));
    }
    let made = all.into_iter().map(|(name, made)| match made {
        Ok(graph) => (name, graph),
        Err(error) => panic!("{name}: {error}"),
    });
    made.collect()
}

/// Networks that chance makes of all operations, the same ones each time.
pub(crate) fn random() -> Vec<(String, Graph)> {
    let mut random = 1_u64;
    let mut below = |count: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % count.max(1)
    };
    let mut all = Vec::new();
    for number in 0..60 {
        let (mut net, mut x) =
            GraphBuilder::new(Shape::map(6 + below(5), 5 + below(6), 1 + below(6)));
        let mut values = vec![x];
        for layer in 0..10 {
            let ops = settings(x.shape());
            let op = ops[below(ops.len())].clone();
            // What does not fit is left out: the builder says so.
            if let Ok(y) = net.layer(format!("layer_{layer}"), op, &[x]) {
                if y.shape().count() > 20_000 {
                    break;
                }
                x = y;
            }
            let other = values[below(values.len())];
            let merge: Op = match below(6) {
                0 => Merge::ADD.into(),
                1 => Merge::MULTIPLY.into(),
                2 => Concatenate::new().into(),
                _ => continue,
            };
            if let Ok(y) = net.layer(format!("merge_{layer}"), merge, &[x, other]) {
                x = y;
            }
            values.push(x);
        }
        let x = net.layer("flat", Flatten {}, &[x]).expect("a layer");
        all.push((format!("random {number}"), net.finish(x).expect("a graph")));
    }
    all
}
