use std::time::Instant;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::AutodiffBackend;
use rekindle_nn::{
    Backbone, Head, HeadConfig, Model, Network, NetworkError, Parameters, require_gradients,
};
use rekindle_vision::{ImageFolder, Preprocessing, Resize, Skipped};
use serde::Serialize;

use crate::fit::fit;
use crate::progress::{Bars, Observer};
use crate::{FeatureStore, FitConfig, History, Photos, TrainError, TrainedModel};

/// Trains a new head on a frozen, pre-trained network.
///
/// Without any settings: global average pooling, Dropout(0.2) and a Dense layer, Adam at 0.001, 10
/// epochs of batches of 32. The frozen network sees each photo once, not once in each epoch.
pub struct TransferLearner<B: AutodiffBackend> {
    backbone: Backbone<B>,
    /// The head to go on with, and its classes.
    trained: Option<(Head<B>, Vec<String>)>,
    data: Option<ImageFolder>,
    head: HeadConfig,
    config: FitConfig,
    resize: Resize,
    preprocessing: Preprocessing,
    observer: Box<dyn Observer>,
}

/// What `fit` did, and how long it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FitReport {
    /// The results of every epoch.
    #[serde(flatten)]
    pub history: History,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Photos that were trained on.
    pub train_images: usize,
    /// Photos that were validated on.
    pub valid_images: usize,
    /// Files that were not used.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
    /// Seconds in the frozen part.
    pub feature_seconds: f64,
    /// Seconds in all of `fit`, the frozen part included.
    pub fit_seconds: f64,
    /// Of the whole model.
    pub parameters: Parameters,
}

impl<B: AutodiffBackend> std::fmt::Debug for TransferLearner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferLearner")
            .field("architecture", &self.backbone.architecture())
            .field("head", &self.head)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<B: AutodiffBackend> TransferLearner<B> {
    /// Starts from a network without top.
    #[must_use]
    pub fn new(base: impl Into<Backbone<B>>) -> Self {
        Self {
            backbone: base.into(),
            trained: None,
            data: None,
            head: HeadConfig::default(),
            config: FitConfig::default(),
            resize: Resize::default(),
            // Both networks of the registry take it.
            preprocessing: Preprocessing::Tf,
            observer: Box::new(Bars::default()),
        }
    }

    /// Goes on with a trained model: its network, head, classes and preprocessing. The folders of the photos
    /// have to be named like its classes.
    #[must_use]
    pub fn from_trained(trained: &TrainedModel<B::InnerBackend>) -> Self {
        let (photos, classes) = (*trained.photos(), trained.classes().to_vec());
        let model = require_gradients(Model::<B>::from_inner(trained.model().clone()));
        // Weights do not know the size of the photos that they are used with.
        let backbone = model.backbone.with_size(photos.size);
        let trained = model.head.map(|head| (head, classes));
        let learner = Self::new(backbone).resize(photos.resize);
        Self { trained, ..learner }.preprocessing(photos.preprocessing)
    }

    /// The photos, with their split.
    #[must_use]
    pub fn data(mut self, folder: ImageFolder) -> Self {
        self.data = Some(folder);
        self
    }

    /// What stands on the network; default [`HeadConfig::default`]. It takes the place of a trained head.
    #[must_use]
    pub fn head(mut self, head: HeadConfig) -> Self {
        self.trained = None;
        self.head = head;
        self
    }

    /// How often every photo is seen; default 10.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.config.epochs = epochs;
        self
    }

    /// Photos in a step; default 32.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.config.batch_size = batch_size;
        self
    }

    /// Adam's learning rate; default 0.001.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.config.learning_rate = learning_rate;
        self
    }

    /// Decides on initial weights, order and dropout: the same seed gives the same numbers; default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// How photos are brought to the network's size; default [`Resize::Bilinear`].
    #[must_use]
    pub fn resize(mut self, resize: Resize) -> Self {
        self.resize = resize;
        self
    }

    /// How pixels become the network's input; default is what Keras's network takes.
    #[must_use]
    pub fn preprocessing(mut self, preprocessing: Preprocessing) -> Self {
        self.preprocessing = preprocessing;
        self
    }

    /// Who is told what happens; default [`Bars`], and `()` for nobody.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Trains.
    ///
    /// # Errors
    /// When there are no photos, a setting is out of range, the network cannot take them, or the loss
    /// diverges.
    pub fn fit(mut self) -> Result<TrainedModel<B::InnerBackend>, TrainError> {
        let start = Instant::now();
        let data = self.data.take().ok_or(TrainError::NoData)?;
        self.config.check()?;
        let architecture = self.backbone.architecture();
        if architecture.classes().is_some() {
            let found = architecture.to_string();
            let expected = "a network without its top; a new head takes its place";
            return Err(TrainError::Setting { setting: "base", found, expected });
        }
        let device = self.backbone.devices().into_iter().next().unwrap_or_default();
        let photos = Photos {
            size: architecture.size(),
            resize: self.resize,
            preprocessing: self.preprocessing,
        };
        let (train, valid) = data.split()?;
        let (head, classes) = match self.trained.take() {
            Some(trained) => trained,
            None => (self.make_head(data.classes().len(), &device)?, data.classes().to_vec()),
        };
        let numbers = numbers(&data, &classes)?;
        let model = Model { backbone: self.backbone, head: Some(head) };
        let parameters = model.summary_frozen(architecture.input())?.parameters;
        let (cut, frozen) = (model.frozen_end(), model.valid());

        let before = Instant::now();
        let observer = self.observer.as_mut();
        let mut compute = |samples| {
            FeatureStore::compute(&frozen, &cut, photos, samples, &data, &device, observer)
        };
        let (mut train, mut skipped) = compute(train.as_slice())?;
        let (mut valid, more) = compute(valid.as_slice())?;
        train.renumber(&numbers);
        valid.renumber(&numbers);
        skipped.extend(more);
        skipped.extend_from_slice(data.skipped());
        let feature_seconds = before.elapsed().as_secs_f64();

        let (model, history) =
            fit(model, &cut, &train, &valid, &self.config, &device, self.observer.as_mut())?;
        let report = FitReport {
            history,
            classes: classes.clone(),
            train_images: train.len(),
            valid_images: valid.len(),
            skipped,
            feature_seconds,
            fit_seconds: start.elapsed().as_secs_f64(),
            parameters,
        };
        Ok(TrainedModel::new(model.valid(), photos, classes, report))
    }

    fn make_head(&self, classes: usize, device: &B::Device) -> Result<Head<B>, NetworkError> {
        let features = self.backbone.output_shape(self.backbone.architecture().input())?;
        self.head.init(features, classes, self.config.seed, device)
    }
}

/// The number in the model of each of the folder's classes.
pub(crate) fn numbers(folder: &ImageFolder, known: &[String]) -> Result<Vec<usize>, TrainError> {
    let number = |class: &String| {
        known.iter().position(|name| name == class).ok_or_else(|| {
            let (path, class) = (folder.path().to_owned(), class.clone());
            TrainError::UnknownClass { path, class, known: known.join(", ") }
        })
    };
    folder.classes().iter().map(number).collect()
}
