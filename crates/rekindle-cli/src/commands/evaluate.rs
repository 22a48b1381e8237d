use burn::tensor::backend::Backend;
use rekindle::devices::Job;
use rekindle::train::{Bars, DrawConfusion, describe_folder, write_html};

use crate::args::EvaluateArgs;
use crate::{Outcome, print};

pub fn run(args: &EvaluateArgs) -> Outcome {
    crate::remote::refuse(&[&args.confusion, &args.html])?;
    args.device.device.run(Evaluate(args))?
}

struct Evaluate<'a>(&'a EvaluateArgs);

impl Job for Evaluate<'_> {
    type Output = Outcome;

    fn run<B: Backend>(self, device: &B::Device) -> Outcome {
        evaluate::<B>(self.0, device)
    }
}

fn evaluate<B: Backend>(args: &EvaluateArgs, device: &B::Device) -> Outcome {
    let model = super::load::<B>(&args.model, args.labels.labels.as_deref(), &args.photos, device)?;
    let model = super::of_precision(model, args.device.precision)?;
    let photos = super::labelled(&args.dir, args.folders)?;
    super::say(&photos);
    eprintln!("{}; {}", describe_folder(&photos), model.described());
    let evaluation = model.evaluate_with(&photos, &mut Bars::default())?;
    for warning in evaluation.warnings() {
        tracing::warn!("{warning}");
    }
    if let Some(path) = &args.confusion {
        evaluation.draw_confusion(path)?;
    }
    if let Some(path) = &args.html {
        write_html(path, &args.model.display().to_string(), model.report(), Some(&evaluation))?;
    }
    print(&if args.json {
        serde_json::to_string_pretty(&evaluation)?
    } else {
        evaluation.to_string()
    })
}
