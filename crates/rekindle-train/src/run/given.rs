//! Features that are there already take the place of photos.

use std::sync::Arc;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::AutodiffBackend;
use rekindle_infer::internal::of_orientation;
use rekindle_infer::{Extractor, Provenance};
use rekindle_nn::Shape;
use rekindle_vision::{Place, Sample};
use rekindle_weights::Origin;

use super::advice::Counts;
use super::{Prepared, Stores, photos, scope};
use crate::error::TrainError;
use crate::features::{FeatureSource, FeatureStore};
use crate::learner::TransferLearner;
use crate::settings::{BatchNormMode, FineTune, FitConfig};

impl<B: AutodiffBackend> TransferLearner<B> {
    /// What computes the features that this learner would train on, or with `until` the values of that layer: its network,
    /// head, frozen layers, photos' settings, precision and first device count, and nothing else.
    ///
    /// # Errors
    /// When the network cannot take such photos, there is no such layer, or nothing of it is frozen.
    pub fn extractor(self, until: Option<&str>) -> Result<Extractor<B::InnerBackend>, TrainError> {
        extractor(self, until)
    }
}

/// What the features of a source were computed with is what the learner takes, but for what the user has set, which is
/// compared later.
pub(crate) fn take_photos_of_features<B: AutodiffBackend>(
    learner: &mut TransferLearner<B>,
) -> Result<(), TrainError> {
    let Some(source) = &learner.features else { return Ok(()) };
    let wrong = |setting, found: &str| {
        let expected = "none where features are given: it needs the photos";
        Err(TrainError::Setting { setting, found: found.to_owned(), expected })
    };
    if !learner.augmentation.is_empty() || learner.cached_views.is_some() {
        return wrong("augmentation", "some");
    }
    if learner.cache.is_some() {
        return wrong("feature cache", "a folder");
    }
    let own = source.provenance().photos;
    let file = |origin: Origin| origin != Origin::User;
    let origins = &mut learner.origins;
    if file(origins.size) {
        let input = Shape::map(own.height, own.width, own.channels);
        if learner.network.graph().input() != input {
            learner.network = learner.network.clone().with_input(input)?;
        }
        origins.size = Origin::File;
    }
    if file(origins.resize) {
        (learner.resize, learner.resizing) = (own.resize, own.resizing);
        learner.middle = own.middle;
        origins.resize = Origin::File;
    }
    if file(origins.preprocessing) {
        learner.preprocessing = own.preprocessing;
        origins.preprocessing = Origin::File;
    }
    if file(origins.transparency) {
        learner.transparency = own.transparency;
        origins.transparency = Origin::File;
    }
    if file(origins.orientation) {
        learner.orientation = own.orientation;
        origins.orientation = Origin::File;
    }
    learner.fast_decode |= own.fast_decode;
    Ok(())
}

/// What computes a learner's features.
fn extractor<B: AutodiffBackend>(
    mut learner: TransferLearner<B>,
    until: Option<&str>,
) -> Result<Extractor<B::InnerBackend>, TrainError> {
    let own = learner.network.devices().into_iter().next().unwrap_or_default();
    let device = learner.devices.first().cloned().unwrap_or(own);
    let network = learner.network.clone().fork(&device);
    let photos = photos(&learner)?;
    // What comes before the classes is the same for any number of them.
    let model = match learner.trained.take() {
        Some(_) => network,
        None => learner.head.on(network.without_head(), 2, 0, &device)?,
    };
    let scope = scope(&model, &learner.freeze, 1.0, learner.config.batch_norm)?;
    let Some(until) = until.map(str::to_owned).or(scope.cut) else {
        let expected = "at least the first layers: else there are no features to compute once";
        let found = "nothing".to_owned();
        return Err(TrainError::Setting { setting: "what is frozen", found, expected });
    };
    Ok(Extractor::up_to(model.valid(), &until, photos, learner.precision, &device)?)
}

/// Whether the features of a source are those that each phase trains on.
pub(crate) fn check_features<B: AutodiffBackend>(
    source: &dyn FeatureSource,
    prepared: &Prepared<B>,
    phases: &[FineTune],
    mode: BatchNormMode,
) -> Result<(), TrainError> {
    let given = source.provenance();
    let wrong = |reason: String| Err(TrainError::Features(reason));
    for (number, phase) in phases.iter().enumerate() {
        let scope = scope(&prepared.model, &phase.freeze, phase.depth_factor, mode)?;
        if scope.cut != given.until {
            let cut = |cut: &Option<String>| match cut {
                Some(layer) => format!("`{layer}`"),
                None => "the photos themselves".into(),
            };
            return wrong(format!(
                "they are the values of layer {}, but phase {} trains on those of {}; compute them with the same head and frozen layers, or with --until",
                cut(&given.until),
                number + 1,
                cut(&scope.cut)
            ));
        }
        let inner = prepared.model.valid();
        let precision = prepared.place.precision;
        let until = scope.cut.as_deref();
        let own = Provenance::of(&inner, until, prepared.photos, scope.input, precision)?;
        if let Some(difference) = given.difference(&own) {
            return wrong(format!(
                "they were computed otherwise than this run would ({difference}, where `here` is the features and `there` this run); name the same network, weights and settings, or compute them again"
            ));
        }
    }
    Ok(())
}

/// A phase's features, where there is a source of them.
pub(crate) fn given<B: AutodiffBackend>(
    source: &Arc<dyn FeatureSource>,
    prepared: &mut Prepared<B>,
    config: &FitConfig,
) -> Result<Stores, TrainError> {
    let is_there = |sample: &&Sample| matches!(sample.place, Place::Row(Some(_)));
    let mut has_row = vec![false; prepared.classes.len()];
    let there = prepared.train.iter().filter(is_there);
    there.for_each(|sample| has_row[sample.class()] = true);
    if let Some(sample) = prepared.train.iter().find(|sample| !has_row[sample.class()]) {
        let class = prepared.classes[sample.class()].clone();
        let own = prepared.skipped.iter().find(|file| file.path == sample.path);
        let reason = own.map_or("it is damaged", |file| file.reason.as_str());
        let reason = format!("{}: {reason}", sample.path.display());
        return Err(TrainError::NoPhotos { class, reason });
    }
    if let Some(sample) = prepared
        .train
        .iter()
        .chain(&prepared.valid)
        .find(|sample| !matches!(sample.place, Place::Row(_)))
    {
        return Err(TrainError::Features(format!(
            "the photo {} has no row among them",
            sample.path.display()
        )));
    }
    prepared.say(of_orientation(source.askew()));
    let train = FeatureStore::given(source, &prepared.train);
    let valid = FeatureStore::given(source, &prepared.valid);
    let all = prepared.train.len() + prepared.valid.len();
    if train.len() + valid.len() < all {
        let left = |samples: &[Sample]| samples.iter().filter(is_there).cloned().collect();
        let (train, valid): (Vec<Sample>, Vec<Sample>) =
            (left(&prepared.train), left(&prepared.valid));
        let counts = Counts::of(&train, &valid, prepared.classes.len());
        prepared.warn(&counts, config);
    }
    prepared.cached += train.len() + valid.len();
    Ok(Stores { train: Some(train), valid })
}
