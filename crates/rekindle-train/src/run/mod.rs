//! A run: photos, their features, and the phases of training one after the other.

mod advice;
mod checkpoint;
mod fit;
mod given;
mod rate_finder;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::AutodiffBackend;
use rekindle_infer::internal::{BATCH, Job, network_name, numbers, of_orientation};
use rekindle_infer::{Event, FitReport, Observer, Photos, Start, TrainedModel};
use rekindle_kernels::gpu::can_exchange;
use rekindle_nn::{Graph, Network, Op, Parameters, Source};
use rekindle_vision::{Parts, Sample, Skipped, Split};
use sha2::{Digest, Sha256};

use self::advice::{Counts, warnings};
use self::checkpoint::Snapshot;
use self::fit::{Phase, Run, fit};
use self::given::{check_features, given, take_photos_of_features};
pub use self::rate_finder::RateFinder;
use crate::engine::{Place, Scope};
use crate::error::TrainError;
use crate::features::{Batches, FeatureStore, Live, Prefix, Recipe, Stored, Views};
use crate::learner::TransferLearner;
use crate::settings::{BatchNormMode, FineTune, FitConfig, Freeze, Loss};
use rekindle_infer::internal::{hex, serialized};

impl<B: AutodiffBackend> TransferLearner<B> {
    /// Runs the phases and gives the trained model.
    ///
    /// # Errors
    /// When there are no photos, a setting is out of range, the network cannot take them, the loss
    /// diverges, or the observer stops the run.
    pub fn fit(self) -> Result<TrainedModel<B::InnerBackend>, TrainError> {
        run(self)
    }

    /// Tries rising rates on the first phase's layers, in steps of one short run, and suggests one
    /// (Smith 2017; fastai's `lr_find`). Nothing of it is kept.
    ///
    /// # Errors
    /// As [`fit`](Self::fit), but for a loss that diverges.
    pub fn find_learning_rate(self) -> Result<RateFinder, TrainError> {
        find_rate(self)
    }
}

/// Refuses what would change nothing.
fn honoured<B: AutodiffBackend>(
    learner: &TransferLearner<B>,
    is_multi_label: bool,
) -> Result<(), TrainError> {
    let wrong = |setting, found: &str, expected| {
        Err(TrainError::Setting { setting, found: found.to_owned(), expected })
    };
    if let (Some(views), true) = (learner.cached_views, learner.augmentation.is_empty()) {
        let expected = "none without an augmentation: a photo has one view then";
        return wrong("cached views", &views.to_string(), expected);
    }
    if learner.resume && learner.checkpoint.is_none() {
        return wrong("resume", "true", "a checkpoint to go on from: its path is missing");
    }
    let mut freezes = [Some(&learner.freeze), learner.fine_tune.as_ref().map(|next| &next.freeze)]
        .into_iter()
        .flatten();
    if learner.config.batch_norm == BatchNormMode::Train && freezes.all(|it| *it == Freeze::All) {
        let expected = "frozen where only the head trains: unfreeze the network's layers";
        return wrong("batch normalization", "train", expected);
    }
    if learner.config.loss == Loss::Sigmoid && !is_multi_label {
        let expected = "softmax, since each photo is of one class";
        return wrong("loss", "sigmoid", expected);
    }
    Ok(())
}

/// What the phases have in common.
pub(crate) struct Prepared<B: AutodiffBackend> {
    pub model: Network<B>,
    pub photos: Photos,
    pub classes: Vec<String>,
    pub train: Vec<Sample>,
    pub valid: Vec<Sample>,
    pub skipped: Vec<Skipped>,
    strict: bool,
    split: Split,
    /// What was already said of the photos.
    warned: Vec<String>,
    class_weights: Vec<f32>,
    pub place: Place<B::Device>,
    feature_seconds: f64,
    waiting_seconds: f64,
    pub cached: usize,
}

