//! What `features`, and `predict` for a shard, take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rekindle::scale::Element;
use rekindle::vision::Shard;

use super::network::NetworkArgs;
use super::photos::{FolderArgs, PhotoArgs};
use super::{DeviceArgs, parse};

#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// One folder of photos for each class, a list of them: .csv (path,label) or .jsonl, WebDataset's tars or Parquet files: one, a folder of them, or 'data/{000..099}.tar'; or an address (s3://, gs://, az://, https://) where the command was built with the feature cloud
    pub data: PathBuf,
    /// The folder that the shard's file goes to: features-00000-of-00008.safetensors
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which of how many equal parts of the photos, counted from 0; a photo's path decides which one it is in
    #[arg(long, value_name = "I/N", default_value_t = Shard::WHOLE)]
    pub shard: Shard,
    /// Photos after which what is computed is kept: a task that is killed computes at most these again
    #[arg(long, value_name = "PHOTOS", default_value_t = 1024)]
    pub part: usize,
    /// Keep the values of the layer of this Keras name [default: the last layer before what trains, with --head]
    #[arg(long, value_name = "LAYER")]
    pub until: Option<String>,
    /// safetensors, which `train --features` takes, or parquet for DuckDB, Polars, Spark, Ray, where the command was built with it
    #[arg(long, value_enum, default_value_t = Kind::Safetensors)]
    pub format: Kind,
    /// What a number is stored as: f32, or f16 for half the bytes
    #[arg(long, default_value = "f32", value_parser = parse::named(Element::ALL, Element::name))]
    pub element: Element,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress bar, whatever stderr is
    #[arg(long)]
    pub plain: bool,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[command(flatten)]
    pub folders: FolderArgs,
}

/// What a shard's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Safetensors,
    Parquet,
}

/// What is kept of a photo's prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The best classes, as many as --top says
    Top,
    /// The probability of every class
    Probabilities,
    /// The values of the layer that --until names
    Features,
}

/// A shard of a data set, and its file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many photos")]
pub struct ShardArgs {
    /// Where the predictions of one folder, list or set of tars or Parquet files go: .csv, .jsonl, .safetensors, or .parquet where the command was built with it. After a kill the same command goes on, and when all is there it does nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["csv", "explain"])]
    pub out: Option<PathBuf>,
    /// Which of how many equal parts of the photos, counted from 0 [default: 0/1, which is all]
    #[arg(long, value_name = "I/N", requires = "out")]
    pub shard: Option<Shard>,
    /// Photos after which what is computed is kept: a task that is killed computes at most these again
    #[arg(long, value_name = "PHOTOS", default_value_t = 1024, requires = "out")]
    pub part: usize,
    /// What goes into --out of each photo
    #[arg(long, value_enum, default_value_t = Keep::Top, requires = "out")]
    pub keep: Keep,
    /// The layer that `--keep features` is of, by its Keras name
    #[arg(long, value_name = "LAYER", requires = "out")]
    pub until: Option<String>,
}
