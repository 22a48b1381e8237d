use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use image::RgbImage;
use rayon::prelude::*;
use rekindle_vision::{Preprocessing, Resize, Sample, Skipped, VisionError, open_image, resize};

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

/// Decoded photos, in the order of their samples.
pub(crate) struct PhotoBatch {
    /// `[photos, 3, size, size]`.
    pub values: Vec<f32>,
    /// Their classes.
    pub classes: Vec<usize>,
    /// The samples of the batch that could not be decoded.
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

    /// Decodes `samples` on all cores, `batch_size` at a time and two batches ahead, and hands each
    /// batch to `consume` on this thread.
    pub(crate) fn for_each_batch(
        &self,
        samples: &[Sample],
        batch_size: usize,
        strict: bool,
        mut consume: impl FnMut(PhotoBatch) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            let decoder = scope.spawn(move || {
                for samples in samples.chunks(batch_size) {
                    let batch = self.decode(samples, strict);
                    let failed = batch.is_err();
                    // The receiver is gone once `consume` has failed.
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
            // Moved in, so that an early return ends the decoder's wait.
            for batch in receiver {
                consume(batch?)?;
            }
            decoder.join().map_err(|_| TrainError::DecoderStopped)
        })
    }

    fn decode(&self, samples: &[Sample], strict: bool) -> Result<PhotoBatch, VisionError> {
        let decoded: Vec<_> = samples.par_iter().map(|sample| self.open(&sample.path)).collect();
        let count = 3 * self.size * self.size;
        let mut batch = PhotoBatch {
            values: Vec::with_capacity(samples.len() * count),
            classes: Vec::with_capacity(samples.len()),
            skipped: Vec::new(),
        };
        for (sample, decoded) in samples.iter().zip(decoded) {
            match decoded {
                Ok(values) => {
                    batch.values.extend_from_slice(&values);
                    batch.classes.push(sample.class);
                }
                Err(error) if strict => return Err(error),
                Err(error) => {
                    let reason = match error {
                        VisionError::Image { reason, .. } => reason,
                        VisionError::Io { source, .. } => source.to_string(),
                        other => other.to_string(),
                    };
                    batch
                        .skipped
                        .push((sample.class, Skipped { path: sample.path.clone(), reason }));
                }
            }
        }
        Ok(batch)
    }
}
