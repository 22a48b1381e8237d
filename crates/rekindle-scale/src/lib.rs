//! Features and predictions of more photos than one machine has time for.
//!
//! A [`Task`] is the unit of work that an engine (Slurm, Ray, Kubernetes) schedules: what a network makes of the photos of
//! one [`Shard`](rekindle_vision::Shard), in one file. The file is written atomically; a task that was killed goes on when it
//! is run again, and one whose file is there does nothing. [`Shards`] are the files of all tasks, checked, which
//! [`TransferLearner::features`](rekindle_train::TransferLearner::features) trains on.

mod error;
mod file;
mod manifest;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(not(feature = "parquet"))]
#[path = "absent.rs"]
mod parquet;
mod parts;
mod shards;
mod task;
mod text;

pub use error::ScaleError;
pub use file::ShardFile;
pub use manifest::{Content, Element, Entry, Manifest};
pub use shards::Shards;
pub use task::{Compute, Done, Each, Format, Task};
