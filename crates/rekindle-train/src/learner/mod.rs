mod photos;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use rekindle_infer::{Observer, TrainedModel};
use rekindle_kernels::Precision;
use rekindle_kernels::train::Rule;
use rekindle_nn::ops::Resizing;
use rekindle_nn::{HeadConfig, Network, require_gradients};
use rekindle_vision::Middle;
use rekindle_vision::{
    Augmentation, ImageFolder, Orientation, Preprocessing, Resize, Transparency,
};
use rekindle_weights::{Origin, Origins};

use crate::features::{FeatureCache, FeatureSource};
use crate::observe::Bars;
use crate::settings::{
    BatchNormMode, ClassWeights, EarlyStopping, FineTune, FitConfig, Freeze, Schedule,
};

/// Trains a new head on a frozen, pre-trained network, and then, if asked to, more of the network.
///
/// Without any settings: global average pooling, Dropout(0.2) and a Dense layer, Adam at 0.001, 10
/// epochs of batches of 32. The frozen part of the network sees each photo once, not once in each epoch.
pub struct TransferLearner<B: AutodiffBackend> {
    pub(crate) network: Network<B>,
    /// The classes of the network's head, where training goes on with it; nothing where a new head takes its place.
    pub(crate) trained: Option<Vec<String>>,
    /// Whether somebody has named these classes.
    pub(crate) is_named: bool,
    pub(crate) data: Option<ImageFolder>,
    pub(crate) head: HeadConfig,
    pub(crate) config: FitConfig,
    pub(crate) freeze: Freeze,
    pub(crate) fine_tune: Option<FineTune>,
    pub(crate) augmentation: Augmentation,
    pub(crate) cached_views: Option<usize>,
    pub(crate) checkpoint: Option<PathBuf>,
    pub(crate) resume: bool,
    pub(crate) cache: Option<FeatureCache>,
    pub(crate) features: Option<Arc<dyn FeatureSource>>,
    pub(crate) memory_limit: u64,
    pub(crate) precision: Precision,
    pub(crate) devices: Vec<B::Device>,
    pub(crate) resize: Resize,
    pub(crate) transparency: Transparency,
    pub(crate) orientation: Orientation,
    pub(crate) fast_decode: bool,
    pub(crate) resizing: Option<Resizing>,
    pub(crate) middle: Option<Middle>,
    pub(crate) preprocessing: Preprocessing,
    pub(crate) origins: Origins,
    pub(crate) observer: Box<dyn Observer>,
}

impl<B: AutodiffBackend> std::fmt::Debug for TransferLearner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferLearner")
            .field("architecture", &self.network.architecture())
            .field("head", &self.head)
            .field("config", &self.config)
            .field("freeze", &self.freeze)
            .field("fine_tune", &self.fine_tune)
            .finish_non_exhaustive()
    }
}

impl<B: AutodiffBackend> TransferLearner<B> {
    /// Starts from the base of a network: a head or a top that is on it makes room for a new one.
    #[must_use]
    pub fn new(base: impl Into<Network<B>>) -> Self {
        let network = base.into();
        let preprocessing = family_preprocessing(&network);
        let known = network.architecture();
        let own = match known {
            Some(_) => Origin::Network,
            None => Origin::Default,
        };
        let is_default = known.is_some_and(|known| {
            let size = known.family.default_size;
            known.size().pixels() == [size, size]
        });
        let size = if is_default { own } else { Origin::File };
        let origins = Origins { size, preprocessing: own, ..Origins::of(Origin::Default) };
        Self {
            network,
            trained: None,
            is_named: true,
            data: None,
            head: HeadConfig::default(),
            config: FitConfig::default(),
            freeze: Freeze::All,
            fine_tune: None,
            augmentation: Augmentation::new(),
            cached_views: None,
            checkpoint: None,
            resume: false,
            cache: None,
            features: None,
            memory_limit: 768 << 20,
            precision: Precision::F32,
            devices: Vec::new(),
            resize: Resize::default(),
            transparency: Transparency::default(),
            orientation: Orientation::default(),
            fast_decode: false,
            resizing: None,
            middle: None,
            preprocessing,
            origins,
            observer: Box::new(Bars::default()),
        }
    }

    /// Goes on with a trained model: its network, head, classes and preprocessing. The folders of the photos
    /// have to be named like its classes.
    #[must_use]
    pub fn from_trained(model: &TrainedModel<B::InnerBackend>) -> Self {
        let (photos, classes) = (*model.photos(), model.classes().to_vec());
        let network = burn::module::AutodiffModule::from_inner(model.model().clone());
        let network: Network<B> = require_gradients(network);
        // A base without a head gets a new one.
        let has_head = !network.graph().head().is_empty();
        let learner = Self {
            resizing: photos.resizing,
            middle: photos.middle,
            transparency: photos.transparency,
            orientation: photos.orientation,
            ..Self::new(network).resize(photos.resize)
        };
        let (trained, is_named) = (has_head.then_some(classes), model.is_named());
        let origins = model.origins();
        Self { trained, is_named, preprocessing: photos.preprocessing, origins, ..learner }
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
        self.is_named = true;
        self.head = head;
        self
    }

    /// All settings of the training loop at once.
    #[must_use]
    pub fn config(mut self, config: FitConfig) -> Self {
        self.config = config;
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

    /// The optimizer's rate; default 0.001.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.config.learning_rate = learning_rate;
        self
    }

    /// The optimizer; default Keras's Adam.
    #[must_use]
    pub fn optimizer(mut self, rule: Rule) -> Self {
        self.config.optimizer = rule;
        self
    }

