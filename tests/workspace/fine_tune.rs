//! Fine-tuning, augmentation, checkpoints and caches, end to end on a few of the demo photos.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::TensorData;
use rekindle::nn::{Eager, Features, HeadLayerConfig, Shape, read};
use rekindle::prelude::*;
use rekindle::train::TrainError;
use rekindle_tests::{StopAfter, copy_photos, repository};

type B = Autodiff<Flex>;

fn base(size: usize) -> Network<B> {
    let architecture = Architecture::from(MobileNetV2Config::new());
    Weights::Demo.backbone(architecture, Some(size), &Default::default()).expect("bundled")
}

/// A folder with the first photos of two classes.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_photos(dir.path(), 7);
    dir
}

fn learner(dir: &Path) -> TransferLearner<B> {
    let photos = ImageFolder::open(dir).expect("opens");
    TransferLearner::new(base(32)).data(photos).batch_size(4).epochs(2).observer(())
}

type Numbers = Vec<[Option<f32>; 4]>;

fn numbers(model: &TrainedModel<Flex>) -> Numbers {
    let epochs = model.history().epochs.iter();
    epochs.map(|e| [Some(e.loss), Some(e.accuracy), e.val_loss, e.val_accuracy]).collect()
}

/// Every variable by its path, to the bit.
fn values(model: &TrainedModel<Flex>) -> HashMap<String, TensorData> {
    let mut values = read(model.model());
    let all = model.model().variables().into_iter();
    all.filter_map(|v| Some((v.path(), values.remove(&v.id)?))).collect()
}

#[test]
fn weights_change_where_they_should_and_only_there() {
    let dir = folder();
    let before: HashMap<String, TensorData> = {
        let backbone = base(32).valid();
        let mut values = read(&backbone);
        let all = backbone.variables().into_iter();
        all.filter_map(|v| Some((v.path(), values.remove(&v.id)?))).collect()
    };
    let order: Vec<String> = {
        let base = base(32);
        let order = base.graph().keras_order().into_iter();
        order.map(|layer| base.graph().layers()[layer].name.clone()).collect()
    };
    let at = |layer: &str| order.iter().position(|name| name == layer).expect("a layer");
    // In the middle of a block with a shortcut, whose start is then the cut.
    let until = at("block_14_depthwise") + 1;
    let total = order.len();
    for (learner, frozen, mode) in [
        (learner(dir.path()), total, BatchNormMode::Frozen),
        (learner(dir.path()).freeze_until("block_14_depthwise"), until, BatchNormMode::Frozen),
        (learner(dir.path()).unfreeze_last(30), total - 30, BatchNormMode::Train),
        (learner(dir.path()).unfreeze_all(), 0, BatchNormMode::Frozen),
        (
            learner(dir.path())
                .epochs(1)
                .fine_tune(FineTune::last(20).epochs(1).lr(1e-3).depth_factor(0.1)),
            total - 20,
            BatchNormMode::Frozen,
        ),
    ] {
        let trained = learner.batch_norm(mode).fit().expect("fits");
        let report = trained.report();
        let mut trainable = 0;
        for variable in trained.model().clone().without_head().variables() {
            let path = variable.path();
            let is_moving = path.contains("/moving_");
            let is_open = at(&variable.layer) >= frozen;
            let changes = is_open && (!is_moving || mode == BatchNormMode::Train);
            let now = &read(trained.model())[&variable.id];
            assert_eq!(now != &before[&path], changes, "{path}, {frozen} frozen");
            if is_open && !is_moving {
                trainable += variable.spec.shape.iter().product::<usize>();
            }
        }
        let head = 1280 * 2 + 2;
        assert_eq!(report.parameters.trainable, trainable + head);
        assert_eq!(report.history.epochs.len(), 2);
    }
    let error =
        learner(dir.path()).freeze_until("block_13_expnd").fit().expect_err("no such layer");
    assert!(error.to_string().contains("block_13_expand"), "{error}");
}

