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

#[cfg(feature = "store")]
mod address;
#[cfg(feature = "store")]
mod credentials;
#[cfg(feature = "store")]
mod crypto;
#[cfg(feature = "store")]
mod error;
#[cfg(feature = "store")]
mod files;
#[cfg(feature = "store")]
mod output;
#[cfg(feature = "store")]
mod photos;
#[cfg(feature = "store")]
mod store;

use std::path::Path;

#[cfg(feature = "store")]
pub use error::CloudError;
#[cfg(feature = "store")]
pub use files::local;
#[cfg(feature = "store")]
pub use output::Output;
#[cfg(feature = "store")]
pub use photos::{folder, share};
#[cfg(feature = "store")]
pub use store::{Limits, Store};

/// What addresses begin with.
pub const SCHEMES: [&str; 4] = ["s3://", "gs://", "az://", "https://"];

/// Whether a path is the address of an object, or of a folder of them. `http://` is one too, so that it is refused with a
/// reason.
#[must_use]
pub fn is_address(path: &Path) -> bool {
    let text = path.to_string_lossy();
    SCHEMES.iter().chain(&["http://"]).any(|scheme| text.starts_with(scheme))
}
