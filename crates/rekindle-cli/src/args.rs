use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rekindle::devices::Device;
use rekindle::kernels::Precision;
use rekindle::nn::{Architecture, Family, HeadConfig, Size};
use rekindle::prelude::{
    Activation, Augment, Augmentation, Preprocessing, Resize, Rule, Schedule, Weights,
};
use rekindle::vision::{Orientation, Transparency};

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
    /// Predict photos with a trained model
    Predict(PredictArgs),
    /// Compare a model's predictions with the names of the folders: DIR/CLASS/*.jpg
    Evaluate(EvaluateArgs),
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
pub struct TrainArgs {
    /// One folder of photos for each class, or a list of them: .csv (path,label) or .jsonl
    pub dir: PathBuf,
    #[arg(long, value_parser = base(), default_value = "mobilenet-v2")]
    pub base: Base,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// `demo` for the bundled MobileNetV2, `imagenet` for Keras's own, `random` for none, or a file: .h5, .weights.h5, .keras, .onnx, .safetensors, TensorFlow's .ckpt and .index [default: demo for mobilenet-v2, else imagenet]
    #[arg(long, value_parser = parse_weights)]
    pub weights: Option<Weights>,
    /// Go on with a trained model's head, network and preprocessing, of Rekindle's or a Keras classifier
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["base", "weights", "head", "alpha", "minimalistic"])]
    pub from: Option<PathBuf>,
    /// The names of the classes of `--from`, one on each line [default: the model's]
    #[arg(long, requires = "from")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[arg(long, value_enum, default_value_t = Head::Pool)]
    pub head: Head,
    #[arg(long, default_value_t = 10)]
    pub epochs: usize,
    /// Photos in a step
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// The learning rate
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    #[command(flatten)]
    pub optimization: OptimizationArgs,
    #[command(flatten)]
    pub unfreezing: UnfreezingArgs,
    #[command(flatten)]
    pub augmentation: AugmentationArgs,
    #[command(flatten)]
    pub records: RecordArgs,
    /// The same seed gives the same numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of each class to validate on; 0 for none
    #[arg(long, default_value_t = 0.2, conflicts_with = "valid_dir")]
    pub valid_split: f64,
    /// Photos to validate on, in folders of the same classes
    #[arg(long)]
    pub valid_dir: Option<PathBuf>,
    /// Stop at a file that is not an image, instead of skipping it
    #[arg(long)]
    pub strict: bool,
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
}

/// How photos become the network's input.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// Height and width in pixels, as SIZE or HEIGHTxWIDTH [default: the model's]
    #[arg(long, value_parser = parse_size)]
    pub size: Option<Size>,
    /// How they are brought there: Pillow's ways, or with tf- TensorFlow's, each with its JPEG decoder [default: the model's, else bilinear]
    #[arg(long, value_parser = named(Resize::ALL, Resize::name))]
    pub resize: Option<Resize>,
    /// tf, caffe, torch, none or rescale:SCALE:OFFSET [default: the model's]
    #[arg(long, value_parser = parse_preprocessing)]
    pub preprocess: Option<Preprocessing>,
    /// What becomes of transparency; Keras drops it [default: the model's, else white]
    #[arg(long, value_parser = named(Transparency::ALL, Transparency::name))]
    pub transparency: Option<Transparency>,
    /// What becomes of the orientation that cameras write into files; Keras ignores it [default: the model's, else ignore]
    #[arg(long, value_parser = named(Orientation::ALL, Orientation::name))]
    pub orientation: Option<Orientation>,
    /// Decode large JPEGs at a half, quarter or eighth of their size: faster, with slightly other pixels than Keras's
    #[arg(long)]
    pub fast_decode: bool,
}

