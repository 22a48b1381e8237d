use std::path::{Path, PathBuf};

use burn::backend::Flex;
use clap::Args;
use rekindle::prelude::*;
use rekindle::train::{Bars, QuantizeConfig, QuantizeReport, TrainError};
use rekindle::vision::{Skipped, list_photos};
use serde::Serialize;

use crate::args::{FolderArgs, LabelsArgs, PhotoArgs};
use crate::{Outcome, print};

#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// A trained model of Rekindle's, or a classifier of another program (.keras, .h5, .onnx, ...)
    pub model: PathBuf,
    /// A folder of some hundred photos as the model will see; in one folder for each class, accuracy is compared too
    pub photos_dir: PathBuf,
    /// File to write: the quantized model, .rekindle
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Compute this layer in f32; may be given several times
    #[arg(long, value_name = "LAYER")]
    pub keep: Vec<String>,
    /// Share of the photos whose best class has to stay; while fewer do, the layer that loses most is computed in f32
    #[arg(long, default_value_t = 0.99)]
    pub agreement: f64,
    /// The most photos that are looked at, evenly spread over the folder
    #[arg(long, default_value_t = 256)]
    pub most_photos: usize,
    /// Number of photos for which each layer alone is quantized, to find those that lose most; 0 for none
    #[arg(long, default_value_t = 4)]
    pub photos_by_layer: usize,
    #[command(flatten)]
    pub labels: LabelsArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub photos: PhotoArgs,
    #[command(flatten)]
    pub folders: FolderArgs,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    report: QuantizeReport,
    /// Of photos in folders of the model's classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    /// Of the model's file, where it is one, and of the new one.
    bytes: [Option<u64>; 2],
}

/// The share of photos whose best class is right.
#[derive(Serialize)]
struct Accuracy {
    images: usize,
    f32: f64,
    int8: f64,
}

pub fn run(args: &QuantizeArgs) -> Outcome {
    if args.out.extension().is_none_or(|ending| ending != "rekindle") {
        let out = args.out.display();
        return Err(format!("--out is {out}, expected a file that ends with .rekindle").into());
    }
    let (files, skipped) = list_photos(&args.photos_dir)?;
    if files.is_empty() {
        let skipped = Skipped::summary(&skipped);
        let skipped = skipped.map_or(String::new(), |files| format!(" ({files})"));
        let dir = args.photos_dir.display();
        return Err(format!("{dir}: there are no photos in this folder{skipped}").into());
    }
    let device = Default::default();
    let labels = args.labels.labels.as_deref();
    let model = super::load::<Flex>(&args.model, labels, &args.photos, &device)?;
    let config = QuantizeConfig {
        keep: args.keep.clone(),
        agreement: args.agreement,
        most_photos: args.most_photos,
        photos_by_layer: args.photos_by_layer,
        ..QuantizeConfig::default()
    };
    eprintln!(
        "{} photos, of which at most {} are looked at; {}",
        files.len(),
        args.most_photos,
        model.described()
    );
    let (quantized, report) = model.quantize(&files, &config, &mut Bars::default())?;
    let accuracy = accuracy(args, &model, &quantized)?;
    quantized.save(&args.out)?;
    let size = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
    let found = Found { report, accuracy, bytes: [size(&args.model), size(&args.out)] };
    eprintln!("wrote {}", args.out.display());
    print(&if args.json { serde_json::to_string_pretty(&found)? } else { text(&found) })
}

/// Compares both models with the names of the folders, where the photos are in folders that have the names of classes.
fn accuracy(
    args: &QuantizeArgs,
    model: &TrainedModel<Flex>,
    quantized: &TrainedModel<Flex>,
) -> Result<Option<Accuracy>, TrainError> {
    let folder = match super::labelled(&args.photos_dir, args.folders) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("note: accuracy is not compared: {error}");
            return Ok(None);
        }
    };
    let before = match model.evaluate_with(&folder, &mut Bars::default()) {
        Ok(before) => before,
        Err(error) => {
            eprintln!("note: accuracy is not compared: {error}");
            return Ok(None);
        }
    };
    let after = quantized.evaluate_with(&folder, &mut Bars::default())?;
    let (images, f32, int8) = (before.images, before.accuracy, after.accuracy);
    Ok(Some(Accuracy { images, f32, int8 }))
}

fn text(found: &Found) -> String {
    let mut text = found.report.to_string();
    if let Some(Accuracy { images, f32, int8 }) = &found.accuracy {
        let (before, after) = (f32 * 100.0, int8 * 100.0);
        text +=
            &format!("\naccuracy on {images} photos: {before:.2} % in f32, {after:.2} % in int8");
    }
    if let [Some(before), Some(after)] = found.bytes {
        let share = after as f64 / before as f64;
        text += &format!("\n{before} bytes became {after}: {share:.2} of them");
    }
    text
}
