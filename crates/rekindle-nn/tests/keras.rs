//! Keras's configurations, in and out: what is written is read again, and every setting that a layer of Keras has is read,
//! ignored because no answer depends on it, or refused.

use std::collections::BTreeMap;
use std::path::Path;

use rekindle_nn::keras::{Generation, IGNORED, LayerConfig};
use rekindle_nn::ops::{
    ActivationLayer, BatchNorm, CenterCrop, Concatenate, Conv2d, Cropping2d, Dense,
    DepthwiseConv2d, Dropout, Fit, Flatten, GlobalPool, GroupNorm, Identity, Interpolation,
    LayerNorm, LayerScale, Merge, MergeKind, Noise, NoiseKind, Normalization, Permute, Pool2d,
    PoolKind, Prelu, RandomCrop, Rescaling, Reshape, Resizing, ScaledAdd, SeparableConv2d,
    SharedDropout, SoftmaxOver, Statistics, TrainingOnly, UnitNorm, ZeroPadding2d,
};
use rekindle_nn::{Activation, NetworkError, Op, Padding, Window};
use serde_json::{Map, Value, json};

const ACTIVATIONS: &[Activation] = &[
    Activation::Linear,
    Activation::Relu,
    Activation::Relu6,
    Activation::ReluOf { max_value: Some(3.0), negative_slope: 0.1, threshold: 0.5 },
    Activation::LeakyRelu(0.1),
    Activation::Elu(0.5),
    Activation::Selu,
    Activation::Celu(0.5),
    Activation::Gelu,
    Activation::GeluApproximate,
    Activation::Silu,
    Activation::HardSilu,
    Activation::HardSigmoid,
    Activation::HARD_SIGMOID_2,
    Activation::Sigmoid,
    Activation::LogSigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::Softsign,
    Activation::Exponential,
    Activation::Mish,
    Activation::Clip { low: -2.0, high: 3.0 },
    Activation::TanhShrink,
    Activation::SoftShrink(0.25),
    Activation::HardShrink(0.5),
    Activation::Squareplus(4.0),
    Activation::SparsePlus,
    Activation::Threshold { threshold: 1.0, value: -2.0 },
    Activation::Softmax,
    Activation::LogSoftmax,
];

/// One of each operation that Keras has, with settings that are not Keras's own.
fn examples() -> Vec<Op> {
    let window =
        Window { kernel: [3, 5], stride: [2, 2], padding: Padding::Valid, dilation: [1, 1] };
    let pool = |kind| Pool2d {
        kind,
        window: Window { padding: Padding::Same, ..window },
        counts_padding: false,
    };
    let fits = [Fit::Stretch, Fit::Crop, Fit::Pad(7.5)];
    let resizing = fits.map(|fit| Resizing::new(3, 4).interpolation(Interpolation::Area).fit(fit));
    let statistics = Statistics { mean: vec![0.5, 1.0], variance: vec![2.0, 3.0] };
    let one = Statistics { mean: vec![0.5], variance: vec![2.0] };
    let merges = [
        MergeKind::Add,
        MergeKind::Subtract,
        MergeKind::Multiply,
        MergeKind::Average,
        MergeKind::Maximum,
        MergeKind::Minimum,
    ];
    let dilated = Window { stride: [1, 1], dilation: [2, 3], ..window };
    let noise = [
        (NoiseKind::AlphaDropout, 0.25),
        (NoiseKind::GaussianDropout, 0.5),
        (NoiseKind::GaussianNoise, 1.5),
    ];
    let flip = TrainingOnly {
        class: "RandomFlip".into(),
        settings: Map::from_iter([
            ("mode".to_owned(), json!("horizontal")),
            ("seed".to_owned(), json!(7)),
        ]),
    };
    let mut ops: Vec<Op> = vec![
        Conv2d { window, groups: 2, ..Conv2d::new(8, [3, 5]).with_bias() }.into(),
        Conv2d { window: dilated, ..Conv2d::new(8, [3, 5]) }.into(),
        DepthwiseConv2d { window, depth_multiplier: 2, ..DepthwiseConv2d::new([3, 5]) }.into(),
        SeparableConv2d { window, depth_multiplier: 2, ..SeparableConv2d::new(6, [3, 5]) }.into(),
        Dense::new(7, Activation::Softmax).into(),
        Dense { bias: false, ..Dense::new(7, Activation::Relu) }.into(),
        BatchNorm { center: false, ..BatchNorm::new().momentum(0.9).epsilon(1e-5) }.into(),
        BatchNorm::new().scale(false).into(),
        LayerNorm { axes: vec![1, 2, 3], epsilon: 1e-6, center: false, scale: true }.into(),
        LayerNorm { scale: false, ..LayerNorm::new() }.into(),
        GroupNorm { center: false, epsilon: 0.1, ..GroupNorm::new(4) }.into(),
        GroupNorm { groups: None, scale: false, ..GroupNorm::new(1) }.into(),
        UnitNorm { axes: vec![1, 2] }.into(),
        Normalization::new().into(),
        Normalization { axes: Vec::new(), given: Some(one), invert: true }.into(),
        Normalization { axes: vec![-1], given: Some(statistics), invert: false }.into(),
        LayerScale { initial: 0.1, channels: 4 }.into(),
        SoftmaxOver { axes: vec![1] }.into(),
        Prelu { shared_axes: vec![1, 2] }.into(),
        Prelu { shared_axes: Vec::new() }.into(),
        pool(PoolKind::Max).into(),
        pool(PoolKind::Average).into(),
        GlobalPool::average().keep_dims().into(),
        GlobalPool::max().into(),
        ZeroPadding2d { padding: [[1, 2], [3, 4]] }.into(),
        Cropping2d { cropping: [[1, 2], [3, 4]] }.into(),
        CenterCrop { height: 3, width: 4 }.into(),
        RandomCrop { height: 3, width: 4, resizes: false }.into(),
        Resizing { antialias: true, ..Resizing::new(5, 6) }.into(),
        Flatten {}.into(),
        Reshape { target: vec![2, -1, 3] }.into(),
        Permute { dims: vec![3, 1, 2] }.into(),
        Rescaling { scale: vec![0.1, 0.2], offset: vec![-1.0] }.into(),
        Dropout { rate: 0.3 }.into(),
        SharedDropout::of_channels(0.3).into(),
        SharedDropout::of_samples(0.3).into(),
        flip.into(),
        ScaledAdd { scale: 0.17 }.into(),
        Concatenate::new().into(),
        Identity {}.into(),
    ];
    ops.extend(resizing.map(Op::from));
    ops.extend(merges.map(|kind| Op::from(Merge { kind })));
    ops.extend(noise.map(|(kind, amount)| Op::from(Noise { kind, amount })));
    for &function in ACTIVATIONS {
        ops.push(ActivationLayer::named(function).into());
        ops.push(Dense::new(3, function).into());
    }
    ops
}

