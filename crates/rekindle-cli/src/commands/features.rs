use burn::tensor::backend::{AutodiffBackend, Backend};
use rekindle::devices::Job;
use rekindle::nn::Size;
use rekindle::prelude::*;
use rekindle::scale::{Format, Task};
use rekindle::vision::Share;

use super::shard::report;
use super::train::{Lines, stop_at_ctrl_c};
use crate::args::{FeaturesArgs, Kind, NetworkArgs, PhotoArgs};
use crate::{Outcome, remote};

pub fn run(args: &FeaturesArgs) -> Outcome {
    // Before the network is loaded, which takes longer.
    let classes_are_folders = args.folders.classes_are_folders;
    let share = match remote::is_address(&args.data) {
        true => remote::share(&args.data, true, classes_are_folders, args.shard)?,
        false => Share::labelled(&args.data, classes_are_folders, args.shard)?,
    };
    for note in &share.notes {
        eprintln!("note: {note}");
    }
    stop_at_ctrl_c();
    let begin = format!("features-{:05}-of-{:05}.", args.shard.index(), args.shard.count());
    let out = remote::Out::folder(&args.out, &begin)?;
    args.device.device.run(Features { args, share, out })?
}

struct Features<'a> {
    args: &'a FeaturesArgs,
    share: Share,
    out: remote::Out,
}

impl Job for Features<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        let Self { args, share, out } = self;
        let learner = learner::<B, Autodiff<B>>(&args.network, &args.photos, device)?;
        let learner = learner.precision(super::to_train(args.device.precision)?);
        let extractor = learner.extractor(args.until.as_deref())?;
        let provenance = extractor.provenance().clone();
        eprintln!(
            "shard {} with {} photos; layer `{}` of {}, {shape:?}",
            args.shard,
            share.photos.len(),
            provenance.until.as_deref().unwrap_or_default(),
            provenance.network,
            shape = provenance.shape
        );
        let format = match args.format {
            Kind::Safetensors => Format::Safetensors,
            Kind::Parquet => Format::Parquet,
        };
        let task = Task::features(share, args.shard, provenance, out.path(), format)
            .element(args.element)
            .part(args.part)
            .strict(args.folders.strict);
        let done = task.run(&extractor, &mut Lines::new(args.plain))?;
        report(&done, args.json)?;
        match done.is_unchanged {
            true => Ok(()),
            false => out.put(&done.path),
        }
    }
}

/// A learner on the network of the command line, for photos that are read as the options say.
pub fn learner<B: Backend, A: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
    network: &NetworkArgs,
    photos: &PhotoArgs,
    device: &B::Device,
) -> Result<TransferLearner<A>, Box<dyn std::error::Error>> {
    let mut learner = match &network.from {
        Some(path) => {
            let trained = super::load::<B>(path, network.labels.as_deref(), photos, device)?;
            TransferLearner::<A>::from_trained(&trained)
        }
        None => {
            let architecture = network.base.architecture(network.settings, None);
            // Keras has other weights for some sizes of squares.
            let square = match photos.size {
                Some(Size::Square(size)) => Some(size),
                Some(Size::Rectangle(_)) | None => None,
            };
            let weights = match &network.weights {
                Some(weights) => weights.clone(),
                None => {
                    let weights = Weights::at_hand(&architecture);
                    if weights == Weights::ImageNet {
                        eprintln!(
                            "note: the weights are Keras's of ImageNet; --weights says others"
                        );
                    }
                    weights
                }
            };
            let (base, card) = weights.backbone_with_card::<A>(architecture, square, device)?;
            let learner = TransferLearner::new(base).head(network.head.config());
            let learner = match &card {
                Some(card) => learner.photos_of(card)?,
                None => learner,
            };
            match photos.size.map(Size::pixels) {
                Some([height, width]) => learner.images(height, width)?,
                None => learner,
            }
        }
    };
    if let Some(resize) = photos.resize {
        learner = learner.resize(resize);
    }
    if let Some(preprocessing) = photos.preprocess {
        learner = learner.preprocessing(preprocessing);
    }
    if let Some(transparency) = photos.transparency {
        learner = learner.transparency(transparency);
    }
    if let Some(orientation) = photos.orientation {
        learner = learner.orientation(orientation);
    }
    learner = learner.fast_decode(photos.fast_decode);
    Ok(learner)
}
