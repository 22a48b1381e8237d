//! Many photos, a batch at a time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use rekindle_vision::{Sample, Skipped};

use crate::advice::of_orientation;
use crate::error::InferError;
use crate::photos::Job;
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
        let (device, photos) = (self.device(), self.photos());
        let frozen = self.frozen(&device)?;
        // What a device has memory for is tried, which takes time.
        let at_once = match samples.len() {
            0 | 1 => 1,
            _ => frozen.photos_at_once(self.model(), None, photos, &device)?,
        };
        let (mut done, mut askew) = (0, 0);
        let total = samples.len();
        let ended = photos.for_each_batch(&jobs, at_once, strict, |batch| {
            askew += batch.askew;
            let probabilities = match batch.rows.is_empty() {
                true => Vec::new(),
                false => self.probabilities(batch.images)?,
            };
            let answers = probabilities.chunks_exact(self.classes().len().max(1));
            let mut answers = batch.rows.iter().copied().zip(answers).peekable();
            let mut skipped = batch.skipped.into_iter().peekable();
            loop {
                let is_skipped = match (skipped.peek(), answers.peek()) {
                    (Some((failed, _)), Some((row, _))) => failed < row,
                    (failed, None) => failed.is_some(),
                    (None, Some(_)) => false,
                };
                let flow = match is_skipped {
                    true => skipped.next().map(|(row, file)| each(row, Err(file))),
                    false => answers.next().map(|(row, answer)| each(row, Ok(answer))),
                };
                let Some(flow) = flow else { break };
                done += 1;
                if flow.is_break() {
                    // An error has decoding end, too; none for that nobody failed.
                    return Err(None);
                }
            }
            observer.on_event(&Event::Predicted { done, total });
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
