use std::collections::HashSet;
use std::path::Path;

use burn::backend::Flex;
use rekindle_nn::variables;
use rekindle_weights::TensorInfo;
use serde::Serialize;

use crate::{Outcome, open};

#[derive(Serialize)]
struct Report<'a> {
    /// What the file holds.
    network: Option<String>,
    /// Why a whole model cannot be used.
    problem: Option<&'a str>,
    folded: bool,
    tensors: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    /// What the file calls it.
    name: &'a str,
    #[serde(flatten)]
    tensor: &'a TensorInfo,
    /// Whether it is a variable of the network or of its head.
    used: bool,
}

pub fn run(file: &Path, json: bool) -> Outcome {
    let checkpoint = open(file)?;
    let card = checkpoint.card();
    let mut known = HashSet::new();
    if let Some(card) = card {
        let network = card.architecture.init::<Flex>(&Default::default())?;
        known.extend(variables(&network).iter().map(|variable| variable.path()));
    }
    let has_head = card.is_some_and(|card| card.head.is_some());
    let is_used = |tensor: &TensorInfo| {
        known.contains(&tensor.path()) || has_head && tensor.layer.starts_with("head_")
    };
    let rows = checkpoint.tensors().iter().enumerate().map(|(index, tensor)| Row {
        name: checkpoint.name_in_file(index),
        tensor,
        used: is_used(tensor),
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let report = Report {
        network: card.map(|card| card.architecture.to_string()),
        problem: checkpoint.problem(),
        folded: card.is_some_and(|card| card.folded),
        tensors: rows,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let width = report.tensors.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for Row { name, tensor, used } in &report.tensors {
        let becomes = match used {
            true => tensor.path(),
            false => "(not part of the network)".into(),
        };
        let dtype = format!("{:?}", tensor.dtype).to_lowercase();
        println!("{name:width$}  {:20} {dtype:5} {becomes}", format!("{:?}", tensor.shape));
    }
    match (&report.network, report.problem) {
        (Some(network), None) => print!("{network}"),
        (Some(network), Some(problem)) => {
            print!("{network}, in a model that is not supported: {problem}")
        }
        (None, Some(problem)) => print!("unknown network: {problem}"),
        (None, None) => print!("unknown network"),
    }
    if let Some(card) = card {
        if let Some(head) = &card.head {
            print!("; head of {} layers, {} classes", head.layers.len() + 1, card.classes.len());
        }
        if card.folded {
            print!("; normalizations are folded into convolutions: for inference and frozen use");
        }
        print!("; preprocessing {}", card.preprocessing);
    }
    println!();
    Ok(())
}
