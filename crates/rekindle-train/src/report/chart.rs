//! How charts are drawn: the same code makes the pixels of a PNG and the SVG of a page.
//!
//! A page shows its charts in other colors where it is dark: `html.rs` replaces [`PAPER`], [`INK`] and [`GRID`].

use std::error::Error;
use std::ops::Range;
use std::sync::Once;

use epaint_default_fonts::HACK_REGULAR;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use rekindle_infer::{Epoch, History};

use super::Line;

pub(super) const BLUE: RGBColor = RGBColor(31, 119, 180);
pub(super) const ORANGE: RGBColor = RGBColor(255, 127, 14);
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);

/// Lines of more points than that have no circles at them.
const CIRCLES: usize = 40;
/// The share of the axis that is free for names at its left.
const ROOM: f64 = 0.15;
/// About how many numbers stand at an axis.
const TICKS: usize = 8;

/// A line of a chart, with its color.
pub(super) struct Series<'a> {
    pub line: Line<'a>,
    pub color: RGBColor,
}

/// What the numbers of an axis are.
#[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "a page has epochs only"))]
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// From the least to the largest value.
    Values,
    /// From zero to the largest value, or to this where it is larger.
    FromZero(f64),
    /// Whole numbers, from 1.
    Count,
    /// The values are logarithms to base 10.
    Powers,
}

impl Axis {
    /// The values that the axis has, and where its numbers are.
    fn ticks(self, values: impl Iterator<Item = f64> + Clone) -> (Range<f64>, Vec<f64>) {
        let finite = values.filter(|value| value.is_finite());
        let least = finite.clone().fold(f64::INFINITY, f64::min);
        let most = finite.fold(f64::NEG_INFINITY, f64::max);
        let (least, most) = if least <= most { (least, most) } else { (0.0, 1.0) };
        let range = match self {
            Self::FromZero(at_least) if most > at_least => 0.0..most * 1.05,
            Self::FromZero(at_least) => 0.0..at_least.max(f64::MIN_POSITIVE),
            Self::Count => 1.0..most.max(2.0),
            Self::Values | Self::Powers if most > least => least..most,
            Self::Values | Self::Powers => {
                let margin = (least.abs() / 100.0).max(0.5);
                least - margin..most + margin
            }
        };
        let whole = matches!(self, Self::Count | Self::Powers);
        let step = step(range.end - range.start, whole);
        let first = (range.start / step).ceil() as i64;
        let last = (range.end / step + 1e-9).floor() as i64;
        (range, (first..=last).map(|tick| tick as f64 * step).collect())
    }

    fn label(self, value: f64, step: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Powers if (0.0..=6.0).contains(&value) => format!("{:.0}", 10f64.powf(value)),
            Self::Powers => format!("1e{value:.0}"),
            Self::Values | Self::FromZero(_) if value == 0.0 => "0".into(),
            // Learning rates.
            Self::Values | Self::FromZero(_) if step < 1e-3 => {
                let digits = (value.abs().log10().floor() - step.log10().floor()).max(0.0);
                format!("{value:.*e}", digits as usize).replace(".0e", "e")
            }
            Self::Values | Self::FromZero(_) => {
                format!("{value:.*}", (-step.log10().floor()).max(0.0) as usize)
            }
        }
    }
}

/// What a history is drawn as: accuracy and loss, then the learning rate and the time of each epoch.
pub(super) fn charts(history: &History) -> [Chart<'static>; 4] {
    let series = |name, color, pick: fn(&Epoch) -> Option<f64>| {
        let values = history.epochs.iter().enumerate();
        let point = |(index, epoch)| Some(((index + 1) as f64, pick(epoch)?));
        Series { line: Line { name, points: values.filter_map(point).collect() }, color }
    };
    let both = |training, validation| {
        let validation = series("validation", ORANGE, validation);
        let validation = Some(validation).filter(|series| !series.line.points.is_empty());
        [series("training", BLUE, training)].into_iter().chain(validation).collect()
    };
    let chart = |title, y, series| Chart {
        title,
        x: ("epoch", Axis::Count),
        y,
        series,
        points: Vec::new(),
        mark: None,
    };
    [
        chart(
            "Accuracy",
            Axis::FromZero(1.0),
            both(|epoch| Some(epoch.accuracy.into()), |epoch| epoch.val_accuracy.map(f64::from)),
        ),
        chart(
            "Loss",
            Axis::FromZero(0.0),
            both(|epoch| Some(epoch.loss.into()), |epoch| epoch.val_loss.map(f64::from)),
        ),
        chart(
            "Learning rate",
            Axis::FromZero(0.0),
            vec![series("rate", BLUE, |epoch| Some(epoch.learning_rate))],
        ),
        chart(
            "Seconds",
            Axis::FromZero(0.0),
            vec![series("seconds", BLUE, |epoch| Some(epoch.seconds))],
        ),
    ]
}

/// 1, 2 or 5 times a power of ten, so that about [`TICKS`] of it are `length`.
fn step(length: f64, whole: bool) -> f64 {
    let least = length / TICKS as f64;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    let step = step.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power);
    if whole { step.max(1.0) } else { step }
}

/// An axis whose numbers are where [`Axis::ticks`] says.
struct Ticks(Range<f64>, Vec<f64>);

