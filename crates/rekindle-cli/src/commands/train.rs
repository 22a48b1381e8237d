use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
use burn::prelude::DeviceOps;
use burn::tensor::backend::{AutodiffBackend, Backend, DeviceId};
use rekindle::devices::Job;
use rekindle::kernels::serves;
use rekindle::prelude::*;
use rekindle::scale::Shards;
use rekindle::train::{
    Bars, CsvLog, Event, FeatureSource, FitConfig, FitReport, JsonLog, Observer, TensorBoard,
    TrainError, write_html,
};
use rekindle::vision::Skipped;
use rekindle::weights::replace_file;
use serde::Serialize;

use crate::args::{AugmentationArgs, TrainArgs, UnfreezingArgs};
use crate::remote::{self, Out};
use crate::{Outcome, print};

/// Progress bars on stderr, Keras's line for each epoch on stdout; stops at Ctrl-C.
#[derive(Default)]
pub struct Lines {
    bars: Bars,
    plain: bool,
}

impl Lines {
    pub fn new(plain: bool) -> Self {
        Self { bars: Bars::default(), plain }
    }
}

impl Observer for Lines {
    fn on_event(&mut self, event: &Event<'_>) {
        if let Event::Started(start) = event {
            eprintln!("{start}");
        } else if !self.plain {
            self.bars.on_event(event);
        } else if let Event::Skipped(file) = event {
            tracing::warn!("skipped {}: {}", file.path.display(), file.reason);
        }
        if let Event::Epoch { epoch, epochs, result } = event {
            let width = epochs.to_string().len();
            // A closed stdout shows when the result is printed.
            self.bars
                .suspend(|| drop(print(&format!("Epoch {epoch:>width$}/{epochs} - {result}"))));
        }
    }

    fn stops(&mut self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}

/// Whether Ctrl-C was pressed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C stops after the step, the second at once.
pub fn stop_at_ctrl_c() {
    let stop = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; Ctrl-C again stops at once");
    };
    if let Err(error) = ctrlc::set_handler(stop) {
        tracing::warn!("Ctrl-C will stop at once: {error}");
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
    let records = &args.records;
    remote::refuse(&[
        &args.valid_dir,
        &args.report,
        &args.curves,
        &records.checkpoint,
        &records.feature_cache,
        &records.csv_log,
        &records.json_log,
        &records.tensorboard,
        &records.html,
    ])?;
    let (folder, source) = match (&args.features, &args.dir) {
        (Some(dir), _) => features(dir)?,
        (None, Some(dir)) => (super::photos(dir, args.folders)?, None),
        (None, None) => return Err("name the photos, or --features".into()),
    };
    let folder = folder.seed(args.seed);
    let folder = match (&args.valid_dir, args.valid_split) {
        (Some(dir), _) => folder.valid_folder(dir),
        (None, Some(share)) => folder.valid_split(share),
        (None, None) => folder,
    };
    super::say(&folder);
    stop_at_ctrl_c();
    let out = Out::file(&args.out)?;
    args.device.device.run(Fit { args, folder, source, out, start })?
}

/// The photos of shards, and their rows.
fn features(dir: &Path) -> Result<(ImageFolder, Source), Box<dyn std::error::Error>> {
    let shards = Shards::open(Out::folder(dir, "features-")?.path())?;
    let (manifest, source) = (shards.manifest(), shards.source());
    let of = &manifest.provenance;
    eprintln!(
        "features of {}: {}, {} of {}, computed with {} and kept as {}",
        dir.display(),
        if shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", shards.len()) },
        of.until.as_deref().map_or("the output".to_owned(), |layer| format!("layer `{layer}`")),
        of.network,
        of.precision,
        manifest.element.name()
    );
    Ok((shards.into_data(), Some(source)))
}

/// Features that are there already.
type Source = Option<Arc<dyn FeatureSource>>;

struct Fit<'a> {
    args: &'a TrainArgs,
    folder: ImageFolder,
    source: Source,
    out: Out,
    start: Instant,
}

