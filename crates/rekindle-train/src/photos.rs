use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use image::RgbImage;
use rayon::prelude::*;
use rekindle_vision::{
    Augmentation, Pixels, Preprocessing, Resize, Sample, Skipped, VisionError, open_image, resize,
};

use crate::TrainError;

/// How photos become a network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Photos {
    /// Height and width in pixels.
    pub size: usize,
    /// How they are brought there.
    pub resize: Resize,
    /// Keras's mode of `preprocess_input`.
    pub preprocessing: Preprocessing,
}

/// A photo to decode, and how it is changed.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub sample: &'a Sample,
    pub change: Option<Change<'a>>,
}

/// One view of a photo.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub augmentation: &'a Augmentation,
    pub seed: u64,
    /// The photo's number among all.
    pub number: usize,
    pub epoch: usize,
}

/// What goes into a network.
#[derive(Debug)]
pub(crate) enum Images {
    /// `[photos, 3, size, size]`, preprocessed.
    Values(Vec<f32>),
    /// `[photos, size, size, 3]`, from 0 to 255.
    Bytes(Vec<u8>),
}

impl Images {
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Values(all), Self::Values(more)) => all.extend_from_slice(&more),
            (Self::Bytes(all), Self::Bytes(more)) => all.extend_from_slice(&more),
            _ => unreachable!("the photos of a batch are all changed, or none of them"),
        }
    }

    /// In parts of so many values, the last one of what is left.
    pub fn parts(self, values: usize) -> Vec<Self> {
        match self {
            Self::Values(all) if all.len() <= values => vec![Self::Values(all)],
            Self::Bytes(all) if all.len() <= values => vec![Self::Bytes(all)],
            Self::Values(all) => all.chunks(values).map(|part| Self::Values(part.into())).collect(),
            Self::Bytes(all) => all.chunks(values).map(|part| Self::Bytes(part.into())).collect(),
        }
    }

    /// All of them preprocessed.
    pub fn into_values(self, photos: &Photos) -> Vec<f32> {
        match self {
            Self::Values(values) => values,
            Self::Bytes(bytes) => {
                let size = photos.size;
                let of = |photo: &[u8]| {
                    let values = photo.iter().map(|&byte| f32::from(byte)).collect();
                    photos.preprocessing.apply(&Pixels { width: size, height: size, values })
                };
                bytes.chunks_exact(size * size * 3).flat_map(of).collect()
            }
        }
    }
}

/// Decoded photos, in the order of their jobs.
pub(crate) struct PhotoBatch {
    pub images: Images,
    /// The numbers of their jobs, in the whole list.
    pub rows: Vec<usize>,
    /// The jobs that could not be done.
    pub skipped: Vec<(usize, Skipped)>,
}

impl Photos {
    /// Decodes, resizes and preprocesses a file: `[3, size, size]`.
    ///
    /// # Errors
    /// When the file is not an image that can be decoded.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Vec<f32>, VisionError> {
        self.prepare(&open_image(path)?)
    }

    /// Resizes and preprocesses a decoded image: `[3, size, size]`.
    ///
    /// # Errors
    /// When the image is empty.
    pub fn prepare(&self, image: &RgbImage) -> Result<Vec<f32>, VisionError> {
        let pixels = resize(image, self.size, self.size, self.resize)?;
        Ok(self.preprocessing.apply(&pixels))
    }

    /// One photo as a network's input.
    pub(crate) fn input(&self, image: &RgbImage) -> Result<Images, VisionError> {
        let pixels = resize(image, self.size, self.size, self.resize)?;
        Ok(match self.resize.is_whole() {
            // Without loss: the values are whole.
            true => Images::Bytes(pixels.values.into_iter().map(|value| value as u8).collect()),
            false => Images::Values(self.preprocessing.apply(&pixels)),
        })
    }

    fn view(&self, job: &Job<'_>) -> Result<Images, VisionError> {
        let image = job.sample.open()?;
        let Some(change) = job.change else { return self.input(&image) };
        let pixels = resize(&image, self.size, self.size, self.resize)?;
        let Change { augmentation, seed, number, epoch } = change;
        let pixels = augmentation.apply(pixels, seed, number as u64, epoch as u64);
        Ok(Images::Values(self.preprocessing.apply(&pixels)))
    }

    /// Decodes photos on all cores, `batch_size` at a time and two batches ahead, and hands each
    /// batch to `consume` on this thread. Gives the time in which `consume` had nothing to do but wait for photos.
    pub(crate) fn for_each_batch(
        &self,
        jobs: &[Job<'_>],
        batch_size: usize,
        strict: bool,
        mut consume: impl FnMut(PhotoBatch) -> Result<(), TrainError>,
    ) -> Result<Duration, TrainError> {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            let decoder = scope.spawn(move || {
                for (number, jobs) in jobs.chunks(batch_size).enumerate() {
                    let batch = self.decode(jobs, number * batch_size, strict);
                    let failed = batch.is_err();
                    // The receiver is gone once `consume` has failed.
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
            let mut waited = Duration::ZERO;
            // Moved in, so that an early return ends the decoder's wait.
            let mut batches = receiver.into_iter();
            loop {
                let start = Instant::now();
                let batch = batches.next();
                waited += start.elapsed();
                let Some(batch) = batch else { break };
                consume(batch?)?;
            }
            decoder.join().map_err(|_| TrainError::DecoderStopped)?;
            Ok(waited)
        })
    }

    fn decode(
        &self,
        jobs: &[Job<'_>],
        first: usize,
        strict: bool,
    ) -> Result<PhotoBatch, VisionError> {
        let decoded: Vec<_> = jobs.par_iter().map(|job| self.view(job)).collect();
        let count = jobs.len() * 3 * self.size * self.size;
        let is_whole = self.resize.is_whole() && jobs.iter().all(|job| job.change.is_none());
        let mut batch = PhotoBatch {
            images: match is_whole {
                true => Images::Bytes(Vec::with_capacity(count)),
                false => Images::Values(Vec::with_capacity(count)),
            },
            rows: Vec::with_capacity(jobs.len()),
            skipped: Vec::new(),
        };
        for (row, (job, decoded)) in jobs.iter().zip(decoded).enumerate() {
            match decoded {
                Ok(image) => {
                    batch.images.append(image);
                    batch.rows.push(first + row);
                }
                Err(error) if strict => return Err(error),
                Err(error) => {
                    let reason = match error {
                        VisionError::Image { reason, .. } => reason,
                        VisionError::Io { source, .. } => source.to_string(),
                        other => other.to_string(),
                    };
                    let skipped = Skipped { path: job.sample.path.clone(), reason };
                    batch.skipped.push((first + row, skipped));
                }
            }
        }
        Ok(batch)
    }
}
