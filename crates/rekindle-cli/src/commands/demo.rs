use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::backend::Backend;
use rekindle::devices::Job;
use rekindle::prelude::*;

use super::train::{Lines, described, write_report};
use crate::args::DemoArgs;
use crate::{Outcome, print};

/// Pixels a side. The photos have up to 224; more than the 160 that the weights were tuned at shows
/// more of them.
const SIZE: usize = 192;
/// How many held-out photos are predicted.
const SHOWN: usize = 4;

pub fn run(args: &DemoArgs) -> Outcome {
    args.device.device.run(Demo(args))?
}

struct Demo<'a>(&'a DemoArgs);

impl Job for Demo<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        demo::<B>(self.0, device)
    }
}

fn demo<B: Backend>(args: &DemoArgs, device: &B::Device) -> Outcome {
    let start = Instant::now();
    let photos = match &args.photos {
        Some(dir) => dir.clone(),
        None => find_photos().ok_or(
            "the demo photos (demo/photos) are only in Rekindle's repository: run this inside of it, or name photos of your own with --photos DIR",
        )?,
    };
    std::fs::create_dir_all(&args.out)
        .map_err(|error| format!("{}: {error}", args.out.display()))?;
    let folder = ImageFolder::open(&photos)?.seed(args.seed);
    print(&format!(
        "Re-training MobileNetV2 on {} photos of {} classes: {}\n",
        folder.samples().len(),
        folder.classes().len(),
        folder.classes().join(", ")
    ))?;
    let (_, held_out) = folder.split()?;
    let names = folder.classes().to_vec();

    let architecture = Architecture::from(MobileNetV2Config::new());
    let base = Weights::Demo.backbone(architecture, Some(SIZE), device)?;
    let trained = TransferLearner::<Autodiff<B>>::new(base)
        .data(folder)
        .epochs(args.epochs)
        .seed(args.seed)
        .precision(super::to_train(args.device.precision)?)
        .observer(Lines::default())
        .fit()?;

    let model = args.out.join("model.rekindle");
    trained.save(&model)?;
    let curves = args.out.join("curves.png");
    draw_curves(trained.history(), &curves)?;

    // From the file, as any other program would.
    let loaded = TrainedModel::<B>::load(&model, device)?;
    for sample in held_out.iter().step_by(held_out.len().div_ceil(SHOWN).max(1)) {
        let shown = sample.path.strip_prefix(&photos).unwrap_or(&sample.path);
        print(&format!("\n{} (it is of {}):", shown.display(), names[sample.class()]))?;
        print(&loaded.predict(&sample.path)?.top(3).to_string())?;
    }
    let report = args.out.join("report.json");
    write_report(&report, trained.report(), start)?;
    print(&format!("\n{}", described(trained.report())))?;
    print(&format!("wrote {}, {} and {}", model.display(), curves.display(), report.display()))?;
    if let Some(accuracy) = trained.history().last().and_then(|epoch| epoch.val_accuracy) {
        print(&format!("validation accuracy: {:.1} %", accuracy * 100.0))?;
    }
    Ok(())
}

/// `demo/photos` of the repository: above the crate that cargo runs, the working folder or the program.
fn find_photos() -> Option<PathBuf> {
    let starts = [
        std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from),
        std::env::current_dir().ok(),
        std::env::current_exe().ok(),
    ];
    let is_there = |folder: &Path| folder.join("demo/photos/birds").is_dir();
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .find(|folder| is_there(folder))
        .map(|folder| folder.join("demo/photos"))
}
