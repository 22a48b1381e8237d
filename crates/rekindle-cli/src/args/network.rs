//! Which network, and what is put on it.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use rekindle::nn::{Architecture, Family, HeadConfig, Size};
use rekindle::prelude::{Activation, Weights};

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
pub fn base() -> impl TypedValueParser<Value = Base> {
    PossibleValuesParser::new(Family::names()).try_map(|name| {
        Family::by_name(&name).map(Base).ok_or_else(|| format!("no network is called {name}"))
    })
}

/// What can be set of some networks.
#[derive(Debug, Clone, Copy, Args)]
pub struct SettingsArgs {
    /// Width multiplier, for networks that have one [default: 1.0]
    #[arg(long)]
    pub alpha: Option<f64>,
    /// MobileNetV3's minimalistic variant, without squeeze-and-excite blocks, hard swish and 5x5 kernels
    #[arg(long)]
    pub minimalistic: bool,
}

/// The network to start from, and the head that it gets.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Name of the network
    #[arg(long, value_parser = base(), default_value = "mobilenet-v2")]
    pub base: Base,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// `demo` (in the program, for mobilenet-v2), `imagenet` (Keras's, downloaded once), `random`, or a file: .h5, .weights.h5, .keras, .onnx, .safetensors, TensorFlow's .ckpt and .index [default: demo for mobilenet-v2, else imagenet]
    #[arg(long, value_parser = parse_weights)]
    pub weights: Option<Weights>,
    /// Train this model further, with its network, head and preprocessing: one of Rekindle's, or a classifier of another program
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["base", "weights", "head", "alpha", "minimalistic"])]
    pub from: Option<PathBuf>,
    /// File with the names of the classes of `--from`, in the order of its outputs: one on each line, or JSON [default: the model's names, else a labels.txt beside it]
    #[arg(long, value_name = "FILE", requires = "from")]
    pub labels: Option<PathBuf>,
    /// Layers to put on the network
    #[arg(long, value_enum, default_value_t = Head::Pool)]
    pub head: Head,
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

pub fn parse_weights(text: &str) -> Result<Weights, std::convert::Infallible> {
    Ok(match text {
        "demo" => Weights::Demo,
        "imagenet" => Weights::ImageNet,
        "random" => Weights::Random,
        path => Weights::File(path.into()),
    })
}
