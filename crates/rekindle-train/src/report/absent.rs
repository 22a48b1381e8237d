//! What the program was built without.

use std::path::Path;

use crate::error::TrainError;

fn absent(path: &Path, what: &str, feature: &'static str) -> Result<(), TrainError> {
    Err(TrainError::Feature { what: format!("{}: {what}", path.display()), feature })
}

#[cfg(any(test, not(feature = "plots")))]
mod plots {
    use rekindle_infer::History;

    use super::super::Line;
    use super::{Path, TrainError, absent};

    const FEATURE: &str = "plots";

    pub(crate) fn draw_line(
        path: &Path,
        _: &str,
        _: &str,
        _: Line<'_>,
        _: f64,
    ) -> Result<(), TrainError> {
        absent(path, "a picture of curves", FEATURE)
    }

    /// Always an error that names the feature `plots`.
    ///
    /// # Errors
    /// Always: this program was built without the feature.
    pub fn draw_curves(_: &History, path: &Path) -> Result<(), TrainError> {
        absent(path, "a picture of curves", FEATURE)
    }

    /// Always an error that names the feature `plots`.
    ///
    /// # Errors
    /// Always: this program was built without the feature.
    pub fn draw_trade_off(
        path: &Path,
        _: &str,
        _: (&str, &str),
        _: &[(&str, f64, f64)],
    ) -> Result<(), TrainError> {
        absent(path, "a picture of points", FEATURE)
    }

    pub(crate) fn draw_confusion(
        path: &Path,
        _: &[String],
        _: &[Vec<usize>],
    ) -> Result<(), TrainError> {
        absent(path, "a picture of a confusion matrix", FEATURE)
    }
}

#[cfg(not(feature = "plots"))]
pub(crate) use plots::{draw_confusion, draw_line};
#[cfg(not(feature = "plots"))]
pub use plots::{draw_curves, draw_trade_off};

#[cfg(any(test, not(feature = "html")))]
mod html {
    use rekindle_infer::{Evaluation, FitReport};

    use super::{Path, TrainError, absent};

    /// Always an error that names the feature `html`.
    ///
    /// # Errors
    /// Always: this program was built without the feature.
    pub fn write_html(
        path: impl AsRef<Path>,
        _: &str,
        _: &FitReport,
        _: Option<&Evaluation>,
    ) -> Result<(), TrainError> {
        absent(path.as_ref(), "an HTML report", "html")
    }
}

#[cfg(not(feature = "html"))]
pub use html::write_html;

#[cfg(test)]
mod tests {
    use rekindle_infer::{FitReport, History};

    use super::*;
    use crate::report::Line;

    #[test]
    fn what_is_not_built_in_is_an_error_that_names_the_feature() {
        let path = Path::new("result");
        let names = |result: Result<(), TrainError>, name: &str| {
            assert!(
                matches!(&result, Err(TrainError::Feature { feature, .. }) if *feature == name)
            );
            let said = result.expect_err("not built in").to_string();
            assert!(said.starts_with("result: ") && said.contains(name), "{said}");
        };
        names(plots::draw_curves(&History::default(), path), "plots");
        names(plots::draw_line(path, "", "", Line { name: "", points: Vec::new() }, 0.0), "plots");
        names(plots::draw_trade_off(path, "", ("", ""), &[]), "plots");
        names(plots::draw_confusion(path, &[], &[]), "plots");
        names(html::write_html(path, "", &FitReport::default(), None), "html");
        assert!(!path.exists());
    }
}
