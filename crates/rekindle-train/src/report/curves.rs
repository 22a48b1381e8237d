//! Pictures, by plotters.

use std::path::Path;

use plotters::prelude::*;
use rekindle_infer::History;
use rekindle_weights::replace_file;

use super::Line;
use super::chart::{Axis, BLUE, Chart, INK, ORANGE, PAPER, Series, charts, use_font};
use crate::error::TrainError;

/// Draws a line over powers of ten, with a mark, as a PNG of 800 x 500 pixels.
pub(crate) fn draw_line(
    path: &Path,
    title: &str,
    x: &str,
    line: Line<'_>,
    mark: f64,
) -> Result<(), TrainError> {
    let chart = Chart {
        title,
        x: (x, Axis::Powers),
        y: Axis::FromZero(0.0),
        series: vec![Series { line, color: BLUE }],
        points: Vec::new(),
        mark: Some(mark),
    };
    draw_png(path, |png| {
        let root = BitMapBackend::new(png, (800, 500)).into_drawing_area();
        root.fill(&PAPER)?;
        chart.draw(&root)?;
        Ok(root.present()?)
    })
}

/// Draws accuracy and loss over the epochs, training and validation, as a PNG of 1200 x 500 pixels.
///
/// # Errors
/// When the file cannot be written.
pub fn draw_curves(history: &History, path: &Path) -> Result<(), TrainError> {
    let [accuracy, loss, ..] = charts(history);
    draw_png(path, |png| {
        let root = BitMapBackend::new(png, (1200, 500)).into_drawing_area();
        root.fill(&PAPER)?;
        let (left, right) = root.split_horizontally(600);
        accuracy.draw(&left)?;
        loss.draw(&right)?;
        Ok(root.present()?)
    })
}

/// Draws points as a PNG of 1200 x 800 pixels, over an axis of powers of ten: how much of `y` each gives for its `x`. Those that none
/// is better than, in `y` at no more `x`, are joined and named.
///
/// # Errors
/// When a point's `x` is not above zero, or the file cannot be written.
pub fn draw_trade_off(
    path: &Path,
    title: &str,
    (x, y): (&str, &str),
    points: &[(&str, f64, f64)],
) -> Result<(), TrainError> {
    if let Some((name, at, _)) = points.iter().find(|(_, x, _)| !x.is_finite() || *x <= 0.0) {
        let reason = format!("{name} is at {at} of {x}, which has to be above zero");
        return Err(TrainError::Drawing { path: path.to_owned(), reason });
    }
    let best = |&(_, x, y): &(&str, f64, f64)| {
        !points.iter().any(|&(_, other, more)| other <= x && more >= y && (other, more) != (x, y))
    };
    let mut front: Vec<(f64, f64)> =
        points.iter().filter(|point| best(point)).map(|&(_, x, y)| (x.log10(), y)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let title = format!("{title}: {y}");
    let chart = Chart {
        title: &title,
        x: (x, Axis::Powers),
        y: Axis::Values,
        series: vec![Series { line: Line { name: y, points: front }, color: ORANGE }],
        points: points
            .iter()
            .map(|point| ((point.1.log10(), point.2), best(point).then_some(point.0)))
            .collect(),
        mark: None,
    };
    draw_png(path, |png| {
        let root = BitMapBackend::new(png, (1200, 800)).into_drawing_area();
        root.fill(&PAPER)?;
        chart.draw(&root)?;
        Ok(root.present()?)
    })
}

/// Has `draw` make a PNG, which then takes its place at once.
fn draw_png(
    path: &Path,
    draw: impl FnOnce(&Path) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), TrainError> {
    use_font();
    let mut failure = None;
    let written = replace_file(path, |temporary| {
        // plotters picks the format by the name.
        let png = temporary.with_extension("png");
        let result = draw(&png).map_err(|error| error.to_string());
        let moved = std::fs::rename(&png, temporary);
        match (result, moved) {
            (Ok(()), Ok(())) => Ok(()),
            (result, moved) => {
                failure = result.err();
                Err(moved.err().unwrap_or_else(|| std::io::Error::other("not drawn")))
            }
        }
    });
    match failure {
        Some(reason) => Err(TrainError::Drawing { path: path.to_owned(), reason }),
        None => written.map_err(|source| TrainError::Report { path: path.to_owned(), source }),
    }
}

/// Draws how many photos of each class (rows) were taken for which (columns), as a PNG.
pub(crate) fn draw_confusion(
    path: &Path,
    classes: &[String],
    confusion: &[Vec<usize>],
) -> Result<(), TrainError> {
    let count = confusion.len();
    if count == 0 {
        let reason = "photos of several classes have no confusion matrix".to_owned();
        return Err(TrainError::Drawing { path: path.to_owned(), reason });
    }
    // A cell's side, and room for the names.
    let cell = (900 / count as i32).clamp(2, 90);
    let longest = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
    let (size, shown) = ((cell / 3).clamp(9, 16), cell >= 9);
    let margin = if shown { (longest as i32 * size * 6 / 10 + 24).min(320) } else { 24 };
    let side = (margin + cell * count as i32 + 24) as u32;
    draw_png(path, |png| {
        let root = BitMapBackend::new(png, (side, side)).into_drawing_area();
        root.fill(&PAPER)?;
        let text = ("sans-serif", size).into_font().color(&INK);
        for (row, counts) in confusion.iter().enumerate() {
            let total = counts.iter().sum::<usize>().max(1) as f64;
            for (column, &value) in counts.iter().enumerate() {
                let (x, y) = (margin + cell * column as i32, margin + cell * row as i32);
                let share = value as f64 / total;
                let color = if row == column { BLUE } else { ORANGE };
                let square = Rectangle::new(
                    [(x, y), (x + cell - 1, y + cell - 1)],
                    color.mix(share).filled(),
                );
                root.draw(&square)?;
                if value > 0 && shown {
                    let at = (
                        x + cell / 2 - size * value.to_string().len() as i32 / 4,
                        y + cell / 2 - size / 2,
                    );
                    root.draw(&Text::new(value.to_string(), at, text.clone()))?;
                }
            }
            if shown {
                let name: String = classes[row].chars().take(50).collect();
                let middle = margin + cell * row as i32 + cell / 2;
                root.draw(&Text::new(name.clone(), (8, middle - size / 2), text.clone()))?;
                let turned = text.clone().transform(FontTransform::Rotate270);
                root.draw(&Text::new(name, (middle - size / 2, margin - 8), turned))?;
            }
        }
        root.present()?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_time_are_joined() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("networks.png");
        let points = [("small", 3.0, 70.0), ("slow", 40.0, 69.0), ("large", 300.0, 80.0)];
        let axes = ("milliseconds", "top-1");
        draw_trade_off(&path, "Networks", axes, &points).expect("draws");
        let pixels = image::open(&path).expect("a PNG").into_rgb8();
        assert_eq!(pixels.dimensions(), (1200, 800));
        let of = |color: RGBColor| {
            pixels.pixels().filter(|pixel| pixel.0 == [color.0, color.1, color.2]).count()
        };
        assert!(of(ORANGE) > 500 && of(BLUE) > 60 && of(INK) > 500);
        let error = draw_trade_off(&path, "Networks", axes, &[("none", 0.0, 70.0)]);
        assert!(error.expect_err("no logarithm").to_string().contains("none is at 0"));
    }
}
