//! What training did.

use std::fmt;

use rekindle_nn::Parameters;
use rekindle_vision::Skipped;
use serde::{Deserialize, Serialize};

/// The results of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean cross-entropy of the training photos, as they were trained on.
    pub loss: f32,
    /// Share of training photos whose best class was right.
    pub accuracy: f32,
    /// Mean cross-entropy of the validation photos, after the epoch.
    pub val_loss: Option<f32>,
    /// Share of validation photos whose best class is right, after the epoch.
    pub val_accuracy: Option<f32>,
    /// The learning rate of its last step.
    #[serde(default)]
    pub learning_rate: f64,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss: {:.4} - accuracy: {:.4}", self.loss, self.accuracy)?;
        if let (Some(loss), Some(accuracy)) = (self.val_loss, self.val_accuracy) {
            write!(f, " - val_loss: {loss:.4} - val_accuracy: {accuracy:.4}")?;
        }
        Ok(())
    }
}

/// The results of every epoch; prints as Keras's lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// In order.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The last epoch.
    #[must_use]
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.epochs.len();
        let width = total.to_string().len();
        for (index, epoch) in self.epochs.iter().enumerate() {
            let end = if index + 1 < total { "\n" } else { "" };
            write!(f, "Epoch {:>width$}/{total} - {epoch}{end}", index + 1)?;
        }
        Ok(())
    }
}

/// What `fit` did, and how long it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FitReport {
    /// The results of every epoch.
    #[serde(flatten)]
    pub history: History,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Photos that were trained on.
    pub train_images: usize,
    /// Photos that were validated on.
    pub valid_images: usize,
    /// Photos, of both, whose features were in the cache.
    pub cached_images: usize,
    /// Files that were not used, each with its reason.
    pub skipped: Vec<Skipped>,
    /// What of the photos was found to train hardly well, with what to do, a sentence each.
    pub warnings: Vec<String>,
    /// Seconds in the frozen part.
    pub feature_seconds: f64,
    /// Seconds of these in which the device waited for photos to be read, decoded and resized.
    pub waiting_seconds: f64,
    /// Seconds in all of `fit`, the frozen part included.
    pub fit_seconds: f64,
    /// Of the whole model.
    pub parameters: Parameters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_keras() {
        let epoch = Epoch {
            loss: 1.23456,
            accuracy: 0.5,
            val_loss: None,
            val_accuracy: None,
            learning_rate: 1e-3,
            seconds: 1.0,
        };
        let mut history = History { epochs: vec![epoch; 10] };
        history.epochs[0] = Epoch { val_loss: Some(2.0), val_accuracy: Some(0.25), ..epoch };
        let text = history.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Epoch  1/10 - loss: 1.2346 - accuracy: 0.5000 - val_loss: 2.0000 - val_accuracy: 0.2500"
        );
        assert_eq!(lines[9], "Epoch 10/10 - loss: 1.2346 - accuracy: 0.5000");
    }
}