#[test]
fn every_way_to_ask_for_the_same_gives_the_same() {
    let dir = folder();
    let plain = || learner(dir.path()).unfreeze_last(12);
    let first = plain().fit().expect("fits");
    // Features in a file instead of memory.
    let spilled = plain().memory_limit(1000).fit().expect("fits");
    assert_eq!(numbers(&first), numbers(&spilled));
    // A cache that is empty, full, and full of what is damaged.
    let cache = tempfile::tempdir().expect("a temporary folder");
    for round in 0..3 {
        let cached = plain().feature_cache(cache.path()).fit().expect("fits");
        assert_eq!(numbers(&first), numbers(&cached), "round {round}");
        assert_eq!(cached.report().cached_images, [0, 14, 0][round]);
        let files: Vec<_> = fs::read_dir(cache.path()).expect("lists").collect();
        assert_eq!(files.len(), 1);
        if round == 1 {
            let path = files[0].as_ref().expect("reads").path();
            let mut bytes = fs::read(&path).expect("reads");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&path, bytes).expect("writes");
        }
    }
    // Another fixed layer in the head is another feature.
    let scaled = |scale| {
        let head = HeadConfig::global_average_pooling();
        learner(dir.path()).head(head.with(HeadLayerConfig::Rescaling { scale, offset: 0.0 }))
    };
    scaled(0.5).feature_cache(cache.path()).fit().expect("fits");
    let (cached, fresh) = (scaled(2.0).feature_cache(cache.path()).fit(), scaled(2.0).fit());
    assert_eq!(numbers(&cached.expect("fits")), numbers(&fresh.expect("fits")));
    // One view that changes nothing.
    let nothing = Augmentation::new().with(Augment::Zoom(0.0));
    let viewed = plain().augment(nothing.clone()).cached_views(1).fit().expect("fits");
    assert_eq!(numbers(&first), numbers(&viewed));
    let live = plain().augment(nothing).fit().expect("fits");
    assert_eq!(numbers(&first), numbers(&live));
    // Two halves of a batch.
    let whole =
        plain().batch_size(4).head(HeadConfig::global_average_pooling()).fit().expect("fits");
    let halves = plain().batch_size(2).accumulate(2).head(HeadConfig::global_average_pooling());
    let halves = halves.fit().expect("fits");
    for (a, b) in numbers(&whole).into_iter().flatten().zip(numbers(&halves).into_iter().flatten())
    {
        assert!((a.expect("a number") - b.expect("a number")).abs() < 2e-4, "{a:?} {b:?}");
    }
}

