use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use burn::tensor::backend::Backend;
use rekindle_vision::{ImageFolder, Sample, Skipped, VisionError};
use serde::Serialize;

use crate::advice::of_evaluation;
use crate::error::InferError;
use crate::names::numbers;
use crate::prediction::best_class;
use crate::progress::Observer;
use crate::trained::TrainedModel;

impl<B: Backend> TrainedModel<B> {
    /// Predicts every photo of a folder and compares with the names of its folders.
    ///
    /// # Errors
    /// When the folder has a class that the model does not know, no photo can be decoded, or one cannot and the folder is
    /// [strict](ImageFolder::strict). Else what cannot be used is in [`Evaluation::skipped`].
    pub fn evaluate(&self, folder: &ImageFolder) -> Result<Evaluation, InferError> {
        self.evaluate_with(folder, &mut ())
    }

    /// The same, with somebody who is told how far it is.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(
        &self,
        folder: &ImageFolder,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, InferError> {
        let mut skipped = folder.skipped().to_vec();
        if let (true, Some(file)) = (folder.is_strict(), skipped.first()) {
            let (path, reason) = (file.path.clone(), file.reason.clone());
            return Err(VisionError::Image { path, reason }.into());
        }
        let classes = self.classes();
        let numbers = numbers(folder, classes, self.is_named())?;
        let samples = folder.samples();
        let labels = |sample: &Sample| -> Vec<usize> {
            sample.labels.iter().map(|&label| numbers[label]).collect()
        };
        let mut found = Vec::with_capacity(samples.len());
        self.each_photo(samples, folder.is_strict(), observer, |row, answer| {
            match answer {
                Ok(probabilities) => {
                    found.push(judged(&samples[row], labels(&samples[row]), probabilities));
                }
                Err(file) => {
                    tracing::warn!("skipped {}: {}", file.path.display(), file.reason);
                    skipped.push(file);
                }
            }
            ControlFlow::Continue(())
        })?;
        if let (true, Some(file)) = (found.is_empty(), skipped.last()) {
            let (path, reason) = (file.path.clone(), file.reason.clone());
            return Err(InferError::NoneUsable { folder: folder.path().to_owned(), path, reason });
        }
        let evaluation = Evaluation::of(classes, found, folder.is_multi_label());
        Ok(Evaluation { skipped, ..evaluation })
    }
}

/// How well a model does on labelled photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many photos there are.
    pub images: usize,
    /// Mean cross-entropy; of photos of several classes the mean binary one.
    pub loss: f64,
    /// Share whose best class is right (top-1); where photos may be of several classes, the share of all answers.
    pub accuracy: f64,
    /// Share whose class is among the best five (top-5); 0 where photos may be of several classes.
    pub top_5_accuracy: f64,
    /// The mean of all classes' F1.
    pub macro_f1: f64,
    /// The classes, in the order of the matrix.
    pub classes: Vec<String>,
    /// `confusion[truth][prediction]`: how many photos; empty where photos may be of several classes.
    pub confusion: Vec<Vec<usize>>,
    /// How well each class does.
    pub per_class: Vec<ClassMetrics>,
    /// Files that were not used, each with its reason.
    pub skipped: Vec<Skipped>,
    /// What was said of each photo.
    #[serde(skip)]
    pub judged: Vec<Judged>,
}

/// How well one class is told from the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Photos of this class.
    pub images: usize,
    /// Share of the photos taken for it that are of it; 0 where none are taken for it, as in scikit-learn.
    pub precision: f64,
    /// Share of its photos that are taken for it.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// The area under the ROC curve of its probability against all others; nothing where there are no others, or none
    /// of it.
    pub roc_auc: Option<f64>,
}

/// What was said of one photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The file.
    pub path: PathBuf,
    /// The numbers of its classes.
    pub labels: Vec<usize>,
    /// The probability of each class.
    pub probabilities: Vec<f32>,
}

impl Judged {
    /// The best class.
    #[must_use]
    pub fn best(&self) -> usize {
        best_class(&self.probabilities)
    }

    /// Whether the best class is one of the photo's.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.labels.contains(&self.best())
    }
}

