//! A page about a training run: curves, metrics, and the mistakes that the model is surest of.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use rekindle_infer::{Epoch, Evaluation, FitReport, History, Judged};
use rekindle_vision::{Resize, Skipped, open_image, resize};
use rekindle_weights::replace_file;

use crate::error::TrainError;

/// How many mistakes are shown.
const MISTAKES: usize = 24;
/// The longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 128;
/// The most classes whose matrix is a table.
const MATRIX: usize = 40;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5em;width:150px;vertical-align:top;\
font-size:13px}figure img{width:128px}svg{background:#fafafa;margin-right:1em}.m td{text-align:center;min-width:2em}";

/// Writes one HTML file with everything inside, atomically. `fit` is what [`TrainedModel::report`](crate::TrainedModel::report)
/// gives, `evaluation` that of the validation photos.
///
/// # Errors
/// When the file cannot be written.
pub fn write_html(
    path: impl AsRef<Path>,
    title: &str,
    fit: &FitReport,
    evaluation: Option<&Evaluation>,
) -> Result<(), TrainError> {
    let path = path.as_ref();
    let page = page(title, fit, evaluation);
    replace_file(path, |temporary| std::fs::write(temporary, &page))
        .map_err(|source| TrainError::Report { path: path.to_owned(), source })
}

fn page(title: &str, fit: &FitReport, evaluation: Option<&Evaluation>) -> String {
    let title = escape(title);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    );
    // Writing to a string cannot fail. A model that was loaded says nothing of its training.
    if fit.train_images > 0 {
        let _ = write!(
            page,
            "<p>{} photos trained on, {} validated on, {} classes; {:.1} s, {:.1} s of it in the frozen network; {} of {} parameters trained.</p>",
            fit.train_images,
            fit.valid_images,
            fit.classes.len(),
            fit.fit_seconds,
            fit.feature_seconds,
            fit.parameters.trainable,
            fit.parameters.total
        );
    }
    for warning in &fit.warnings {
        let _ = write!(page, "<p>Note: {}</p>", escape(warning));
    }
    curves(&mut page, &fit.history);
    if let Some(evaluation) = evaluation {
        metrics(&mut page, evaluation);
        matrix(&mut page, evaluation);
        mistakes(&mut page, evaluation);
    }
    let of_evaluation = evaluation.map_or(&[][..], |evaluation| &evaluation.skipped);
    let other = of_evaluation.iter().filter(|file| !fit.skipped.contains(file));
    let skipped: Vec<&Skipped> = fit.skipped.iter().chain(other).collect();
    if !skipped.is_empty() {
        page += "<h2>Files that were not used</h2><ul>";
        for file in skipped {
            let (path, reason) = (file.path.display().to_string(), &file.reason);
            let _ = write!(page, "<li>{}: {}</li>", escape(&path), escape(reason));
        }
        page += "</ul>";
    }
    page + "</html>\n"
}

fn curves(page: &mut String, history: &History) {
    let of = |pick: fn(&Epoch) -> Option<f32>| -> Vec<f32> {
        history.epochs.iter().filter_map(pick).collect()
    };
    if history.epochs.is_empty() {
        return;
    }
    *page += "<h2>Curves</h2>";
    let panels = [
        ("Accuracy", of(|e| Some(e.accuracy)), of(|e| e.val_accuracy)),
        ("Loss", of(|e| Some(e.loss)), of(|e| e.val_loss)),
    ];
    for (name, training, validation) in panels {
        let top = training.iter().chain(&validation).copied().fold(f32::MIN_POSITIVE, f32::max);
        let _ = write!(
            page,
            "<svg width=\"440\" height=\"280\" role=\"img\"><text x=\"20\" y=\"20\">{name}, up to {top:.3}; blue training, orange validation</text>"
        );
        for (values, color) in [(training, "#1f77b4"), (validation, "#ff7f0e")] {
            let step = 400.0 / (values.len().max(2) - 1) as f32;
            let points = values.iter().enumerate();
            let points = points.map(|(i, v)| {
                format!("{:.1},{:.1}", 20.0 + i as f32 * step, 260.0 - 220.0 * v / top)
            });
            let points: Vec<String> = points.collect();
            let _ = write!(
                page,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2.5\" points=\"{}\"/>",
                points.join(" ")
            );
        }
        *page += "</svg>";
    }
}

