//! What `train` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rekindle::prelude::{Augmentation, Rule, Schedule};

use super::network::NetworkArgs;
use super::photos::{FolderArgs, PhotoArgs};
use super::{DeviceArgs, parse};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Folder with a folder of photos for each class, a list of photos: .csv (path,label) or .jsonl, WebDataset's tars or Parquet files: one, a folder of them, or 'data/{000..099}.tar'; or an address (s3://, gs://, az://, https://) where the command was built with the feature cloud
    #[arg(required_unless_present = "features")]
    pub dir: Option<PathBuf>,
    /// Folder that `rekindle features` computed: train on all of its shards, instead of photos
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "valid_dir", "augment", "mixup", "cutmix", "feature_cache", "html", "strict", "classes_are_folders"])]
    pub features: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Passes over the training photos
    #[arg(long, default_value_t = 10)]
    pub epochs: usize,
    /// Batch size
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// The learning rate
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// Seed of everything that is random; the same seed gives the same numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of each class that validates; 0 for none [default: the folder's own validation photos, else 0.2]
    #[arg(long, conflicts_with = "valid_dir")]
    pub valid_split: Option<f64>,
    /// Folder of validation photos, with the same class folders
    #[arg(long)]
    pub valid_dir: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Numbers of the GPUs of --device's kind that share the work, such as 0,1
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub devices: Vec<u16>,
    /// File to write: the trained model
    #[arg(long, default_value = "model.rekindle")]
    pub out: PathBuf,
    /// JSON file to write: metrics of each epoch, timings, skipped files
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// PNG file to write: accuracy and loss over the epochs
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
    /// Optimizer, with Keras's default settings
    #[arg(long, value_enum, default_value_t = OptimizerKind::Adam)]
    pub optimizer: OptimizerKind,
    /// Schedule of the learning rate: constant, cosine, cosine:WARM_UP, step:FACTOR:EPOCHS, exponential:FACTOR, one-cycle or plateau:FACTOR:PATIENCE
    #[arg(long, default_value = "constant", value_parser = parse::schedule)]
    pub schedule: Schedule,
    /// Largest norm of a gradient, as Keras's `clipnorm`
    #[arg(long)]
    pub clip_norm: Option<f64>,
    /// Share of each target that is spread over all classes
    #[arg(long, default_value_t = 0.0)]
    pub label_smoothing: f64,
    /// Weight each class by the inverse of its share of the photos
    #[arg(long)]
    pub balance: bool,
    /// Number of batches whose gradients are averaged for one step
    #[arg(long, default_value_t = 1)]
    pub accumulate: usize,
    /// Size of the parts that a batch is computed in, to save memory [default: the whole batch, or what a GPU has memory for]
    #[arg(long, value_name = "PHOTOS")]
    pub micro_batch: Option<usize>,
    /// Compute cheap layers again instead of keeping their results: less of a GPU's memory, more time
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Stop after PATIENCE epochs without a lower validation loss, with the best epoch's weights
    #[arg(long, value_name = "PATIENCE")]
    pub early_stopping: Option<usize>,
    /// Instead of training, try rising learning rates, print the loss of each and draw them (rates.png beside --out)
    #[arg(long)]
    pub find_lr: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Fine-tuning")]
pub struct UnfreezingArgs {
    /// Train all layers after this one (Keras's name) from the start; `none` for the whole network
    #[arg(long, value_name = "LAYER", conflicts_with = "unfreeze_last")]
    pub freeze_until: Option<String>,
    /// Train the last N layers from the start
    #[arg(long, value_name = "N")]
    pub unfreeze_last: Option<usize>,
    /// After the head has trained, train all layers after this one too, at a lower rate; `none` for the whole network
    #[arg(long, value_name = "LAYER")]
    pub fine_tune: Option<String>,
    /// Epochs of fine-tuning
    #[arg(long, default_value_t = 5, requires = "fine_tune")]
    pub fine_tune_epochs: usize,
    /// Learning rate of fine-tuning
    #[arg(long, default_value_t = 1e-5, requires = "fine_tune")]
    pub fine_tune_lr: f64,
    /// Factor of the learning rate of the first layer that trains; it rises to 1 at the last layer
    #[arg(long, default_value_t = 1.0, requires = "fine_tune")]
    pub depth_factor: f64,
    /// Batch normalizations that train use each batch's statistics and update their moving ones
    #[arg(long)]
    pub train_batch_norm: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationArgs {
    /// Random changes of each training photo: `standard`, or a list of flip, flip-vertical, rotation=F, zoom=F,
    /// translation=F, crop=F, contrast=F, brightness=F, saturation=F, hue=F, cutout=F
    #[arg(long, value_parser = parse::augmentation)]
    pub augment: Option<Augmentation>,
    /// Compute VIEWS views of each photo once, instead of a new one in each epoch
    #[arg(long, value_name = "VIEWS", requires = "augment")]
    pub cached_views: Option<usize>,
    /// MixUp: weighted sums of two photos and of their labels, the weight from Beta(ALPHA, ALPHA)
    #[arg(long, value_name = "ALPHA", conflicts_with = "cutmix")]
    pub mixup: Option<f64>,
    /// CutMix: a window of another photo pasted in, its area from Beta(ALPHA, ALPHA)
    #[arg(long, value_name = "ALPHA")]
    pub cutmix: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Checkpoint file, written after every epoch and at Ctrl-C
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
    /// Continue from the checkpoint, if there is one
    #[arg(long, requires = "checkpoint")]
    pub resume: bool,
    /// Folder that keeps the frozen network's features: the next run computes only those of new or changed photos
    #[arg(long, value_name = "DIR")]
    pub feature_cache: Option<PathBuf>,
    /// CSV file to write: a line for each epoch, with the columns of Keras's CSVLogger
    #[arg(long, value_name = "FILE")]
    pub csv_log: Option<PathBuf>,
    /// File to write: a JSON object for each epoch, one on each line
    #[arg(long, value_name = "FILE")]
    pub json_log: Option<PathBuf>,
    /// Folder to write TensorBoard's event files to
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// HTML page to write: curves, metrics, confusion matrix and the mistakes that the model is surest of
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress bars, even in a terminal
    #[arg(long)]
    pub plain: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OptimizerKind {
    Adam,
    /// Adam with weight decay 0.004
    Adamw,
    Sgd,
    /// SGD with momentum 0.9
    Momentum,
    /// SGD with Nesterov momentum 0.9
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