impl Ranged for Ticks {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (value - self.0.start) / (self.0.end - self.0.start);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.1.clone()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

/// Lines over an axis.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    /// What the horizontal axis is, and its numbers.
    pub x: (&'a str, Axis),
    pub y: Axis,
    pub series: Vec<Series<'a>>,
    /// Points that are not joined, and what is written at them.
    pub points: Vec<((f64, f64), Option<&'a str>)>,
    /// A value of the horizontal axis that a line goes through.
    pub mark: Option<f64>,
}

impl Chart<'_> {
    /// Draws it into an area, whatever that is made of.
    pub fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        use_font();
        let points = self.series.iter().flat_map(|series| &series.line.points);
        let points = points.chain(self.points.iter().map(|(point, _)| point));
        let (mut across, x_ticks) = self.x.1.ticks(points.clone().map(|point| point.0));
        if self.points.iter().any(|(_, name)| name.is_some()) {
            // Names stand left of their points.
            across.start -= (across.end - across.start) * ROOM;
        }
        let (up, y_ticks) = self.y.ticks(points.map(|point| point.1));
        let x_step = step(across.end - across.start, false);
        let y_step = step(up.end - up.start, false);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 22).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d(Ticks(across, x_ticks), Ticks(up.clone(), y_ticks))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_desc(self.x.0)
            .x_label_formatter(&|value| self.x.1.label(*value, x_step))
            .y_label_formatter(&|value| self.y.label(*value, y_step))
            .label_style(("sans-serif", 15).into_font().color(&INK))
            .draw()?;
        for Series { line, color } in &self.series {
            // A value that is none, as the loss of a run that went wrong, leaves a gap.
            for part in line.points.split(|point| !point.1.is_finite()) {
                let style = ShapeStyle::from(color).stroke_width(3);
                let drawn = chart.draw_series(LineSeries::new(part.iter().copied(), style))?;
                if part.as_ptr() == line.points.as_ptr() {
                    drawn
                        .label(line.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
                }
                if line.points.len() <= CIRCLES {
                    let circle = |point: &(f64, f64)| Circle::new(*point, 4, color.filled());
                    chart.draw_series(part.iter().map(circle))?;
                }
            }
        }
        for (point, name) in &self.points {
            chart.draw_series([Circle::new(*point, 4, BLUE.filled())])?;
            if let Some(name) = name {
                let style = ("sans-serif", 13).into_font().color(&INK);
                // Left of the point and above it, where no better network is.
                let style = style.pos(Pos::new(HPos::Right, VPos::Bottom));
                let text =
                    EmptyElement::at(*point) + Text::new((*name).to_owned(), (-6, -3), style);
                chart.draw_series([text])?;
            }
        }
        if let Some(mark) = self.mark {
            let style = ShapeStyle::from(&ORANGE).stroke_width(2);
            chart.draw_series(LineSeries::new([(mark, up.start), (mark, up.end)], style))?;
        }
        if self.series.len() > 1 {
            chart
                .configure_series_labels()
                .background_style(PAPER.mix(0.85))
                .border_style(GRID)
                .label_font(("sans-serif", 15).into_font().color(&INK))
                .position(SeriesLabelPosition::MiddleRight)
                .draw()?;
        }
        Ok(())
    }
}

/// Text is drawn, or measured, with a font that is in the program.
pub(super) fn use_font() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Fails for a font that cannot be parsed only; the text is then left out with an error where it is drawn.
        let _ = register_font("sans-serif", FontStyle::Normal, HACK_REGULAR);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, values: &[f64]) -> Vec<String> {
        let (range, ticks) = axis.ticks(values.iter().copied());
        let step = step(range.end - range.start, false);
        ticks.into_iter().map(|tick| axis.label(tick, step)).collect()
    }

    #[test]
    fn axes_have_round_numbers() {
        let share = Axis::FromZero(1.0);
        assert_eq!(labels(share, &[0.3, 0.9]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(Axis::Count, &[1.0, 4.0]), ["1", "2", "3", "4"]);
        assert_eq!(labels(Axis::Count, &[1.0]), ["1", "2"]);
        assert_eq!(labels(Axis::Count, &[1.0, 30.0]), ["5", "10", "15", "20", "25", "30"]);
        assert_eq!(labels(Axis::Powers, &[-7.0, -4.0]), ["1e-7", "1e-6", "1e-5", "1e-4"]);
        let rates = ["0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"];
        assert_eq!(labels(Axis::FromZero(0.0), &[1e-5]), rates);
        assert_eq!(
            labels(Axis::FromZero(0.0), &[0.0, 2.4]).last().map(String::as_str),
            Some("2.5")
        );
    }

    #[test]
    fn axes_of_nothing_and_of_what_is_no_number_end() {
        for axis in [Axis::Values, Axis::FromZero(0.0), Axis::Count, Axis::Powers] {
            for values in [&[][..], &[f64::NAN], &[f64::INFINITY, f64::NAN], &[3.0], &[1e300]] {
                let (range, ticks) = axis.ticks(values.iter().copied());
                assert!(range.start < range.end && ticks.len() <= 2 * TICKS, "{values:?}");
            }
        }
    }
}
