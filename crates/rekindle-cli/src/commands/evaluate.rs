use rekindle::prelude::*;
use rekindle::train::write_html;

use crate::args::EvaluateArgs;
use crate::{Outcome, print};

pub fn run(args: &EvaluateArgs) -> Outcome {
    let model = super::load::<Flex>(&args.model, args.labels.as_deref(), &Default::default())?;
    // A single class will do.
    let photos = match args.dir.is_file() {
        true => ImageFolder::from_list(&args.dir)?,
        false => ImageFolder::labelled(&args.dir)?,
    };
    let evaluation = model.evaluate(&photos)?;
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
