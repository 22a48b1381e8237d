use burn::tensor::backend::Backend;
use rekindle::devices::Job;
use rekindle::train::Top;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::{Outcome, print};

#[derive(Serialize)]
struct Row {
    image: String,
    predictions: Top,
}

pub fn run(args: &PredictArgs) -> Outcome {
    args.device.device.run(Predict(args))?
}

struct Predict<'a>(&'a PredictArgs);

impl Job for Predict<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        predict::<B>(self.0, device)
    }
}

fn predict<B: Backend>(args: &PredictArgs, device: &B::Device) -> Outcome {
    let model = super::load::<B>(&args.model, args.labels.as_deref(), args.photos.size, device)?;
    // Last, since it compiles the network for the photos' size.
    let model = super::of_photos(model, &args.photos).with_precision(args.device.precision)?;
    let (mut rows, mut failed) = (Vec::new(), 0);
    for path in &args.images {
        let image = path.display().to_string();
        match model.predict(path) {
            Ok(prediction) if args.json => {
                rows.push(Row { image, predictions: prediction.top(args.top) });
            }
            Ok(prediction) => print(&format!("{image}\n{}", prediction.top(args.top)))?,
            Err(error) => {
                failed += 1;
                eprintln!("error: {error}");
            }
        }
    }
    if let Some(path) = &args.explain {
        let heatmap = model.explain(&args.images[0], None)?;
        heatmap.save(path)?;
        let class = &model.classes()[heatmap.class];
        eprintln!(
            "drew {}: what made it take {} for {class}",
            path.display(),
            args.images[0].display()
        );
    }
    if args.json {
        print(&serde_json::to_string_pretty(&rows)?)?;
    }
    match failed {
        0 => Ok(()),
        count => {
            Err(format!("{count} of {} images could not be predicted", args.images.len()).into())
        }
    }
}