fn prepare<B: AutodiffBackend>(
    learner: &mut TransferLearner<B>,
) -> Result<Prepared<B>, TrainError> {
    let data = learner.data.take().ok_or(TrainError::NoData)?;
    take_photos_of_features(learner)?;
    learner.config.check()?;
    learner.augmentation.check()?;
    if let Some(fine_tune) = &learner.fine_tune {
        fine_tune.check()?;
    }
    if learner.cached_views == Some(0)
        || (learner.cached_views.is_some() && learner.augmentation.mix.is_some())
    {
        let found = format!("{}", learner.cached_views.unwrap_or_default());
        let expected = "at least 1, and none with MixUp or CutMix: these mix photos, not features";
        return Err(TrainError::Setting { setting: "cached views", found, expected });
    }
    honoured(learner, data.is_multi_label())?;
    if data.is_multi_label() {
        learner.config.loss = Loss::Sigmoid;
        learner.head.multi_label = true;
    }
    let own = learner.network.devices().into_iter().next().unwrap_or_default();
    let devices = match learner.devices.as_slice() {
        [] => vec![own],
        devices => devices.to_vec(),
    };
    if !can_exchange::<B>(&devices) {
        let found = format!("{} NVIDIA GPUs without NCCL", devices.len());
        let expected = "one, or the library through which they exchange tensors: install NVIDIA's package libnccl-dev, and have LD_LIBRARY_PATH name the folder of libnccl.so if it is not found then";
        return Err(TrainError::Setting { setting: "devices", found, expected });
    }
    let device = devices[0].clone();
    let network = learner.network.clone().fork(&device);
    let place = Place { devices, precision: learner.precision };
    let photos = photos(learner)?;
    if photos.channels == 4 && !learner.augmentation.is_empty() {
        let found = "augmentation of images with opacity".to_owned();
        let expected = "none for 4 channels, or images of 3 or 1";
        return Err(TrainError::Setting { setting: "augmentation", found, expected });
    }
    let Parts { mut train, mut valid, skipped } = data.parts()?;
    let (model, classes) = match learner.trained.take() {
        Some(classes) => (network, classes),
        None => {
            let (classes, seed) = (data.classes().to_vec(), learner.config.seed);
            (learner.head.on(network.without_head(), classes.len(), seed, &device)?, classes)
        }
    };
    if is_multi_label(model.graph()) != data.is_multi_label() {
        let found =
            if data.is_multi_label() { "photos of several classes" } else { "photos of one class" };
        let expected = "what the model's head was made for";
        return Err(TrainError::Setting { setting: "data", found: found.into(), expected });
    }
    let numbers = numbers(&data, &classes, learner.is_named)?;
    // From here on they have the folder's names.
    let classes = if learner.is_named { classes } else { data.classes().to_vec() };
    let silent = model.graph().layers().iter().filter(|layer| !layer.op.trains_as_keras());
    for layer in silent {
        tracing::warn!(
            "layer `{}` ({}) does nothing here: Keras would change what trains with it",
            layer.name,
            layer.op.class()
        );
    }
    for label in train.iter_mut().chain(&mut valid).flat_map(|sample| &mut sample.labels) {
        *label = numbers[*label];
    }
    let counts = Counts::of(&train, &valid, classes.len());
    let class_weights = learner.config.class_weights.resolve(&counts.train)?;
    let of_class = |(class, name): (usize, &String)| (name.clone(), counts.all(class));
    let named = classes.iter().enumerate().map(of_class).filter(|(_, count)| *count > 0);
    let start = Start::new(
        network_name(model.graph()),
        named.collect(),
        [train.len(), valid.len()],
        photos,
        learner.origins,
    );
    learner.observer.on_event(&Event::Started(&start));
    let mut prepared = Prepared {
        model,
        photos,
        classes,
        train,
        valid,
        skipped,
        strict: data.is_strict(),
        split: data.validation().clone(),
        warned: Vec::new(),
        class_weights,
        place,
        feature_seconds: 0.0,
        waiting_seconds: 0.0,
        cached: 0,
    };
    prepared.warn(&counts, &learner.config);
    Ok(prepared)
}

/// How photos become the network's input.
pub(crate) fn photos<B: AutodiffBackend>(
    learner: &TransferLearner<B>,
) -> Result<Photos, TrainError> {
    let input = learner.network.graph().input();
    Ok(Photos {
        resizing: learner.resizing,
        middle: learner.middle,
        transparency: learner.transparency,
        orientation: learner.orientation,
        fast_decode: learner.fast_decode,
        ..Photos::new(input, learner.resize, learner.preprocessing)?
    })
}

impl<B: AutodiffBackend> Prepared<B> {
    /// Says what will hardly train well, once.
    pub fn warn(&mut self, counts: &Counts, config: &FitConfig) {
        self.say(warnings(&self.classes, counts, &self.split, &config.class_weights));
    }

    pub fn say(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if !self.warned.contains(&warning) {
                tracing::warn!("{warning}");
                self.warned.push(warning);
            }
        }
    }
}

