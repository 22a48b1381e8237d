use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use rekindle_vision::{Sample, Skipped, imagenet_labels, top};
use serde::Serialize;

use crate::advice::of_orientation;
use crate::photos::Job;
use crate::{Event, Observer, TrainError, TrainedModel};

/// The probabilities of every class for one photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub(crate) probabilities: Vec<f32>,
    pub(crate) classes: Arc<[String]>,
}

/// One class of a [`Top`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The class's name.
    pub class: String,
    /// Its index among the model's classes.
    pub index: usize,
    /// From 0 to 1.
    pub probability: f32,
}

/// The best classes for one photo, best first; prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Top {
    /// Best first.
    pub classes: Vec<Ranked>,
}

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
    ) -> Result<(), TrainError> {
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
    ) -> Result<(), TrainError> {
        let jobs: Vec<Job<'_>> =
            samples.iter().map(|sample| Job { sample, change: None, hashed: false }).collect();
        let (device, photos) = (self.device(), self.photos());
        let frozen = self.frozen(&device)?;
        // What a device has memory for is tried, which takes time.
        let at_once = match samples.len() {
            0 | 1 => 1,
            _ => frozen.photos_at_once(self.model(), None, photos, &device)?,
        };
        let (mut done, mut is_stopped, mut askew) = (0, false, 0);
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
                    is_stopped = true;
                    // An error has decoding end, too.
                    return Err(TrainError::NoData);
                }
            }
            observer.on_event(&Event::Predicted { done, total });
            Ok(())
        });
        if let Some(said) = of_orientation(askew) {
            tracing::warn!("{said}");
        }
        if is_stopped { Ok(()) } else { ended.map(drop) }
    }
}

impl Prediction {
    /// For each class, in the model's order.
    #[must_use]
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// The name of the best class.
    #[must_use]
    pub fn class(&self) -> &str {
        top(&self.probabilities, 1).first().map_or("", |(class, _)| &self.classes[*class])
    }

    /// The best `count` classes.
    #[must_use]
    pub fn top(&self, count: usize) -> Top {
        let ranked = |(index, probability): (usize, f32)| {
            let class = self.classes[index].clone();
            Ranked { class, index, probability }
        };
        Top { classes: top(&self.probabilities, count).into_iter().map(ranked).collect() }
    }
}

/// The names of ImageNet's classes as a model's classes: WordNet id and label.
pub(crate) fn imagenet_classes() -> Vec<String> {
    imagenet_labels().iter().map(|label| format!("{} {}", label.id, label.name)).collect()
}

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            self.classes.iter().map(|ranked| ranked.class.chars().count()).max().unwrap_or(0);
        for (row, ranked) in self.classes.iter().enumerate() {
            let end = if row + 1 < self.classes.len() { "\n" } else { "" };
            let percent = ranked.probability * 100.0;
            write!(f, "{:>5}  {:width$}  {percent:>6.2} %{end}", ranked.index, ranked.class)?;
        }
        Ok(())
    }
}
