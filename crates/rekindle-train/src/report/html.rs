//! A page about a training run: curves, metrics, and the mistakes that the model is surest of.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use plotters::prelude::*;
use rekindle_infer::{Evaluation, FitReport, History, Judged};
use rekindle_vision::{Resize, Skipped, open_image, resize};
use rekindle_weights::replace_file;

use super::chart::{GRID, INK, PAPER, charts};
use crate::error::TrainError;

/// How many mistakes are shown.
const MISTAKES: usize = 24;
/// The longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 128;
/// The most classes whose matrix is a table.
const MATRIX: usize = 40;

/// A chart's width and height in pixels, where there is room for it.
const CHART: (u32, u32) = (520, 340);

const STYLE: &str = ":root{color-scheme:light dark;--paper:#fff;--ink:#222;--grid:#e1e1e1}\
@media(prefers-color-scheme:dark){:root{--paper:#17171a;--ink:#ddd;--grid:#3a3a40}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:var(--ink);background:var(--paper)}\
a{color:inherit}.wide{overflow-x:auto}table{border-collapse:collapse;margin:1em 0}\
td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid var(--grid)}td:first-child,th:first-child{text-align:left}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:1em}.charts svg{width:100%;height:auto}\
figure{display:inline-block;margin:.5em;width:150px;vertical-align:top;font-size:13px;overflow-wrap:anywhere}\
figure img{width:128px}li{overflow-wrap:anywhere}.m td{text-align:center;min-width:2em}.m td:first-child{text-align:left}";

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
    let page = page(title, fit, evaluation).map_err(|error| TrainError::Drawing {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    replace_file(path, |temporary| std::fs::write(temporary, &page))
        .map_err(|source| TrainError::Report { path: path.to_owned(), source })
}

fn page(
    title: &str,
    fit: &FitReport,
    evaluation: Option<&Evaluation>,
) -> Result<String, Box<dyn Error>> {
    let (title, theme) = (escape(title), theme());
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}{theme}</style><h1>{title}</h1>"
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
    curves(&mut page, &fit.history)?;
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
            let _ = write!(page, "<li>{}: {}</li>", link(&file.path), escape(&file.reason));
        }
        page += "</ul>";
    }
    Ok(page + "</html>\n")
}

/// The charts' colors are the page's, light or dark.
fn theme() -> String {
    let hex = |color: RGBColor| format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
    let mut style = String::new();
    for (color, variable) in [(PAPER, "paper"), (INK, "ink"), (GRID, "grid")] {
        for attribute in ["fill", "stroke"] {
            let _ = write!(
                style,
                "svg [{attribute}=\"{}\"]{{{attribute}:var(--{variable})}}",
                hex(color)
            );
        }
    }
    style
}

fn curves(page: &mut String, history: &History) -> Result<(), Box<dyn Error>> {
    if history.epochs.is_empty() {
        return Ok(());
    }
    *page += "<h2>Curves</h2><div class=\"charts\">";
    for chart in charts(history) {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, CHART).into_drawing_area();
        root.fill(&PAPER)?;
        chart.draw(&root)?;
        root.present()?;
        drop(root);
        // Within a page it is nothing but an address.
        *page += &svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    }
    *page += "</div><details><summary>Each epoch in numbers</summary><div class=\"wide\"><table><tr><th>epoch<th>loss<th>accuracy<th>validation loss<th>validation accuracy<th>learning rate<th>seconds</tr>";
    let known = |value: Option<f32>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    for (index, epoch) in history.epochs.iter().enumerate() {
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.4}<td>{:.4}<td>{}<td>{}<td>{:e}<td>{:.2}</tr>",
            index + 1,
            epoch.loss,
            epoch.accuracy,
            known(epoch.val_loss),
            known(epoch.val_accuracy),
            epoch.learning_rate,
            epoch.seconds
        );
    }
    *page += "</table></div></details>";
    Ok(())
}

fn metrics(page: &mut String, evaluation: &Evaluation) {
    let _ = write!(
        page,
        "<h2>Metrics</h2><p>{} photos: loss {:.4}, accuracy {:.2} %, macro F1 {:.4}</p><div class=\"wide\"><table><tr><th>class<th>photos<th>precision<th>recall<th>F1<th>ROC-AUC</tr>",
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
    *page += "</table></div>";
}

fn matrix(page: &mut String, evaluation: &Evaluation) {
    if evaluation.confusion.is_empty() || evaluation.classes.len() > MATRIX {
        return;
    }
    *page += "<h2>Confusion matrix</h2><p>Rows are what photos show, columns what they were taken for.</p><div class=\"wide\"><table class=\"m\"><tr><th>";
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
    *page += "</tr></table></div>";
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
            link(path)
        );
    }
}

/// A path that opens the file, where it is one.
fn link(path: &Path) -> String {
    let shown = escape(&path.display().to_string());
    match std::path::absolute(path) {
        Ok(file) if file.exists() => format!("<a href=\"{}\">{shown}</a>", url(&file)),
        // A photo in memory, or one that is gone.
        _ => shown,
    }
}

/// The URL of an absolute path, whatever its bytes are.
fn url(path: &Path) -> String {
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'\\' if cfg!(windows) => url.push('/'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' | b':' => {
                url.push(byte.into());
            }
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    if cfg!(windows) {
        // file:///C:/...
        url.insert(7, '/');
    }
    url
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

#[cfg(test)]
mod tests {
    use rekindle_infer::Epoch;

    use super::*;

    fn fit() -> FitReport {
        let epoch = |index: usize| Epoch {
            loss: 1.0 / (index + 1) as f32,
            accuracy: 0.5,
            val_loss: (index > 0).then_some(0.75),
            val_accuracy: None,
            learning_rate: 1e-3,
            seconds: 0.25,
        };
        let mut fit = FitReport::default();
        fit.history.epochs = (0..3).map(epoch).collect();
        fit
    }

    #[test]
    fn a_page_has_charts_with_axes_in_its_own_colors() {
        let page = page("A <page>", &fit(), None).expect("draws");
        assert_eq!(page.matches("<svg ").count(), 4);
        for text in ["Accuracy", "Loss", "Learning rate", "Seconds", "epoch", "validation", "0.8"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(page.contains("<title>A &lt;page&gt;</title>"));
        // Every color of a chart but those of its lines is one that the page replaces.
        for attribute in ["fill", "stroke"] {
            for part in page.split(&format!(" {attribute}=\"#")).skip(1) {
                let color = &part[..6];
                let lines = ["1F77B4", "FF7F0E"].contains(&color);
                let replaced = theme().contains(&format!("[{attribute}=\"#{color}\"]"));
                assert!(lines || replaced, "{attribute} {color}");
            }
        }
    }

    #[test]
    fn a_run_without_numbers_is_a_page_too() {
        let mut fit = fit();
        fit.history.epochs.iter_mut().for_each(|epoch| epoch.loss = f32::NAN);
        assert!(page("NaN", &fit, None).is_ok());
        fit.history.epochs.clear();
        assert!(!page("Loaded", &fit, None).expect("draws").contains("<svg"));
    }

    #[test]
    fn files_are_linked_whatever_their_names() {
        assert_eq!(
            url(Path::new("/photos/a b#1/\u{fc}?.jpg")),
            "file:///photos/a%20b%231/%C3%BC%3F.jpg"
        );
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a\"b.jpg");
        assert!(!link(&path).contains("href"));
        std::fs::write(&path, []).expect("writes");
        let link = link(&path);
        assert!(link.contains("href=\"file:///") && link.contains("a%22b.jpg\">"), "{link}");
    }
}
