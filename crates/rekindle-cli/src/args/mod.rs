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
    /// Write a model for other programs: Keras, ONNX
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
    /// Where the model, the curves and the report go
    #[arg(long, default_value = "rekindle-demo")]
    pub out: PathBuf,
    /// The photos, where the command does not run inside Rekindle's repository
    #[arg(long)]
    pub photos: Option<PathBuf>,
    /// Draws the validation photos and the initial weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[arg(long, default_value_t = 30)]
    pub epochs: usize,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// cpu, cuda, cuda:1, wgpu, wgpu:discrete:1, ...: `rekindle devices` lists what there is
    #[arg(long, default_value_t = Device::Cpu)]
    pub device: Device,
    /// f32, bf16 or f16: what is computed with on a GPU; on the CPU what frozen networks compute with, where bf16 is for
    /// processors with AVX-512 BF16
    #[arg(long, default_value_t = Precision::F32)]
    pub precision: Precision,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A trained model; or a Keras classifier: .keras, .h5, .onnx; or mobilenet-v2 or inception-v3, for Keras's
    /// own ImageNet classifier
    pub model: PathBuf,
    /// Photos, folders of them, or patterns as 'photos/*.jpg'
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// How many classes to print
    #[arg(long, default_value_t = 5)]
    pub top: usize,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// Stop at the first file that cannot be predicted
    #[arg(long)]
    pub strict: bool,
    /// Where the predictions go as a table: a row for each file, with the best classes or the error
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub shard: ShardArgs,
    /// Where the first photo goes with the places in warm colors that made the network decide (Grad-CAM), as a PNG
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
    /// The names of the classes in the order of the model's outputs: one on each line, or JSON [default: the model's, else those of a labels.txt beside it]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A trained model
    pub model: PathBuf,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// One folder of photos for each class, a list of them: .csv or .jsonl, or WebDataset's tars
    pub dir: PathBuf,
    /// Where a picture of the confusion matrix goes, as a PNG
    #[arg(long, value_name = "FILE")]
    pub confusion: Option<PathBuf>,
    /// Where a page with metrics and mistakes goes
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[command(flatten)]
    pub folders: FolderArgs,
}

#[derive(Debug, Args)]
pub struct SummaryArgs {
    #[arg(value_parser = base())]
    pub base: Base,
    /// Leave the classifier off
    #[arg(long)]
    pub no_top: bool,
    /// Height and width of the photos in pixels, as SIZE or HEIGHTxWIDTH [default: the network's own]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Classes of the top or the head [default: 1000; --head needs it]
    #[arg(long)]
    pub classes: Option<usize>,
    /// Put this head on the network instead of its top
    #[arg(long, value_enum, requires = "classes")]
    pub head: Option<Head>,
    /// Count the network's own parameters as frozen
    #[arg(long)]
    pub frozen: bool,
    /// Print the totals only
    #[arg(long)]
    pub compact: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Also the widths and forms that are not the default
    #[arg(long)]
    pub all: bool,
    /// Time one photo on this machine's CPU, with random weights
    #[arg(long)]
    pub measure: bool,
    /// Runs to take the median of
    #[arg(long, default_value_t = 10, requires = "measure")]
    pub runs: usize,
    /// The best first; `time` needs --measure
    #[arg(long, value_enum)]
    pub sort: Option<SortBy>,
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
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[arg(value_parser = base())]
    pub base: Base,
    /// Height and width of the photos in pixels, as SIZE or HEIGHTxWIDTH [default: the network's own]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Photos in a run
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Runs to take the median of
    #[arg(long, default_value_t = 20)]
    pub runs: usize,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print the time of each layer, on the CPU
    #[arg(long)]
    pub profile: bool,
    #[arg(long)]
    pub json: bool,
}
