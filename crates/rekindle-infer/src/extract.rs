//! What a network makes of photos, for who keeps it: the work that many machines can share.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use rekindle_kernels::Precision;
use rekindle_nn::{Network, Shape, Source};
use rekindle_vision::{Sample, Skipped};

use crate::error::InferError;
use crate::frozen::Frozen;
use crate::photos::{Facts, Job, Photos};
use crate::predict::Through;
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
        let jobs: Vec<Job<'_>> =
            samples.iter().map(|sample| Job { sample, change: None, hashed: true }).collect();
        let Self { network, photos, device, frozen, .. } = self;
        let through = Through { network, until: self.until.as_deref(), photos, device, frozen };
        let count = self.shape().count();
        let event = |done, total| Event::Features { done, total };
        through.each(&jobs, count, strict, observer, event, |observer, row, answer| {
            let answer = match answer {
                Ok((values, Facts { hash: Some(hash), is_askew })) => {
                    Ok(Extracted { values, hash, is_askew })
                }
                Ok((_, Facts { hash: None, .. })) => {
                    let path = samples[row].path.clone();
                    let reason = "its content was not hashed; this is a bug in Rekindle".to_owned();
                    Err(Undecoded { file: Skipped { path, reason }, hash: None })
                }
                Err((file, hash)) => Err(Undecoded { file, hash }),
            };
            if let Err(Undecoded { file, .. }) = &answer {
                observer.on_event(&Event::Skipped(file));
            }
            match each(row, answer) {
                ControlFlow::Continue(()) if observer.stops() => ControlFlow::Break(()),
                flow => flow,
            }
        })
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