#[test]
fn settings_do_what_they_say() {
    let dir = folder();
    let fit = |learner: TransferLearner<B>| learner.fit().expect("fits");
    let plain = fit(learner(dir.path()));
    let norm = |model: &TrainedModel<Flex>| -> f64 {
        let value = &values(model)["head_dense/kernel"];
        value.as_slice::<f32>().expect("f32").iter().map(|v| f64::from(*v).powi(2)).sum()
    };
    let augmented = learner(dir.path()).augment(Augmentation::standard().mix(Mix::MixUp(0.2)));
    let others = [
        learner(dir.path()).optimizer(Rule::sgd(0.9, true)),
        learner(dir.path()).optimizer(Rule::rms_prop()),
        learner(dir.path()).schedule(Schedule::Cosine { warm_up: 0.2 }),
        learner(dir.path()).label_smoothing(0.1),
        learner(dir.path()).class_weights(ClassWeights::Given(vec![2.0, 0.5])),
        learner(dir.path()).clip_norm(1e-3).optimizer(Rule::sgd(0.0, false)),
        augmented,
        learner(dir.path()).augment(Augmentation::standard()).cached_views(2),
    ];
    let mut seen = vec![numbers(&plain)];
    for other in others {
        let other = numbers(&fit(other));
        assert!(!seen.contains(&other), "{other:?}");
        seen.push(other);
    }
    // Steps of at most rate x 0.001, six of them.
    let clipped =
        learner(dir.path()).clip_norm(1e-3).optimizer(Rule::sgd(0.0, false)).learning_rate(1.0);
    let clipped = fit(clipped.epochs(1));
    let start = learner(dir.path()).clip_norm(1e-9).optimizer(Rule::sgd(0.0, false)).epochs(1);
    let start = fit(start);
    let moved: f64 = values(&clipped)["head_dense/kernel"]
        .iter::<f64>()
        .zip(values(&start)["head_dense/kernel"].iter::<f64>())
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    assert!(moved.sqrt() < 3.1e-3 && moved > 0.0, "{}", moved.sqrt());
    // A penalty makes weights smaller, and is part of the loss.
    let head = || HeadConfig::global_average_pooling().dense(8, Activation::Relu);
    let free = fit(learner(dir.path()).head(head()).epochs(4));
    let held = fit(learner(dir.path()).head(head().l2(1.0)).epochs(4));
    let norm_of = |model: &TrainedModel<Flex>| norm(model);
    assert!(norm_of(&held) < norm_of(&free));
    assert!(held.history().epochs[0].loss > free.history().epochs[0].loss + 1.0);
    // A new head's normalization learns statistics.
    let normed =
        fit(learner(dir.path()).head(HeadConfig::global_average_pooling().batch_normalization()));
    let mean = &values(&normed)["head_batch_normalization/moving_mean"];
    assert!(mean.iter::<f32>().any(|value| value != 0.0));
}

#[test]
fn a_run_that_gets_no_better_ends_with_its_best_weights() {
    let dir = folder();
    let stopping = EarlyStopping { patience: 2, ..EarlyStopping::default() };
    // So high a rate that it gets worse.
    let trained = learner(dir.path()).learning_rate(0.3).epochs(30).early_stopping(stopping);
    let trained = trained.fit().expect("fits");
    let losses: Vec<f32> =
        trained.history().epochs.iter().map(|epoch| epoch.val_loss.expect("validated")).collect();
    let best = losses.iter().copied().fold(f32::MAX, f32::min);
    assert!(losses.len() < 30);
    assert_eq!(losses[losses.len() - 3], best, "{losses:?}");
    let photos = ImageFolder::open(dir.path()).expect("opens");
    let (_, valid) = photos.split().expect("splits");
    let loss: f32 = valid
        .iter()
        .map(|sample| {
            -trained.predict(&sample.path).expect("predicts").probabilities()[sample.class()]
                .max(1e-7)
                .ln()
        })
        .sum::<f32>()
        / valid.len() as f32;
    assert!((loss - best).abs() < 1e-3 * best.max(1.0), "{loss} {best}");
}

