//! Training end to end on the demo photos.

use std::fs;

use burn::backend::{Autodiff, Flex};
use rekindle::kernels::PlanConfig;
use rekindle::prelude::*;
use rekindle::train::{Event, FitConfig, Loss, Observer, Prediction};
use rekindle::weights::{Dtype, ModelCard, save, variables_to_save};
use rekindle_tests::{copy_photos, formula_network, repository};

fn base(size: usize) -> Network<Autodiff<Flex>> {
    let architecture = Architecture::from(MobileNetV2Config::new());
    Weights::Demo.backbone(architecture, Some(size), &Default::default()).expect("bundled")
}

fn fit(seed: u64, head: HeadConfig) -> TrainedModel<Flex> {
    let photos = ImageFolder::open(repository("demo/photos")).expect("the demo photos").seed(7);
    let learner = TransferLearner::new(base(64)).data(photos).head(head).seed(seed);
    learner.epochs(4).observer(()).fit().expect("fits")
}

/// A folder with the first photos of two classes.
fn small_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_photos(dir.path(), 6);
    dir
}

#[test]
fn a_seed_decides_on_every_number() {
    let numbers = |model: &TrainedModel<Flex>| {
        let epochs = model.history().epochs.iter();
        epochs
            .map(|e| [Some(e.loss), Some(e.accuracy), e.val_loss, e.val_accuracy])
            .collect::<Vec<_>>()
    };
    let (first, again, other) = (
        fit(1, HeadConfig::default()),
        fit(1, HeadConfig::default()),
        fit(2, HeadConfig::default()),
    );
    assert_eq!(numbers(&first), numbers(&again));
    assert_ne!(numbers(&first), numbers(&other));
    let epochs = &first.history().epochs;
    assert!(epochs[3].loss < epochs[0].loss * 0.8, "{}", first.history());
    assert!(epochs[3].val_accuracy.expect("validated") > 0.4, "{}", first.history());
}

