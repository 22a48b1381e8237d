//! What a model says of a photo.

use std::fmt;
use std::sync::Arc;

use rekindle_vision::top;
use serde::Serialize;

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

/// The first of the highest values, as Keras's `argmax`.
pub fn best_class(values: &[f32]) -> usize {
    let best = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, &value)| {
        if value > best.1 { (class, value) } else { best }
    });
    best.0
}