impl Evaluation {
    /// From what was said of each photo.
    #[must_use]
    pub fn of(classes: &[String], judged: Vec<Judged>, multi_label: bool) -> Self {
        let (count, images) = (classes.len(), judged.len());
        let share = |right: f64| if images == 0 { 0.0 } else { right / images as f64 };
        // Keras clips so that the logarithm stays finite.
        let log = |p: f32| f64::from(p).clamp(1e-7, 1.0 - 1e-7).ln();
        let is_taken = |photo: &Judged, class: usize| match multi_label {
            true => photo.probabilities[class] > 0.5,
            false => photo.best() == class,
        };
        let (mut loss, mut accuracy, mut top_5) = (0.0, 0.0, 0.0);
        let mut confusion = vec![vec![0; count]; if multi_label { 0 } else { count }];
        for photo in &judged {
            if multi_label {
                for class in 0..count {
                    let (p, is_of) = (photo.probabilities[class], photo.labels.contains(&class));
                    loss -= log(if is_of { p } else { 1.0 - p }) / count as f64;
                    accuracy += f64::from(u8::from(is_taken(photo, class) == is_of)) / count as f64;
                }
            } else if let Some(&truth) = photo.labels.first() {
                let p = photo.probabilities[truth];
                loss -= f64::from(p).max(1e-7).ln();
                accuracy += f64::from(u8::from(photo.is_right()));
                let better = photo.probabilities.iter().filter(|other| **other > p).count();
                top_5 += f64::from(u8::from(better < 5));
                confusion[truth][photo.best()] += 1;
            }
        }
        let metrics = |class: usize| {
            let of = |photo: &&Judged| photo.labels.contains(&class);
            let taken = judged.iter().filter(|photo| is_taken(photo, class));
            let (all, both) = (judged.iter().filter(of).count(), taken.clone().filter(of).count());
            let ratio = |of: usize| if of == 0 { 0.0 } else { both as f64 / of as f64 };
            let (precision, recall) = (ratio(taken.count()), ratio(all));
            let sum = precision + recall;
            let f1 = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
            let scores = judged.iter().map(|photo| (photo.probabilities[class], of(&photo)));
            ClassMetrics { images: all, precision, recall, f1, roc_auc: roc_auc(scores.collect()) }
        };
        let per_class: Vec<ClassMetrics> = (0..count).map(metrics).collect();
        Self {
            images,
            loss: share(loss),
            accuracy: share(accuracy),
            top_5_accuracy: share(top_5),
            macro_f1: per_class.iter().map(|class| class.f1).sum::<f64>() / count.max(1) as f64,
            classes: classes.to_vec(),
            confusion,
            per_class,
            skipped: Vec::new(),
            judged,
        }
    }

    /// The photos whose best class is wrong, those first of which the model is surest.
    #[must_use]
    pub fn mistakes(&self) -> Vec<&Judged> {
        let mut wrong: Vec<&Judged> =
            self.judged.iter().filter(|photo| !photo.is_right()).collect();
        wrong.sort_by(|a, b| b.probabilities[b.best()].total_cmp(&a.probabilities[a.best()]));
        wrong
    }

    /// What of its numbers says little, and what to do, a sentence each: of classes with few photos or none.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let counts: Vec<usize> = self.per_class.iter().map(|class| class.images).collect();
        of_evaluation(&self.classes, &counts)
    }
}

