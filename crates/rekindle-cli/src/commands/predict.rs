use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::backend::Backend;
use rekindle::devices::Job;
use rekindle::prelude::TrainedModel;
use rekindle::train::{Bars, Event, Observer, Prediction, Top};
use rekindle::vision::{Share, Skipped, list_photos};
use rekindle::weights::replace_file;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::{Outcome, print};

#[derive(Serialize)]
#[serde(untagged)]
enum Row {
    Predicted { image: String, predictions: Top },
    Failed { image: String, error: String },
}

pub fn run(args: &PredictArgs) -> Outcome {
    crate::remote::refuse(&[&args.csv, &args.explain])?;
    // Before the model is loaded, which takes longer.
    if args.shard.out.is_some() {
        let share = super::shard::share(args)?;
        share.notes.iter().for_each(|note| eprintln!("note: {note}"));
        return args.device.device.run(PredictShard { args, share })?;
    }
    let inputs = Inputs::find(&args.images)?;
    if let (true, Some(file)) = (args.strict, inputs.skipped.first()) {
        return Err(format!("{}: {}", file.path.display(), file.reason).into());
    }
    args.device.device.run(Predict { args, inputs })?
}

struct Predict<'a> {
    args: &'a PredictArgs,
    inputs: Inputs,
}

impl Job for Predict<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        predict::<B>(self.args, self.inputs, device)
    }
}

struct PredictShard<'a> {
    args: &'a PredictArgs,
    share: Share,
}

impl Job for PredictShard<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        let Self { args, share } = self;
        let labels = args.labels.labels.as_deref();
        let model = super::load::<B>(&args.model, labels, &args.photos, device)?;
        let model = super::of_precision(model, args.device.precision)?;
        eprintln!("{} photos; {}", share.photos.len(), model.described());
        match &args.shard.out {
            Some(out) => super::shard::predict(&model, args, share, out),
            None => Ok(()),
        }
    }
}

/// The files to predict.
#[derive(Default)]
struct Inputs {
    files: Vec<PathBuf>,
    /// Of each, whether it was named: what is only in a folder may be no photo.
    is_named: Vec<bool>,
    /// What is in folders and no photo.
    skipped: Vec<Skipped>,
}

impl Inputs {
    fn find(images: &[PathBuf]) -> Result<Self, Box<dyn Error>> {
        let mut inputs = Self::default();
        for path in images {
            match path.to_str() {
                Some(pattern) if !path.exists() && pattern.contains(['*', '?', '[']) => {
                    let before = inputs.files.len();
                    for path in glob::glob(pattern).map_err(|e| format!("{pattern}: {e}"))? {
                        inputs.add(&path?)?;
                    }
                    if inputs.files.len() == before {
                        return Err(format!("{pattern}: no photo is called so").into());
                    }
                }
                // What is not there is named when it cannot be opened.
                _ => inputs.add(path)?,
            }
        }
        Ok(inputs)
    }

    fn add(&mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        if !path.is_dir() {
            self.files.push(path.to_owned());
            self.is_named.push(true);
            return Ok(());
        }
        let (files, skipped) = list_photos(path)?;
        if files.is_empty() {
            let skipped = Skipped::summary(&skipped);
            let skipped = skipped.map_or(String::new(), |files| format!(" ({files})"));
            return Err(
                format!("{}: there are no photos in this folder{skipped}", path.display()).into()
            );
        }
        self.is_named.extend(files.iter().map(|_| false));
        self.files.extend(files);
        self.skipped.extend(skipped);
        Ok(())
    }
}

/// A bar that lines are printed above of.
#[derive(Clone, Default)]
struct Bar(Arc<Mutex<Bars>>);

impl Observer for Bar {
    fn on_event(&mut self, event: &Event<'_>) {
        self.bars().on_event(event);
    }
}

impl Bar {
    fn bars(&self) -> MutexGuard<'_, Bars> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where predictions go.
enum Sink {
    /// A table for each photo, as soon as it is there.
    Tables,
    Json(Vec<Row>),
    Csv(Box<csv::Writer<File>>),
}

impl Sink {
    fn predicted(&mut self, path: &Path, prediction: &Prediction, args: &PredictArgs) -> Outcome {
        let (image, top) = (path.display().to_string(), prediction.top(args.top));
        match self {
            Self::Tables => print(&format!("{image}\n{top}")),
            Self::Json(rows) => {
                rows.push(Row::Predicted { image, predictions: top });
                Ok(())
            }
            Self::Csv(writer) => {
                // As the file system has it, whatever its bytes are.
                writer.write_field(path.as_os_str().as_encoded_bytes())?;
                for ranked in &top.classes {
                    writer.write_field(&ranked.class)?;
                    writer.write_field(ranked.probability.to_string())?;
                }
                Ok(writer.write_record(Some(""))?)
            }
        }
    }

