use std::path::Path;
use std::sync::Once;

use epaint_default_fonts::HACK_REGULAR;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use rekindle_weights::{WeightsError, write_atomic};

use crate::{History, TrainError};

/// A line: its name, its color, its value in each epoch.
type Series<'a> = (&'a str, RGBColor, Vec<f32>);

const TRAINING: RGBColor = RGBColor(31, 119, 180);
const VALIDATION: RGBColor = RGBColor(255, 127, 14);

/// Draws accuracy and loss over the epochs, training and validation, as a PNG of 1200 x 500 pixels.
///
/// # Errors
/// When the file cannot be written.
pub fn draw_curves(history: &History, path: &Path) -> Result<(), TrainError> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Fails for a font that cannot be parsed only; the text is then left out with an error below.
        let _ = register_font("sans-serif", FontStyle::Normal, HACK_REGULAR);
    });
    let curves = |reason: String| TrainError::Curves { path: path.to_owned(), reason };
    let mut failure = None;
    let written = write_atomic(path, |temporary| {
        // plotters picks the format by the name.
        let png = temporary.with_extension("png");
        let result = draw(history, &png).map_err(|error| error.to_string());
        let moved = std::fs::rename(&png, temporary);
        match (result, moved) {
            (Ok(()), Ok(())) => Ok(()),
            (result, moved) => {
                failure = result.err();
                let source = moved.err().unwrap_or_else(|| std::io::Error::other("not drawn"));
                Err(WeightsError::Io { path: path.to_owned(), source })
            }
        }
    });
    match failure {
        Some(reason) => Err(curves(reason)),
        None => Ok(written?),
    }
}

fn draw(history: &History, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = BitMapBackend::new(path, (1200, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let values =
        |pick: fn(&crate::Epoch) -> Option<f32>| history.epochs.iter().filter_map(pick).collect();
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
