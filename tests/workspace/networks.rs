//! Eager against Keras, layer by layer, and Keras's parameter counts.

use burn::backend::Flex;
use rekindle::nn::{Architecture, Model, Network, Shape};
use rekindle::prelude::*;
use rekindle_tests::{Golden, compare, formula_network};
use serde_json::Value;

fn check(file: &str, architecture: impl Fn(&Value) -> Architecture) {
    let golden = Golden::open(file);
    let cases: Vec<Value> = serde_json::from_str(&golden.metadata["cases"]).expect("JSON");
    assert!(cases.len() >= 6);
    for case in cases {
        let key = case["key"].as_str().expect("a key");
        let layers: Vec<String> = serde_json::from_value(case["layers"].clone()).expect("names");
        let architecture = architecture(&case);
        let device = Default::default();
        let network = formula_network::<Flex>(architecture, &device);
        let summary = network.summary(architecture.input()).expect("fits");
        assert_eq!(Some(summary.parameters.total as u64), case["parameters"].as_u64(), "{key}");
        assert_eq!(Some(summary.parameters.trainable as u64), case["trainable"].as_u64(), "{key}");
        compare(&network, &golden, key, &layers, &device, 1e-4);
    }
}

/// The MobileNetV2 of a golden case.
pub fn mobilenet_v2(case: &Value) -> Architecture {
    let config = MobileNetV2Config::new()
        .with_alpha(case["alpha"].as_f64().expect("a number"))
        .with_size(case["size"].as_u64().expect("a number") as usize);
    let classes = if config.size == 97 { 7 } else { 1000 };
    let has_top = case["top"].as_bool().expect("a flag");
    Architecture::MobileNetV2(config).with_top(has_top.then_some(classes))
}

/// The InceptionV3 of a golden case.
pub fn inception_v3(case: &Value) -> Architecture {
    let size = case["size"].as_u64().expect("a number") as usize;
    let has_top = case["top"].as_bool().expect("a flag");
    let config = InceptionV3Config::new().with_size(size);
    Architecture::InceptionV3(config).with_top(has_top.then_some(1000))
}

#[test]
fn mobilenet_v2_is_keras_s() {
    check("mobilenet_v2.safetensors", mobilenet_v2);
}

#[test]
fn inception_v3_is_keras_s() {
    check("inception_v3.safetensors", inception_v3);
}

#[test]
fn parameter_counts_are_keras_s() {
    let device = Default::default();
    let count = |name: &str, size, classes, head: Option<HeadConfig>, frozen| {
        let architecture =
            Architecture::by_name(name).expect("known").with_size(size).with_top(classes);
        let backbone = architecture.init::<Flex>(&device).expect("valid");
        let features = backbone.output_shape(architecture.input()).expect("fits");
        let head = head.map(|head| head.init(features, 2, 0, &device).expect("fits"));
        let model = Model { backbone, head };
        let input = Shape::image(size);
        let summary = if frozen { model.summary_frozen(input) } else { model.summary(input) };
        let parameters = summary.expect("fits").parameters;
        [parameters.total, parameters.trainable, parameters.non_trainable]
    };
    let flatten = || Some(HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5));
    for size in [160, 299] {
        assert_eq!(
            count("inception-v3", size, None, None, false),
            [21_802_784, 21_768_352, 34_432]
        );
        assert_eq!(count("inception-v3", size, None, None, true), [21_802_784, 0, 21_802_784]);
    }
    assert_eq!(
        count("inception-v3", 160, None, flatten(), true),
        [31_241_506, 9_438_722, 21_802_784]
    );
    assert_eq!(
        count("inception-v3", 299, Some(1000), None, false),
        [23_851_784, 23_817_352, 34_432]
    );
    assert_eq!(count("mobilenet-v2", 224, Some(1000), None, false), [3_538_984, 3_504_872, 34_112]);
    assert_eq!(count("mobilenet-v2", 224, None, None, false), [2_257_984, 2_223_872, 34_112]);
}

#[test]
fn wrong_inputs_and_settings_are_errors() {
    let device = Default::default();
    let setting =
        MobileNetV2Config::new().with_alpha(0.6).init::<Flex>(&device).expect_err("no such alpha");
    assert!(setting.to_string().contains("alpha is 0.6"), "{setting}");
    assert!(MobileNetV2Config::new().with_size(31).init::<Flex>(&device).is_err());
    let setting =
        InceptionV3Config::new().with_size(74).init::<Flex>(&device).expect_err("too small");
    assert!(setting.to_string().contains("at least 75"), "{setting}");

    let network = InceptionV3Config::new().with_size(75).init::<Flex>(&device).expect("valid");
    let tiny = burn::tensor::Tensor::zeros([1, 3, 20, 20], &device);
    assert!(network.forward(tiny).expect_err("too small").to_string().contains("layer `"));
    let grey = burn::tensor::Tensor::zeros([1, 1, 75, 75], &device);
    assert!(network.forward(grey).expect_err("one channel").to_string().contains("3 channels"));
}