/// The share of pairs, one of a class and one not, in which the one of it has the higher score; half for ties.
fn roc_auc(mut scores: Vec<(f32, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let of = scores.iter().filter(|(_, is_of)| *is_of).count() as f64;
    let others = scores.len() as f64 - of;
    let mut ranks = 0.0;
    let mut start = 0;
    for group in scores.chunk_by(|a, b| a.0 == b.0) {
        // The mean of the group's ranks, counted from 1.
        let rank = start as f64 + (group.len() as f64 + 1.0) / 2.0;
        ranks += rank * group.iter().filter(|(_, is_of)| *is_of).count() as f64;
        start += group.len();
    }
    (of > 0.0 && others > 0.0).then(|| (ranks - of * (of + 1.0) / 2.0) / (of * others))
}

/// What a sample was judged to be.
pub(crate) fn judged(sample: &Sample, labels: Vec<usize>, probabilities: &[f32]) -> Judged {
    Judged { path: sample.path.clone(), labels, probabilities: probabilities.to_vec() }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} images - loss: {:.4} - accuracy: {:.4} - macro F1: {:.4}",
            self.images, self.loss, self.accuracy, self.macro_f1
        )?;
        if let Some(summary) = Skipped::summary(&self.skipped) {
            writeln!(f, "{summary}")?;
        }
        if self.classes.len() > 5 && !self.confusion.is_empty() {
            writeln!(f, "top-5 accuracy: {:.4}", self.top_5_accuracy)?;
        }
        let width =
            self.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(5);
        write!(f, "\n{:width$}  images  precision  recall      F1  ROC-AUC", "class")?;
        for (index, (class, metrics)) in self.classes.iter().zip(&self.per_class).enumerate() {
            let ClassMetrics { images, precision, recall, f1, roc_auc } = metrics;
            if *images == 0 {
                continue;
            }
            let auc = roc_auc.map_or("      -".to_owned(), |auc| format!("{auc:7.4}"));
            write!(
                f,
                "\n{class:width$}  {images:6}  {precision:9.4}  {recall:6.4}  {f1:6.4}  {auc}"
            )?;
            let Some(row) = self.confusion.get(index) else { continue };
            let taken = self.classes.iter().zip(row).enumerate();
            let wrong = taken.filter(|(other, (_, count))| *other != index && **count > 0);
            let wrong: Vec<String> =
                wrong.map(|(_, (name, count))| format!("{count} as {name}")).collect();
            if !wrong.is_empty() {
                write!(f, "  {}", wrong.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sklearn.metrics`: classification_report, roc_auc_score(one against the rest), log_loss.
    #[test]
    fn metrics_are_scikit_learn_s() {
        let rows: [(usize, [f32; 3]); 6] = [
            (0, [0.7, 0.2, 0.1]),
            (0, [0.3, 0.6, 0.1]),
            (1, [0.2, 0.5, 0.3]),
            (1, [0.1, 0.8, 0.1]),
            (2, [0.3, 0.3, 0.4]),
            (2, [0.5, 0.3, 0.2]),
        ];
        let judged = rows.iter().map(|(label, probabilities)| Judged {
            path: PathBuf::new(),
            labels: vec![*label],
            probabilities: probabilities.to_vec(),
        });
        let classes = ["a", "b", "c"].map(String::from);
        let found = Evaluation::of(&classes, judged.collect(), false);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(found.accuracy, 4.0 / 6.0);
        close(found.loss, 0.833_777_85);
        close(found.macro_f1, (0.5 + 0.8 + 2.0 / 3.0) / 3.0);
        close(found.per_class[1].precision, 2.0 / 3.0);
        close(found.per_class[2].recall, 0.5);
        close(found.per_class[0].roc_auc.expect("both"), 0.8125);
        close(found.per_class[1].roc_auc.expect("both"), 0.875);
        assert_eq!(found.confusion, [[1, 1, 0], [0, 2, 0], [1, 0, 1]]);
        assert_eq!(found.mistakes()[0].probabilities, [0.3, 0.6, 0.1]);
        close(found.top_5_accuracy, 1.0);
    }

    #[test]
    fn photos_of_several_classes_are_graded_by_class() {
        let photo = |labels: Vec<usize>, probabilities: [f32; 2]| Judged {
            path: PathBuf::new(),
            labels,
            probabilities: probabilities.to_vec(),
        };
        let judged = vec![
            photo(vec![0, 1], [0.9, 0.4]),
            photo(vec![], [0.2, 0.6]),
            photo(vec![1], [0.1, 0.8]),
        ];
        let found = Evaluation::of(&["a".into(), "b".into()], judged, true);
        assert!((found.accuracy - 4.0 / 6.0).abs() < 1e-9);
        assert!((found.per_class[1].precision - 0.5).abs() < 1e-9);
        assert!(found.confusion.is_empty());
    }
}
