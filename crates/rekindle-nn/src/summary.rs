use std::fmt;

use serde::Serialize;

use crate::graph::{Graph, Source};

/// One line of a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    /// The layer's Keras name.
    pub name: String,
    /// Keras's layer class.
    pub kind: &'static str,
    /// As Keras writes it: `(None, 7, 7, 1280)`.
    pub output_shape: String,
    /// How many parameters the layer has.
    pub parameters: usize,
    /// The layers whose outputs it takes.
    pub connected_to: Vec<String>,
}

/// How many parameters a network has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// All of them.
    pub total: usize,
    /// Those that training changes.
    pub trainable: usize,
    /// The others: frozen ones, and the moving statistics of BatchNorm.
    pub non_trainable: usize,
}

/// A network's layers and parameter counts, as Keras's `model.summary()` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// In topological order.
    pub layers: Vec<LayerRow>,
    /// The totals.
    pub parameters: Parameters,
}

impl Graph {
    /// The table of layers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summarized(0)
    }

    /// The table of layers, with the base's parameters counted as frozen.
    #[must_use]
    pub fn summary_frozen(&self) -> Summary {
        self.summarized(self.base().layers)
    }

    fn summarized(&self, frozen: usize) -> Summary {
        const INPUT: &str = "input_layer";
        let name = |source: &Source| match source {
            Source::Input => INPUT.to_owned(),
            Source::Layer(position) => self.layers()[*position].name.clone(),
        };
        let mut totals = Parameters::default();
        let mut layers = vec![LayerRow {
            name: INPUT.to_owned(),
            kind: "InputLayer",
            output_shape: self.input().to_string(),
            parameters: 0,
            connected_to: Vec::new(),
        }];
        for (position, layer) in self.layers().iter().enumerate() {
            let mut parameters = 0;
            for variable in self.variables(position) {
                let count = variable.count();
                parameters += count;
                totals.total += count;
                if variable.trainable && position >= frozen {
                    totals.trainable += count;
                } else {
                    totals.non_trainable += count;
                }
            }
            layers.push(LayerRow {
                name: layer.name.clone(),
                kind: layer.op.class(),
                output_shape: self.shape(Source::Layer(position)).to_string(),
                parameters,
                connected_to: layer.inputs.iter().map(name).collect(),
            });
        }
        Summary { layers, parameters: totals }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["Layer (type)", "Output shape", "Param #", "Connected to"].map(String::from);
        let rows: Vec<[String; 4]> = self
            .layers
            .iter()
            .map(|row| {
                let layer = format!("{} ({})", row.name, row.kind);
                [
                    layer,
                    row.output_shape.clone(),
                    thousands(row.parameters),
                    row.connected_to.join(", "),
                ]
            })
            .collect();
        let width = |column: usize| {
            let cells = rows.iter().chain([&titles]).map(|row| row[column].len());
            cells.max().unwrap_or_default()
        };
        let widths = [width(0), width(1), width(2)];
        let rule = "-".repeat(widths.iter().sum::<usize>() + 6 + width(3));
        let mut line = |[layer, shape, parameters, sources]: &[String; 4]| {
            let [a, b, c] = widths;
            writeln!(f, "{layer:a$}  {shape:b$}  {parameters:>c$}  {sources}")
        };
        line(&titles)?;
        line(&[rule.clone(), String::new(), String::new(), String::new()])?;
        for row in &rows {
            line(row)?;
        }
        writeln!(f, "{rule}")?;
        write!(f, "{}", self.parameters)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Total params: {}", thousands(self.total))?;
        writeln!(f, "Trainable params: {}", thousands(self.trainable))?;
        write!(f, "Non-trainable params: {}", thousands(self.non_trainable))
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
