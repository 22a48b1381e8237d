use std::cmp::Ordering;
use std::fmt::Write;
use std::path::Path;

use rekindle::kernels::{PlanConfig, Precision, lower};
use rekindle::prelude::*;
use serde::Serialize;

use super::bench::{median, pixels};
use crate::args::{ModelsArgs, SortBy};
use crate::{Outcome, print};

/// What is known of one network, with ImageNet's top.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    minimalistic: bool,
    parameters: usize,
    /// Of its weights as f32, as Keras counts: 2^20 bytes are one.
    megabytes: f64,
    size: usize,
    /// Percent, of the published weights.
    top_1: Option<f64>,
    top_5: Option<f64>,
    depth: Option<usize>,
    /// Keras's mode of preprocessing; `none` where the network does it.
    preprocessing: &'static str,
    /// Whether `--weights imagenet` has a file for it.
    imagenet: bool,
    paper: &'static str,
    /// The median of one photo on this machine's CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

impl Row {
    fn of(architecture: Architecture) -> Result<Self, Box<dyn std::error::Error>> {
        let (family, settings) = (architecture.family, architecture.settings);
        let parameters = architecture.with_top(Some(1000)).graph()?.summary().parameters.total;
        // What is published of accuracy is of the default settings.
        let accuracy = family.accuracy.filter(|_| settings == family.settings());
        Ok(Self {
            name: family.name,
            alpha: settings.alpha,
            minimalistic: settings.minimalistic,
            parameters,
            megabytes: parameters as f64 * 4.0 / f64::from(1 << 20),
            size: family.default_size,
            top_1: accuracy.map(|accuracy| accuracy.top_1),
            top_5: accuracy.and_then(|accuracy| accuracy.top_5),
            depth: family.depth,
            preprocessing: family.preprocessing,
            imagenet: (family.published)(&settings).is_some(),
            paper: family.paper,
            milliseconds: None,
        })
    }

    /// The name with what differs from the default settings.
    fn title(&self) -> String {
        let mut title = self.name.to_owned();
        if let Some(alpha) = self.alpha.filter(|&alpha| alpha != 1.0) {
            title += &format!(" --alpha {alpha:?}");
        }
        if self.minimalistic {
            title += " --minimalistic";
        }
        title
    }

    fn compare(&self, other: &Self, by: SortBy) -> Ordering {
        // The best first; what is not known comes last.
        let most = |a: Option<f64>, b: Option<f64>| {
            b.unwrap_or(f64::MIN).total_cmp(&a.unwrap_or(f64::MIN))
        };
        match by {
            SortBy::Name => self.title().cmp(&other.title()),
            SortBy::Parameters => self.parameters.cmp(&other.parameters),
            SortBy::Size => self.size.cmp(&other.size),
            SortBy::Top1 => most(self.top_1, other.top_1),
            SortBy::Top5 => most(self.top_5, other.top_5),
            SortBy::Depth => {
                self.depth.unwrap_or(usize::MAX).cmp(&other.depth.unwrap_or(usize::MAX))
            }
            SortBy::Time => {
                let time = |row: &Self| row.milliseconds.unwrap_or(f64::MAX);
                time(self).total_cmp(&time(other))
            }
        }
    }
}

pub fn run(args: &ModelsArgs) -> Outcome {
    if args.sort == Some(SortBy::Time) && !args.measure {
        return Err("--sort time needs --measure".into());
    }
    if args.runs == 0 {
        return Err("--runs has to be at least 1".into());
    }
    let mut rows = Vec::new();
    for architecture in Architecture::all() {
        let is_default = architecture.settings == architecture.family.settings();
        if !is_default && !args.all {
            continue;
        }
        let mut row = Row::of(architecture)?;
        if args.measure {
            eprintln!("measuring {architecture}");
            row.milliseconds = Some(measure(architecture, args.runs)?);
        }
        rows.push(row);
    }
    if let Some(path) = &args.plot {
        plot(path, &rows)?;
    }
    if let Some(by) = args.sort {
        rows.sort_by(|a, b| a.compare(b, by));
    }
    print(&if args.json { serde_json::to_string_pretty(&rows)? } else { table(&rows)? })
}

/// Draws the networks whose accuracy is published.
fn plot(path: &Path, rows: &[Row]) -> Outcome {
    let titles: Vec<String> = rows.iter().map(Row::title).collect();
    let (drawn, left_out): (Vec<_>, Vec<_>) = rows
        .iter()
        .zip(&titles)
        .map(|(row, title)| (title.as_str(), row.milliseconds.zip(row.top_1)))
        .partition(|(_, known)| known.is_some());
    let points: Vec<_> = drawn
        .iter()
        .filter_map(|(title, known)| known.map(|(time, top_1)| (*title, time, top_1)))
        .collect();
    let title = format!("Networks of Keras, {} threads, f32", rekindle::kernels::threads());
    let axes = ("milliseconds of one photo", "top-1 in percent");
    rekindle::train::draw_trade_off(path, &title, axes, &points)?;
    eprintln!("drew {}", path.display());
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().map(|(title, _)| *title).collect();
        eprintln!("not in it, since their accuracy is not published: {}", names.join(", "));
    }
    Ok(())
}

/// Milliseconds of one photo, on the CPU in f32.
fn measure(architecture: Architecture, runs: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let network = architecture.with_top(Some(1000)).init::<Flex>(&Default::default())?;
    let plan = lower(&network, None, PlanConfig::detect(Precision::F32)?)?;
    // The plan has weights of its own, in the kernels' order.
    drop(network);
    let images = pixels(architecture.input().count());
    Ok(median(runs, 1, || plan.run(&images).map(drop))?)
}

fn table(rows: &[Row]) -> Result<String, std::fmt::Error> {
    let measured = rows.iter().any(|row| row.milliseconds.is_some());
    let mut text = format!(
        "{:34} {:>12} {:>7} {:>5} {:>6} {:>6} {:>6}",
        "network", "parameters", "MB", "size", "top-1", "top-5", "depth"
    );
    text += if measured { "      ms\n" } else { "\n" };
    let percent =
        |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
    for row in rows {
        let depth = row.depth.map_or_else(|| "-".into(), |depth| depth.to_string());
        write!(
            text,
            "{:34} {:>12} {:>7.1} {:>5} {:>6} {:>6} {depth:>6}",
            row.title(),
            row.parameters,
            row.megabytes,
            row.size,
            percent(row.top_1),
            percent(row.top_5),
        )?;
        match row.milliseconds {
            Some(milliseconds) => writeln!(text, " {milliseconds:>7.1}")?,
            None => writeln!(text)?,
        }
    }
    text += "\nWith ImageNet's top of 1000 classes. MB are 2^20 bytes of f32 weights; size is height and width in pixels; \
             top-1 and top-5 are percent of ImageNet's validation images, as published.";
    if measured {
        write!(
            text,
            "\nms: the median of one photo on this machine's CPU, {} threads, f32.",
            rekindle::kernels::threads()
        )?;
    }
    Ok(text)
}
