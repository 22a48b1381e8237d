//! What an exporter has taken apart is put together again: a bias behind a product, a normalization that became a product
//! and a sum, `x * sigmoid(x)`, a pool that keeps its axes.

use rekindle_nn::ops::{
    ActivationLayer, GlobalPool, LayerScale, Merge, MergeKind, Rescaling, ScaledAdd,
    SeparableConv2d,
};
use rekindle_nn::{Activation, Layer, Op, Shape, Source, Window};

use super::constant::{Binary, Constant};
use super::read::Made;

/// The layers that the result depends on, put together, and where it comes from.
pub(super) fn tidied(layers: Vec<Made>, end: Source) -> (Vec<Made>, Source) {
    let (mut layers, mut end) = used(layers, end);
    // Each pass joins two layers where it can; another may be possible then.
    loop {
        let count = layers.len();
        let mut gone: Vec<Option<Source>> = vec![None; count];
        let uses = uses(&layers, end);
        for position in 0..count {
            join(&mut layers, &mut gone, &uses, position);
        }
        // Only when all that belongs to a convolution is in it.
        if gone.iter().all(Option::is_none) {
            (0..count).for_each(|position| separable(&mut layers, &mut gone, &uses, position));
        }
        if gone.iter().all(Option::is_none) {
            scales(&mut layers);
            return (layers, end);
        }
        (layers, end) = without(layers, &gone, end);
    }
}

/// How many layers take the output of each; the result counts as one more.
fn uses(layers: &[Made], end: Source) -> Vec<usize> {
    let mut uses = vec![0; layers.len()];
    let sources = layers.iter().flat_map(|made| &made.layer.inputs).chain([&end]);
    sources.filter_map(|source| source.layer()).for_each(|position| uses[position] += 1);
    uses
}

/// Leaves out what the result does not depend on.
fn used(layers: Vec<Made>, end: Source) -> (Vec<Made>, Source) {
    let mut is_used = vec![false; layers.len()];
    if let Some(last) = end.layer() {
        is_used[last] = true;
    }
    for position in (0..layers.len()).rev() {
        if is_used[position] {
            for input in layers[position].layer.inputs.iter().filter_map(|source| source.layer()) {
                is_used[input] = true;
            }
        }
    }
    let mut places = vec![0; layers.len()];
    let mut kept: Vec<Made> = Vec::new();
    for (position, mut made) in layers.into_iter().enumerate() {
        if is_used[position] {
            places[position] = kept.len();
            made.layer.inputs.iter_mut().for_each(|source| *source = moved(*source, &places));
            kept.push(made);
        }
    }
    (kept, moved(end, &places))
}

fn moved(source: Source, places: &[usize]) -> Source {
    match source {
        Source::Input => Source::Input,
        Source::Layer(position) => Source::Layer(places[position]),
    }
}

/// The layers without those that are gone; each has another source in its place, which comes before it.
fn without(layers: Vec<Made>, gone: &[Option<Source>], end: Source) -> (Vec<Made>, Source) {
    let mut place: Vec<Source> = Vec::with_capacity(layers.len());
    let now = |place: &[Source], source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(position) => place[position],
    };
    let mut kept: Vec<Made> = Vec::new();
    for (position, mut made) in layers.into_iter().enumerate() {
        if let Some(instead) = gone[position] {
            place.push(now(&place, instead));
            continue;
        }
        made.layer.inputs.iter_mut().for_each(|source| *source = now(&place, *source));
        place.push(Source::Layer(kept.len()));
        kept.push(made);
    }
    let end = now(&place, end);
    used(kept, end)
}