/// What trains in a phase.
pub(crate) fn scope<B: AutodiffBackend>(
    model: &Network<B>,
    freeze: &Freeze,
    depth_factor: f64,
    mode: BatchNormMode,
) -> Result<Scope, TrainError> {
    let graph = model.graph();
    let own = freeze.trainable(&graph.without_head())?;
    let head = graph.head();
    let mut trains: HashSet<String> = own.iter().cloned().collect();
    trains.extend(head.iter().map(|layer| layer.name.clone()));
    // In the head they are live; in the base where they train and the user asks for it.
    let with_base = if mode == BatchNormMode::Train { graph.layers() } else { head };
    let live = with_base
        .iter()
        .filter(|layer| matches!(layer.op, Op::BatchNorm(_)) && trains.contains(&layer.name))
        .map(|layer| layer.name.clone())
        .collect();
    let factors = own.iter().enumerate().map(|(position, name)| {
        // From the first layer's factor to 1, the same ratio from layer to layer.
        let share = position as f64 / own.len() as f64;
        (name.clone(), depth_factor.powf(1.0 - share))
    });
    let factors: HashMap<String, f64> =
        if depth_factor == 1.0 { HashMap::new() } else { factors.collect() };
    let penalty = |layer: &rekindle_nn::Layer| match &layer.op {
        Op::Dense(dense) if dense.l2 > 0.0 => Some((layer.name.clone(), dense.l2)),
        _ => None,
    };
    let l2 = head.iter().filter_map(penalty).collect();
    let cut = graph.cut(&|layer| trains.contains(layer));
    let source = match &cut {
        Some(layer) => Source::Layer(graph.position(layer)?),
        None => Source::Input,
    };
    let input = graph.shape(source);
    Ok(Scope { cut, input, trains, live, factors, l2 })
}

/// Whether each class is there or not, by a sigmoid of its own.
pub(crate) fn is_multi_label(graph: &Graph) -> bool {
    graph.last().is_some_and(|layer| layer.op.activation() == rekindle_nn::Activation::Sigmoid)
}

/// The phases: what is frozen, epochs, rate, and the factor of the first layers' rate.
pub(crate) fn plan(
    config: &FitConfig,
    freeze: Freeze,
    fine_tune: Option<FineTune>,
) -> Vec<FineTune> {
    let (epochs, learning_rate) = (config.epochs, config.learning_rate);
    let first = FineTune { freeze, epochs, learning_rate, depth_factor: 1.0 };
    [Some(first), fine_tune].into_iter().flatten().collect()
}

/// A phase's photos: the features of those to train on, unless these change in each epoch, and to validate on.
pub(crate) struct Stores {
    pub train: Option<FeatureStore>,
    pub valid: FeatureStore,
}

fn stores<B: AutodiffBackend>(
    learner: &TransferLearner<B>,
    prepared: &mut Prepared<B>,
    prefix: &Prefix<'_, B::InnerBackend>,
    observer: &mut dyn Observer,
) -> Result<Stores, TrainError> {
    let start = Instant::now();
    let is_live = !learner.augmentation.is_empty() && learner.cached_views.is_none();
    let views = match learner.cached_views {
        Some(count) if !learner.augmentation.is_empty() => {
            Some(Views { augmentation: &learner.augmentation, count, seed: learner.config.seed })
        }
        _ => None,
    };
    let recipe = |views, cache, limit| Recipe {
        prefix,
        photos: prepared.photos,
        views,
        strict: prepared.strict,
        may_lack_classes: false,
        limit,
        cache,
    };
    let cache = learner.cache.as_ref();
    let classes = &prepared.classes;
    let (mut skipped, mut askew) = (Vec::new(), 0);
    let train = if is_live {
        // Only which of them can be decoded.
        let (found, damaged, own) = decodable(prepared, observer)?;
        prepared.train = found;
        askew += own;
        skipped.extend(damaged);
        None
    } else {
        let recipe = recipe(views, cache, learner.memory_limit);
        let (store, damaged) = FeatureStore::compute(&recipe, &prepared.train, classes, observer)?;
        skipped.extend(damaged);
        askew += store.askew();
        Some(store)
    };
    // Both together stay below the limit.
    let taken = train.as_ref().map_or(0, FeatureStore::memory);
    let recipe = Recipe {
        may_lack_classes: true,
        ..recipe(None, cache, learner.memory_limit.saturating_sub(taken))
    };
    let (valid, damaged) = FeatureStore::compute(&recipe, &prepared.valid, classes, observer)?;
    skipped.extend(damaged);
    prepared.say(of_orientation(askew + valid.askew()));
    if !skipped.is_empty() {
        // What is left may be too few.
        let gone: HashSet<&Path> = skipped.iter().map(|file| file.path.as_path()).collect();
        let is_there = |sample: &&Sample| !gone.contains(sample.path.as_path());
        let left = |samples: &[Sample]| -> Vec<Sample> {
            samples.iter().filter(is_there).cloned().collect()
        };
        let (train, valid) = (left(&prepared.train), left(&prepared.valid));
        let counts = Counts::of(&train, &valid, prepared.classes.len());
        prepared.warn(&counts, &learner.config);
    }
    for file in skipped {
        if !prepared.skipped.contains(&file) {
            prepared.skipped.push(file);
        }
    }
    prepared.cached += valid.cached() + train.as_ref().map_or(0, FeatureStore::cached);
    let waited = valid.waited() + train.as_ref().map_or(Duration::ZERO, FeatureStore::waited);
    prepared.waiting_seconds += waited.as_secs_f64();
    prepared.feature_seconds += start.elapsed().as_secs_f64();
    Ok(Stores { train, valid })
}

