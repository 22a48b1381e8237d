//! Many photos, a batch at a time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use rekindle_nn::Network;
use rekindle_vision::{Sample, Skipped};

use crate::advice::of_orientation;
use crate::error::InferError;
use crate::frozen::Frozen;
use crate::photos::{Facts, Job, Photos};
use crate::prediction::Prediction;
use crate::progress::{Event, Observer};
use crate::trained::TrainedModel;

impl<B: Backend> TrainedModel<B> {
    /// Predicts many photos, a batch at a time, and hands the answers to `each` in the order of the files: the number
    /// of the file, and its prediction or why there is none. No more photos than two batches are decoded ahead. It ends
    /// where `each` breaks.
    ///
    /// # Errors
    /// When the network's output is no number, or its device fails.
    pub fn predict_files(
        &self,
        files: &[PathBuf],
        observer: &mut dyn Observer,
        mut each: impl FnMut(usize, Result<Prediction, Skipped>) -> ControlFlow<()>,
    ) -> Result<(), InferError> {
        let samples: Vec<Sample> = files.iter().map(|path| Sample::file(path.clone(), 0)).collect();
        let classes: Arc<[String]> = self.classes().into();
        self.each_photo(&samples, false, observer, |number, answer| {
            let prediction = answer.map(|probabilities| Prediction {
                probabilities: probabilities.to_vec(),
                classes: classes.clone(),
            });
            each(number, prediction)
        })
    }

    /// The probabilities of every photo, in order, a batch at a time; or why there are none.
    pub(crate) fn each_photo(
        &self,
        samples: &[Sample],
        strict: bool,
        observer: &mut dyn Observer,
        mut each: impl FnMut(usize, Result<&[f32], Skipped>) -> ControlFlow<()>,
    ) -> Result<(), InferError> {
        let jobs: Vec<Job<'_>> =
            samples.iter().map(|sample| Job { sample, change: None, hashed: false }).collect();
        let device = self.device();
        let frozen = self.frozen(&device)?;
        let (network, photos) = (self.model(), self.photos());
        let through = Through { network, until: None, photos, device: &device, frozen: &frozen };
        let count = self.classes().len();
        let event = |done, total| Event::Predicted { done, total };
        through.each(&jobs, count, strict, observer, event, |_, row, answer| {
            each(row, answer.map(|(values, _)| values).map_err(|(file, _)| file))
        })
    }
}

/// A network, or its layers up to one, and the photos that go through it.
pub(crate) struct Through<'a, B: Backend> {
    pub network: &'a Network<B>,
    pub until: Option<&'a str>,
    pub photos: &'a Photos,
    pub device: &'a B::Device,
    pub frozen: &'a Frozen<B>,
}

/// SHA-256 of a photo's content, where it was asked for.
type Hash = Option<[u8; 32]>;

impl<B: Backend> Through<'_, B> {
    /// Computes photos, a batch at a time, of which no more than two are decoded ahead, and hands what comes of each to
    /// `each` in the jobs' order: `count` values and what is known of the photo, or why there are none. It ends where `each`
    /// breaks. The observer hears `event` after each batch.
    pub fn each(
        &self,
        jobs: &[Job<'_>],
        count: usize,
        strict: bool,
        observer: &mut dyn Observer,
        event: impl Fn(usize, usize) -> Event<'static>,
        mut each: impl FnMut(
            &mut dyn Observer,
            usize,
            Result<(&[f32], Facts), (Skipped, Hash)>,
        ) -> ControlFlow<()>,
    ) -> Result<(), InferError> {
        let Self { network, until, photos, device, frozen } = *self;
        // What a device has memory for is tried, which takes time.
        let at_once = match jobs.len() {
            0 | 1 => 1,
            _ => frozen.photos_at_once(network, until, photos, device)?,
        };
        let (mut done, mut askew) = (0, 0);
        let ended = photos.for_each_batch(jobs, at_once, strict, |batch| {
            askew += batch.askew;
            let values = match batch.rows.is_empty() {
                true => Vec::new(),
                false => frozen.start(network, until, batch.images, photos, device)?.finish()?.0,
            };
            if values.iter().any(|value| value.is_nan()) {
                let preprocessing = photos.preprocessing.name();
                return Err(Some(InferError::NotANumber { preprocessing }));
            }
            let found = batch.rows.into_iter().zip(batch.facts);
            let found = found.zip(values.chunks_exact(count.max(1)));
            let found = found.map(|((row, facts), values)| (row, Ok((values, facts))));
            let lost = batch.skipped.into_iter().zip(batch.skipped_hashes);
            let lost = lost.map(|((row, file), hash)| (row, Err((file, hash))));
            let mut all: Vec<_> = found.chain(lost).collect();
            all.sort_by_key(|(row, _)| *row);
            for (row, answer) in all {
                done += 1;
                if each(observer, row, answer).is_break() {
                    // An error has decoding end, too; none for that nobody failed.
                    return Err(None);
                }
            }
            observer.on_event(&event(done, jobs.len()));
            Ok::<(), Option<InferError>>(())
        });
        if let Some(said) = of_orientation(askew) {
            tracing::warn!("{said}");
        }
        match ended {
            Err(Some(error)) => Err(error),
            Ok(_) | Err(None) => Ok(()),
        }
    }
}
