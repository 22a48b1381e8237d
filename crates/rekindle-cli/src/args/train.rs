//! What `train` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rekindle::prelude::{Augmentation, Rule, Schedule};

use super::network::NetworkArgs;
use super::photos::{FolderArgs, PhotoArgs};
use super::{DeviceArgs, parse};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// One folder of photos for each class, a list of them: .csv (path,label) or .jsonl, or WebDataset's tars: one, a folder of them, or 'data/{000..099}.tar'
    #[arg(required_unless_present = "features")]
    pub dir: Option<PathBuf>,
    /// Train on what `rekindle features` computed into this folder, all shards of it, instead of photos
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "valid_dir", "augment", "mixup", "cutmix", "feature_cache", "html", "strict", "classes_are_folders"])]
    pub features: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[arg(long, default_value_t = 10)]
    pub epochs: usize,
    /// Photos in a batch
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// The learning rate
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// The same seed gives the same numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of each class to validate on; 0 for none [default: the folder's own validation photos, else 0.2]
    #[arg(long, conflicts_with = "valid_dir")]
    pub valid_split: Option<f64>,
    /// Photos to validate on, in folders of the same classes
    #[arg(long)]
    pub valid_dir: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Numbers of several GPUs of --device's kind that share the work: 0,1
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub devices: Vec<u16>,
    /// Where the trained model goes
    #[arg(long, default_value = "model.rekindle")]
    pub out: PathBuf,
    /// Where the numbers go, as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Where a picture of the learning curves goes
    #[arg(long)]
    pub curves: Option<PathBuf>,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[command(flatten)]
    pub folders: FolderArgs,
    #[command(flatten)]
    pub optimization: OptimizationArgs,
    #[command(flatten)]
    pub unfreezing: UnfreezingArgs,
    #[command(flatten)]
    pub augmentation: AugmentationArgs,
    #[command(flatten)]
    pub records: RecordArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Optimization")]
pub struct OptimizationArgs {
    #[arg(long, value_enum, default_value_t = OptimizerKind::Adam)]
    pub optimizer: OptimizerKind,
    /// constant, cosine, cosine:WARM_UP, step:FACTOR:EPOCHS, exponential:FACTOR, one-cycle or plateau:FACTOR:PATIENCE
    #[arg(long, default_value = "constant", value_parser = parse::schedule)]
    pub schedule: Schedule,
    /// Shorten gradients to this length
    #[arg(long)]
    pub clip_norm: Option<f64>,
    /// Share of a target that all classes get
    #[arg(long, default_value_t = 0.0)]
    pub label_smoothing: f64,
    /// Have photos of rare classes count more
    #[arg(long)]
    pub balance: bool,
    /// Batches whose gradients make one step
    #[arg(long, default_value_t = 1)]
    pub accumulate: usize,
    /// Photos of a batch that go through what trains at once, for less memory [default: all, or as many as a GPU has memory for]
    #[arg(long, value_name = "PHOTOS")]
    pub micro_batch: Option<usize>,
    /// Compute cheap layers again instead of keeping their results: less of a GPU's memory, more time
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Stop after PATIENCE epochs without a lower validation loss, with the best epoch's weights
    #[arg(long, value_name = "PATIENCE")]
    pub early_stopping: Option<usize>,
    /// Try rising rates, print and draw how the loss goes (rates.png beside --out), and do not train
    #[arg(long)]
    pub find_lr: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Fine-tuning")]
pub struct UnfreezingArgs {
    /// Train everything behind the layer of this Keras name from the start; `none` for the whole network
    #[arg(long, value_name = "LAYER", conflicts_with = "unfreeze_last")]
    pub freeze_until: Option<String>,
    /// Train the last N layers from the start
    #[arg(long, value_name = "N")]
    pub unfreeze_last: Option<usize>,
    /// After the head, also train what comes behind this layer, at a lower rate; `none` for the whole network
    #[arg(long, value_name = "LAYER")]
    pub fine_tune: Option<String>,
    #[arg(long, default_value_t = 5, requires = "fine_tune")]
    pub fine_tune_epochs: usize,
    #[arg(long, default_value_t = 1e-5, requires = "fine_tune")]
    pub fine_tune_lr: f64,
    /// What the rate is multiplied by for the first layers that train, less and less towards the last
    #[arg(long, default_value_t = 1.0, requires = "fine_tune")]
    pub depth_factor: f64,
    /// Have batch normalizations that train take each batch's statistics, and the moving ones follow
    #[arg(long)]
    pub train_batch_norm: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationArgs {
    /// `standard`, or a list: flip, flip-vertical, rotation=F, zoom=F, translation=F, crop=F, contrast=F, brightness=F,
    /// saturation=F, hue=F, cutout=F
    #[arg(long, value_parser = parse::augmentation)]
    pub augment: Option<Augmentation>,
    /// Compute VIEWS views of each photo once, instead of a new one in each epoch
    #[arg(long, value_name = "VIEWS", requires = "augment")]
    pub cached_views: Option<usize>,
    /// Sums of photos, and of their labels, weighted by Beta(ALPHA, ALPHA)
    #[arg(long, value_name = "ALPHA", conflicts_with = "cutmix")]
    pub mixup: Option<f64>,
    /// Windows of other photos, their area from Beta(ALPHA, ALPHA)
    #[arg(long, value_name = "ALPHA")]
    pub cutmix: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Write a checkpoint here after every epoch, and at Ctrl-C
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
    /// Go on where the checkpoint was made, if there is one
    #[arg(long, requires = "checkpoint")]
    pub resume: bool,
    /// Keep the frozen network's results in this folder: a second run computes only what has changed
    #[arg(long, value_name = "DIR")]
    pub feature_cache: Option<PathBuf>,
    /// A line for each epoch, with Keras's columns
    #[arg(long, value_name = "FILE")]
    pub csv_log: Option<PathBuf>,
    /// A JSON object for each epoch
    #[arg(long, value_name = "FILE")]
    pub json_log: Option<PathBuf>,
    /// TensorBoard's events
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// A page with curves, metrics, confusion matrix and the mistakes that the model is surest of
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress bars, whatever stderr is
    #[arg(long)]
    pub plain: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OptimizerKind {
    Adam,
    /// Adam, with weights that decay by 0.004
    Adamw,
    Sgd,
    /// SGD with momentum 0.9
    Momentum,
    /// SGD with Nesterov's momentum of 0.9
    Nesterov,
    Rmsprop,
}

impl OptimizerKind {
    pub fn rule(self) -> Rule {
        match self {
            Self::Adam => Rule::adam(),
            Self::Adamw => Rule::adam_w(),
            Self::Sgd => Rule::sgd(0.0, false),
            Self::Momentum => Rule::sgd(0.9, false),
            Self::Nesterov => Rule::sgd(0.9, true),
            Self::Rmsprop => Rule::rms_prop(),
        }
    }
}