/// Joins a layer with the one before it, if it can; `gone` says what then stands in the place of the layer.
fn join(layers: &mut [Made], gone: &mut [Option<Source>], uses: &[usize], position: usize) {
    if matches!(&layers[position].layer.op, Op::Merge(Merge { kind: MergeKind::Multiply })) {
        return swish(layers, gone, uses, position);
    }
    if matches!(&layers[position].layer.op, Op::Merge(Merge { kind: MergeKind::Add })) {
        return scaled_add(layers, gone, uses, position);
    }
    // One join at a time in one place.
    let Some(&Source::Layer(before)) = layers[position].layer.inputs.first() else { return };
    let is_alone = uses[before] == 1 && layers[position].layer.inputs.len() == 1;
    if gone[before].is_some() {
        return;
    }
    match (&layers[before].layer.op, &layers[position].layer.op) {
        (Op::GlobalPool(pool), Op::Reshape(_)) if is_alone && !pool.keep_dims => {
            let Shape::Map { height: 1, width: 1, .. } = layers[position].shape else { return };
            let kept = GlobalPool { keep_dims: true, ..pool.clone() };
            layers[before].layer.op = kept.into();
            layers[before].shape = layers[position].shape;
            gone[position] = Some(Source::Layer(before));
        }
        (Op::GlobalPool(pool), Op::Flatten(_)) if is_alone && pool.keep_dims => {
            let kept = GlobalPool { keep_dims: false, ..pool.clone() };
            layers[before].layer.op = kept.into();
            layers[before].shape = layers[position].shape;
            gone[position] = Some(Source::Layer(before));
        }
        (Op::Rescaling(first), Op::Rescaling(second)) if is_alone => {
            let channels = layers[before].shape.channels();
            let joined = together(first, second, channels);
            layers[before].layer.op = joined.into();
            gone[position] = Some(Source::Layer(before));
        }
        (Op::BatchNorm(_), Op::Rescaling(affine)) if is_alone => {
            let affine = affine.clone();
            if scaled(&mut layers[before], &affine).is_some() {
                gone[position] = Some(Source::Layer(before));
            }
        }
        (Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::Dense(_), Op::Rescaling(affine))
            if is_alone && !is_layer_scale(&layers[before], affine) =>
        {
            let affine = affine.clone();
            if folded(&mut layers[before], &affine).is_some() {
                gone[position] = Some(Source::Layer(before));
            }
        }
        (
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::SeparableConv2d(_) | Op::Dense(_),
            Op::Activation(activation),
        ) if is_alone
            && layers[before].scope.is_some()
            && layers[before].scope == layers[position].scope =>
        {
            let function = activation.function;
            if ended(&mut layers[before].layer.op, function).is_some() {
                gone[position] = Some(Source::Layer(before));
            }
        }
        (Op::Reshape(_) | Op::Flatten(_), Op::Reshape(_) | Op::Flatten(_)) if is_alone => {
            gone[before] = layers[before].layer.inputs.first().copied();
        }
        _ => {}
    }
}

/// Gives a product that has none an activation.
pub(super) fn ended(op: &mut Op, function: Activation) -> Option<()> {
    let own = match op {
        Op::Conv2d(conv) => &mut conv.activation,
        Op::DepthwiseConv2d(conv) => &mut conv.activation,
        Op::SeparableConv2d(conv) => &mut conv.activation,
        Op::Dense(dense) => &mut dense.activation,
        _ => return None,
    };
    if *own != Activation::Linear {
        return None;
    }
    *own = function;
    Some(())
}

/// Keras's `SeparableConv2D`: a convolution of one pixel behind one of each channel, with nothing between.
fn separable(layers: &mut [Made], gone: &mut [Option<Source>], uses: &[usize], position: usize) {
    let [Source::Layer(before)] = layers[position].layer.inputs[..] else { return };
    let (Op::DepthwiseConv2d(depthwise), Op::Conv2d(pointwise)) =
        (&layers[before].layer.op, &layers[position].layer.op)
    else {
        return;
    };
    let Window { kernel, stride, .. } = pointwise.window;
    let is_plain = !depthwise.bias && depthwise.activation == Activation::Linear;
    let is_pixel = (kernel, stride, pointwise.groups) == ([1, 1], [1, 1], 1)
        && layers[before].shape.as_map().map(|[height, width, _]| [height, width])
            == layers[position].shape.as_map().map(|[height, width, _]| [height, width]);
    if !is_plain || !is_pixel || uses[before] != 1 {
        return;
    }
    let both = SeparableConv2d {
        filters: pointwise.filters,
        window: depthwise.window,
        depth_multiplier: depthwise.depth_multiplier,
        bias: pointwise.bias,
        activation: pointwise.activation,
    };
    let values = layers[before].values.iter().chain(&layers[position].values);
    let made = Made {
        values: values.cloned().collect(),
        layer: Layer {
            op: both.into(),
            inputs: layers[before].layer.inputs.clone(),
            ..layers[position].layer.clone()
        },
        ..layers[position].clone()
    };
    gone[before] = layers[before].layer.inputs.first().copied();
    layers[position] = made;
}