impl Job for Fit<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        if !self.args.optimization.gradient_checkpointing {
            return fit::<B, Autodiff<B>>(self, device);
        }
        if serves::<B>(device) {
            let reason =
                "--gradient-checkpointing is for GPUs; on the CPU, --micro-batch takes less memory";
            return Err(reason.into());
        }
        fit::<B, Autodiff<B, BalancedCheckpointing>>(self, device)
    }
}

fn fit<B: Backend, A: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
    Fit { args, folder, source, out, start }: Fit<'_>,
    device: &B::Device,
) -> Outcome {
    let valid = match args.records.html {
        Some(_) => folder.split()?.1,
        None => Vec::new(),
    };
    let photos = args.records.html.as_ref().map(|_| folder.clone());
    let learner =
        learner::<B, A>(args, folder, source, device)?.devices(devices::<B>(args, device)?);
    if args.optimization.find_lr {
        let found = learner.observer(Lines::new(args.records.plain)).find_learning_rate()?;
        let picture = args.out.with_file_name("rates.png");
        found.draw(&picture)?;
        print(&found.to_string())?;
        eprintln!("drew {}", picture.display());
        return Ok(());
    }
    let trained = match learner.observer(observers(args)?).fit() {
        Err(TrainError::Interrupted { checkpoint: Some(path), .. }) => {
            let path = path.display();
            return Err(
                format!("stopped; the same command with --resume goes on from {path}").into()
            );
        }
        result => result?,
    };
    trained.save(out.path())?;
    out.put(out.path())?;
    if let Some(path) = &args.curves {
        draw_curves(trained.history(), path)?;
    }
    if let Some(path) = &args.report {
        write_report(path, trained.report(), start)?;
    }
    if let Some(path) = &args.records.html {
        let evaluation = match photos.filter(|_| !valid.is_empty()) {
            None => None,
            Some(photos) => Some(trained.evaluate(&photos.only(valid))?),
        };
        write_html(path, &args.out.display().to_string(), trained.report(), evaluation.as_ref())?;
    }
    eprintln!("{}", described(trained.report()));
    eprintln!("saved {}; try: rekindle predict {} PHOTO", args.out.display(), args.out.display());
    Ok(())
}

fn observers(args: &TrainArgs) -> Result<Vec<Box<dyn Observer>>, TrainError> {
    let (records, append) = (&args.records, args.records.resume);
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(Lines::new(records.plain))];
    if let Some(path) = &records.csv_log {
        observers.push(Box::new(CsvLog::create(path, append)?));
    }
    if let Some(path) = &records.json_log {
        observers.push(Box::new(JsonLog::create(path, append)?));
    }
    if let Some(folder) = &records.tensorboard {
        observers.push(Box::new(TensorBoard::create(folder)?));
    }
    Ok(observers)
}

/// The devices of `--devices`, or none.
fn devices<B: Backend>(args: &TrainArgs, device: &B::Device) -> Result<Vec<B::Device>, String> {
    let own = device.to_id();
    let there = B::device_count(own.type_id);
    let mut all = Vec::new();
    for (position, &number) in args.devices.iter().enumerate() {
        if usize::from(number) >= there {
            let name = args.device.device;
            return Err(format!(
                "--devices {number}: there {} of the kind of {name}, counted from 0; `rekindle devices` lists them",
                if there == 1 { "is 1 device".to_owned() } else { format!("are {there} devices") }
            ));
        }
        if args.devices[..position].contains(&number) {
            return Err(format!("--devices {number}: it is named twice"));
        }
        all.push(B::Device::from_id(DeviceId::new(own.type_id, number)));
    }
    Ok(all)
}

