//! One file for each command.

pub mod bench;
pub mod demo;
pub mod devices;
pub mod evaluate;
pub mod export;
pub mod features;
pub mod models;
pub mod predict;
pub mod quantize;
pub mod shard;
pub mod summary;
pub mod train;

use std::path::Path;

use burn::tensor::backend::Backend;
use rekindle::nn::Size;
use rekindle::prelude::*;
use rekindle::train::TrainError;
use rekindle::vision::read_class_names;
use rekindle::weights::Downloader;

use crate::args::{FolderArgs, PhotoArgs};
use crate::remote::is_address;

/// A trained model, for photos that are read as the options say, with other names for its classes if there is a file of
/// them. What is assumed of it is printed.
fn load<B: Backend>(
    model: &Path,
    labels: Option<&Path>,
    photos: &PhotoArgs,
    device: &B::Device,
) -> Result<TrainedModel<B>, Box<dyn std::error::Error>> {
    let size = photos.size.map(Size::pixels);
    let model = &crate::remote::local(model)?;
    let model = match model.to_str().and_then(Architecture::by_name) {
        // Keras's own classifier of ImageNet's classes, unless there is a file of that name.
        Some(known) if !model.exists() => {
            let file = Downloader::default().imagenet(&known.with_top(Some(1000)))?;
            TrainedModel::load_for(file, size, device)?
        }
        _ => TrainedModel::load_for(model, size, device)?,
    };
    let model = match labels {
        Some(path) => model
            .with_classes(read_class_names(path)?)
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => model,
    };
    let model = of_photos(model, photos);
    for sentence in model.assumed() {
        eprintln!("note: {sentence}");
    }
    Ok(model)
}

/// The model with the precision that was asked for.
fn of_precision<B: Backend>(
    model: TrainedModel<B>,
    precision: Option<Precision>,
) -> Result<TrainedModel<B>, TrainError> {
    let precision = precision.unwrap_or(model.precision());
    if precision != Precision::Int8 && model.quantization().is_some() {
        eprintln!("note: the model is quantized to int8: its weights are taken as {precision}");
    }
    Ok(model.with_precision(precision)?)
}

/// What is trained with: f32 where nothing is asked for.
fn to_train(precision: Option<Precision>) -> Result<Precision, &'static str> {
    match precision.unwrap_or_default() {
        Precision::Int8 => Err(
            "--precision int8 is for models that are trained: train in f32, then `rekindle quantize`",
        ),
        precision => Ok(precision),
    }
}

/// The model for photos that are read as the options say.
fn of_photos<B: Backend>(mut model: TrainedModel<B>, args: &PhotoArgs) -> TrainedModel<B> {
    if let Some(resize) = args.resize {
        model = model.with_resize(resize);
    }
    if let Some(preprocessing) = args.preprocess {
        model = model.with_preprocessing(preprocessing);
    }
    if let Some(transparency) = args.transparency {
        model = model.with_transparency(transparency);
    }
    if let Some(orientation) = args.orientation {
        model = model.with_orientation(orientation);
    }
    model.with_fast_decode(args.fast_decode)
}

/// The photos of a folder, or of a list, to train on.
fn photos(path: &Path, args: FolderArgs) -> Result<ImageFolder, Box<dyn std::error::Error>> {
    opened(
        path,
        args,
        |folder| ImageFolder::open(folder),
        |folder| ImageFolder::open_classes(folder),
    )
}

/// The same to evaluate on, where a single class will do.
fn labelled(path: &Path, args: FolderArgs) -> Result<ImageFolder, Box<dyn std::error::Error>> {
    let classes = |folder: &Path| ImageFolder::labelled_classes(folder);
    opened(path, args, |folder| ImageFolder::labelled(folder), classes)
}

/// Photos wherever they are; of a folder as one of the two says, the other where all its folders are classes.
fn opened<E: std::error::Error + 'static>(
    path: &Path,
    args: FolderArgs,
    folder: impl Fn(&Path) -> Result<ImageFolder, E>,
    classes: impl Fn(&Path) -> Result<ImageFolder, E>,
) -> Result<ImageFolder, Box<dyn std::error::Error>> {
    let photos = if is_address(path) {
        crate::remote::photos(path, args.classes_are_folders)?
    } else if let Some(archives) = ImageFolder::from_archives(path)? {
        archives
    } else if path.is_file() {
        ImageFolder::from_list(path)?
    } else if args.classes_are_folders {
        classes(path)?
    } else {
        folder(path)?
    };
    Ok(photos.strict(args.strict))
}

/// Prints how a folder is understood.
fn say(folder: &ImageFolder) {
    for note in folder.notes() {
        eprintln!("note: {note}");
    }
}