    fn failed(&mut self, file: &Skipped, columns: usize) -> Outcome {
        match self {
            Self::Tables => {}
            Self::Json(rows) => {
                let (image, error) = (file.path.display().to_string(), file.reason.clone());
                rows.push(Row::Failed { image, error });
            }
            Self::Csv(writer) => {
                writer.write_field(file.path.as_os_str().as_encoded_bytes())?;
                (0..2 * columns).try_for_each(|_| writer.write_field(""))?;
                writer.write_record(Some(&file.reason))?;
            }
        }
        Ok(())
    }
}

fn predict<B: Backend>(args: &PredictArgs, inputs: Inputs, device: &B::Device) -> Outcome {
    let model = super::load::<B>(&args.model, args.labels.labels.as_deref(), &args.photos, device)?;
    // Last, since it compiles the network for the photos' size.
    let model = super::of_precision(model, args.device.precision)?;
    let photos = match inputs.files.len() {
        1 => "1 photo".to_owned(),
        count => format!("{count} photos"),
    };
    eprintln!("{photos}; {}", model.described());
    let failed = match (&args.csv, args.json) {
        (Some(path), _) => {
            let mut outcome = Ok(0);
            // Its own error is said better by what was to be done.
            let written = replace_file(path, |temporary| {
                outcome = File::create(temporary)
                    .map_err(Into::into)
                    .and_then(|file| write_csv(&model, args, &inputs, file));
                match &outcome {
                    Ok(_) => Ok(()),
                    Err(_) => Err(std::io::ErrorKind::Other.into()),
                }
            });
            let failed = outcome?;
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            eprintln!("wrote {}", path.display());
            failed
        }
        (None, true) => {
            let mut sink = Sink::Json(Vec::new());
            let failed = each(&model, args, &inputs, &mut sink)?;
            if let Sink::Json(rows) = sink {
                print(&serde_json::to_string_pretty(&rows)?)?;
            }
            failed
        }
        (None, false) => each(&model, args, &inputs, &mut Sink::Tables)?,
    };
    if let (Some(path), Some(first)) = (&args.explain, inputs.files.first()) {
        let heatmap = model.explain(first, None)?;
        heatmap.save(path)?;
        let class = &model.classes()[heatmap.class];
        eprintln!("drew {}: what made it take {} for {class}", path.display(), first.display());
    }
    match failed {
        0 => Ok(()),
        count => {
            Err(format!("{count} of {} images could not be predicted", inputs.files.len()).into())
        }
    }
}

fn write_csv<B: Backend>(
    model: &TrainedModel<B>,
    args: &PredictArgs,
    inputs: &Inputs,
    file: File,
) -> Result<usize, Box<dyn Error>> {
    let mut writer = csv::Writer::from_writer(file);
    writer.write_field("image")?;
    for rank in 1..=args.top.min(model.classes().len()) {
        writer.write_field(format!("class_{rank}"))?;
        writer.write_field(format!("probability_{rank}"))?;
    }
    writer.write_record(Some("error"))?;
    let mut sink = Sink::Csv(Box::new(writer));
    let failed = each(model, args, inputs, &mut sink)?;
    if let Sink::Csv(mut writer) = sink {
        writer.flush()?;
    }
    Ok(failed)
}

/// Predicts all files, and says what was skipped; how many of those that were named could not be predicted.
fn each<B: Backend>(
    model: &TrainedModel<B>,
    args: &PredictArgs,
    inputs: &Inputs,
    sink: &mut Sink,
) -> Result<usize, Box<dyn Error>> {
    let columns = args.top.min(model.classes().len());
    let bar = Bar::default();
    let (mut predicted, mut failed, mut skipped) = (0, 0, Vec::new());
    let mut stopped: Outcome = Ok(());
    model.predict_files(&inputs.files, &mut bar.clone(), |number, answer| {
        let done = || -> Outcome {
            match answer {
                Ok(prediction) => {
                    predicted += 1;
                    let path = &inputs.files[number];
                    let mut outcome = Ok(());
                    let print = || outcome = sink.predicted(path, &prediction, args);
                    bar.bars().suspend(print);
                    outcome
                }
                Err(file) if args.strict => {
                    Err(format!("{}: {}", file.path.display(), file.reason).into())
                }
                Err(file) => {
                    if inputs.is_named[number] {
                        failed += 1;
                        let said = format!("error: {}: {}", file.path.display(), file.reason);
                        bar.bars().suspend(|| eprintln!("{said}"));
                    }
                    sink.failed(&file, columns)?;
                    skipped.push(file);
                    Ok(())
                }
            }
        };
        match done() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    stopped?;
    for file in &inputs.skipped {
        sink.failed(file, columns)?;
        skipped.push(file.clone());
    }
    if let Some(summary) = Skipped::summary(&skipped) {
        eprintln!("{predicted} predicted; {summary}");
    }
    if predicted == 0 && failed == 0 {
        return Err("none of the photos could be predicted".into());
    }
    Ok(failed)
}
