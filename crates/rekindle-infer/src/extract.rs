//! What a network makes of photos, for who keeps it: the work that many machines can share.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use rekindle_kernels::Precision;
use rekindle_nn::{Network, Shape, Source};
use rekindle_vision::{Sample, Skipped};

use crate::advice::of_orientation;
use crate::error::InferError;
use crate::frozen::Frozen;
use crate::photos::{Job, Photos};
use crate::progress::{Event, Observer};
use crate::provenance::Provenance;
use crate::trained::TrainedModel;

/// Computes a network up to a layer, or to its end, for photos one after the other.
#[derive(Debug)]
pub struct Extractor<B: Backend> {
    network: Network<B>,
    until: Option<String>,
    photos: Photos,
    device: B::Device,
    frozen: Arc<Frozen<B>>,
    provenance: Provenance,
}

/// What a network made of a photo.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Extracted<'a> {
    /// The layer's values: `[channels, height, width]` or flat.
    pub values: &'a [f32],
    /// SHA-256 of the photo as it is stored.
    pub hash: [u8; 32],
    /// Whether it has an EXIF orientation that is ignored.
    pub is_askew: bool,
}

/// A photo that could not be decoded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Undecoded {
    /// The file, and why.
    pub file: Skipped,
    /// SHA-256 of the photo as it is stored; nothing, where it cannot be read.
    pub hash: Option<[u8; 32]>,
}

impl<'a> Extracted<'a> {
    /// Values, the hash of the photo as it is stored, and whether it has an EXIF orientation that is ignored.
    #[must_use]
    pub fn new(values: &'a [f32], hash: [u8; 32], is_askew: bool) -> Self {
        Self { values, hash, is_askew }
    }
}

impl Undecoded {
    /// Of a file, whose hash is known where it can be read.
    #[must_use]
    pub fn new(file: Skipped, hash: Option<[u8; 32]>) -> Self {
        Self { file, hash }
    }
}

impl<B: Backend> Extractor<B> {
    fn new(
        network: Network<B>,
        until: Option<String>,
        photos: Photos,
        frozen: Arc<Frozen<B>>,
        device: B::Device,
    ) -> Result<Self, InferError> {
        let graph = network.graph();
        let shape = match until.as_deref() {
            Some(layer) => graph.shape(Source::Layer(graph.position(layer)?)),
            None => graph.output_shape(),
        };
        let precision = frozen.precision();
        let provenance = Provenance::of(&network, until.as_deref(), photos, shape, precision)?;
        Ok(Self { network, until, photos, device, frozen, provenance })
    }

    /// Of a network up to a layer.
    #[doc(hidden)]
    pub fn up_to(
        network: Network<B>,
        until: &str,
        photos: Photos,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self, InferError> {
        // A layer that is not there is named before anything is compiled.
        network.graph().position(until)?;
        let frozen = Frozen::new(&network, Some(until), precision, device)?;
        Self::new(network, Some(until.to_owned()), photos, Arc::new(frozen), device.clone())
    }

    /// What its features depend on.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The shape of one photo's features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.provenance.shape()
    }

    /// Computes photos, a batch at a time, and hands what comes of each to `each` in the photos' order, with the photo's
    /// number. No more photos than two batches are decoded ahead. It ends where `each` breaks.
    ///
    /// # Errors
    /// When a value is no number, the device fails, or, where `strict` is set, a photo cannot be decoded.
    pub fn each(
        &self,
        samples: &[&Sample],
        strict: bool,
        observer: &mut dyn Observer,
        mut each: impl FnMut(usize, Result<Extracted<'_>, Undecoded>) -> ControlFlow<()>,
    ) -> Result<(), InferError> {
        let Self { network, until, photos, device, frozen, .. } = self;
        let until = until.as_deref();
        let jobs: Vec<Job<'_>> =
            samples.iter().map(|sample| Job { sample, change: None, hashed: true }).collect();
        // What a device has memory for is tried, which takes time.
        let at_once = match samples.len() {
            0 | 1 => 1,
            _ => frozen.photos_at_once(network, until, photos, device)?,
        };
        let count = self.shape().count().max(1);
        let (mut done, mut is_stopped, mut askew) = (0, false, 0);
        let total = samples.len();
        let ended = photos.for_each_batch(&jobs, at_once, strict, |batch| {
            askew += batch.askew;
            let values = match batch.rows.is_empty() {
                true => Vec::new(),
                false => frozen.start(network, until, batch.images, photos, device)?.finish()?.0,
            };
            if values.iter().any(|value| value.is_nan()) {
                let preprocessing = photos.preprocessing.name();
                return Err(InferError::NotANumber { preprocessing });
            }
            let found = batch.rows.into_iter().zip(batch.facts).zip(values.chunks_exact(count));
            let found = found.map(|((row, facts), values)| {
                let (hash, is_askew) = (facts.hash.unwrap_or_default(), facts.is_askew);
                (row, Ok(Extracted { values, hash, is_askew }))
            });
            let hashes = batch.skipped_hashes;
            let lost = batch.skipped.into_iter().zip(hashes);
            let lost = lost.map(|((row, file), hash)| (row, Err(Undecoded { file, hash })));
            let mut all: Vec<_> = found.chain(lost).collect();
            all.sort_by_key(|(row, _)| *row);
            for (row, answer) in all {
                if let Err(Undecoded { file, .. }) = &answer {
                    observer.on_event(&Event::Skipped(file));
                }
                done += 1;
                if each(row, answer).is_break() || observer.stops() {
                    is_stopped = true;
                    // An error has decoding end, too.
                    return Err(InferError::DecoderStopped);
                }
            }
            observer.on_event(&Event::Features { done, total });
            Ok(())
        });
        if let Some(said) = of_orientation(askew) {
            tracing::warn!("{said}");
        }
        if is_stopped { Ok(()) } else { ended.map(drop) }
    }
}

impl<B: Backend> TrainedModel<B> {
    /// What computes this model's probabilities, or with `until` the values of that layer.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn extractor(&self, until: Option<&str>) -> Result<Extractor<B>, InferError> {
        let (network, device) = (self.model().clone(), self.device());
        let frozen = match until {
            Some(layer) => {
                network.graph().position(layer)?;
                Arc::new(Frozen::new(&network, until, self.precision(), &device)?)
            }
            None => self.frozen(&device)?,
        };
        Extractor::new(network, until.map(str::to_owned), *self.photos(), frozen, device)
    }
}
