use std::path::PathBuf;

use burn::backend::Flex;
use burn_store::{BurnpackStore, ModuleSnapshot};
use clap::Args;
use rekindle_nn::{Family, Network, Shape};
use rekindle_weights::{
    Dtype, ExportFormat, ExportOptions, ModelCard, Names, WeightsError, export, load, save,
    write_atomic,
};

use crate::{Numbers, Outcome, described, open_network};

#[derive(Debug, Args)]
pub struct ConvertArgs {
    input: PathBuf,
    output: PathBuf,
    /// The numbers of a safetensors file; f16 also of .onnx and .tflite; the others keep f32
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    dtype: Numbers,
    /// The architecture that the file has to hold [default: whichever it is]
    #[arg(long)]
    arch: Option<String>,
    /// Height and width of the images that the network was trained for [default: the file's, or the network's]
    #[arg(long)]
    size: Option<usize>,
    /// What the weights are
    #[arg(long, default_value = "")]
    description: String,
    /// Where they come from [default: the input's name]
    #[arg(long)]
    source: Option<String>,
    #[arg(long, default_value = "")]
    licence: String,
    /// Only Keras's weights, without the network (.h5)
    #[arg(long)]
    weights_only: bool,
    /// Whose names the variables have: Keras's, or those of the modules of timm's or torchvision's network that computes
    /// the same (.safetensors)
    #[arg(long, value_enum, default_value_t = Program::Keras)]
    names: Program,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Program {
    Keras,
    Timm,
    Torchvision,
}

pub fn run(args: ConvertArgs) -> Outcome {
    let ConvertArgs {
        input,
        output,
        dtype,
        arch,
        size,
        description,
        source,
        licence,
        weights_only,
        names,
    } = args;
    let format = ExportFormat::of(&output).ok();
    if names != Program::Keras && format != Some(ExportFormat::Safetensors) {
        let output = output.display();
        return Err(format!("{output}: other programs' names are for .safetensors").into());
    }
    // A file of ours may have any ending.
    let format =
        format.filter(|format| *format != ExportFormat::Safetensors || names != Program::Keras);
    let has_halves = matches!(format, Some(ExportFormat::Onnx | ExportFormat::Tflite));
    let is_half = dtype.dtype() == Dtype::F16 && has_halves;
    if format.is_some() && dtype.dtype() != Dtype::F32 && !is_half {
        return Err(format!(
            "{}: only safetensors of Keras's names has other numbers than f32, and f16 .onnx and .tflite",
            output.display()
        )
        .into());
    }
    if weights_only && format.is_none() {
        return Err(format!("{}: weights alone are HDF5: name it .h5", output.display()).into());
    }
    let (mut checkpoint, card) = open_network(&input)?;
    if let Some(arch) = arch {
        let known = Family::names().join(", ");
        let wanted = Family::by_name(&arch)
            .ok_or_else(|| format!("unknown architecture `{arch}`, expected one of {known}"))?;
        if card.architecture().is_none_or(|found| found.name() != wanted.name) {
            let found = described(&card);
            return Err(format!("{}: holds {found}, expected {arch}", input.display()).into());
        }
    }
    let graph = match size {
        Some(size) => {
            let channels = card.graph.input().channels();
            card.graph.with_input(Shape::map(size, size, channels))?
        }
        None => card.graph.clone(),
    };
    let card = ModelCard { graph: graph.clone(), ..card };
    let what = described(&card);
    eprintln!("{}: {what}", input.display());
    if card.folded {
        eprintln!("normalizations are folded into convolutions: for inference and frozen use");
    }
    for sentence in &card.assumed {
        eprintln!("assumed: {sentence}");
    }
    let network = Network::<Flex>::init(graph, 0, &Default::default());
    let wanted: Vec<String> = network.variables().iter().map(|variable| variable.path()).collect();
    for (index, tensor) in checkpoint.tensors().iter().enumerate() {
        if !wanted.contains(&tensor.path()) {
            let name = checkpoint.name_in_file(index);
            eprintln!("left out {name}, which is not part of the network");
        }
    }
    if output.extension().is_some_and(|extension| extension == "bpk") {
        let loaded = load(network, &what, &mut checkpoint)?.network;
        return Ok(write_atomic(&output, |temporary| {
            // The store does not write over files.
            std::fs::remove_file(temporary)
                .map_err(|source| WeightsError::Io { path: temporary.to_owned(), source })?;
            let mut store = BurnpackStore::from_file(temporary).auto_extension(false);
            let written = loaded.save_into(&mut store);
            written.map_err(|error| WeightsError::Format {
                path: output.clone(),
                reason: format!("cannot be written as burnpack: {error}"),
            })
        })?);
    }
    let position = |path: &String| checkpoint.tensors().iter().position(|t| t.path() == *path);
    let (indices, mut tensors): (Vec<usize>, Vec<_>) = wanted
        .iter()
        .filter_map(|path| position(path).map(|index| (index, checkpoint.tensors()[index].clone())))
        .unzip();
    for tensor in &mut tensors {
        tensor.dtype = dtype.dtype();
    }
    let name = input.file_name().map(|name| name.to_string_lossy().into_owned());
    let text = |given: String, known: &String| if given.is_empty() { known.clone() } else { given };
    let card = ModelCard {
        description: text(description, &card.description),
        licence: text(licence, &card.licence),
        source: source
            .or(Some(card.source.clone()).filter(|s| !s.is_empty()))
            .or(name)
            .unwrap_or_default(),
        ..card
    };
    if format.is_some() {
        let values: Vec<Vec<f32>> =
            indices.into_iter().map(|index| checkpoint.read(index)).collect::<Result<_, _>>()?;
        let mut options = ExportOptions::default();
        options.weights_only = weights_only;
        options.half = is_half;
        options.dequantized = card.quantization.is_some();
        if options.dequantized {
            eprintln!(
                "note: the model is quantized: the numbers that its bytes stand for are written; `rekindle export` writes bytes"
            );
        }
        options.names = match names {
            Program::Keras => Names::Keras,
            Program::Timm => Names::Timm,
            Program::Torchvision => Names::Torchvision,
        };
        for sentence in export(&output, &card, &tensors, values, options)? {
            eprintln!("{}: {sentence}", output.display());
        }
        return Ok(());
    }
    save(&output, &card, &tensors, &mut |index| checkpoint.read(indices[index]))?;
    Ok(())
}