/// Whether it multiplies each channel of what a dense layer over maps makes: ConvNeXt's layer scale, which trains.
fn is_layer_scale(product: &Made, affine: &Rescaling) -> bool {
    let has_bias = matches!(&product.layer.op, Op::Dense(dense)
        if dense.bias && dense.activation == Activation::Linear);
    has_bias
        && product.shape.as_map().is_some()
        && affine.scale.len() == product.shape.channels()
        && affine.scale.len() > 1
        && affine.offset.iter().all(|&offset| offset == 0.0)
}

/// What multiplies each channel behind a dense layer over maps gets its numbers as a variable.
fn scales(layers: &mut [Made]) {
    for position in 0..layers.len() {
        let [Source::Layer(before)] = layers[position].layer.inputs[..] else { continue };
        let Op::Rescaling(affine) = &layers[position].layer.op else { continue };
        if !is_layer_scale(&layers[before], affine) {
            continue;
        }
        let gamma = affine.scale.iter().map(|&scale| scale as f32).collect();
        let channels = affine.scale.len();
        layers[position].layer.op = LayerScale { initial: 1.0, channels }.into();
        layers[position].values = vec![Constant::given(gamma)];
    }
}

/// `x * sigmoid(x)`.
fn swish(layers: &mut [Made], gone: &mut [Option<Source>], uses: &[usize], position: usize) {
    let &[a, b] = layers[position].layer.inputs.as_slice() else { return };
    let is_gate = |gate: Source, value: Source| {
        let Some(gate) = gate.layer().filter(|&gate| gone[gate].is_none() && uses[gate] == 1)
        else {
            return false;
        };
        let sigmoid = ActivationLayer::named(Activation::Sigmoid);
        layers[gate].layer.op == Op::from(sigmoid) && layers[gate].layer.inputs == [value]
    };
    let (gate, value) = if is_gate(b, a) {
        (b, a)
    } else if is_gate(a, b) {
        (a, b)
    } else {
        return;
    };
    if let Source::Layer(gate) = gate {
        layers[position].layer.op = ActivationLayer::named(Activation::Silu).into();
        layers[position].layer.inputs = vec![value];
        // Nothing takes it any more.
        gone[gate] = Some(value);
    }
}

/// Inception-ResNet's `x + scale * branch`.
fn scaled_add(layers: &mut [Made], gone: &mut [Option<Source>], uses: &[usize], position: usize) {
    let &[a, b] = layers[position].layer.inputs.as_slice() else { return };
    let scaled = |source: Source| {
        let branch = source.layer().filter(|&at| gone[at].is_none() && uses[at] == 1)?;
        match (&layers[branch].layer.op, layers[branch].layer.inputs.as_slice()) {
            (Op::Rescaling(Rescaling { scale, offset }), &[input]) => {
                match (&scale[..], &offset[..]) {
                    (&[scale], &[0.0]) => Some((branch, scale, input)),
                    _ => None,
                }
            }
            _ => None,
        }
    };
    let found = scaled(b).map(|found| (a, found)).or_else(|| Some((b, scaled(a)?)));
    if let Some((x, (branch, scale, input))) = found {
        layers[position].layer.op = ScaledAdd { scale }.into();
        layers[position].layer.inputs = vec![x, input];
        // Nothing takes it any more.
        gone[branch] = Some(input);
    }
}

