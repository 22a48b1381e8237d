//! A shard of a data set, predicted into a file of its own.

use std::path::Path;

use burn::tensor::backend::Backend;
use rekindle::prelude::TrainedModel;
use rekindle::scale::{Content, Done, Format, Task};
use rekindle::vision::{Shard, Share, Skipped, is_archive};
use serde_json::json;

use super::train::{Lines, stop_at_ctrl_c};
use crate::args::{Keep, PredictArgs};
use crate::{Outcome, print, remote};

/// The photos of the shard, of the one folder or list that is named.
pub fn share(args: &PredictArgs) -> Result<Share, Box<dyn std::error::Error>> {
    let is_list = |path: &Path| {
        path.is_file() && path.extension().is_some_and(|end| end == "csv" || end == "jsonl")
    };
    let shard = args.shard.shard.unwrap_or(Shard::WHOLE);
    match args.images.as_slice() {
        [data] if remote::is_address(data) => remote::share(data, false, true, shard),
        [data] if data.is_dir() || is_list(data) || is_archive(data) => {
            Ok(Share::unlabelled(data, shard)?)
        }
        _ => Err("--out takes one folder of photos, one list of them (.csv, .jsonl), tars ('data/{000..099}.tar') or Parquet files".into()),
    }
}

/// Predicts them into `out`.
pub fn predict<B: Backend>(
    model: &TrainedModel<B>,
    args: &PredictArgs,
    share: Share,
    out: &Path,
) -> Outcome {
    let Some(format) = Format::of(out) else {
        let out = out.display();
        return Err(format!(
            "--out {out}: expected a name that ends with .csv, .jsonl, .parquet or .safetensors"
        )
        .into());
    };
    let target = remote::Out::file(out)?;
    let until = args.shard.until.as_deref();
    let content = match (args.shard.keep, until) {
        (Keep::Features, None) => {
            return Err("--keep features: which layer's? --until names it".into());
        }
        (Keep::Features, Some(_)) => Content::Features,
        (_, Some(_)) => return Err("--until is for --keep features".into()),
        (Keep::Top, None) => Content::Top(args.top),
        (Keep::Probabilities, None) => Content::Probabilities,
    };
    stop_at_ctrl_c();
    let extractor = model.extractor(until)?;
    let shard = args.shard.shard.unwrap_or(Shard::WHOLE);
    let provenance = extractor.provenance().clone();
    let task = Task::new(share, shard, provenance, content, target.path().to_owned(), format)
        .classes(model.classes().to_vec())
        .part(args.shard.part)
        .strict(args.strict);
    let done = task.run(&extractor, &mut Lines::default())?;
    report(&done, args.json)?;
    if done.is_unchanged {
        return Ok(());
    }
    // Before the table, which is of no use to a second run without it.
    let state = done.path.with_file_name(match done.path.file_name() {
        Some(name) => format!("{}.state", name.to_string_lossy()),
        None => String::new(),
    });
    if state.is_file() {
        target.put(&state)?;
    }
    target.put(&done.path)
}

/// Says what was done.
pub fn report(done: &Done, json: bool) -> Outcome {
    let skipped = |all: &[(std::path::PathBuf, String)]| -> Vec<Skipped> {
        let of = |(path, reason): &(std::path::PathBuf, String)| Skipped {
            path: path.clone(),
            reason: reason.clone(),
        };
        all.iter().map(of).collect()
    };
    let mut unused = skipped(&done.skipped);
    unused.extend(skipped(&done.lost));
    if let Some(summary) = Skipped::summary(&unused) {
        eprintln!("{summary}");
    }
    let path = done.path.display();
    match done.is_unchanged {
        true => eprintln!("{path} has all {} photos already", done.photos),
        false => eprintln!("wrote {path}: {} photos, {} computed now", done.photos, done.computed),
    }
    match json {
        true => print(&serde_json::to_string_pretty(&json!({
            "file": path.to_string(),
            "photos": done.photos,
            "computed": done.computed,
            "skipped": unused,
            "unchanged": done.is_unchanged,
        }))?),
        false => Ok(()),
    }
}
