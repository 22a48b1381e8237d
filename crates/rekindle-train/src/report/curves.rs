//! Pictures, by plotters.

use std::path::Path;
use std::sync::Once;

use epaint_default_fonts::HACK_REGULAR;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use rekindle_infer::{Epoch, History};
use rekindle_weights::replace_file;

use super::Line;
use crate::error::TrainError;

/// A line: its name, its color, its value in each epoch.
type Series<'a> = (&'a str, RGBColor, Vec<f32>);

const TRAINING: RGBColor = RGBColor(31, 119, 180);
const VALIDATION: RGBColor = RGBColor(255, 127, 14);

/// Draws lines over powers of ten, with a mark, as a PNG of 800 x 500 pixels.
pub(crate) fn draw_lines(
    path: &Path,
    title: &str,
    x: &str,
    lines: &[Line<'_>],
    mark: Option<f32>,
) -> Result<(), TrainError> {
    draw_png(path, |png| {
        let root = BitMapBackend::new(png, (800, 500)).into_drawing_area();
        root.fill(&WHITE)?;
        let points = || lines.iter().flat_map(|line| &line.points).copied();
        let most = |pick: fn((f32, f32)) -> f32| points().map(pick).fold(f32::MIN, f32::max);
        let least = |pick: fn((f32, f32)) -> f32| points().map(pick).fold(f32::MAX, f32::min);
        let (left, right) = (least(|p| p.0), most(|p| p.0).max(least(|p| p.0) + 1.0));
        let top = most(|p| p.1).max(f32::MIN_POSITIVE) * 1.05;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(x)
            .x_label_formatter(&|power| format!("1e{power:.0}"))
            .y_label_formatter(&|value| format!("{value:.2}"))
            .label_style(("sans-serif", 15))
            .draw()?;
        for line in lines {
            let style = ShapeStyle::from(&TRAINING).stroke_width(3);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(line.name);
        }
        if let Some(mark) = mark {
            let style = ShapeStyle::from(&VALIDATION).stroke_width(2);
            chart.draw_series(LineSeries::new([(mark, 0.0), (mark, top)], style))?;
        }
        root.present()?;
        Ok(())
    })
}

/// Draws accuracy and loss over the epochs, training and validation, as a PNG of 1200 x 500 pixels.
///
/// # Errors
/// When the file cannot be written.
pub fn draw_curves(history: &History, path: &Path) -> Result<(), TrainError> {
    draw_png(path, |png| draw(history, png))
}

/// Has `draw` make a PNG, which then takes its place at once.
pub(crate) fn draw_png(
    path: &Path,
    draw: impl FnOnce(&Path) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), TrainError> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Fails for a font that cannot be parsed only; the text is then left out with an error below.
        let _ = register_font("sans-serif", FontStyle::Normal, HACK_REGULAR);
    });
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
        root.fill(&WHITE)?;
        let text = ("sans-serif", size).into_font().color(&BLACK);
        for (row, counts) in confusion.iter().enumerate() {
            let total = counts.iter().sum::<usize>().max(1) as f64;
            for (column, &value) in counts.iter().enumerate() {
                let (x, y) = (margin + cell * column as i32, margin + cell * row as i32);
                let share = value as f64 / total;
                let color = if row == column { TRAINING } else { VALIDATION };
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

fn draw(history: &History, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = BitMapBackend::new(path, (1200, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let values = |pick: fn(&Epoch) -> Option<f32>| history.epochs.iter().filter_map(pick).collect();
    let (left, right) = root.split_horizontally(600);
    let accuracy: [Series<'_>; 2] = [
        ("training", TRAINING, values(|epoch| Some(epoch.accuracy))),
        ("validation", VALIDATION, values(|epoch| epoch.val_accuracy)),
    ];
    let loss: [Series<'_>; 2] = [
        ("training", TRAINING, values(|epoch| Some(epoch.loss))),
        ("validation", VALIDATION, values(|epoch| epoch.val_loss)),
    ];
    panel(&left, "Accuracy", Some(1.0), &accuracy)?;
    panel(&right, "Loss", None, &loss)?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    title: &str,
    top: Option<f32>,
    series: &[Series<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let highest = series.iter().flat_map(|(_, _, values)| values).copied().fold(0.0_f32, f32::max);
    let top = top.unwrap_or(highest * 1.05).max(f32::MIN_POSITIVE);
    let epochs = series.iter().map(|(_, _, values)| values.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(1.0..epochs.max(2) as f32, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("epoch")
        .x_labels(epochs.clamp(2, 10))
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .label_style(("sans-serif", 15))
        .draw()?;
    for (name, color, values) in series.iter().filter(|(_, _, values)| !values.is_empty()) {
        let points = values.iter().enumerate().map(|(index, &value)| ((index + 1) as f32, value));
        let style = ShapeStyle::from(color).stroke_width(3);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 15))
        .position(SeriesLabelPosition::MiddleRight)
        .draw()?;
    Ok(())
}
