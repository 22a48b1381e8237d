use rekindle::devices::devices;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::{Outcome, print};

#[derive(Serialize)]
struct Row {
    device: String,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub fn run(args: &DevicesArgs) -> Outcome {
    let rows = devices().into_iter().map(|listed| {
        let (name, problem) = match listed.found {
            Ok(name) => (Some(name), None),
            Err(problem) => (None, Some(problem)),
        };
        Row { device: listed.device.to_string(), name, problem }
    });
    let rows: Vec<Row> = rows.collect();
    if args.json {
        return print(&serde_json::to_string_pretty(&rows)?);
    }
    let width = rows.iter().map(|row| row.device.len()).max().unwrap_or_default();
    for Row { device, name, problem } in &rows {
        let is = match (name, problem) {
            (Some(name), _) => name.clone(),
            (_, problem) => format!("not here: {}", problem.as_deref().unwrap_or_default()),
        };
        print(&format!("{device:width$}  {is}"))?;
    }
    Ok(())
}