#[test]
fn a_run_that_was_stopped_anywhere_ends_with_the_same_numbers() {
    let dir = folder();
    let out = tempfile::tempdir().expect("a temporary folder");
    let path = out.path().join("run.checkpoint");
    for rule in [Rule::adam(), Rule::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7 }] {
        let run = || {
            learner(dir.path())
                .optimizer(rule)
                .augment(Augmentation::standard())
                .early_stopping(EarlyStopping { patience: 50, ..EarlyStopping::default() })
                .schedule(Schedule::Plateau { factor: 0.5, patience: 1 })
                .fine_tune(FineTune::last(12).epochs(2).lr(1e-4))
        };
        let whole = run().fit().expect("fits");
        // 4 epochs of 3 steps.
        for stop in [1, 3, 5, 6, 7, 11] {
            let _ = fs::remove_file(&path);
            let stopped =
                run().checkpoint(&path).observer(StopAfter(stop)).fit().expect_err("stops");
            let is_told = matches!(&stopped, TrainError::Interrupted { checkpoint: Some(at), .. } if *at == path);
            assert!(is_told, "{stopped}");
            let resumed = run().checkpoint(&path).resume(true).fit().expect("resumes");
            assert_eq!(numbers(&whole), numbers(&resumed), "stopped after {stop} steps");
            assert_eq!(values(&whole), values(&resumed), "stopped after {stop} steps");
        }
    }
    // What has ended goes on with nothing to do; what is another run is an error.
    let run = || learner(dir.path()).checkpoint(&path).resume(true);
    fs::remove_file(&path).expect("removes");
    let first = run().fit().expect("fits");
    assert_eq!(numbers(&first), numbers(&run().fit().expect("has ended")));
    let error = run().batch_size(5).fit().expect_err("another run").to_string();
    let said = [r#""batch_size":4"#, r#""batch_size":5"#];
    assert!(said.iter().all(|one| error.contains(one)), "{error}");
    let bytes = fs::read(&path).expect("reads");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    let error = run().fit().expect_err("truncated").to_string();
    assert!(error.contains("truncated") && error.contains("run.checkpoint"), "{error}");
    fs::write(&path, b"").expect("writes");
    assert!(run().fit().is_err());
    // A folder that is not there.
    let error =
        learner(dir.path()).checkpoint(out.path().join("none/run")).fit().expect_err("no folder");
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn photos_of_several_classes_train_and_are_judged() {
    let dir = folder();
    let mut list = String::from("path,labels\n");
    for class in ["birds", "houses"] {
        for (number, file) in fs::read_dir(dir.path().join(class)).expect("lists").enumerate() {
            let name = file.expect("reads").file_name().into_string().expect("text");
            let also = if number % 2 == 0 { ";even" } else { "" };
            list += &format!("{class}/{name},{class}{also}\n");
        }
    }
    let path = dir.path().join("list.csv");
    fs::write(&path, list).expect("writes");
    let photos = || ImageFolder::from_list(&path).expect("reads");
    let trained = TransferLearner::new(base(64)).data(photos()).epochs(20).learning_rate(5e-3);
    let trained = trained.observer(()).fit().expect("fits");
    assert_eq!(trained.classes(), ["birds", "even", "houses"]);
    let found = trained.evaluate(&photos()).expect("evaluates");
    assert!(found.accuracy > 0.7, "{found}");
    let sums: Vec<f32> =
        found.judged.iter().map(|photo| photo.probabilities.iter().sum()).collect();
    assert!(sums.iter().any(|sum| (sum - 1.0).abs() > 0.05), "sigmoids are independent: {sums:?}");
    // Saved and loaded it is the same.
    let saved = dir.path().join("model.rekindle");
    trained.save(&saved).expect("saves");
    let again = TrainedModel::<Flex>::load(&saved, &Default::default()).expect("loads");
    assert_eq!(again.evaluate(&photos()).expect("evaluates"), found);
}

#[test]
fn a_rate_is_found() {
    let dir = folder();
    let found = learner(dir.path()).find_learning_rate().expect("finds");
    assert!(found.rates.len() > 40 && found.rates.len() == found.losses.len());
    assert!((1e-6..1.0).contains(&found.suggestion), "{found}");
    let picture = dir.path().join("rates.png");
    found.draw(&picture).expect("draws");
    assert!(fs::metadata(picture).expect("there").len() > 1000);
}

/// `tests/keras/fit.py`: the same photos, head and weights, three seeds.
#[test]
fn a_fit_is_as_accurate_as_keras_s() {
    let text = fs::read_to_string(repository("tests/golden/fit.json")).expect("a golden file");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number") as usize;
    let size = number(&golden["size"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    for class in fs::read_dir(repository("demo/photos")).expect("lists") {
        let class = class.expect("reads").path();
        let mut files: Vec<_> =
            fs::read_dir(&class).expect("lists").map(|f| f.expect("reads").path()).collect();
        files.sort();
        for (index, file) in files.iter().enumerate() {
            let part = if index % 3 == 0 { "valid" } else { "train" };
            let to = dir.path().join(part).join(class.file_name().expect("a name"));
            fs::create_dir_all(&to).expect("creates");
            fs::copy(file, to.join(file.file_name().expect("a name"))).expect("copies");
        }
    }
    let inception = Architecture::from(InceptionV3Config::new().with_size(size));
    for (name, base) in [
        ("mobilenet-v2", base(size)),
        ("inception-v3", rekindle_tests::formula_network::<B>(inception, &Default::default())),
    ] {
        let photos = ImageFolder::open(dir.path().join("train")).expect("opens");
        let photos = photos.valid_folder(dir.path().join("valid"));
        let (mut accuracy, mut loss) = (0.0, 0.0);
        for seed in 0..3 {
            let learner = TransferLearner::new(base.clone()).data(photos.clone()).seed(seed);
            let learner =
                learner.epochs(number(&golden["epochs"])).batch_size(number(&golden["batch"]));
            let trained = learner.observer(()).fit().expect("fits");
            let last = trained.history().last().expect("epochs");
            accuracy += f64::from(last.val_accuracy.expect("validated")) / 3.0;
            loss += f64::from(last.loss) / 3.0;
        }
        let mean = |what: &str| {
            let values = golden["runs"][name][what].as_array().expect("numbers").iter();
            values.map(|value| value.as_f64().expect("a number")).sum::<f64>() / 3.0
        };
        let (keras, keras_loss) = (mean("accuracies"), mean("losses"));
        println!("{name}: {accuracy:.4} and {loss:.4}, Keras {keras:.4} and {keras_loss:.4}");
        if name == "mobilenet-v2" {
            assert!(accuracy >= keras - 0.02, "{name}: {accuracy:.4}, Keras {keras:.4}");
        } else {
            // The formula's weights tell classes apart hardly better than chance.
            assert!(
                (loss - keras_loss).abs() < 0.1 * keras_loss,
                "{loss:.4}, Keras {keras_loss:.4}"
            );
        }
    }
}

/// With pooling and one dense layer, the gradient of a logit by a channel is that channel's weight: Grad-CAM is then the
/// sum of the maps by the weights of the class (Zhou et al. 2016).
#[test]
fn an_explanation_is_the_class_s_maps() {
    let dir = folder();
    let trained =
        learner(dir.path()).head(HeadConfig::global_average_pooling()).fit().expect("fits");
    let trained = trained.with_size(96).expect("any size");
    let photo = repository("demo/photos/birds/drake.jpg");
    let images = Features::<Flex>::from_values(
        trained.photos().open(&photo).expect("opens"),
        Shape::image(96),
        &Default::default(),
    );
    let maps =
        trained.model().walk_until("out_relu", &mut Eager::inference(), images).expect("cuts");
    let maps = maps.into_data().into_vec::<f32>().expect("f32");
    let kernel = values(&trained)["head_dense/kernel"].clone().into_vec::<f32>().expect("f32");
    for class in 0..2 {
        let found = trained.explain(&photo, Some(class)).expect("explains");
        assert_eq!((found.size, found.class), ([3, 3], class));
        let sum = |pixel: usize| -> f32 {
            (0..1280).map(|c| maps[c * 9 + pixel] * kernel[c * 2 + class]).sum()
        };
        let expected: Vec<f32> = (0..9).map(|pixel| sum(pixel).max(0.0)).collect();
        let highest = expected.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        for (found, expected) in found.values.iter().zip(&expected) {
            assert!((found - expected / highest).abs() < 1e-3, "{found} {}", expected / highest);
        }
        assert_eq!(
            found.overlay().expect("draws").dimensions(),
            image::open(&photo).expect("opens").to_rgb8().dimensions()
        );
    }
    let error = trained.explain(&photo, Some(2)).expect_err("two classes").to_string();
    assert!(error.contains("class is 2"), "{error}");
}
