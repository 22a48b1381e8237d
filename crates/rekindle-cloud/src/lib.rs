//! Photos, models and outputs in object stores: `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`, and single
//! files at `https://HOST/PATH`.
//!
//! - `share` and `folder` list photos in pages. Each photo is then read when its turn comes, many at a time
//!   ([`Remote`](rekindle_vision::Remote)), and kept nowhere.
//! - Archives of photos and models (`local`) are downloaded into the folder of caches, by the version of the object, and
//!   there whole or not at all.
//! - An `Output` is written on this machine, and then put where it belongs.
//!
//! Requests are repeated a bounded number of times, after waits that are drawn at random; what cannot be read then stops the
//! run, since a photo that is skipped for a network's sake would go unnoticed. Credentials are those of the environment and
//! of the files that each store's own programs read, and appear in no message.
//!
//! All of this is behind the feature `store`. There is no C in it: TLS and signatures are graviola's.

#![cfg(feature = "store")]

mod address;
mod credentials;
mod crypto;
mod error;
mod files;
mod output;
mod photos;
mod store;

pub use error::CloudError;
pub use files::local;
pub use output::Output;
pub use photos::{folder, share};
pub use store::{Limits, Store};
