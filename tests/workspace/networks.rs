//! Eager against Keras, layer by layer, and Keras's parameter counts.

use burn::backend::{Autodiff, Flex};
use rekindle::nn::{Architecture, Eager, FAMILIES, Features};
use rekindle::prelude::*;
use rekindle::vision::Pixels;
use rekindle::weights::{Checkpoint, ModelCard, load, save, variables_to_save};
use rekindle_tests::{cases, picture, repository};

#[test]
fn every_network_is_keras_s() {
    for case in cases() {
        let device = Default::default();
        case.compare(&case.network::<Flex>(&device), &device, 1e-4, |_| true);
    }
}

#[test]
fn parameter_counts_are_keras_s() {
    let count = |name: &str, size, classes, head: Option<HeadConfig>, frozen| {
        let architecture =
            Architecture::by_name(name).expect("known").with_size(size).with_top(classes);
        let base = architecture.graph().expect("valid");
        let graph = head.map_or(Ok(base.clone()), |head| head.graph(&base, 2)).expect("fits");
        let summary = if frozen { graph.summary_frozen() } else { graph.summary() };
        let parameters = summary.parameters;
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
    let large = burn::tensor::Tensor::zeros([1, 3, 80, 80], &device);
    let error = network.forward(large).expect_err("for other images").to_string();
    assert!(error.contains("with_input"), "{error}");
    let grey = burn::tensor::Tensor::zeros([1, 1, 75, 75], &device);
    let error = network.forward(grey).expect_err("one channel").to_string();
    assert!(
        error.contains("takes (None, 75, 75, 3)") && error.contains("(None, 75, 75, 1)"),
        "{error}"
    );
}

/// What is saved is loaded again to the bit, as the same network.
#[test]
fn every_network_is_saved_and_loaded() {
    let (dir, device) = (tempfile::tempdir().expect("a folder"), Default::default());
    for case in cases().iter().filter(|case| case.has_gradients) {
        let network = case.network::<Flex>(&device);
        let (tensors, values) = variables_to_save(&network);
        let card = ModelCard::new(network.graph().clone());
        let path = dir.path().join("model.rekindle");
        save(&path, &card, &tensors, &mut |index| Ok(values[index].clone())).expect("saves");
        let mut checkpoint = Checkpoint::open(&path).expect("opens").resolve().expect("ours");
        let card = checkpoint.card().expect("a card").clone();
        let known = card.architecture().expect("known");
        assert_eq!(known, case.architecture.with_top(None));
        let name = known.to_string();
        let network = Network::<Flex>::init(card.graph, 1, &device);
        let loaded = load(network, &name, &mut checkpoint).expect("loads");
        assert!(loaded.unused.is_empty(), "{name}");
        assert_eq!(variables_to_save(&loaded.network), (tensors, values), "{name}");
    }
}

/// Grad-CAM with Burn's autodiff: the maps, each weighted by the mean gradient of the class's logit, from 0 to 1.
#[test]
fn every_network_is_explained() {
    // Large enough for more than one pixel at the end of each.
    const SIZE: usize = 128;
    let (dir, device) = (tempfile::tempdir().expect("a folder"), Default::default());
    let photo = picture("photo", SIZE).into_iter().map(|value| value as u8).collect();
    let photo = image::RgbImage::from_raw(SIZE as u32, SIZE as u32, photo).expect("a photo");
    let mut explained = Vec::new();
    for case in cases() {
        let family = case.architecture.family;
        if explained.contains(&family.name) {
            continue;
        }
        explained.push(family.name);
        let architecture = case.architecture.with_size(SIZE).with_top(Some(1000));
        let network = case.network_as::<Autodiff<Flex>>(architecture, &device);
        let (tensors, values) = variables_to_save(&network);
        let path = dir.path().join("model.rekindle");
        let card = ModelCard::new(network.graph().clone());
        save(&path, &card, &tensors, &mut |index| Ok(values[index].clone())).expect("saves");
        let model = TrainedModel::<Flex>::load(&path, &device).expect("loads");
        let found = model.explain_image(&photo, Some(3)).expect("explains");

        let images = model.photos().prepare(&photo).expect("fits");
        let images = Features::from_values(images, network.graph().input(), &device);
        let maps = network.walk_until(&found.layer, &mut Eager::inference(), images);
        let maps = maps.expect("a layer").into_map().detach().require_grad();
        let [_, channels, height, width] = maps.dims();
        assert_eq!(found.size, [height, width], "{}", family.name);
        assert!(height * width > 1, "{}: {} has no places", family.name, found.layer);
        let logits =
            network.walk_after(&found.layer, &mut Eager::logits(), Features::Map(maps.clone()));
        let logits = logits.expect("cuts").flat().expect("a vector");
        let gradients = logits.slice([0..1, 3..4]).sum().backward();
        let gradient = maps.grad(&gradients).expect("depends on the maps");
        let weights = gradient.mean_dim(2).mean_dim(3).reshape([1, channels, 1, 1]);
        let products = maps.inner() * weights;
        // Of many channels' products most cancel: what is left is off by rounding of them all.
        let all: f32 = products.clone().abs().sum_dim(1).max().into_scalar();
        let heat = products.sum_dim(1).clamp_min(0.0).into_data();
        let expected = heat.into_vec::<f32>().expect("f32");
        let highest = expected.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        for (found, expected) in found.values.iter().zip(&expected) {
            let off = (found * highest - expected).abs() / all;
            // As layers are compared.
            assert!(off < 1e-4, "{}: {found}, {off:e} off", family.name);
        }
    }
}

/// Keras's `preprocess_input` of each module.
#[test]
fn preprocessing_is_keras_s() {
    let path = repository("tests/golden/applications/applications.json");
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("a golden file")).expect("JSON");
    let floats = |value: &serde_json::Value| -> Vec<f32> {
        serde_json::from_value(value.clone()).expect("numbers")
    };
    for family in FAMILIES {
        // TF-Slim's have no module in Keras.
        let Some(known) = golden.get(family.name) else { continue };
        let pixels = Pixels { width: 2, height: 1, values: floats(&known["pixels"]) };
        let mode: Preprocessing = family.preprocessing.parse().expect("a mode");
        let (ours, theirs) = (mode.apply(&pixels), floats(&known["preprocessed"]));
        for (index, theirs) in theirs.iter().enumerate() {
            let ours = ours[index % 3 * 2 + index / 3];
            assert!((ours - theirs).abs() < 1e-5, "{}: {ours} {theirs}", family.name);
        }
    }
}
