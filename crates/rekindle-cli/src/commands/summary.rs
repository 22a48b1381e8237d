use crate::args::SummaryArgs;
use crate::{Outcome, print};

pub fn run(args: &SummaryArgs) -> Outcome {
    let architecture = args.base.architecture(args.settings, args.size);
    let has_top = !args.no_top && args.head.is_none();
    let classes = has_top.then(|| args.classes.unwrap_or(1000));
    let graph = architecture.with_top(classes).graph()?;
    let graph = match (args.head, args.classes) {
        (Some(head), Some(classes)) => head.config().graph(&graph, classes)?,
        _ => graph,
    };
    let summary = if args.frozen { graph.summary_frozen() } else { graph.summary() };
    print(&if args.json {
        serde_json::to_string_pretty(&summary)?
    } else if args.compact {
        summary.parameters.to_string()
    } else {
        summary.to_string()
    })
}