/// The training photos that can be decoded, the files that cannot, and how many have an EXIF orientation that is ignored.
fn decodable<B: AutodiffBackend>(
    prepared: &Prepared<B>,
    observer: &mut dyn Observer,
) -> Result<(Vec<Sample>, Vec<Skipped>, usize), TrainError> {
    let samples = &prepared.train;
    let jobs: Vec<Job<'_>> =
        samples.iter().map(|sample| Job { sample, change: None, hashed: false }).collect();
    let (mut found, mut skipped, mut askew) = (Vec::new(), Vec::new(), 0);
    prepared.photos.for_each_batch(&jobs, BATCH, prepared.strict, |batch| {
        found.extend(batch.rows.into_iter().map(|row| samples[row].clone()));
        skipped.extend(batch.skipped);
        askew += batch.askew;
        observer
            .on_event(&Event::Features { done: found.len() + skipped.len(), total: samples.len() });
        Ok::<(), TrainError>(())
    })?;
    for (row, file) in &skipped {
        observer.on_event(&Event::Skipped(file));
        let class = samples[*row].class();
        if !found.iter().any(|sample| sample.class() == class) {
            let reason = format!("{}: {}", file.path.display(), file.reason);
            return Err(TrainError::NoPhotos { class: prepared.classes[class].clone(), reason });
        }
    }
    Ok((found, skipped.into_iter().map(|(_, file)| file).collect(), askew))
}

/// How many parameters train, and how many do not.
fn count<B: AutodiffBackend>(model: &Network<B>, scope: &Scope) -> Parameters {
    let mut counted = Parameters::default();
    for variable in model.variables() {
        let count = variable.spec.count();
        counted.total += count;
        if variable.spec.trainable && scope.trains.contains(&variable.layer) {
            counted.trainable += count;
        } else {
            counted.non_trainable += count;
        }
    }
    counted
}

