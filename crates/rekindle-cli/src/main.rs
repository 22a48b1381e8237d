//! The `rekindle` command.

mod args;
mod commands;
mod remote;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rekindle::weights::with_causes;

use args::{Cli, Command};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    let result = match Cli::parse().command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Features(args) => commands::features::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Quantize(args) => commands::quantize::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Summary(args) => commands::summary::run(&args),
        Command::Models(args) => commands::models::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Devices(args) => commands::devices::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What every command ends with.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Prints a result. A reader that has gone away (`rekindle ... | head`) is no failure.
pub(crate) fn print(text: &str) -> Outcome {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
