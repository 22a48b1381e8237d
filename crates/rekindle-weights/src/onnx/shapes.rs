//! Operators that compute shapes, cut maps, or make constants.

use rekindle_nn::ops::{Cropping2d, Dropout};

use super::constant::Constant;
use super::data::{Data, Tag};
use super::integers::{Integer, Integers};
use super::node::Node;
use super::read::{Known, Reader, integers_as_constant};
use super::shaping::{axes, axis};
use super::weight::dtype;

impl Reader<'_> {
    pub fn shape(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["start", "end"], 1)?;
        let extents = match self.known(node, 0)? {
            Known::Data(data) => {
                let batch = self.batch.map_or(Integer::Batch, |batch| Integer::Known(batch as i64));
                let own = data.extents().into_iter().map(|extent| Integer::Known(extent as i64));
                Integers::list([batch].into_iter().chain(own).collect())
            }
            Known::Constant(constant) => {
                let own = constant.shape().iter().map(|&extent| Integer::Known(extent as i64));
                Integers::list(own.collect())
            }
            Known::Integers(integers) => {
                let own = integers.shape.iter().map(|&extent| Integer::Known(extent as i64));
                Integers::list(own.collect())
            }
            Known::Erf(_) => return Err(node.refused("it takes an error function")),
        };
        let (start, end) = (node.int("start")?.unwrap_or(0), node.int("end")?.unwrap_or(i64::MAX));
        let part = extents.slice(start, end, 1);
        part.map(Known::Integers).ok_or_else(|| node.refused("its shape cannot be cut so"))
    }

    pub fn gather(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axis"], 2)?;
        let (from, places) = (self.integers(node, 0)?, self.integers(node, 1)?);
        let found = match (from, places, node.int("axis")?.unwrap_or(0)) {
            (Some(from), Some(places), 0 | -1) => from.gather(&places),
            _ => None,
        };
        found
            .map(Known::Integers)
            .ok_or_else(|| node.refused("expected places in a list of integers"))
    }

    pub fn slice(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["starts", "ends", "axes"], 5)?;
        let known = self.known(node, 0)?;
        let list = |name: &str, input: usize| match node.ints(name)? {
            Some(list) => Ok::<_, String>(Some(list.to_vec())),
            None => self.list(node, input),
        };
        let (starts, ends) = (list("starts", 1)?, list("ends", 2)?);
        let (Some(starts), Some(ends)) = (starts, ends) else {
            return Err(node.refused("its starts or ends are missing"));
        };
        let own = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.list(node, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), own.len(), steps.len()] != [starts.len(); 3] {
            return Err(node.refused("its starts, ends, axes and steps are not as many"));
        }
        match known {
            Known::Integers(integers) => {
                let found =
                    match (starts.as_slice(), ends.as_slice(), own.as_slice(), steps.as_slice()) {
                        (&[start], &[end], [0 | -1], &[step]) => integers.slice(start, end, step),
                        _ => None,
                    };
                found.map(Known::Integers).ok_or_else(|| node.refused("expected a part of a list"))
            }
            Known::Data(data) => self.crop(node, &data, [&starts, &ends, &own, &steps]),
            Known::Constant(_) | Known::Erf(_) => {
                Err(node.refused("it cuts a constant, which is not supported"))
            }
        }
    }

    /// A part of maps' rows and columns.
    fn crop(&mut self, node: &Node, data: &Data, lists: [&[i64]; 4]) -> Result<Known, String> {
        let [starts, ends, own, steps] = lists;
        let extents = data.extents();
        let mut cropping = [[0; 2]; 2];
        for (number, &place) in axes(node, own, data.rank())?.iter().enumerate() {
            // In the order of the list.
            let at = own
                .iter()
                .position(|&one| axis(node, one, data.rank()) == Ok(place))
                .unwrap_or(number);
            let extent = place
                .checked_sub(1)
                .and_then(|place| extents.get(place))
                .copied()
                .unwrap_or(usize::MAX);
            let size = i64::try_from(extent).unwrap_or(i64::MAX);
            // All of an axis, of samples too, whose number nobody knows.
            if starts[at] == 0 && ends[at] >= i64::from(i32::MAX) && steps[at] == 1 {
                continue;
            }
            let bound = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
            let (start, end) = (bound(starts[at]).clamp(0, size), bound(ends[at]).clamp(0, size));
            if steps[at] != 1 || end <= start {
                return Err(node.wrong("steps", steps, "steps of 1, and a part that is not empty"));
            }
            let cut = [start as usize, (size - end) as usize];
            let which = match place.checked_sub(1) {
                _ if cut == [0, 0] => continue,
                Some(place) if data.is(place, Tag::Height) => 0,
                Some(place) if data.is(place, Tag::Width) => 1,
                _ => {
                    return Err(node.refused(&format!(
                        "it cuts axis {place} of {}, expected rows or columns",
                        data.described()
                    )));
                }
            };
            cropping[which] = cut;
        }
        if cropping == [[0; 2]; 2] {
            return Ok(Known::Data(data.clone()));
        }
        let maps = self.as_maps(node, data)?;
        let (source, shape) = self.layer(node, Cropping2d { cropping }, &[maps], Vec::new())?;
        self.resized(node, data, source, shape)
    }

    pub fn dropout(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["is_test", "ratio", "seed"], 3)?;
        if self.graph.opset < 7 && node.flag("is_test")? != Some(true) {
            return Err(node.wrong("is_test", 0, "1: export the model for inference"));
        }
        if node.input(2).is_some() {
            let live = self.list(node, 2)?.unwrap_or_default();
            if live != [0] {
                return Err(node.wrong(
                    "training_mode",
                    live,
                    "false: export the model for inference",
                ));
            }
        }
        let rate = match node.float("ratio")? {
            Some(rate) => rate,
            None => self.number(node, 1)?.unwrap_or(0.5),
        };
        if !(0.0..1.0).contains(&rate) {
            return Err(node.wrong("ratio", rate, "from 0 to less than 1"));
        }
        let data = self.data(node, 0)?;
        self.over(node, Dropout { rate }, &data, Vec::new())
    }

    pub fn cast(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["to", "saturate", "round_mode"], 1)?;
        let to = node.int("to")?.ok_or_else(|| node.refused("its type is missing"))?;
        let to = i32::try_from(to).map_err(|_| node.wrong("to", to, "a type"))?;
        let is_number = dtype(to).is_some();
        if matches!(to, 10 | 16) {
            let text =
                "the graph computes in 16 bits: 32 are used, and answers differ by the rounding";
            if !self.assumed.iter().any(|known| known == text) {
                self.assumed.push(text.to_owned());
            }
        }
        match self.known(node, 0)? {
            Known::Integers(integers) if is_number => match integers_as_constant(&integers) {
                Some(constant) => Ok(Known::Constant(constant)),
                None => Err(node.refused("the number of samples becomes a number with a fraction")),
            },
            integers @ Known::Integers(_) if matches!(to, 6 | 7) => Ok(integers),
            Known::Constant(constant) if matches!(to, 6 | 7) => {
                let values = self.numbers(node, &constant)?;
                let known: Vec<i64> = values.iter().map(|&value| value as i64).collect();
                if known.len() > 1 << 12 {
                    return Err(node.refused("a long list of numbers becomes integers"));
                }
                Ok(Known::Integers(Integers::known(constant.shape().to_vec(), &known)))
            }
            known @ (Known::Data(_) | Known::Constant(_) | Known::Erf(_)) if is_number => Ok(known),
            Known::Data(_) | Known::Constant(_) | Known::Integers(_) | Known::Erf(_) => {
                let name = super::weight::type_name(to);
                Err(node.wrong("to", name, "a type of numbers with a fraction"))
            }
        }
    }

    /// A constant that is no tensor.
    pub fn constant_node(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["value_float", "value_floats", "value_int", "value_ints"], 0)?;
        if let Some(value) = node.float("value_float")? {
            return scalar(node, Constant::given(vec![value as f32]));
        }
        if let Some(values) = node.floats("value_floats")? {
            return Ok(Known::Constant(Constant::given(values.to_vec())));
        }
        if let Some(value) = node.int("value_int")? {
            return Ok(Known::Integers(Integers::known(Vec::new(), &[value])));
        }
        match node.ints("value_ints")? {
            Some(values) => Ok(Known::Integers(Integers::known(vec![values.len()], values))),
            None => Err(node.refused("its value is missing")),
        }
    }

    pub fn constant_of_shape(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["value"], 1)?;
        let list = self.list(node, 0)?.ok_or_else(|| node.refused("its shape is missing"))?;
        let shape: Option<Vec<usize>> =
            list.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        let shape = shape.ok_or_else(|| node.wrong("shape", &list, "extents from 0"))?;
        match node.tensor("value")? {
            None => Ok(Known::Constant(self.full(node, 0.0, shape)?)),
            Some(super::node::Single::Number(value)) => {
                Ok(Known::Constant(self.full(node, value, shape)?))
            }
            Some(super::node::Single::Integer(value)) => {
                match super::constant::count(&shape).filter(|&count| count <= 1 << 12) {
                    Some(count) => Ok(Known::Integers(Integers::known(shape, &vec![value; count]))),
                    None => Err(node.wrong("shape", &shape, "a short list of integers")),
                }
            }
        }
    }

    pub fn reduce_prod(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axes", "keepdims", "noop_with_empty_axes"], 2)?;
        let keeps = node.flag("keepdims")?.unwrap_or(true);
        let Some(integers) = self.integers(node, 0)? else {
            return Err(node.refused("its input is missing"));
        };
        let product = integers
            .product()
            .ok_or_else(|| node.refused("a product with the number of samples"))?;
        let shape = if keeps { vec![1; integers.shape.len()] } else { Vec::new() };
        Ok(Known::Integers(Integers { shape, values: vec![product] }))
    }

    /// Numbers of a shape that is computed.
    pub fn rounded(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 1)?;
        let constant = self.constant(node, 0)?;
        let round = if node.op == "Floor" { f32::floor } else { f32::ceil };
        let values = self.numbers(node, &constant)?.into_iter().map(round).collect();
        let rounded = Constant::given(values).reshaped(constant.shape().to_vec());
        Ok(Known::Constant(rounded.map_err(|reason| node.refused(&reason))?))
    }
}

fn scalar(node: &Node, constant: Constant) -> Result<Known, String> {
    Ok(Known::Constant(constant.reshaped(Vec::new()).map_err(|reason| node.refused(&reason))?))
}