/// Two affine maps as one.
fn together(first: &Rescaling, second: &Rescaling, channels: usize) -> Rescaling {
    let is_same = [&first.scale, &first.offset, &second.scale, &second.offset]
        .iter()
        .all(|part| part.len() == 1);
    let count = if is_same { 1 } else { channels };
    let both = first.by_channel(count).into_iter().zip(second.by_channel(count));
    let (scale, offset) =
        both.map(|((scale, offset), (by, plus))| (scale * by, offset * by + plus)).unzip();
    Rescaling { scale, offset }
}

/// Puts what is done to each channel behind a product into its weights: a normalization that an exporter has folded. A
/// single number is done to all of them by the network itself, unless it can only be a bias.
fn folded(made: &mut Made, affine: &Rescaling) -> Option<()> {
    let channels = made.shape.channels();
    let (has_bias, activation) = match &made.layer.op {
        Op::Conv2d(conv) => (conv.bias, conv.activation),
        Op::DepthwiseConv2d(conv) => (conv.bias, conv.activation),
        Op::Dense(dense) => (dense.bias, dense.activation),
        _ => return None,
    };
    let is_by_channel = affine.scale.len() == channels || affine.offset.len() == channels;
    let is_bias = affine.scale == [1.0];
    if !is_by_channel || activation != Activation::Linear {
        return None;
    }
    // Of one channel nobody knows what is meant; a dense layer has a bias mostly.
    if channels == 1 && (!is_bias || has_bias) {
        return None;
    }
    let (scale, offset): (Vec<f64>, Vec<f64>) = affine.by_channel(channels).into_iter().unzip();
    let vector =
        |values: &[f64]| Constant::given(values.iter().map(|&value| value as f32).collect());
    let (scale, offset) = (vector(&scale), vector(&offset));
    let mut values = made.values.iter();
    let (kernel, bias) = (values.next()?, values.next());
    let kernel = match is_bias {
        true => kernel.clone(),
        false => {
            // The last extents are the outputs: of a depthwise kernel channels and their filters.
            let outputs = match &made.layer.op {
                Op::DepthwiseConv2d(conv) => {
                    vec![channels / conv.depth_multiplier, conv.depth_multiplier]
                }
                _ => vec![channels],
            };
            kernel.binary(Binary::Multiply, &scale.reshaped(outputs).ok()?).ok()?
        }
    };
    let bias = match bias {
        Some(bias) => {
            let scaled = bias.binary(Binary::Multiply, &scale).ok()?;
            scaled.binary(Binary::Add, &offset).ok()?
        }
        None => offset,
    };
    made.values = vec![kernel, bias];
    match &mut made.layer.op {
        Op::Conv2d(conv) => conv.bias = true,
        Op::DepthwiseConv2d(conv) => conv.bias = true,
        Op::Dense(dense) => dense.bias = true,
        _ => {}
    }
    Some(())
}

/// Puts what is done to each channel behind a normalization into its gamma and beta: Caffe has layers of their own for
/// them.
fn scaled(made: &mut Made, affine: &Rescaling) -> Option<()> {
    let channels = made.shape.channels();
    let (Op::BatchNorm(norm), [gamma, beta, rest @ ..]) = (&made.layer.op, made.values.as_slice())
    else {
        return None;
    };
    let is_by_channel = affine.scale.len() == channels || affine.offset.len() == channels;
    if !norm.scale || !norm.center || !is_by_channel {
        return None;
    }
    let (scale, offset): (Vec<f64>, Vec<f64>) = affine.by_channel(channels).into_iter().unzip();
    let vector =
        |values: &[f64]| Constant::given(values.iter().map(|&value| value as f32).collect());
    let scale = vector(&scale);
    let gamma = gamma.binary(Binary::Multiply, &scale).ok()?;
    let beta =
        beta.binary(Binary::Multiply, &scale).ok()?.binary(Binary::Add, &vector(&offset)).ok()?;
    made.values = [gamma, beta].into_iter().chain(rest.to_vec()).collect();
    Some(())
}
