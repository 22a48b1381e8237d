use rekindle::nn::Model;
use rekindle::prelude::*;

use crate::args::SummaryArgs;
use crate::{Outcome, print};

pub fn run(args: &SummaryArgs) -> Outcome {
    let device = Default::default();
    let mut architecture = args.base.architecture();
    if let Architecture::MobileNetV2(config) = architecture {
        architecture = Architecture::MobileNetV2(config.with_alpha(args.alpha));
    }
    if let Some(size) = args.size {
        architecture = architecture.with_size(size);
    }
    let has_top = !args.no_top && args.head.is_none();
    let classes = has_top.then(|| args.classes.unwrap_or(1000));
    let backbone = architecture.with_top(classes).init::<Flex>(&device)?;
    let features = backbone.output_shape(architecture.input())?;
    let head = match (args.head, args.classes) {
        (Some(head), Some(classes)) => Some(head.config().init(features, classes, 0, &device)?),
        _ => None,
    };
    let model = Model { backbone, head };
    let input = architecture.input();
    let summary = if args.frozen { model.summary_frozen(input)? } else { model.summary(input)? };
    print(&if args.json {
        serde_json::to_string_pretty(&summary)?
    } else if args.compact {
        summary.parameters.to_string()
    } else {
        summary.to_string()
    })
}
