use std::path::PathBuf;

use burn::backend::Flex;
use clap::Args;
use rekindle::weights::ExportOptions;

use crate::Outcome;
use crate::args::{LabelsArgs, PhotoArgs};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A trained model: a file of Rekindle's, or any model that it reads
    pub model: PathBuf,
    /// Where it goes: .keras, .h5, .weights.h5 (Keras), .onnx, .safetensors
    pub out: PathBuf,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// Only Keras's weights, without the network (.h5)
    #[arg(long)]
    pub weights_only: bool,
    /// Leave preprocessing to the program that uses the model
    #[arg(long)]
    pub no_preprocessing: bool,
    /// The axes of the images: [batch, height, width, channels] or [batch, channels, height, width] (.onnx)
    #[arg(long, value_enum, default_value_t = Layout::Nhwc)]
    pub input: Layout,
    /// The kind of numbers that weights are, and are computed with (.onnx)
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    pub precision: Numbers,
    #[command(flatten)]
    pub photos: PhotoArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    Nhwc,
    Nchw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Numbers {
    F32,
    F16,
}

pub fn run(args: &ExportArgs) -> Outcome {
    if args.photos.fast_decode {
        return Err("--fast-decode is not a part of a model: leave it out".into());
    }
    let device = Default::default();
    let model =
        super::load::<Flex>(&args.model, args.labels.labels.as_deref(), &args.photos, &device)?;
    if model.quantization().is_some() {
        eprintln!(
            "note: the model is quantized: other programs get the numbers that its bytes stand for"
        );
    }
    let mut options = ExportOptions::default();
    options.weights_only = args.weights_only;
    options.preprocessing = !args.no_preprocessing;
    options.channels_first = args.input == Layout::Nchw;
    options.half = args.precision == Numbers::F16;
    model.export(&args.out, options)?;
    Ok(())
}