fn metrics(page: &mut String, evaluation: &Evaluation) {
    let _ = write!(
        page,
        "<h2>Metrics</h2><p>{} photos: loss {:.4}, accuracy {:.2} %, macro F1 {:.4}</p><table><tr><th>class<th>photos<th>precision<th>recall<th>F1<th>ROC-AUC</tr>",
        evaluation.images,
        evaluation.loss,
        evaluation.accuracy * 100.0,
        evaluation.macro_f1
    );
    for (class, metrics) in evaluation.classes.iter().zip(&evaluation.per_class) {
        let auc = metrics.roc_auc.map_or("-".to_owned(), |auc| format!("{auc:.4}"));
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{:.4}<td>{:.4}<td>{:.4}<td>{auc}</tr>",
            escape(class),
            metrics.images,
            metrics.precision,
            metrics.recall,
            metrics.f1
        );
    }
    *page += "</table>";
}

fn matrix(page: &mut String, evaluation: &Evaluation) {
    if evaluation.confusion.is_empty() || evaluation.classes.len() > MATRIX {
        return;
    }
    *page += "<h2>Confusion matrix</h2><p>Rows are what photos show, columns what they were taken for.</p><table class=\"m\"><tr><th>";
    for class in &evaluation.classes {
        let _ = write!(page, "<th>{}", escape(class));
    }
    for (row, (class, counts)) in evaluation.classes.iter().zip(&evaluation.confusion).enumerate() {
        let _ = write!(page, "</tr><tr><td>{}", escape(class));
        let total = counts.iter().sum::<usize>().max(1) as f64;
        for (column, count) in counts.iter().enumerate() {
            let color = if row == column { "31,119,180" } else { "255,127,14" };
            let share = *count as f64 / total;
            // Dark cells have light numbers.
            let text = if share > 0.6 { ";color:#fff" } else { "" };
            let _ = write!(page, "<td style=\"background:rgba({color},{share:.2}){text}\">{count}");
        }
    }
    *page += "</tr></table>";
}

fn mistakes(page: &mut String, evaluation: &Evaluation) {
    let mistakes = evaluation.mistakes();
    if mistakes.is_empty() {
        *page += "<h2>Mistakes</h2><p>None.</p>";
        return;
    }
    let _ = write!(
        page,
        "<h2>Mistakes</h2><p>{} photos, those first of which the model is surest.</p>",
        mistakes.len()
    );
    for photo in mistakes.into_iter().take(MISTAKES) {
        let Judged { path, labels, probabilities } = photo;
        let names: Vec<&str> =
            labels.iter().map(|&label| evaluation.classes[label].as_str()).collect();
        let best = photo.best();
        let picture = thumbnail(path).map_or_else(
            || String::from("<p>(no picture)</p>"),
            |data| format!("<img alt=\"\" src=\"data:image/jpeg;base64,{data}\">"),
        );
        let _ = write!(
            page,
            "<figure>{picture}<figcaption>{} as <b>{}</b>, {:.1} %<br><small>{}</small></figcaption></figure>",
            escape(&names.join(", ")),
            escape(&evaluation.classes[best]),
            probabilities[best] * 100.0,
            escape(&path.display().to_string())
        );
    }
}

/// A small JPEG, as base64; nothing for what cannot be opened any more.
fn thumbnail(path: &Path) -> Option<String> {
    let image = open_image(path).ok()?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let scale = (THUMBNAIL as f64 / width.max(height) as f64).min(1.0);
    let shrunk = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    let (across, down) = (shrunk(width), shrunk(height));
    let pixels = resize(&image, across, down, Resize::Bilinear).ok()?;
    let bytes: Vec<u8> = pixels.values.iter().map(|&value| value as u8).collect();
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80)
        .encode(&bytes, across as u32, down as u32, image::ExtendedColorType::Rgb8)
        .ok()?;
    Some(STANDARD.encode(jpeg))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