#[test]
fn a_saved_model_predicts_the_same_and_needs_nothing_else() {
    let trained = fit(3, HeadConfig::flatten().dense(32, Activation::Relu).dropout(0.5));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.rekindle");
    trained.save(&path).expect("saves");
    let loaded = TrainedModel::<Flex>::load(&path, &Default::default()).expect("loads");
    let photo = repository("demo/photos/birds/drake.jpg");
    let (before, after) =
        (trained.predict(&photo).expect("predicts"), loaded.predict(&photo).expect("predicts"));
    assert_eq!(before, after);
    assert!((after.probabilities().iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(loaded.classes(), ["birds", "flowers", "fruit_and_vegetables", "houses", "mammals"]);
    assert_eq!(after.top(9).classes.len(), 5);

    let bytes = fs::read(&path).expect("reads");
    let damaged = dir.path().join("damaged.rekindle");
    let load = || TrainedModel::<Flex>::load(&damaged, &Default::default());
    fs::write(&damaged, &bytes[..bytes.len() - 1]).expect("writes");
    assert!(load().expect_err("truncated").to_string().contains("truncated"));
    let mut altered = bytes.clone();
    *altered.last_mut().expect("not empty") ^= 1;
    fs::write(&damaged, &altered).expect("writes");
    assert!(load().expect_err("altered").to_string().contains("altered"));
    fs::write(&damaged, b"GIF89a, not a model").expect("writes");
    assert!(load().expect_err("foreign").to_string().contains("neither"));
    let weights =
        repository("crates/rekindle-weights/bundled/mobilenet_v2_1.0_160_dogs_f16.safetensors");
    let error = TrainedModel::<Flex>::load(weights, &Default::default()).expect_err("no head");
    assert!(error.to_string().contains("not a trained model"), "{error}");
    // A flattening head fits one size only.
    assert!(loaded.with_size(96).is_err());
}

#[test]
fn evaluating_the_validation_photos_gives_the_history_s_numbers() {
    let dir = small_folder();
    let photos = || ImageFolder::open(dir.path()).expect("opens");
    let learner = TransferLearner::new(base(64)).data(photos().valid_folder(dir.path())).epochs(2);
    let trained = learner.observer(()).fit().expect("fits");
    let evaluation = trained.evaluate(&photos()).expect("evaluates");
    let last = trained.history().last().expect("two epochs");
    assert_eq!(evaluation.images, 12);
    assert!((evaluation.accuracy as f32 - last.val_accuracy.expect("validated")).abs() < 1e-6);
    assert!((evaluation.loss as f32 - last.val_loss.expect("validated")).abs() < 1e-4);
    let total: usize = evaluation.confusion.iter().flatten().sum();
    assert_eq!(total, 12);
}

#[test]
fn damaged_photos_are_skipped_or_stop() {
    #[derive(Default)]
    struct Count(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
    impl Observer for Count {
        fn on_event(&mut self, event: &Event<'_>) {
            let line = match event {
                Event::Skipped(file) => format!("skipped {}", file.reason),
                Event::Features { done, total } => format!("features {done}/{total}"),
                Event::Epoch { epoch, .. } => format!("epoch {epoch}"),
                _ => return,
            };
            self.0.lock().expect("no panic").push(line);
        }
    }
    let dir = small_folder();
    fs::write(dir.path().join("birds/damaged.png"), b"\x89PNG\r\n\x1a\n and nothing")
        .expect("writes");
    let fit = |strict, observer| {
        let photos = ImageFolder::open(dir.path()).expect("opens").valid_split(0.0).strict(strict);
        TransferLearner::new(base(32)).data(photos).epochs(2).observer(observer).fit()
    };
    let count = Count::default();
    let events = count.0.clone();
    let trained = fit(false, count).expect("fits");
    assert_eq!(trained.report().train_images, 12);
    assert_eq!(trained.report().skipped.len(), 1);
    assert_eq!(trained.report().valid_images, 0);
    assert_eq!(trained.history().last().expect("two epochs").val_loss, None);
    let events = events.lock().expect("no panic");
    // Every photo goes through the frozen network once, whatever the number of epochs.
    assert_eq!(
        events.iter().filter(|event| event.starts_with("features")).count(),
        1,
        "{events:?}"
    );
    assert!(events[0].starts_with("skipped"), "{events:?}");
    let error = fit(true, Count::default()).expect_err("strict").to_string();
    assert!(error.contains("damaged.png"), "{error}");

    let spoil = |bytes: &[u8]| {
        for file in fs::read_dir(dir.path().join("birds")).expect("lists") {
            fs::write(file.expect("reads").path(), bytes).expect("writes");
        }
    };
    spoil(b"\xFF\xD8\xFF\xE0 and nothing");
    let error = fit(false, Count::default()).expect_err("no birds").to_string();
    assert!(error.contains("class `birds`") && error.contains("truncated"), "{error}");
    // To validate on, a class need not be there.
    let whole = small_folder();
    let photos = ImageFolder::open(whole.path()).expect("opens").valid_folder(dir.path());
    let learner = TransferLearner::new(base(32)).data(photos).epochs(1).observer(());
    let trained = learner.fit().expect("fits");
    assert_eq!((trained.report().train_images, trained.report().valid_images), (12, 6));
    assert_eq!(trained.report().skipped.len(), 7);
    let evaluation = trained.evaluate(&ImageFolder::open(dir.path()).expect("opens"));
    assert_eq!(evaluation.expect("evaluates").skipped.len(), 7);
    let photos = ImageFolder::open(dir.path()).expect("opens").strict(true);
    let error = trained.evaluate(&photos).expect_err("strict").to_string();
    assert!(error.contains("truncated") && error.contains("birds"), "{error}");
    spoil(b"");
    let error = ImageFolder::open(dir.path()).expect_err("no birds").to_string();
    assert!(error.contains("birds: no photos") && error.contains("is empty (7)"), "{error}");
}

#[test]
fn wrong_settings_are_errors() {
    let photos = || ImageFolder::open(repository("demo/photos")).expect("opens");
    let learner = || TransferLearner::new(base(32)).observer(());
    assert!(learner().fit().expect_err("no data").to_string().contains("call `data`"));
    let errors = [
        learner().epochs(0).data(photos()).fit().map(drop),
        learner().batch_size(0).data(photos()).fit().map(drop),
        learner().learning_rate(f64::NAN).data(photos()).fit().map(drop),
        learner().head(HeadConfig::default().dropout(1.0)).data(photos()).fit().map(drop),
        learner().head(HeadConfig::of(Vec::new())).data(photos()).fit().map(drop),
        learner().data(photos().valid_split(1.0)).fit().map(drop),
    ];
    for error in errors {
        assert!(error.is_err());
    }
    // What would change nothing is refused, by its name.
    let with_loss = FitConfig { loss: Loss::Sigmoid, ..FitConfig::default() };
    let mut frozen = FineTune::all().depth_factor(0.5);
    frozen.freeze = Freeze::All;
    let ignored = [
        ("L2 penalty", learner().head(HeadConfig::default().l2(0.1))),
        ("cached views", learner().cached_views(4)),
        ("resume", learner().resume(true)),
        ("batch normalization", learner().batch_norm(BatchNormMode::Train)),
        ("loss", learner().config(with_loss)),
        ("depth factor", learner().fine_tune(frozen)),
    ];
    for (setting, learner) in ignored {
        let error = learner.data(photos()).fit().expect_err(setting).to_string();
        assert!(error.contains(setting), "{error}");
    }
    let error =
        learner().learning_rate(1e38).epochs(50).data(photos()).fit().expect_err("diverges");
    assert!(error.to_string().contains("learning rate"), "{error}");
}

#[test]
fn inception_v3_trains_from_a_converted_file() {
    let device = Default::default();
    let architecture = Architecture::from(InceptionV3Config::new().with_size(75));
    let network = formula_network::<Flex>(architecture, &device);
    let (mut tensors, values) = variables_to_save(&network);
    for tensor in &mut tensors {
        tensor.dtype = Dtype::F16;
    }
    let dir = small_folder();
    let path = dir.path().join(".weights.safetensors");
    let card = ModelCard::new(network.graph().clone());
    save(&path, &card, &tensors, &mut |index| Ok(values[index].clone())).expect("saves");
    let base = |name: &str| {
        let architecture = Architecture::by_name(name).expect("known");
        Weights::File(path.clone()).backbone::<Autodiff<Flex>>(architecture, None, &device)
    };
    let photos = ImageFolder::open(dir.path()).expect("opens");
    let head = HeadConfig::flatten().dense(16, Activation::Relu).dropout(0.5);
    let learner =
        TransferLearner::new(base("inception-v3").expect("loads")).data(photos).head(head);
    let trained = learner.epochs(2).observer(()).fit().expect("fits");
    assert_eq!(trained.report().parameters.non_trainable, 21_802_784);
    assert!(trained.history().epochs.iter().all(|epoch| epoch.loss.is_finite()));
    let error = base("mobilenet-v2").expect_err("another network").to_string();
    assert!(
        error.contains("holds inception-v3, 75 x 75, no top, expected mobilenet-v2"),
        "{error}"
    );
}

/// Rounded factors change no photo's class, neither in predictions nor, through the frozen part, in what is learned.
#[test]
fn bf16_gives_the_same_classes() {
    let photos = || ImageFolder::open(repository("demo/photos")).expect("the demo photos");
    let fit = |precision| {
        let learner = TransferLearner::new(base(160)).data(photos()).precision(precision);
        learner.epochs(20).observer(()).fit()
    };
    if let Ok(PlanConfig { precision: Precision::F32, .. }) = PlanConfig::detect(Precision::Bf16) {
        println!("skipped: this processor's products of bf16 take no less time than those of f32");
        return;
    }
    let trained = fit(Precision::F32).expect("fits");
    let rounded = match fit(Precision::Bf16) {
        Ok(rounded) => rounded,
        Err(error) => {
            assert!(error.to_string().contains("has no such products"), "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    let losses = |model: &TrainedModel<Flex>| model.history().last().expect("epochs").loss;
    let (loss, rounded_loss) = (losses(&trained), losses(&rounded));
    assert!(
        loss != rounded_loss && (loss - rounded_loss).abs() < 0.02 * loss,
        "{loss} {rounded_loss}"
    );
    let fast = trained.clone().with_precision(Precision::Bf16).expect("it has just been used");
    for sample in photos().samples() {
        let (exact, fast) = (trained.predict(&sample.path), fast.predict(&sample.path));
        let (exact, fast) = (exact.expect("predicts"), fast.expect("predicts"));
        assert_ne!(exact.probabilities(), fast.probabilities());
        let class = |prediction: &Prediction| prediction.top(1).classes[0].index;
        assert_eq!(class(&exact), class(&fast), "{}", sample.path.display());
    }
}

/// A network that somebody has written down, for grey images that are not square: all that ours do.
#[test]
fn a_network_of_one_s_own_trains_and_is_saved() {
    use rekindle::nn::Shape;
    use rekindle::nn::ops::{BatchNorm, Conv2d, Padding, Pool2d};
    let (mut net, images) = GraphBuilder::new(Shape::map(24, 40, 1));
    let x = net.rescaling("scale", images, 1.0 / 255.0, -0.5).expect("fits");
    let x = net.conv2d("conv/1", x, Conv2d::new(8, [3, 5]).strides(2)).expect("fits");
    let x = net.batch_norm("norm", x, BatchNorm::new()).expect("fits");
    let shortcut = net.activation("swish", x, Activation::Silu).expect("fits");
    let x = net.conv2d("conv/2", shortcut, Conv2d::new(8, [3, 3]).with_bias()).expect("fits");
    let x = net.add("add", &[shortcut, x]).expect("fits");
    let x = net.pool2d("pool", x, Pool2d::max(2, 2, Padding::Valid)).expect("fits");
    let network = Network::init(net.finish(x).expect("a graph"), 0, &Default::default());

    let dir = small_folder();
    let learner = TransferLearner::<Autodiff<Flex>>::new(network).unfreeze_all().epochs(30);
    let learner = learner.batch_norm(BatchNormMode::Train).learning_rate(0.01).observer(());
    let trained = learner.data(ImageFolder::open(dir.path()).expect("opens")).fit().expect("fits");
    let epochs = &trained.history().epochs;
    assert!(epochs[29].loss < 0.7 * epochs[0].loss, "{}", trained.history());

    let file = dir.path().join("own.rekindle");
    trained.save(&file).expect("saves");
    let loaded = TrainedModel::<Flex>::load(&file, &Default::default()).expect("loads");
    assert_eq!(loaded.model().graph(), trained.model().graph());
    let photo = repository("demo/photos/birds/drake.jpg");
    let [first, again] = [&trained, &loaded].map(|model| model.predict(&photo).expect("predicts"));
    assert_eq!(first.probabilities(), again.probabilities());
    // Its own head goes on, and the places that count can be seen.
    let learner = TransferLearner::<Autodiff<Flex>>::from_trained(&loaded).epochs(1).observer(());
    let further = learner.data(ImageFolder::open(dir.path()).expect("opens")).fit().expect("fits");
    assert_eq!(further.classes(), loaded.classes());
    assert_eq!(loaded.explain(&photo, None).expect("explains").size, [6, 10]);
    let error = loaded.with_images(8, 8).and_then(|model| model.predict(&photo));
    assert!(error.is_ok(), "a pooling head takes any size");
}
