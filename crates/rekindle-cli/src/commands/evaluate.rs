use rekindle::prelude::*;

use crate::args::EvaluateArgs;
use crate::{Outcome, print};

pub fn run(args: &EvaluateArgs) -> Outcome {
    let model = super::load::<Flex>(&args.model, args.labels.as_deref(), &Default::default())?;
    let evaluation = model.evaluate(&ImageFolder::labelled(&args.dir)?)?;
    print(&if args.json {
        serde_json::to_string_pretty(&evaluation)?
    } else {
        evaluation.to_string()
    })
}
