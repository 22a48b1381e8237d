//! A bucket: listed in pages, read in pieces.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
};
use tokio::runtime::{Builder, Runtime};

use crate::CloudError;
use crate::address::Address;

/// How much is asked for at once, and how often.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests at a time.
    pub parallel: usize,
    /// How often one request is made at most.
    pub attempts: usize,
    /// The first wait before another attempt; later ones are drawn at random between this and three times the last.
    pub wait: Duration,
    /// How long one request may take; half of it without a byte.
    pub timeout: Duration,
    /// The most bytes of one request; of a larger object several pieces are read.
    pub piece: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 32,
            attempts: 8,
            wait: Duration::from_millis(100),
            timeout: Duration::from_secs(60),
            piece: 8 << 20,
        }
    }
}

/// A bucket, or a server.
#[derive(Debug)]
pub struct Store {
    /// The address up to a key.
    root: String,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) limits: Limits,
}

/// The threads that requests wait in: few, since they only wait.
pub(crate) fn runtime() -> Result<&'static Runtime, CloudError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(|error| error.to_string())
    };
    let runtime = RUNTIME.get_or_init(start).as_ref();
    runtime.map_err(|reason| CloudError::address("network", format!("no threads: {reason}")))
}

/// TLS without C, which wants a processor of the last ten years.
pub(crate) fn start_tls(address: &str) -> Result<(), CloudError> {
    #[cfg(target_arch = "x86_64")]
    let has_all = is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("ssse3");
    #[cfg(target_arch = "aarch64")]
    let has_all = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("neon")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_all = false;
    if !has_all {
        let reason = "this processor is too old for the TLS that is used, or of another kind";
        return Err(CloudError::address(address, reason));
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // An error says that one is there already.
    let _ = rustls_graviola::default_provider().install_default();
    Ok(())
}

impl Store {
    /// What an address is of, with the credentials of the environment.
    ///
    /// # Errors
    /// When it is no address, or the environment's settings contradict each other.
    pub fn open(address: &Path, limits: Limits) -> Result<Arc<Self>, CloudError> {
        let address = Address::parse(address)?;
        start_tls(&address.root())?;
        // Some stores start tasks when they are made.
        let _entered = runtime()?.enter();
        Ok(Self::of(address.root(), address.store(&limits)?, limits))
    }

    /// Any store, whose objects are called by `root` and their keys.
    #[must_use]
    pub fn of(root: String, objects: Arc<dyn ObjectStore>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { root, objects, limits })
    }

    /// The address of an object.
    pub(crate) fn address(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }

    /// A key as it stands in an address.
    pub(crate) fn key(&self, key: &str) -> Result<Key, CloudError> {
        let wrong = |error| CloudError::store(&self.address(key), Error::from(error));
        Key::parse(key).map_err(wrong)
    }

    /// Hands all objects below a key to `each`, page by page.
    pub(crate) fn list(
        &self,
        key: &str,
        mut each: impl FnMut(ObjectMeta),
    ) -> Result<(), CloudError> {
        let prefix = self.key(key)?;
        let wrong = |error| CloudError::store(&self.address(key), error);
        runtime()?.block_on(async {
            let mut pages = self.objects.list(Some(&prefix));
            while let Some(object) = pages.next().await {
                each(object.map_err(wrong)?);
            }
            Ok(())
        })
    }

    /// What is known of an object.
    pub(crate) fn head(&self, key: &str) -> Result<ObjectMeta, CloudError> {
        let path = self.key(key)?;
        let wrong = |error| CloudError::store(&self.address(key), error);
        runtime()?.block_on(self.objects.head(&path)).map_err(wrong)
    }

    /// A piece of an object of the version that is known.
    async fn piece(
        &self,
        path: &Key,
        range: Option<std::ops::Range<u64>>,
        length: u64,
        version: Option<&str>,
    ) -> Result<Vec<u8>, Error> {
        // To a server, a weak tag is never the same.
        let if_match = version.filter(|tag| !tag.starts_with("W/")).map(str::to_owned);
        let range = range.map(GetRange::Bounded);
        let is_weak = version.is_some() && if_match.is_none();
        let options = GetOptions { if_match, range, ..GetOptions::default() };
        let other =
            |source: String| Error::Precondition { path: path.to_string(), source: source.into() };
        let found = self.objects.get_opts(path, options).await?;
        if is_weak && found.meta.e_tag.as_deref() != version {
            return Err(other("its ETag is another one".into()));
        }
        let bytes = found.bytes().await?;
        match bytes.len() as u64 == length {
            true => Ok(bytes.into()),
            false => Err(other(format!("{} bytes, expected {length}", bytes.len()))),
        }
    }

    fn pieces(&self, length: u64) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let piece = self.limits.piece.max(1);
        (0..length.div_ceil(piece))
            .map(move |number| number * piece..length.min((number + 1) * piece))
    }

    /// A whole object in memory, of the version that is known.
    pub(crate) async fn bytes(
        &self,
        key: &str,
        length: u64,
        version: Option<&str>,
    ) -> Result<Vec<u8>, Error> {
        let path = Key::parse(key)?;
        if length <= self.limits.piece {
            return self.piece(&path, None, length, version).await;
        }
        let mut all = Vec::new();
        for range in self.pieces(length) {
            let count = range.end - range.start;
            all.extend(self.piece(&path, Some(range), count, version).await?);
        }
        Ok(all)
    }

    /// Writes an object into a file, several pieces of it read at a time.
    pub(crate) fn download(&self, object: &ObjectMeta, to: &Path) -> Result<(), CloudError> {
        let address = self.address(object.location.as_ref());
        let io = CloudError::io(to);
        let mut file = std::fs::File::create(to).map_err(&io)?;
        let (path, version) = (&object.location, object.e_tag.as_deref());
        runtime()?.block_on(async {
            let pieces = stream::iter(self.pieces(object.size)).map(|range| {
                let count = range.end - range.start;
                self.piece(path, Some(range), count, version)
            });
            let mut pieces = pieces.buffered(self.limits.parallel.clamp(1, 8));
            loop {
                let piece = pieces.try_next().await;
                match piece.map_err(|error| CloudError::store(&address, error))? {
                    Some(bytes) => file.write_all(&bytes).map_err(&io)?,
                    None => return Ok(()),
                }
            }
        })
    }

    /// Puts a file in the place of an object, whole or not at all.
    pub(crate) fn upload(&self, from: &Path, key: &str) -> Result<(), CloudError> {
        use std::io::Read;

        let path = self.key(key)?;
        let address = self.address(key);
        let wrong = |error| CloudError::store(&address, error);
        let io = CloudError::io(from);
        let mut file = std::fs::File::open(from).map_err(&io)?;
        let length = file.metadata().map_err(&io)?.len();
        let mut next = || {
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(self.limits.piece).read_to_end(&mut bytes).map(|_| bytes)
        };
        runtime()?.block_on(async {
            if length <= self.limits.piece {
                let bytes = next().map_err(&io)?;
                self.objects.put(&path, PutPayload::from(bytes)).await.map_err(wrong)?;
                return Ok(());
            }
            let mut parts = self.objects.put_multipart(&path).await.map_err(wrong)?;
            let sent = async {
                loop {
                    let bytes = next().map_err(&io)?;
                    if bytes.is_empty() {
                        return parts.complete().await.map(drop).map_err(wrong);
                    }
                    parts.put_part(PutPayload::from(bytes)).await.map_err(wrong)?;
                }
            }
            .await;
            if sent.is_err() {
                // Parts that nobody completes cost money; the store's own rules delete those that stay.
                let _ = parts.abort().await;
            }
            sent
        })
    }
}