    /// How the rate changes; default not at all.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.config.schedule = schedule;
        self
    }

    /// Shortens gradients to this length, all parameters' together; default never.
    #[must_use]
    pub fn clip_norm(mut self, norm: f64) -> Self {
        self.config.clip_norm = Some(norm);
        self
    }

    /// Share of a target that all classes get; default 0.
    #[must_use]
    pub fn label_smoothing(mut self, share: f64) -> Self {
        self.config.label_smoothing = share;
        self
    }

    /// How much photos count, by their classes; default all the same.
    #[must_use]
    pub fn class_weights(mut self, weights: ClassWeights) -> Self {
        self.config.class_weights = weights;
        self
    }

    /// Batches whose gradients make one step; default 1.
    #[must_use]
    pub fn accumulate(mut self, batches: usize) -> Self {
        self.config.accumulate = batches;
        self
    }

    /// What batch normalizations of the network's layers that train do; default [`BatchNormMode::Frozen`].
    #[must_use]
    pub fn batch_norm(mut self, mode: BatchNormMode) -> Self {
        self.config.batch_norm = mode;
        self
    }

    /// Ends the run when it does not get better; default never.
    #[must_use]
    pub fn early_stopping(mut self, stopping: EarlyStopping) -> Self {
        self.config.early_stopping = Some(stopping);
        self
    }

    /// Only the head trains; the default.
    #[must_use]
    pub fn freeze_all(self) -> Self {
        self.freeze(Freeze::All)
    }

    /// Everything trains from the start.
    #[must_use]
    pub fn unfreeze_all(self) -> Self {
        self.freeze(Freeze::Nothing)
    }

    /// Everything behind the layer of this Keras name trains from the start.
    #[must_use]
    pub fn freeze_until(self, layer: impl Into<String>) -> Self {
        self.freeze(Freeze::Until(layer.into()))
    }

    /// Trains the last `layers` layers of the network from the start.
    #[must_use]
    pub fn unfreeze_last(self, layers: usize) -> Self {
        self.freeze(Freeze::AllButLast(layers))
    }

    /// Which of the network's layers stay as they are in the first phase; default [`Freeze::All`].
    #[must_use]
    pub fn freeze(mut self, freeze: Freeze) -> Self {
        self.freeze = freeze;
        self
    }

    /// A second phase, with more of the network and a lower rate.
    ///
    /// ```no_run
    /// # use rekindle_train::FineTune;
    /// FineTune::from("mixed7").epochs(5).lr(1e-5);
    /// ```
    #[must_use]
    pub fn fine_tune(mut self, fine_tune: FineTune) -> Self {
        self.fine_tune = Some(fine_tune);
        self
    }

    /// Random changes of the training photos; default none. The frozen part then sees every photo anew in each epoch,
    /// unless there are [`cached_views`](Self::cached_views).
    #[must_use]
    pub fn augment(mut self, augmentation: Augmentation) -> Self {
        self.augmentation = augmentation;
        self
    }

    /// Takes one of this many views of each photo in each epoch, whose features are computed once.
    #[must_use]
    pub fn cached_views(mut self, views: usize) -> Self {
        self.cached_views = Some(views);
        self
    }

    /// Keeps the features of the frozen part in a folder, from run to run; default not at all.
    #[must_use]
    pub fn feature_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(FeatureCache::new(folder));
        self
    }

    /// Trains on features that are there already, instead of computing those of [`data`](Self::data)'s photos: each of its
    /// samples says which row is its own ([`Place::Row`](rekindle_vision::Place::Row)). How photos are taken is then what
    /// the features were computed with; what the user has set otherwise is an error.
    #[must_use]
    pub fn features(mut self, source: Arc<dyn FeatureSource>) -> Self {
        self.features = Some(source);
        self
    }

    /// Bytes of features that may be in memory; more are in a temporary safetensors file. Default 768 MiB.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Photos that go through what trains at once, whose gradients are added to those of the rest of their batch: less memory for
    /// the same steps. Default is the whole batch, or as much of it as a GPU has memory for, which is tried first.
    /// Normalizations that take the batch's statistics take those of each part.
    #[must_use]
    pub fn micro_batch(mut self, photos: usize) -> Self {
        self.config.micro_batch = Some(photos);
        self
    }

    /// Several devices of the backend: photos, and parts of each batch, are shared among them, and what they learn is added up
    /// in each step. Default is the one that the network is on. Normalizations that take the batch's statistics take
    /// those of each part.
    #[must_use]
    pub fn devices(mut self, devices: Vec<B::Device>) -> Self {
        self.devices = devices;
        self
    }

    /// What is computed with; default f32. On the CPU it is for the frozen part: `Bf16` is for processors with AVX-512 BF16,
    /// and within 2 %. On a GPU what trains is computed with it too, but for parameters, sums, the loss, and heads of dense
    /// layers; with `F16` losses are scaled, and a step whose gradients are too large is left out.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Writes a checkpoint here after every epoch, and when the run is stopped; default nowhere.
    #[must_use]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(path.into());
        self
    }

    /// Goes on where the [checkpoint](Self::checkpoint) was made, if there is one, and ends with the numbers of a run
    /// that never stopped. Everything else has to be as it was.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Decides on initial weights, order, augmentation and dropout: the same seed gives the same numbers; default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Who is told what happens, and may stop it; default [`Bars`], and `()` for nobody.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }
}

/// How the network's family takes pixels; as they are, where the network is of none.
fn family_preprocessing<B: AutodiffBackend>(network: &Network<B>) -> Preprocessing {
    let mode = network.architecture().map_or("none", |known| known.family.preprocessing);
    mode.parse().unwrap_or_else(|error| unreachable!("families name a mode: {error}"))
}
