//! A file's graph, read backwards: which node makes a value.

use std::collections::HashMap;

use super::proto::{GraphProto, NodeProto, TensorProto};

/// A value's name, as its index into the graph's names.
pub(crate) type Value = usize;

/// One node.
pub(crate) struct Node {
    pub op: String,
    /// Empty names are left-out inputs.
    pub inputs: Vec<Option<Value>>,
    ints: HashMap<String, Vec<i64>>,
    floats: HashMap<String, f32>,
}

impl Node {
    /// An attribute of two equal or different numbers.
    pub fn pair(&self, name: &str) -> Option<[usize; 2]> {
        match self.ints.get(name)?.as_slice() {
            &[rows, columns] => Some([rows.try_into().ok()?, columns.try_into().ok()?]),
            _ => None,
        }
    }

    /// A number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.ints.get(name)?.first().copied()
    }

    /// A number with a fraction.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.floats.get(name).copied()
    }

    /// An input that is there.
    pub fn input(&self, number: usize) -> Option<Value> {
        self.inputs.get(number).copied().flatten()
    }
}

/// Nodes by the value that they make.
pub(crate) struct Graph {
    names: Vec<String>,
    nodes: Vec<Node>,
    maker: HashMap<Value, usize>,
    /// The checkpoint's tensor with a constant's values.
    tensors: HashMap<Value, usize>,
    /// The values of tensors that hold one.
    scalars: HashMap<usize, f64>,
    /// The graph's one real input and its extents, 0 where they are free.
    pub input: (Value, Vec<i64>),
    /// The graph's one output.
    pub output: Value,
}

impl Graph {
    /// The graph, and its constants with their names.
    pub fn new(mut proto: GraphProto) -> Result<(Self, Vec<TensorProto>), String> {
        let mut numbers: HashMap<String, Value> = HashMap::new();
        let mut names = Vec::new();
        let mut number = |name: &str| {
            *numbers.entry(name.to_owned()).or_insert_with(|| {
                names.push(name.to_owned());
                names.len() - 1
            })
        };
        let mut constants = std::mem::take(&mut proto.initializer);
        let (mut nodes, mut maker) = (Vec::new(), HashMap::new());
        for node in proto.node {
            let NodeProto { input, output, op_type, attribute } = node;
            let (mut ints, mut floats) = (HashMap::new(), HashMap::new());
            for attribute in attribute {
                if let (Some(tensor), "Constant", [name, ..]) =
                    (attribute.t, op_type.as_str(), output.as_slice())
                {
                    constants.push(TensorProto { name: name.clone(), ..tensor });
                }
                floats.insert(attribute.name.clone(), attribute.f);
                let list =
                    if attribute.ints.is_empty() { vec![attribute.i] } else { attribute.ints };
                ints.insert(attribute.name, list);
            }
            if op_type == "Constant" {
                continue;
            }
            for name in &output {
                if maker.insert(number(name), nodes.len()).is_some() {
                    return Err(format!("two nodes make `{name}`: the file is damaged"));
                }
            }
            let inputs = input.iter().map(|name| (!name.is_empty()).then(|| number(name)));
            nodes.push(Node { op: op_type, inputs: inputs.collect(), ints, floats });
        }
        // Old exporters list weights among the inputs.
        let is_weight = |name: &String| constants.iter().any(|constant| constant.name == *name);
        let inputs: Vec<_> = proto.input.iter().filter(|input| !is_weight(&input.name)).collect();
        let ([input], [output]) = (inputs.as_slice(), proto.output.as_slice()) else {
            return Err(format!(
                "found {} inputs and {} outputs, expected one of each",
                inputs.len(),
                proto.output.len()
            ));
        };
        let shape = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()?.shape.as_ref());
        let extents = shape.map(|shape| shape.dim.iter().map(|dim| dim.dim_value).collect());
        let input = (number(&input.name), extents.unwrap_or_default());
        let output = number(&output.name);
        let (tensors, scalars) = (HashMap::new(), HashMap::new());
        Ok((Self { names, nodes, maker, tensors, scalars, input, output }, constants))
    }

    /// Knows which tensors of the checkpoint its constants are, and the values of those that hold one.
    pub fn with_tensors(
        mut self,
        tensors: &HashMap<String, usize>,
        scalars: HashMap<usize, f64>,
    ) -> Self {
        self.scalars = scalars;
        let names = self.names.iter().enumerate();
        self.tensors =
            names.filter_map(|(value, name)| Some((value, *tensors.get(name)?))).collect();
        self
    }

    /// A value's name in the file.
    pub fn name(&self, value: Value) -> &str {
        &self.names[value]
    }

    /// The node that makes a value; nothing for inputs and constants.
    pub fn maker(&self, value: Value) -> Option<&Node> {
        self.maker.get(&value).map(|&node| &self.nodes[node])
    }

    /// The checkpoint's tensor with a constant's values.
    pub fn tensor(&self, value: Value) -> Option<usize> {
        self.tensors.get(&value).copied()
    }

    /// The value of a tensor that holds one.
    pub fn scalar(&self, tensor: usize) -> Option<f64> {
        self.scalars.get(&tensor).copied()
    }

    /// The value behind nodes that change no number, and whether one of them was a reshape.
    pub fn behind(&self, mut value: Value) -> (Value, bool) {
        let mut reshaped = false;
        // A damaged file may go in circles.
        for _ in 0..self.nodes.len() {
            let Some(node) = self.maker(value) else { break };
            match (node.op.as_str(), node.input(0)) {
                ("Identity" | "Cast" | "Transpose" | "Dropout" | "Pad", Some(input)) => {
                    value = input;
                }
                ("Reshape" | "Squeeze" | "Unsqueeze" | "Flatten", Some(input)) => {
                    reshaped = true;
                    value = input;
                }
                _ => break,
            }
        }
        (value, reshaped)
    }

    /// Whether a value, on its way from [`Graph::behind`] it, is brought from channels first to channels last.
    pub fn turns_channels_last(&self, mut value: Value) -> bool {
        let end = self.behind(value).0;
        while value != end {
            let Some(node) = self.maker(value) else { break };
            if node.op == "Transpose"
                && node.ints.get("perm").is_some_and(|perm| *perm == [0, 2, 3, 1])
            {
                return true;
            }
            let Some(input) = node.input(0) else { break };
            value = input;
        }
        false
    }

    /// The operand that is computed and the constant, and whether the constant comes first.
    pub fn with_constant(&self, node: &Node) -> Option<(Value, usize, bool)> {
        let (first, second) = (node.input(0)?, node.input(1)?);
        match (self.tensor(first), self.tensor(second)) {
            (None, Some(constant)) => Some((first, constant, false)),
            (Some(constant), None) => Some((second, constant, true)),
            _ => None,
        }
    }
}
