use std::path::Path;
use std::time::Instant;

use burn::tensor::backend::Backend;
use rekindle::prelude::*;
use rekindle::train::{Bars, Event, FitReport, Observer};
use rekindle::weights::{WeightsError, write_atomic};
use serde::Serialize;

use crate::args::{DeviceKind, TrainArgs};
use crate::{Outcome, print};

/// Progress bars on stderr, Keras's line for each epoch on stdout.
#[derive(Default)]
pub struct Lines(Bars);

impl Observer for Lines {
    fn on_event(&mut self, event: &Event<'_>) {
        self.0.on_event(event);
        if let Event::Epoch { epoch, epochs, result } = event {
            let width = epochs.to_string().len();
            // A closed stdout shows when the result is printed.
            self.0.suspend(|| drop(print(&format!("Epoch {epoch:>width$}/{epochs} - {result}"))));
        }
    }
}

/// The numbers of a training run, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    fit: &'a FitReport,
    total_seconds: f64,
    peak_rss_bytes: Option<u64>,
}

pub fn run(args: &TrainArgs) -> Outcome {
    let start = Instant::now();
    let folder = ImageFolder::open(&args.dir)?.seed(args.seed).strict(args.strict);
    let folder = match &args.valid_dir {
        Some(dir) => folder.valid_folder(dir),
        None => folder.valid_split(args.valid_split),
    };
    let trained = match args.device {
        DeviceKind::Cpu => fit::<Flex>(args, folder, &Default::default())?,
    };
    trained.save(&args.out)?;
    if let Some(path) = &args.curves {
        draw_curves(trained.history(), path)?;
    }
    if let Some(path) = &args.report {
        write_report(path, trained.report(), start)?;
    }
    eprintln!("{}", described(trained.report()));
    eprintln!("saved {}; try: rekindle predict {} PHOTO", args.out.display(), args.out.display());
    Ok(())
}

fn fit<B: Backend>(
    args: &TrainArgs,
    folder: ImageFolder,
    device: &B::Device,
) -> Result<TrainedModel<B>, Box<dyn std::error::Error>> {
    let learner = match &args.from {
        Some(path) => {
            let trained = super::load::<B>(path, args.labels.as_deref(), device)?;
            TransferLearner::<Autodiff<B>>::from_trained(&trained)
        }
        None => {
            let architecture = args.base.architecture();
            let base = args.weights.backbone::<Autodiff<B>>(architecture, args.size, device)?;
            TransferLearner::new(base).head(args.head.config())
        }
    };
    let learner = match args.resize {
        Some(resize) => learner.resize(resize),
        None => learner,
    };
    let learner = learner
        .data(folder)
        .epochs(args.epochs)
        .batch_size(args.batch)
        .learning_rate(args.lr)
        .seed(args.seed)
        .observer(Lines::default());
    Ok(learner.fit()?)
}

/// What was done, in one line.
pub fn described(report: &FitReport) -> String {
    let skipped = match report.skipped.len() {
        0 => String::new(),
        count => format!(", {count} files skipped"),
    };
    format!(
        "{} photos trained on, {} validated on{skipped}; {:.1} s, {:.1} s of it in the frozen network",
        report.train_images, report.valid_images, report.fit_seconds, report.feature_seconds
    )
}

pub fn write_report(path: &Path, fit: &FitReport, start: Instant) -> Outcome {
    let total_seconds = start.elapsed().as_secs_f64();
    let report = Report { fit, total_seconds, peak_rss_bytes: peak_rss_bytes() };
    let json = serde_json::to_string_pretty(&report)?;
    write_atomic(path, |temporary| {
        std::fs::write(temporary, &json)
            .map_err(|source| WeightsError::Io { path: path.to_owned(), source })
    })?;
    Ok(())
}

/// The most memory that this process has had; unknown where the system does not tell.
fn peak_rss_bytes() -> Option<u64> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
        // Kilobytes, but for Apple's systems.
        Some(if cfg!(target_vendor = "apple") { peak } else { peak * 1024 })
    }
    #[cfg(not(unix))]
    None
}
