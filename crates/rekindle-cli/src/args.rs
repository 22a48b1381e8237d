use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rekindle::nn::{Architecture, HeadConfig, MobileNetV2Config};
use rekindle::prelude::{Activation, Preprocessing, Resize, Weights};

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
    Train(TrainArgs),
    /// Predict photos with a trained model
    Predict(PredictArgs),
    /// Compare a model's predictions with the names of the folders: DIR/CLASS/*.jpg
    Evaluate(EvaluateArgs),
    /// Print a network's layers and parameter counts
    Summary(SummaryArgs),
    /// Time a network's inference on this machine
    Bench(BenchArgs),
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
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// One folder of photos for each class
    pub dir: PathBuf,
    #[arg(long, value_enum, default_value_t = Base::MobilenetV2)]
    pub base: Base,
    /// `demo` for the bundled MobileNetV2, `imagenet` for Keras's own, or a file: .h5, .weights.h5, .keras, .onnx, .safetensors
    #[arg(long, default_value = "demo", value_parser = parse_weights)]
    pub weights: Weights,
    /// Go on with a trained model's head, network and preprocessing, of Rekindle's or a Keras classifier
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["base", "weights", "head", "size"])]
    pub from: Option<PathBuf>,
    /// The names of the classes of `--from`, one on each line [default: the model's]
    #[arg(long, requires = "from")]
    pub labels: Option<PathBuf>,
    /// Height and width of the photos in pixels [default: what the weights were made for]
    #[arg(long)]
    pub size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Head::Pool)]
    pub head: Head,
    #[arg(long, default_value_t = 10)]
    pub epochs: usize,
    /// Photos in a step
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Adam's learning rate
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// The same seed gives the same numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of each class to validate on; 0 for none
    #[arg(long, default_value_t = 0.2, conflicts_with = "valid_dir")]
    pub valid_split: f64,
    /// Photos to validate on, in folders of the same classes
    #[arg(long)]
    pub valid_dir: Option<PathBuf>,
    /// nearest, bilinear or tf-bilinear [default: bilinear, or as the model of `--from` was trained]
    #[arg(long, value_parser = parse_resize)]
    pub resize: Option<Resize>,
    /// Stop at a file that is not an image, instead of skipping it
    #[arg(long)]
    pub strict: bool,
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Where the trained model goes
    #[arg(long, default_value = "model.rekindle")]
    pub out: PathBuf,
    /// Where the numbers go, as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Where a picture of the learning curves goes
    #[arg(long)]
    pub curves: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A trained model; or a Keras classifier: .keras, .h5, .onnx; or mobilenet-v2 or inception-v3, for Keras's
    /// own ImageNet classifier
    pub model: PathBuf,
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// How many classes to print
    #[arg(long, default_value_t = 5)]
    pub top: usize,
    /// Height and width of the photos in pixels [default: as trained]
    #[arg(long)]
    pub size: Option<usize>,
    /// nearest, bilinear or tf-bilinear [default: as trained]
    #[arg(long, value_parser = parse_resize)]
    pub resize: Option<Resize>,
    /// tf, caffe, torch, none or rescale:SCALE:OFFSET [default: as trained]
    #[arg(long, value_parser = parse_preprocessing)]
    pub preprocess: Option<Preprocessing>,
    /// The names of the classes, one on each line, in the order of the model's outputs [default: the model's]
    #[arg(long)]
    pub labels: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A trained model
    pub model: PathBuf,
    /// The names of the classes, one on each line, in the order of the model's outputs [default: the model's]
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// One folder of photos for each class
    pub dir: PathBuf,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SummaryArgs {
    #[arg(value_enum)]
    pub base: Base,
    /// Leave the classifier off
    #[arg(long)]
    pub no_top: bool,
    /// Height and width of the photos in pixels [default: 224, inception-v3 299]
    #[arg(long)]
    pub size: Option<usize>,
    /// Width multiplier of mobilenet-v2
    #[arg(long, default_value_t = 1.0)]
    pub alpha: f64,
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
pub struct BenchArgs {
    #[arg(value_enum)]
    pub base: Base,
    /// Height and width of the photos in pixels [default: 224, inception-v3 299]
    #[arg(long)]
    pub size: Option<usize>,
    /// Photos in a run
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Runs to take the median of
    #[arg(long, default_value_t = 20)]
    pub runs: usize,
    /// Print the time of each layer
    #[arg(long)]
    pub profile: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Base {
    MobilenetV2,
    InceptionV3,
}

impl Base {
    pub fn architecture(self) -> Architecture {
        let name = match self {
            Self::MobilenetV2 => "mobilenet-v2",
            Self::InceptionV3 => "inception-v3",
        };
        let fallback = Architecture::MobileNetV2(MobileNetV2Config::new());
        Architecture::by_name(name).unwrap_or(fallback)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Head {
    /// Global average pooling, Dropout(0.2), Dense
    Pool,
    /// Flatten, Dense(512, relu), Dropout(0.5), Dense
    #[value(name = "flatten-512")]
    Flatten512,
}

impl Head {
    pub fn config(self) -> HeadConfig {
        match self {
            Self::Pool => HeadConfig::default(),
            Self::Flatten512 => HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DeviceKind {
    Cpu,
}

fn parse_weights(text: &str) -> Result<Weights, std::convert::Infallible> {
    Ok(match text {
        "demo" => Weights::Demo,
        "imagenet" => Weights::ImageNet,
        path => Weights::File(path.into()),
    })
}

fn parse_resize(text: &str) -> Result<Resize, String> {
    Resize::from_str(text)
}

fn parse_preprocessing(text: &str) -> Result<Preprocessing, String> {
    Preprocessing::from_str(text)
}
