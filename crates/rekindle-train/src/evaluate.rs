use std::fmt;

use burn::tensor::{Tensor, backend::Backend};
use serde::Serialize;

/// The values of a tensor, on the host.
pub(crate) fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    // The conversion makes it f32, whatever the backend computes with.
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// The first of the highest values, as Keras's `argmax`.
pub(crate) fn best_class(values: &[f32]) -> usize {
    let best = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, &value)| {
        if value > best.1 { (class, value) } else { best }
    });
    best.0
}

/// How well a model does on labelled photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many photos there are.
    pub images: usize,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share whose best class is right (top-1).
    pub accuracy: f64,
    /// The classes, in the order of the matrix.
    pub classes: Vec<String>,
    /// `confusion[truth][prediction]`: how many photos.
    pub confusion: Vec<Vec<usize>>,
}

impl Evaluation {
    pub(crate) fn new(classes: &[String]) -> Self {
        let confusion = vec![vec![0; classes.len()]; classes.len()];
        Self { images: 0, loss: 0.0, accuracy: 0.0, classes: classes.to_vec(), confusion }
    }

    /// Adds one photo's probabilities.
    pub(crate) fn add(&mut self, truth: usize, probabilities: &[f32]) {
        // Keras clips so that the logarithm stays finite.
        let p = f64::from(probabilities[truth]).max(1e-7);
        let right = best_class(probabilities) == truth;
        let before = self.images as f64;
        self.images += 1;
        self.loss = (self.loss * before - p.ln()) / (before + 1.0);
        self.accuracy = (self.accuracy * before + f64::from(u8::from(right))) / (before + 1.0);
        self.confusion[truth][best_class(probabilities)] += 1;
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} images - loss: {:.4} - accuracy: {:.4}",
            self.images, self.loss, self.accuracy
        )?;
        let width = self.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        let rows = self.classes.iter().zip(&self.confusion).enumerate();
        for (index, (class, row)) in rows.filter(|(_, (_, row))| row.iter().sum::<usize>() > 0) {
            let total: usize = row.iter().sum();
            write!(f, "\n{class:width$}  {}/{total} right", row[index])?;
            let taken = self.classes.iter().zip(row).enumerate();
            let wrong = taken.filter(|(other, (_, count))| *other != index && **count > 0);
            let wrong: Vec<String> =
                wrong.map(|(_, (name, count))| format!("{count} as {name}")).collect();
            if !wrong.is_empty() {
                write!(f, ", {}", wrong.join(", "))?;
            }
        }
        Ok(())
    }
}