/// What can be set of some networks.
#[derive(Debug, Clone, Copy, Args)]
pub struct SettingsArgs {
    /// Width multiplier, for networks that have one [default: 1.0]
    #[arg(long)]
    pub alpha: Option<f64>,
    /// The form of MobileNetV3 without squeeze-and-excite blocks, hard swishes and 5x5 kernels
    #[arg(long)]
    pub minimalistic: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Optimization")]
pub struct OptimizationArgs {
    #[arg(long, value_enum, default_value_t = OptimizerKind::Adam)]
    pub optimizer: OptimizerKind,
    /// constant, cosine, cosine:WARM_UP, step:FACTOR:EPOCHS, exponential:FACTOR, one-cycle or plateau:FACTOR:PATIENCE
    #[arg(long, default_value = "constant", value_parser = parse_schedule)]
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
    /// Stop after so many epochs without a lower validation loss, with the best epoch's weights
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
    /// Train the last layers, so many, from the start
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
    #[arg(long, value_parser = parse_augmentation)]
    pub augment: Option<Augmentation>,
    /// Compute so many views of each photo once, instead of a new one in each epoch
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
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// The names of the classes, one on each line, in the order of the model's outputs [default: the model's]
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// Where the first photo goes with the places in warm colors that made the network decide (Grad-CAM), as a PNG
    #[arg(long, value_name = "FILE")]
    pub explain: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
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
    /// One folder of photos for each class, or a list of them: .csv or .jsonl
    pub dir: PathBuf,
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// Stop at a file that is not an image, instead of skipping it
    #[arg(long)]
    pub strict: bool,
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
}

#[derive(Debug, Args)]
pub struct SummaryArgs {
    #[arg(value_parser = base())]
    pub base: Base,
    /// Leave the classifier off
    #[arg(long)]
    pub no_top: bool,
    /// Height and width of the photos in pixels, as SIZE or HEIGHTxWIDTH [default: the network's own]
    #[arg(long, value_parser = parse_size)]
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
    #[arg(long, value_parser = parse_size)]
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

/// A family of networks, by its name.
#[derive(Debug, Clone, Copy)]
pub struct Base(&'static Family);

impl Base {
    /// Its network with these settings, or its own.
    pub fn architecture(self, settings: SettingsArgs, size: Option<Size>) -> Architecture {
        let mut architecture = Architecture::new(self.0).with_minimalistic(settings.minimalistic);
        if let Some(alpha) = settings.alpha {
            architecture = architecture.with_alpha(alpha);
        }
        match size.map(Size::pixels) {
            Some([height, width]) => architecture.with_images(height, width, 3),
            None => architecture,
        }
    }
}

/// Takes the name of a family.
fn base() -> impl TypedValueParser<Value = Base> {
    PossibleValuesParser::new(Family::names()).try_map(|name| {
        Family::by_name(&name).map(Base).ok_or_else(|| format!("no network is called {name}"))
    })
}

fn parse_size(text: &str) -> Result<Size, String> {
    let pixels = |text: &str| text.trim().parse::<usize>().ok().filter(|&pixels| pixels > 0);
    let size = match text.split_once(['x', 'X']) {
        Some((height, width)) => pixels(height).zip(pixels(width)),
        None => pixels(text).map(|size| (size, size)),
    };
    match size {
        Some((height, width)) => Ok(Size::of(height, width)),
        None => Err(format!("`{text}` is no size, expected 224, or 160x224 for height and width")),
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

fn parse_weights(text: &str) -> Result<Weights, std::convert::Infallible> {
    Ok(match text {
        "demo" => Weights::Demo,
        "imagenet" => Weights::ImageNet,
        "random" => Weights::Random,
        path => Weights::File(path.into()),
    })
}

/// Takes the name of one of these.
fn named<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = all.iter().map(move |&one| name(one));
    PossibleValuesParser::new(names).try_map(move |wanted| {
        let found = all.iter().copied().find(|&one| name(one) == wanted);
        found.ok_or_else(|| format!("`{wanted}` is none of them"))
    })
}

fn parse_preprocessing(text: &str) -> Result<Preprocessing, String> {
    Preprocessing::from_str(text)
}

/// A name and its numbers, separated by colons.
fn parse_schedule(text: &str) -> Result<Schedule, String> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let numbers: Result<Vec<f64>, _> = parts.map(str::parse).collect();
    let numbers = numbers.map_err(|error| format!("`{text}`: {error}"))?;
    let count = |number: f64| number as usize;
    Ok(match (name, numbers.as_slice()) {
        ("constant", []) => Schedule::Constant,
        ("cosine", []) => Schedule::Cosine { warm_up: 0.0 },
        ("cosine", &[warm_up]) => Schedule::Cosine { warm_up },
        ("step", &[factor, epochs]) => Schedule::Step { factor, epochs: count(epochs) },
        ("exponential", &[factor]) => Schedule::Exponential { factor },
        ("one-cycle", []) => Schedule::OneCycle,
        ("plateau", &[factor, patience]) => Schedule::Plateau { factor, patience: count(patience) },
        _ => {
            return Err(format!(
                "`{text}`, expected constant, cosine[:WARM_UP], step:FACTOR:EPOCHS, exponential:FACTOR, one-cycle or plateau:FACTOR:PATIENCE"
            ));
        }
    })
}

fn parse_augmentation(text: &str) -> Result<Augmentation, String> {
    if text == "standard" {
        return Ok(Augmentation::standard());
    }
    let mut augmentation = Augmentation::new();
    for part in text.split(',') {
        let (name, factor) = part.split_once('=').unwrap_or((part, ""));
        let factor = || factor.parse::<f32>().map_err(|error| format!("`{part}`: {error}"));
        augmentation = augmentation.with(match name.trim() {
            "flip" => Augment::FlipHorizontal,
            "flip-vertical" => Augment::FlipVertical,
            "rotation" => Augment::Rotation(factor()?),
            "zoom" => Augment::Zoom(factor()?),
            "translation" => Augment::Translation(factor()?),
            "crop" => Augment::Crop(factor()?),
            "contrast" => Augment::Contrast(factor()?),
            "brightness" => Augment::Brightness(factor()?),
            "saturation" => Augment::Saturation(factor()?),
            "hue" => Augment::Hue(factor()?),
            "cutout" => Augment::Cutout(factor()?),
            other => return Err(format!("unknown change `{other}`; --help lists them")),
        });
    }
    augmentation.check().map_err(|error| error.to_string())?;
    Ok(augmentation)
}