fn learner<B: Backend, A: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
    args: &TrainArgs,
    folder: ImageFolder,
    source: Source,
    device: &B::Device,
) -> Result<TransferLearner<A>, Box<dyn std::error::Error>> {
    let mut learner = super::features::learner::<B, A>(&args.network, &args.photos, device)?;
    let optimization = &args.optimization;
    let batch_norm =
        if args.unfreezing.train_batch_norm { BatchNormMode::Train } else { BatchNormMode::Frozen };
    let stopping = |patience| EarlyStopping { patience, ..EarlyStopping::default() };
    let weights = if optimization.balance { ClassWeights::Balanced } else { ClassWeights::Even };
    learner = learner
        .config(FitConfig {
            epochs: args.epochs,
            batch_size: args.batch,
            learning_rate: args.lr,
            seed: args.seed,
            optimizer: optimization.optimizer.rule(),
            schedule: optimization.schedule,
            clip_norm: optimization.clip_norm,
            label_smoothing: optimization.label_smoothing,
            class_weights: weights,
            accumulate: optimization.accumulate,
            micro_batch: optimization.micro_batch,
            batch_norm,
            early_stopping: optimization.early_stopping.map(stopping),
            ..FitConfig::default()
        })
        .precision(super::to_train(args.device.precision)?)
        .data(folder);
    if let Some(source) = source {
        learner = learner.features(source);
    }
    learner = unfrozen(learner, &args.unfreezing);
    let AugmentationArgs { augment, cached_views, mixup, cutmix } = &args.augmentation;
    let mix = mixup.map(Mix::MixUp).or(cutmix.map(Mix::CutMix));
    let augmentation = Augmentation { mix, ..augment.clone().unwrap_or_default() };
    learner = learner.augment(augmentation);
    if let Some(views) = cached_views {
        learner = learner.cached_views(*views);
    }
    if let Some(folder) = &args.records.feature_cache {
        learner = learner.feature_cache(folder);
    }
    if let Some(path) = &args.records.checkpoint {
        learner = learner.checkpoint(path).resume(args.records.resume);
    }
    Ok(learner)
}

/// With what of the network trains, from the start and then.
fn unfrozen<B: AutodiffBackend>(
    mut learner: TransferLearner<B>,
    args: &UnfreezingArgs,
) -> TransferLearner<B> {
    let until = |layer: &str| match layer {
        "none" => Freeze::Nothing,
        name => Freeze::Until(name.to_owned()),
    };
    if let Some(layer) = &args.freeze_until {
        learner = learner.freeze(until(layer));
    }
    if let Some(layers) = args.unfreeze_last {
        learner = learner.unfreeze_last(layers);
    }
    if let Some(layer) = &args.fine_tune {
        let fine_tune = FineTune { freeze: until(layer), ..FineTune::all() };
        let fine_tune = fine_tune.epochs(args.fine_tune_epochs).lr(args.fine_tune_lr);
        learner = learner.fine_tune(fine_tune.depth_factor(args.depth_factor));
    }
    learner
}

/// What was done, in one line, and in another what was not used.
pub fn described(report: &FitReport) -> String {
    let skipped = Skipped::summary(&report.skipped);
    let skipped = skipped.map_or(String::new(), |files| format!("\n{files}"));
    let waiting = match report.feature_seconds {
        0.0 => 0.0,
        seconds => 100.0 * report.waiting_seconds / seconds,
    };
    format!(
        "{} photos trained on, {} validated on; {:.1} s, {:.1} s of it in the frozen network, which waited {waiting:.0} % of \
         that for photos{skipped}",
        report.train_images, report.valid_images, report.fit_seconds, report.feature_seconds
    )
}

pub fn write_report(path: &Path, fit: &FitReport, start: Instant) -> Outcome {
    let total_seconds = start.elapsed().as_secs_f64();
    let report = Report { fit, total_seconds, peak_rss_bytes: peak_rss_bytes() };
    let json = serde_json::to_string_pretty(&report)?;
    replace_file(path, |temporary| std::fs::write(temporary, &json))
        .map_err(|source| TrainError::Report { path: path.to_owned(), source })?;
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
