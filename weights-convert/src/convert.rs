use std::path::PathBuf;

use burn::backend::Flex;
use burn_store::{BurnpackStore, ModuleSnapshot};
use clap::Args;
use rekindle_nn::{Architecture, Model, Network, variables};
use rekindle_weights::{ModelCard, WeightsError, load, save, write_atomic};

use crate::{Numbers, Outcome, open_network};

#[derive(Debug, Args)]
pub struct ConvertArgs {
    input: PathBuf,
    output: PathBuf,
    /// The numbers of a safetensors file; burnpack keeps f32
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
}

pub fn run(args: ConvertArgs) -> Outcome {
    let ConvertArgs { input, output, dtype, arch, size, description, source, licence } = args;
    let (mut checkpoint, found) = open_network(&input)?;
    if let Some(arch) = arch {
        let wanted = Architecture::by_name(&arch).ok_or_else(|| {
            format!(
                "unknown architecture `{arch}`, expected one of {}",
                Architecture::NAMES.join(", ")
            )
        })?;
        if wanted.name() != found.name() {
            return Err(format!("{}: holds {found}, expected {arch}", input.display()).into());
        }
    }
    let card = checkpoint.card().cloned().unwrap_or_else(|| ModelCard::new(found));
    let architecture = size.map_or(found, |size| found.with_size(size));
    eprintln!("{}: {architecture}", input.display());
    if card.folded {
        eprintln!("normalizations are folded into convolutions: for inference and frozen use");
    }
    let device = Default::default();
    let backbone = architecture.init::<Flex>(&device)?;
    let head = match &card.head {
        Some(head) => {
            let features = backbone.output_shape(architecture.input())?;
            Some(head.init::<Flex>(features, card.classes.len(), 0, &device)?)
        }
        None => None,
    };
    let model = Model { backbone, head };
    let wanted: Vec<String> = variables(&model).iter().map(|variable| variable.path()).collect();
    for (index, tensor) in checkpoint.tensors().iter().enumerate() {
        if !wanted.contains(&tensor.path()) {
            let name = checkpoint.name_in_file(index);
            eprintln!("left out {name}, which is not part of the network");
        }
    }
    if output.extension().is_some_and(|extension| extension == "bpk") {
        let loaded = load(model, &architecture.to_string(), &mut checkpoint)?.network;
        return Ok(write_atomic(&output, |temporary| {
            // The store does not write over files.
            std::fs::remove_file(temporary)
                .map_err(|source| WeightsError::Io { path: temporary.to_owned(), source })?;
            let mut store = BurnpackStore::from_file(temporary).auto_extension(false);
            let written = match &loaded.head {
                Some(_) => loaded.save_into(&mut store),
                None => loaded.backbone.save_into(&mut store),
            };
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
        architecture,
        description: text(description, &card.description),
        licence: text(licence, &card.licence),
        source: source
            .or(Some(card.source.clone()).filter(|s| !s.is_empty()))
            .or(name)
            .unwrap_or_default(),
        ..card
    };
    save(&output, &card, &tensors, &mut |index| checkpoint.read(indices[index]))?;
    Ok(())
}
