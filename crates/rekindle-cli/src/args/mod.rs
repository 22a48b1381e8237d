//! The command line, by subject.

mod features;
mod network;
mod parse;
mod photos;
mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rekindle::devices::Device;
use rekindle::kernels::Precision;
use rekindle::nn::Size;

pub use features::{FeaturesArgs, Keep, Kind, ShardArgs};
use network::base;
pub use network::{Base, Head, NetworkArgs, SettingsArgs};
pub use photos::{FolderArgs, PhotoArgs};
pub use train::{AugmentationArgs, TrainArgs, UnfreezingArgs};

/// Transfer learning: re-train a Keras ImageNet network on your own photos.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train on the demo photos with the bundled weights, and predict some that were held out
    Demo(DemoArgs),
    /// Train a new head on a folder of photos: DIR/CLASS/*.jpg
    Train(Box<TrainArgs>),
    /// Compute a frozen network's features of a data set, or of a shard of it, for `train --features` and other programs
    Features(Box<FeaturesArgs>),
    /// Predict photos with a trained model
    Predict(PredictArgs),
    /// Compare a model's predictions with the names of the folders: DIR/CLASS/*.jpg
    Evaluate(EvaluateArgs),
    /// Quantize a model: weights and products of 8 bits, for a quarter of the size and less time
    Quantize(crate::commands::quantize::QuantizeArgs),
    /// Write a model for other programs: Keras, ONNX, TensorFlow Lite
    Export(crate::commands::export::ExportArgs),
    /// Print a network's layers and parameter counts
    Summary(SummaryArgs),
    /// List the networks: parameters, size, published accuracy, time on this machine
    Models(ModelsArgs),
    /// Time a network's inference on this machine
    Bench(BenchArgs),
    /// List what there is to compute on, and why something cannot be used
    Devices(DevicesArgs),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder that the model, the curves and the report are written to
    #[arg(long, default_value = "rekindle-demo")]
    pub out: PathBuf,
    /// Folder of the demo photos [default: demo/photos of Rekindle's repository, where the command runs in it]
    #[arg(long)]
    pub photos: Option<PathBuf>,
    /// Seed of the validation split and of the initial weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Passes over the training photos
    #[arg(long, default_value_t = 30)]
    pub epochs: usize,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Device to compute on: cpu, cuda, cuda:1, wgpu, wgpu:discrete:1, ... (`rekindle devices` lists those of this machine)
    #[arg(long, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Element type of the computation: f32, bf16, f16 or int8. On the CPU only frozen networks use it; bf16 needs a processor
    /// with AVX-512 BF16, int8 a model that `rekindle quantize` made [default: f32; of such a model int8]
    #[arg(long)]
    pub precision: Option<Precision>,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A trained model of Rekindle's, a classifier of another program (.keras, .h5, .onnx, SavedModel, TF.js, ...), or the name
    /// of a network, for its ImageNet classifier
    pub model: PathBuf,
    /// Photos, folders of photos, or patterns such as 'photos/*.jpg'
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Number of classes to print for each photo
    #[arg(long, default_value_t = 5)]
    pub top: usize,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// Stop at the first file that cannot be predicted
    #[arg(long)]
    pub strict: bool,
    /// CSV file to write: a row for each photo, with its best classes or its error
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub shard: ShardArgs,
    /// PNG file to write: the first photo, with the regions highlighted that the decision rests on (Grad-CAM)
    #[arg(long, value_name = "FILE")]
    pub explain: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub photos: PhotoArgs,
}

/// What the classes are called.
#[derive(Debug, Args)]
pub struct LabelsArgs {
    /// File with the names of the classes, in the order of the model's outputs: one on each line, or JSON [default: the model's names, else a labels.txt beside it]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A trained model of Rekindle's, or a classifier of another program (.keras, .h5, .onnx, SavedModel, TF.js, ...)
    pub model: PathBuf,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// Folder with a folder of photos for each class, a list of photos: .csv (path,label) or .jsonl, WebDataset's tars, or Parquet files
    pub dir: PathBuf,
    /// PNG file to write: the confusion matrix
    #[arg(long, value_name = "FILE")]
    pub confusion: Option<PathBuf>,
    /// HTML page to write: metrics, confusion matrix and mistakes
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[command(flatten)]
    pub folders: FolderArgs,
}

#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Name of the network
    #[arg(value_parser = base())]
    pub base: Base,
    /// Without ImageNet's classifier
    #[arg(long)]
    pub no_top: bool,
    /// Height and width of the photos in pixels, as SIZE or HEIGHTxWIDTH [default: the network's own]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Number of classes of the classifier or the head [default: 1000; --head needs it]
    #[arg(long)]
    pub classes: Option<usize>,
    /// Put this head on the network instead of its classifier
    #[arg(long, value_enum, requires = "classes")]
    pub head: Option<Head>,
    /// Count the network's own parameters as frozen
    #[arg(long)]
    pub frozen: bool,
    /// Print only the totals
    #[arg(long)]
    pub compact: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// List all widths and variants of each network too
    #[arg(long)]
    pub all: bool,
    /// Measure the time of one photo on this machine's CPU (with random weights)
    #[arg(long)]
    pub measure: bool,
    /// Number of runs that the median is taken of
    #[arg(long, default_value_t = 10, requires = "measure")]
    pub runs: usize,
    /// PNG file to write: published top-1 over the measured time, with the best networks of each time joined
    #[arg(long, value_name = "FILE", requires = "measure")]
    pub plot: Option<PathBuf>,
    /// Column to sort by, best first; `time` needs --measure
    #[arg(long, value_enum)]
    pub sort: Option<SortBy>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    Name,
    Parameters,
    Size,
    #[value(name = "top-1")]
    Top1,
    #[value(name = "top-5")]
    Top5,
    Depth,
    Time,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Name of the network
    #[arg(value_parser = base())]
    pub base: Base,
    /// Height and width of the photos in pixels, as SIZE or HEIGHTxWIDTH [default: the network's own]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Number of images in a run
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Number of runs that the median is taken of
    #[arg(long, default_value_t = 20)]
    pub runs: usize,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print the time of each layer, on the CPU
    #[arg(long)]
    pub profile: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
