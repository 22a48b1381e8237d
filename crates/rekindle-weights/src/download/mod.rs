//! Keras's published ImageNet weights: found on the disk, or downloaded once.

mod catalogue;
mod fetch;
mod http;
mod hub;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_nn::Architecture;
use rekindle_pixels::{cache_folder, variable};

pub use self::hub::Hub;
use crate::WeightsError;
pub use rekindle_nn::families::Published;

/// Where Keras publishes its weights (`keras/src/applications/*.py`, `BASE_WEIGHT_PATH`).
const BASE: &str = "https://storage.googleapis.com/tensorflow/keras-applications/";

/// Where Keras's files without a folder are, which are EfficientNet's.
const BUCKET: &str = "https://storage.googleapis.com/keras-applications/";

/// ConvNeXt-XLarge, the largest of Keras's networks, has 1.4 GB.
const LARGEST: u64 = 1 << 31;

/// Finds published weights on the disk, or downloads them there.
///
/// `REKINDLE_WEIGHTS_URL` is the address of a mirror, `REKINDLE_CACHE` the folder of downloaded files; Keras's own
/// folder, `~/.keras/models`, is looked into first. A program that is to download nothing asks one with `offline` for the
/// file, and opens it as [`Weights::File`](crate::Weights::File).
#[derive(Debug, Clone)]
pub struct Downloader {
    /// The address that file names are put behind.
    pub base: String,
    /// Where files are put; nothing where no user's folder is known.
    pub cache: Option<PathBuf>,
    /// Keras's folder.
    pub keras: Option<PathBuf>,
    /// How often a request is tried.
    pub attempts: u32,
    /// The wait before the second attempt; each one after that waits twice as long.
    pub wait: Duration,
    /// The longest silence of a server.
    pub timeout: Duration,
    /// The largest file, in bytes.
    pub largest: u64,
    /// Takes only what is on the disk already; what is not is an error that says where to put it.
    pub offline: bool,
    /// Draws a bar while a file comes, where standard error is a terminal.
    pub bar: bool,
}

impl Default for Downloader {
    fn default() -> Self {
        let base = variable("REKINDLE_WEIGHTS_URL").and_then(|url| url.into_string().ok());
        Self {
            base: base.unwrap_or_else(|| BASE.into()),
            cache: cache_folder(),
            keras: std::env::home_dir().map(|home| home.join(".keras/models")),
            attempts: 5,
            wait: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            largest: LARGEST,
            offline: false,
            bar: true,
        }
    }
}

impl Downloader {
    /// The file of an architecture's ImageNet weights, downloaded if it is not on the disk yet.
    ///
    /// # Errors
    /// When no such weights are published, or they are not on the disk and cannot be downloaded; the message
    /// says which file to put where.
    pub fn imagenet(&self, architecture: &Architecture) -> Result<PathBuf, WeightsError> {
        let published = catalogue::published(architecture)?;
        self.fetch(&published)
    }

    fn problem(&self, published: &Published, reason: String) -> WeightsError {
        let url = self.url(published);
        let by_hand = match &self.cache {
            Some(cache) => format!("put the file at {}", cache.join(&published.file).display()),
            None => "set REKINDLE_CACHE to a folder that holds the file".into(),
        };
        WeightsError::Download { url, reason, by_hand }
    }

    fn url(&self, published: &Published) -> String {
        // A mirror has them beside the others.
        let base =
            if self.base == BASE && published.folder.is_empty() { BUCKET } else { &self.base };
        let slash = if base.ends_with('/') { "" } else { "/" };
        format!("{base}{slash}{}", published.address())
    }
}

/// The file beside another, with an ending more.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
