use std::fmt;

use burn::tensor::backend::Backend;
use serde::Serialize;

use crate::{Interpreter, NetworkError, Op, Shape};

/// Makes the table of layers that Keras's `model.summary()` prints.
#[derive(Debug, Default)]
pub struct Summarize {
    layers: Vec<LayerRow>,
    parameters: Parameters,
    frozen: bool,
    blind: bool,
}

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

/// A network's layers and parameter counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// In the order of the walk.
    pub layers: Vec<LayerRow>,
    /// The totals.
    pub parameters: Parameters,
}

impl Summarize {
    /// Counts the parameters of layers that come from now on as trainable, or not.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// The network's input, as a row of its own.
    pub fn input(&mut self, name: &str, shape: Shape) -> (Shape, String) {
        self.row(name, "InputLayer", shape, 0, Vec::new())
    }

    /// The finished table.
    #[must_use]
    pub fn finish(self) -> Summary {
        Summary { layers: self.layers, parameters: self.parameters }
    }

    /// Lists the layers without looking at shapes.
    pub(crate) fn without_shapes(self) -> Self {
        Self { blind: true, ..self }
    }

    fn row(
        &mut self,
        name: &str,
        kind: &'static str,
        shape: Shape,
        parameters: usize,
        connected_to: Vec<String>,
    ) -> (Shape, String) {
        let (name, output_shape) = (name.to_owned(), shape.to_string());
        self.layers.push(LayerRow {
            name: name.clone(),
            kind,
            output_shape,
            parameters,
            connected_to,
        });
        (shape, name)
    }
}

impl<B: Backend> Interpreter<B> for Summarize {
    type Value = (Shape, String);

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Self::Value>,
    ) -> Result<Self::Value, NetworkError> {
        let (shapes, sources): (Vec<Shape>, Vec<String>) = inputs.into_iter().unzip();
        let shape = if self.blind { Shape::Flat(0) } else { op.output_shape(name, &shapes)? };
        let mut parameters = 0;
        for variable in op.variables() {
            let count = variable.shape.iter().product::<usize>();
            parameters += count;
            self.parameters.total += count;
            if variable.trainable && !self.frozen {
                self.parameters.trainable += count;
            } else {
                self.parameters.non_trainable += count;
            }
        }
        Ok(self.row(name, op.kind(), shape, parameters, sources))
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
