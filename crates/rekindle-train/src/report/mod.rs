//! What a run did and how good a model is, for people: pictures and a page.

#[cfg(any(test, not(all(feature = "plots", feature = "html"))))]
mod absent;
#[cfg(any(feature = "plots", feature = "html"))]
mod chart;
#[cfg(feature = "plots")]
mod curves;
#[cfg(feature = "html")]
mod html;

use std::path::Path;

use rekindle_infer::Evaluation;

use crate::error::TrainError;

#[cfg(not(feature = "html"))]
pub use self::absent::write_html;
#[cfg(not(feature = "plots"))]
pub(crate) use self::absent::{draw_confusion, draw_line};
#[cfg(not(feature = "plots"))]
pub use self::absent::{draw_curves, draw_trade_off};
#[cfg(feature = "plots")]
pub(crate) use self::curves::{draw_confusion, draw_line};
#[cfg(feature = "plots")]
pub use self::curves::{draw_curves, draw_trade_off};
#[cfg(feature = "html")]
pub use self::html::write_html;

/// A line of points.
#[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "only plots read it"))]
pub(crate) struct Line<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// Draws what an [`Evaluation`] found.
pub trait DrawConfusion {
    /// Draws the confusion matrix, as a PNG.
    ///
    /// # Errors
    /// When photos may be of several classes, the file cannot be written, or the program was built without the feature
    /// `plots`.
    fn draw_confusion(&self, path: impl AsRef<Path>) -> Result<(), TrainError>;
}

impl DrawConfusion for Evaluation {
    fn draw_confusion(&self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        draw_confusion(path.as_ref(), &self.classes, &self.confusion)
    }
}