/// All that has to be the same for a run to go on, a line each.
fn description<B: AutodiffBackend>(
    learner: &TransferLearner<B>,
    prepared: &Prepared<B>,
    phases: &[FineTune],
) -> String {
    let graph = prepared.model.graph();
    let network = match graph.base().architecture {
        Some(known) => known.to_string(),
        None => format!("of {} layers for {}", graph.layers().len(), graph.input()),
    };
    let head: Vec<&str> = graph.head().iter().map(|layer| layer.name.as_str()).collect();
    // Too many settings to print.
    let layers = hex(&Sha256::digest(serialized(graph))[..8]);
    let names = |samples: &[Sample]| -> String {
        let name = |sample: &Sample| {
            sample.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        samples.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    let (train, valid) = (&prepared.train, &prepared.valid);
    format!(
        "network {network}\nhead {}\nlayers {layers}\nclasses {}\nsettings {}\nphases {}\naugmentation {}\ncached views {}\n\
         photos {}\nprecision {}\n{} photos to train on: {}\n{} photos to validate on: {}",
        serialized(&head),
        serialized(&prepared.classes),
        serialized(&learner.config),
        serialized(&phases),
        serialized(&learner.augmentation),
        serialized(&learner.cached_views),
        serialized(&prepared.photos),
        learner.precision,
        train.len(),
        names(train),
        valid.len(),
        names(valid),
    )
}

/// Runs all phases of a training.
pub(crate) fn run<B: AutodiffBackend>(
    mut learner: TransferLearner<B>,
) -> Result<TrainedModel<B::InnerBackend>, TrainError> {
    let start = Instant::now();
    let mut prepared = prepare(&mut learner)?;
    let phases = plan(&learner.config, learner.freeze.clone(), learner.fine_tune.take());
    if let Some(source) = &learner.features {
        check_features(source.as_ref(), &prepared, &phases, learner.config.batch_norm)?;
    }
    let snapshot = learner
        .checkpoint
        .clone()
        .map(|path| Snapshot::new(path, description(&learner, &prepared, &phases)));
    let mut progress = match &snapshot {
        Some(snapshot) if learner.resume => snapshot.load()?,
        _ => None,
    };
    let history = progress.as_mut().map(|progress| std::mem::take(&mut progress.history));
    let total = phases.iter().map(|phase| phase.epochs).sum();
    let mut observer = std::mem::replace(&mut learner.observer, Box::new(()));
    let config = learner.config.clone();
    let mut run = Run {
        config: &config,
        observer: observer.as_mut(),
        history: history.unwrap_or_default(),
        snapshot: snapshot.as_ref(),
    };
    let mut model = prepared.model.clone();
    let (mut before, mut counts, mut parameters) = (0, (0, 0), Parameters::default());
    for (number, FineTune { freeze, epochs, learning_rate, depth_factor }) in
        phases.into_iter().enumerate()
    {
        let scope = scope(&model, &freeze, depth_factor, config.batch_norm)?;
        parameters = count(&model, &scope);
        // What earlier phases learned is in the checkpoint of a later one.
        if progress.as_ref().is_none_or(|progress| progress.phase <= number) {
            let own = progress.take();
            let frozen = model.valid();
            let cut = scope.cut.clone();
            let place = prepared.place.clone();
            let (prefix, stores) = match &learner.features {
                Some(source) => (None, given(source, &mut prepared, &config)?),
                None => {
                    let prefix = Prefix::new(&frozen, cut.as_deref(), prepared.photos, &place)?;
                    let prefix = prefix.rehearsed()?;
                    let stores = stores(&learner, &mut prepared, &prefix, run.observer)?;
                    (Some(prefix), stores)
                }
            };
            let classes = prepared.classes.len();
            let train: Box<dyn Batches + '_> = match (&stores.train, &prefix) {
                (Some(store), _) => Box::new(Stored { store, classes }),
                (None, None) => unreachable!("features that are given are stored"),
                (None, Some(prefix)) => Box::new(Live {
                    samples: &prepared.train,
                    photos: prepared.photos,
                    augmentation: &learner.augmentation,
                    prefix,
                    seed: config.seed,
                    strict: prepared.strict,
                    classes,
                }),
            };
            counts = (train.len(), stores.valid.len());
            let phase = Phase {
                number,
                scope,
                epochs,
                learning_rate,
                before,
                total,
                train: train.as_ref(),
                valid: Stored { store: &stores.valid, classes },
                class_weights: &prepared.class_weights,
                classes,
            };
            model = fit(model, &phase, &mut run, own, &place)?;
        }
        before += epochs;
    }
    let report = FitReport {
        history: run.history,
        classes: prepared.classes.clone(),
        train_images: counts.0,
        valid_images: counts.1,
        cached_images: prepared.cached,
        skipped: prepared.skipped,
        warnings: prepared.warned,
        feature_seconds: prepared.feature_seconds,
        waiting_seconds: prepared.waiting_seconds,
        fit_seconds: start.elapsed().as_secs_f64(),
        parameters,
    };
    Ok(TrainedModel::of_training(model.valid(), prepared.photos, prepared.classes, report))
}

/// Tries rising rates on the first phase.
pub(crate) fn find_rate<B: AutodiffBackend>(
    mut learner: TransferLearner<B>,
) -> Result<RateFinder, TrainError> {
    let mut prepared = prepare(&mut learner)?;
    let scope = scope(&prepared.model, &learner.freeze, 1.0, learner.config.batch_norm)?;
    let mut observer = std::mem::replace(&mut learner.observer, Box::new(()));
    // Augmentation would only blur what is looked for.
    learner.augmentation = rekindle_vision::Augmentation::new();
    let (model, frozen) = (prepared.model.clone(), prepared.model.valid());
    let (cut, place) = (scope.cut.clone(), prepared.place.clone());
    let stores = match &learner.features {
        Some(source) => {
            let phases = plan(&learner.config, learner.freeze.clone(), None);
            check_features(source.as_ref(), &prepared, &phases, learner.config.batch_norm)?;
            given(source, &mut prepared, &learner.config)?
        }
        None => {
            let prefix = Prefix::new(&frozen, cut.as_deref(), prepared.photos, &place)?;
            stores(&learner, &mut prepared, &prefix.rehearsed()?, observer.as_mut())?
        }
    };
    let Some(store) = &stores.train else { unreachable!("without augmentation there is a store") };
    let train = Stored { store, classes: prepared.classes.len() };
    rate_finder::find(
        model,
        scope,
        &train,
        prepared.classes.len(),
        &learner.config,
        &prepared.class_weights,
        &place,
    )
}
