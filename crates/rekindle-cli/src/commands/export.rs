use std::path::PathBuf;

use burn::backend::Flex;
use clap::Args;
use rekindle::weights::{ExportFormat, ExportOptions, Names};

use crate::Outcome;
use crate::args::{LabelsArgs, PhotoArgs};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A trained model: a file of Rekindle's, or any model that it reads
    pub model: PathBuf,
    /// Where it goes: .keras, .h5, .weights.h5 (Keras), .onnx, .tflite, .safetensors
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
    /// The kind of numbers that weights are (.onnx, .tflite); ONNX computes with them too. int8 is for models that `rekindle
    /// quantize` made [default: f32; of such a model int8]
    #[arg(long, value_enum)]
    pub precision: Option<Numbers>,
    /// Whose names the variables have: Keras's, or those of the modules of timm's or torchvision's network that computes
    /// the same (.safetensors)
    #[arg(long, value_enum, default_value_t = Program::Keras)]
    pub names: Program,
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
    Int8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    Keras,
    Timm,
    Torchvision,
}

pub fn run(args: &ExportArgs) -> Outcome {
    if args.photos.fast_decode {
        return Err("--fast-decode is not a part of a model: leave it out".into());
    }
    let device = Default::default();
    let model =
        super::load::<Flex>(&args.model, args.labels.labels.as_deref(), &args.photos, &device)?;
    let format = ExportFormat::of(&args.out)?;
    let has_bytes = matches!(format, ExportFormat::Onnx | ExportFormat::Tflite);
    let is_quantized = model.quantization().is_some();
    match args.precision {
        Some(Numbers::Int8) if !is_quantized => {
            return Err("--precision int8 is for a quantized model: run `rekindle quantize` first, and export what it writes".into());
        }
        Some(Numbers::Int8) if !has_bytes => {
            return Err("--precision int8 is for .onnx and .tflite".into());
        }
        None | Some(Numbers::Int8) if has_bytes => {}
        _ if is_quantized && format != ExportFormat::Safetensors => eprintln!(
            "note: the model is quantized: other programs get the numbers that its bytes stand for"
        ),
        _ => {}
    }
    let mut options = ExportOptions::default();
    options.weights_only = args.weights_only;
    options.preprocessing = !args.no_preprocessing;
    options.channels_first = args.input == Layout::Nchw;
    options.half = args.precision == Some(Numbers::F16);
    options.dequantized = args.precision == Some(Numbers::F32);
    options.names = match args.names {
        Program::Keras => Names::Keras,
        Program::Timm => Names::Timm,
        Program::Torchvision => Names::Torchvision,
    };
    for sentence in model.export(&args.out, options)? {
        eprintln!("{}: {sentence}", args.out.display());
    }
    Ok(())
}