fn read(class: &str, config: &Map<String, Value>) -> Result<Option<Op>, NetworkError> {
    Op::from_keras(LayerConfig::new("layer", class, Generation::Keras3, config))
}

#[test]
fn what_is_written_is_read_again() {
    let ops = examples();
    for op in &ops {
        let (class, config) = (op.class(), op.to_keras());
        let again = read(class, &config).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        assert_eq!(again.as_ref(), Some(op), "{class} {config:?}");
        let card = serde_json::to_string(op).expect("JSON");
        assert_eq!(serde_json::from_str::<Op>(&card).expect("our own"), *op, "{card}");
    }
    // Layers of a function's own class may be another class afterwards, but the same function.
    for &function in ACTIVATIONS {
        let op = Op::from(ActivationLayer::layer(function));
        let again = read(op.class(), &op.to_keras()).expect("read").expect("known");
        assert_eq!(again.activation(), function);
    }
    // Every class is an example's, but for other names of the same.
    let written: Vec<&str> = ops.iter().map(Op::class).collect();
    for class in Op::keras_classes() {
        let is_other = [
            "Convolution2D",
            "SeparableConvolution2D",
            "BatchNormalizationV1",
            "SyncBatchNormalization",
        ]
        .contains(&class)
            || ["Pool2D", "ReLU", "ELU", "Softmax", "StochasticDepth", "Random", "rekindle>"]
                .iter()
                .any(|part| class.contains(part));
        let is_training =
            ["Solarization", "RandAugment", "AugMix", "CutMix", "MixUp", "ActivityRegularization"];
        assert!(is_other || is_training.contains(&class) || written.contains(&class), "{class}");
    }
}

#[test]
fn what_keras_does_not_have_is_said() {
    for &function in ACTIVATIONS {
        let config = rekindle_nn::keras::activation_config(function);
        let is_ours = config["module"] == "rekindle";
        assert_eq!(is_ours, !function.is_keras(), "{function:?}");
    }
}

/// Settings that a layer needs to be read at all.
fn needed(class: &str) -> Map<String, Value> {
    let settings = match class {
        "Conv2D" | "SeparableConv2D" => json!({ "filters": 2, "kernel_size": 3 }),
        "DepthwiseConv2D" => json!({ "kernel_size": 3 }),
        "Dense" => json!({ "units": 2 }),
        "MaxPooling2D" | "AveragePooling2D" => json!({ "pool_size": 2 }),
        "CenterCrop" | "RandomCrop" | "Resizing" => json!({ "height": 2, "width": 2 }),
        "Reshape" => json!({ "target_shape": [2] }),
        "Permute" => json!({ "dims": [1] }),
        _ => json!({}),
    };
    settings.as_object().cloned().unwrap_or_default()
}

#[test]
fn every_setting_of_keras_is_known() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/layer_settings.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    type Layers = BTreeMap<String, Vec<String>>;
    let settings: BTreeMap<String, Layers> = serde_json::from_str(&text).expect("settings");
    let classes = Op::keras_classes();
    let mut unknown = Vec::new();
    let mut count = 0;
    for (key, generation) in [("keras", Generation::Keras3), ("tf_keras", Generation::Keras2)] {
        for (class, names) in &settings[key] {
            if !classes.contains(&class.as_str()) {
                continue;
            }
            for name in names.iter().filter(|name| !IGNORED.contains(&name.as_str())) {
                // No setting is like this, so that whoever reads it complains; whoever does not leaves it to be found.
                let mut config = needed(class);
                config.insert(name.clone(), json!({ "no": "such setting" }));
                count += 1;
                if let Err(error) =
                    Op::from_keras(LayerConfig::new("layer", class, generation, &config))
                    && error.to_string().contains("only settings that Rekindle knows")
                {
                    unknown.push(format!("{key}: {class}: {name}"));
                }
            }
        }
    }
    assert!(count > 200, "{count}");
    assert!(unknown.is_empty(), "neither read nor ignored:\n{}", unknown.join("\n"));
}

#[test]
fn a_setting_that_nobody_knows_is_an_error() {
    for class in Op::keras_classes() {
        let mut config = needed(class);
        config.insert("brand_new".into(), json!(1));
        let keeps_all =
            read(class, &config).is_ok_and(|op| matches!(op, Some(Op::TrainingOnly(_))));
        let found = read(class, &config);
        assert!(found.is_err() || keeps_all, "{class}: {found:?}");
    }
}
