//! The `weights-convert` command.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use burn::backend::Flex;
use clap::{Parser, Subcommand, ValueEnum};
use rekindle_nn::{Architecture, variables};
use rekindle_weights::{Checkpoint, Dtype, ModelCard, guess_architecture, save};

/// Inspects Keras checkpoints and converts them to safetensors.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every tensor: layer/variable, shape, numbers
    Inspect {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Write the network's weights as safetensors; what is not part of the network is left out
    Convert {
        input: PathBuf,
        output: PathBuf,
        #[arg(long, value_enum, default_value_t = Numbers::F32)]
        dtype: Numbers,
        /// Height and width of the images that the network was trained for [default: the network's]
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
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Numbers {
    F32,
    F16,
    Bf16,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Inspect { file, json } => {
            let checkpoint = Checkpoint::open(file)?;
            if json {
                println!("{}", serde_json::to_string_pretty(checkpoint.tensors())?);
                return Ok(());
            }
            for tensor in checkpoint.tensors() {
                println!("{:50} {:?} {:?}", tensor.path(), tensor.shape, tensor.dtype);
            }
            println!(
                "{}",
                guessed(&checkpoint).map_or("unknown network".into(), |found| found.to_string())
            );
            Ok(())
        }
        Command::Convert { input, output, dtype, size, description, source, licence } => {
            let mut checkpoint = Checkpoint::open(&input)?;
            let architecture = guessed(&checkpoint).ok_or_else(|| {
                format!(
                    "{}: holds no network that Rekindle knows ({})",
                    input.display(),
                    Architecture::NAMES.join(", ")
                )
            })?;
            let architecture = size.map_or(architecture, |size| architecture.with_size(size));
            eprintln!("{}: {architecture}", input.display());
            let network = architecture.init::<Flex>(&Default::default())?;
            let wanted: Vec<String> =
                variables(&network).iter().map(|variable| variable.path()).collect();
            let (indices, mut tensors): (Vec<usize>, Vec<_>) = wanted
                .iter()
                .filter_map(|path| {
                    let index =
                        checkpoint.tensors().iter().position(|tensor| tensor.path() == *path)?;
                    Some((index, checkpoint.tensors()[index].clone()))
                })
                .unzip();
            for tensor in &mut tensors {
                tensor.dtype = match dtype {
                    Numbers::F32 => Dtype::F32,
                    Numbers::F16 => Dtype::F16,
                    Numbers::Bf16 => Dtype::Bf16,
                };
            }
            let left_out =
                checkpoint.tensors().iter().filter(|tensor| !wanted.contains(&tensor.path()));
            for tensor in left_out {
                eprintln!("left out {}, which is not part of the network", tensor.path());
            }
            let name = input.file_name().map(|name| name.to_string_lossy().into_owned());
            let card = ModelCard {
                description,
                licence,
                source: source.or(name).unwrap_or_default(),
                ..ModelCard::new(architecture)
            };
            save(&output, &card, &tensors, &mut |index| checkpoint.read(indices[index]))?;
            Ok(())
        }
    }
}

fn guessed(checkpoint: &Checkpoint) -> Option<Architecture> {
    let described = checkpoint.card().map(|card| card.architecture);
    described.or_else(|| guess_architecture::<Flex>(checkpoint, &Default::default()))
}
