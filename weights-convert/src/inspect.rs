use std::collections::HashSet;
use std::path::Path;

use rekindle_weights::{ModelCard, Origin, TensorInfo};
use serde::Serialize;

use crate::{Outcome, described, open};

#[derive(Serialize)]
struct Report<'a> {
    /// What the file holds.
    network: Option<String>,
    /// Why a whole model cannot be used.
    problem: Option<&'a str>,
    folded: bool,
    /// Where products are of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantized: Option<Quantized<'a>>,
    /// How photos become the network's input.
    photos: Option<Photos>,
    /// What the file does not say.
    assumed: &'a [String],
    tensors: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Quantized<'a> {
    /// Values whose range is known.
    values: usize,
    /// Layers whose products stay in f32.
    kept: Vec<&'a str>,
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

/// What is known of a network's photos, and from where.
#[derive(Serialize)]
struct Photos {
    size: Setting,
    resize: Setting,
    preprocessing: Setting,
    transparency: Setting,
    orientation: Setting,
}

#[derive(Serialize)]
struct Setting {
    value: String,
    from: Origin,
    /// Whether it may be wrong.
    assumed: bool,
}

impl Photos {
    fn of(card: &ModelCard) -> Self {
        let origins = card.photo_origins();
        let setting = |value: &str, from: Origin| Setting {
            value: value.to_owned(),
            from,
            assumed: from.is_assumed(),
        };
        let or = |value: &Option<String>, default: &str| {
            value.clone().unwrap_or_else(|| default.to_owned())
        };
        let size = match card.graph.input().as_map() {
            Some([height, width, _]) => format!("{height} x {width}"),
            None => card.graph.input().to_string(),
        };
        let resize = match &card.photo_resize {
            Some(own) => format!("as its layer {} does", own.class()),
            None => or(&card.resize, ModelCard::RESIZE),
        };
        let transparency = or(&card.transparency, ModelCard::TRANSPARENCY);
        let orientation = or(&card.orientation, ModelCard::ORIENTATION);
        Self {
            size: setting(&size, origins.size),
            resize: setting(&resize, origins.resize),
            preprocessing: setting(&card.preprocessing, origins.preprocessing),
            transparency: setting(&transparency, origins.transparency),
            orientation: setting(&orientation, origins.orientation),
        }
    }

    fn line(&self) -> String {
        let of =
            |name: &str, setting: &Setting| format!("{name} {} ({})", setting.value, setting.from);
        let parts = [
            of("size", &self.size),
            of("resize", &self.resize),
            of("preprocessing", &self.preprocessing),
            of("transparency", &self.transparency),
            of("orientation", &self.orientation),
        ];
        format!("photos: {}", parts.join(", "))
    }
}

pub fn run(file: &Path, json: bool) -> Outcome {
    let checkpoint = open(file)?;
    let card = checkpoint.card();
    let mut known = HashSet::new();
    if let Some(card) = card {
        for (position, layer) in card.graph.layers().iter().enumerate() {
            let variables = card.graph.variables(position).into_iter();
            known.extend(variables.map(|variable| format!("{}/{}", layer.name, variable.name)));
        }
    }
    let is_used = |tensor: &TensorInfo| known.contains(&tensor.path());
    let rows = checkpoint.tensors().iter().enumerate().map(|(index, tensor)| Row {
        name: checkpoint.name_in_file(index),
        tensor,
        used: is_used(tensor),
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let report = Report {
        network: card.map(described),
        problem: checkpoint.problem(),
        photos: card.map(Photos::of),
        folded: card.is_some_and(|card| card.folded),
        quantized: card.and_then(|card| card.quantization.as_ref()).map(|found| Quantized {
            values: found.values.len(),
            kept: found.kept.iter().map(String::as_str).collect(),
        }),
        assumed: card.map_or(checkpoint.left_out(), |card| &card.assumed),
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
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let (shape, dtype) = (format!("[{}]", shape.join(", ")), tensor.dtype);
        println!("{name:width$}  {shape:20} {dtype:5} {becomes}");
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
        let head = card.graph.head().len();
        if head > 0 {
            print!("; head of {head} layers");
        }
        if card.folded {
            print!("; normalizations are folded into convolutions: for inference and frozen use");
        }
    }
    if let Some(Quantized { values, kept }) = &report.quantized {
        print!("\nquantized to int8, {values} values with their ranges; in f32: ");
        print!("{}", if kept.is_empty() { "no layer".into() } else { kept.join(", ") });
    }
    if let Some(photos) = &report.photos {
        print!("\n{}", photos.line());
    }
    for sentence in report.assumed {
        print!("\nassumed: {sentence}");
    }
    println!();
    Ok(())
}
