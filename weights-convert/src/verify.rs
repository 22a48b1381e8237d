use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::{Outcome, described, open_network};

/// How far a layer of one file is from the other's.
#[derive(Serialize)]
struct Row {
    layer: String,
    /// Largest difference.
    absolute: f64,
    /// The same, relative to the largest value of its variable.
    relative: f64,
}

#[derive(Serialize)]
struct Report {
    a: String,
    b: String,
    layers: Vec<Row>,
    /// Variables that one file has and the other has not, or in another shape.
    unmatched: Vec<String>,
}

pub fn run(a: &Path, b: &Path, tolerance: f64, json: bool) -> Outcome {
    let (mut first, first_card) = open_network(a)?;
    let (mut second, second_card) = open_network(b)?;
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    others.extend(second.tensors().iter().enumerate().map(|(index, t)| (t.path(), index)));
    let (mut layers, mut unmatched): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    for index in 0..first.tensors().len() {
        let tensor = first.tensors()[index].clone();
        match others.remove(&tensor.path()) {
            Some(other) if second.tensors()[other].shape == tensor.shape => {
                let (ours, theirs) = (first.read(index)?, second.read(other)?);
                let (mut absolute, mut largest) = (0.0_f64, 0.0_f64);
                for (x, y) in ours.iter().zip(&theirs) {
                    absolute = absolute.max((f64::from(*x) - f64::from(*y)).abs());
                    largest = largest.max(f64::from(x.abs().max(y.abs())));
                }
                let relative = if absolute == 0.0 { 0.0 } else { absolute / largest };
                match layers.iter_mut().find(|row| row.layer == tensor.layer) {
                    Some(row) => {
                        row.absolute = row.absolute.max(absolute);
                        row.relative = row.relative.max(relative);
                    }
                    None => layers.push(Row { layer: tensor.layer, absolute, relative }),
                }
            }
            Some(other) => {
                let (found, expected) = (&second.tensors()[other].shape, &tensor.shape);
                unmatched.push(format!("{}: {expected:?} against {found:?}", tensor.path()));
            }
            None => unmatched.push(format!("{}: only in {}", tensor.path(), a.display())),
        }
    }
    unmatched.extend(others.into_keys().map(|path| format!("{path}: only in {}", b.display())));
    let worst = layers.iter().fold(0.0_f64, |worst, row| worst.max(row.relative));
    let compared = layers.len();
    let report =
        Report { a: described(&first_card), b: described(&second_card), layers, unmatched };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}: {}\n{}: {}", a.display(), report.a, b.display(), report.b);
        for row in report.layers.iter().filter(|row| row.absolute > 0.0) {
            println!(
                "{:40} max |difference| {:.3e}, relative {:.3e}",
                row.layer, row.absolute, row.relative
            );
        }
        for line in &report.unmatched {
            println!("{line}");
        }
        println!("{compared} layers compared, the largest relative difference is {worst:.3e}");
    }
    match report.unmatched.len() {
        0 if worst <= tolerance => Ok(()),
        0 => Err(format!("the files differ by {worst:.3e}, expected at most {tolerance:e}").into()),
        count => Err(format!("{count} variables are in one file only, or in another shape").into()),
    }
}
