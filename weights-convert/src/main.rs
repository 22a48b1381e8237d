//! The `weights-convert` command.

mod convert;
mod inspect;
mod verify;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use rekindle_nn::Family;
use rekindle_weights::{Checkpoint, Dtype, ModelCard, with_causes};

/// Inspects, converts and compares Keras checkpoints: .h5, .weights.h5, .keras, .onnx, .safetensors.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every tensor: its name in the file, shape, numbers, and the variable of the network that it is
    Inspect {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Write the network as OUTPUT's ending says: .keras, .h5, .onnx and .tflite for other programs, .bpk for Burn; else safetensors
    ///
    /// What is not part of the network is left out, but for a head of a whole model.
    Convert(convert::ConvertArgs),
    /// Compare two files, layer by layer, whatever their formats
    Verify {
        a: PathBuf,
        b: PathBuf,
        /// The largest difference that is no failure, relative to each layer's largest value
        #[arg(long, default_value_t = 0.0)]
        tolerance: f64,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Numbers {
    F32,
    F16,
    Bf16,
}

impl Numbers {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        }
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Inspect { file, json } => inspect::run(&file, json),
        Command::Convert(args) => convert::run(args),
        Command::Verify { a, b, tolerance, json } => verify::run(&a, &b, tolerance, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn Error>>;

/// Opens a file and finds out what it holds.
fn open(path: &Path) -> Result<Checkpoint, Box<dyn Error>> {
    Ok(Checkpoint::open(path)?.resolve()?)
}

/// Opens a file that has to hold a network.
fn open_network(path: &Path) -> Result<(Checkpoint, ModelCard), Box<dyn Error>> {
    let checkpoint = open(path)?;
    if let Some(card) = checkpoint.card().cloned() {
        return Ok((checkpoint, card));
    }
    let why = match checkpoint.problem() {
        Some(problem) => problem.to_owned(),
        None => {
            format!("weights of no network that Rekindle knows ({})", Family::names().join(", "))
        }
    };
    Err(format!("{}: {why}", path.display()).into())
}

/// What a network is called: the known one that it is, and its head's classes.
fn described(card: &ModelCard) -> String {
    match (card.architecture(), card.graph.classes()) {
        (Some(known), classes) => known.with_top(classes).to_string(),
        (None, Some(classes)) => {
            format!("a network of {} layers, {classes} classes", card.graph.layers().len())
        }
        (None, None) => format!("a network of {} layers", card.graph.layers().len()),
    }
}
