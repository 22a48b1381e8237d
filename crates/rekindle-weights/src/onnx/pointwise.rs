//! Operators that work on single values: activations, arithmetic with constants and between values.

use rekindle_nn::ops::{Merge, MergeKind, Rescaling};
use rekindle_nn::{Shape, Source};

use super::constant::{Binary, Constant};
use super::data::{Atom, Data, Tag, joined, places};
use super::node::{Node, exact};
use super::read::{Known, Reader, integers_as_constant};
use super::shaping::axis;

/// Operators of any number of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    Sum,
    Mean,
    Max,
    Min,
}

impl Reader<'_> {
    /// Parts of a value along which a constant differs, where it stretches over it.
    pub fn covered(
        &self,
        node: &Node,
        data: &Data,
        constant: &Constant,
    ) -> Result<(Vec<Atom>, Shape), String> {
        let refused = || {
            node.refused(&format!(
                "a constant of shape {shape:?} does not stretch over {}",
                data.described(),
                shape = constant.shape()
            ))
        };
        let rank = data.rank();
        let shape = constant.shape();
        let Some(missing) = rank.checked_sub(shape.len()) else { return Err(refused()) };
        let mut covered = Vec::new();
        for (place, &extent) in shape.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            let Some(axis) = (place + missing).checked_sub(1) else { return Err(refused()) };
            if places(&data.axes[axis]) != extent {
                return Err(refused());
            }
            covered.extend(data.axes[axis].iter().copied());
        }
        Ok((joined(covered), data.shape))
    }

    pub fn binary(&mut self, node: &Node, function: Binary) -> Result<Known, String> {
        // Before opset 7 the second stretches only where it is said so, along axes that begin at one.
        let known: &[&str] =
            if self.graph.opset < 7 { &["axis", "broadcast", "consumed_inputs"] } else { &[] };
        node.only(known, 2)?;
        let (a, b) = (self.known(node, 0)?, self.known(node, 1)?);
        if let Some(first) = node.int("axis")?.filter(|_| self.graph.opset < 7) {
            let (Known::Data(data), Known::Constant(constant)) = (&a, &b) else {
                return Err(node.wrong("axis", first, "none, or one with a constant second"));
            };
            let first = axis(node, first, data.rank())?;
            let mut shape = constant.shape().to_vec();
            if first + shape.len() > data.rank() {
                return Err(node.wrong(
                    "axis",
                    first,
                    &format!("one that a constant of shape {shape:?} fits behind"),
                ));
            }
            shape.resize(data.rank() - first, 1);
            let placed = constant.reshaped(shape).map_err(|reason| node.refused(&reason))?;
            return self.two(node, function, a, Known::Constant(placed));
        }
        self.two(node, function, a, b)
    }

    fn two(&mut self, node: &Node, function: Binary, a: Known, b: Known) -> Result<Known, String> {
        let as_constant = |integers: &_| {
            integers_as_constant(integers)
                .ok_or_else(|| node.refused("it takes the number of samples"))
        };
        match (a, b) {
            (Known::Integers(a), Known::Integers(b)) => {
                let result = a.binary(function, &b);
                result
                    .map(Known::Integers)
                    .ok_or_else(|| node.refused("its integers cannot be computed"))
            }
            (Known::Integers(a), b) => {
                let a = as_constant(&a)?;
                self.two(node, function, Known::Constant(a), b)
            }
            (a, Known::Integers(b)) => {
                let b = as_constant(&b)?;
                self.two(node, function, a, Known::Constant(b))
            }
            (Known::Constant(a), Known::Constant(b)) => {
                Ok(Known::Constant(a.binary(function, &b).map_err(|reason| node.refused(&reason))?))
            }
            (Known::Data(data), Known::Constant(constant)) => {
                self.with_constant(node, function, &data, &constant, false)
            }
            (Known::Constant(constant), Known::Data(data)) => {
                self.with_constant(node, function, &data, &constant, true)
            }
            (Known::Erf(erf), other) | (other, Known::Erf(erf)) => {
                self.with_erf(node, function, erf, &other)
            }
            (Known::Data(a), Known::Data(b)) => {
                let kind = match function {
                    Binary::Add => MergeKind::Add,
                    Binary::Subtract => MergeKind::Subtract,
                    Binary::Multiply => MergeKind::Multiply,
                    Binary::Maximum => MergeKind::Maximum,
                    Binary::Minimum => MergeKind::Minimum,
                    Binary::Divide | Binary::Power => {
                        return Err(node.refused(
                            "both its inputs depend on the image, expected a constant second",
                        ));
                    }
                };
                self.merge(node, kind, &[a, b])
            }
        }
    }

    /// A value with a constant that is the same everywhere, or for each channel.
    fn with_constant(
        &mut self,
        node: &Node,
        function: Binary,
        data: &Data,
        constant: &Constant,
        first: bool,
    ) -> Result<Known, String> {
        let (covered, _) = self.covered(node, data, constant)?;
        let values = self.numbers(node, constant)?;
        let values: Vec<f64> = values.into_iter().map(exact).collect();
        if values.iter().any(|value| !value.is_finite())
            && !matches!(function, Binary::Maximum | Binary::Minimum)
        {
            return Err(node.refused("its constant is not finite"));
        }
        let one = || match values.as_slice() {
            &[value] => Ok(value),
            _ => Err(node.refused(&format!(
                "its constant has the shape {shape:?}, expected a single number",
                shape = constant.shape()
            ))),
        };
        let most = f64::from(f32::MAX);
        let (scale, offset): (Vec<f64>, Vec<f64>) = match (function, first) {
            (Binary::Add, _) => (vec![1.0], values),
            (Binary::Subtract, false) => (vec![1.0], values.iter().map(|value| -value).collect()),
            (Binary::Subtract, true) => (vec![-1.0], values),
            (Binary::Multiply, _) => (values, vec![0.0]),
            (Binary::Divide, false) if values.contains(&0.0) => {
                return Err(node.refused("it divides by 0"));
            }
            (Binary::Divide, false) => {
                (values.iter().map(|value| 1.0 / value).collect(), vec![0.0])
            }
            (Binary::Maximum, _) => return self.clamped(node, one()?.max(-most), most),
            (Binary::Minimum, _) => return self.clamped(node, -most, one()?.min(most)),
            (Binary::Power, false) if one()? == 1.0 => return Ok(Known::Data(data.clone())),
            (Binary::Power, false) if one()? == 2.0 => {
                return self.merge(node, MergeKind::Multiply, &[data.clone(), data.clone()]);
            }
            (Binary::Divide | Binary::Power, _) => {
                return Err(node.refused(
                    "expected a value divided by a constant, or its first or second power",
                ));
            }
        };
        if covered.is_empty() || covered == data.whole(Tag::Channels) {
            return self.over(node, Rescaling { scale, offset }, data, Vec::new());
        }
        if places(&covered) == data.shape.count() && covered == data.parts() && data.rank() == 2 {
            // Features that were maps: in our order.
            let (value, parts) = self.vector(node, data)?;
            let ours = |values: Vec<f64>| match values.len() {
                1 => values,
                _ => in_our_order(&values, &parts),
            };
            let rescaling = Rescaling { scale: ours(scale), offset: ours(offset) };
            let (source, shape) = self.layer(node, rescaling, &[value], Vec::new())?;
            return Ok(Known::Data(self.flattened(data, source, shape)));
        }
        Err(node.refused(&format!(
            "its constant has the shape {shape:?} beside {}, expected a single number or one for each channel",
            data.described(),
            shape = constant.shape()
        )))
    }

    /// Values element by element.
    pub fn merge(
        &mut self,
        node: &Node,
        kind: MergeKind,
        inputs: &[Data],
    ) -> Result<Known, String> {
        let refused = || {
            let all: Vec<String> = inputs.iter().map(Data::described).collect();
            node.refused(&format!("its inputs do not fit: {}", all.join(" and ")))
        };
        let rank = inputs.iter().map(Data::rank).max().unwrap_or(0);
        let mut layout: Vec<Vec<Atom>> = vec![Vec::new(); rank.saturating_sub(1)];
        for data in inputs {
            if data.rank() != rank {
                return Err(refused());
            }
            for (own, wanted) in data.axes.iter().zip(&mut layout) {
                if !own.is_empty() && !wanted.is_empty() && own != wanted {
                    return Err(refused());
                }
                if wanted.is_empty() {
                    wanted.clone_from(own);
                }
            }
        }
        let has_maps = inputs.iter().any(|data| matches!(data.shape, Shape::Map { .. }));
        let mut values: Vec<(Source, Shape)> = Vec::with_capacity(inputs.len());
        for data in inputs {
            values.push(if has_maps {
                self.as_maps(node, data)?
            } else {
                (data.source, data.shape)
            });
        }
        let (source, shape) = self.layer(node, Merge { kind }, &values, Vec::new())?;
        // Two axes of ours in one of the file's, or one of ours in two, is no stretching of ours.
        if places(&layout.concat()) != shape.count() {
            return Err(refused());
        }
        Ok(Known::Data(Data { source, shape, axes: layout }))
    }

    pub fn merged(&mut self, node: &Node, kind: Merged) -> Result<Known, String> {
        node.only(&[], 1 << 12)?;
        let inputs = (0..node.inputs.len()).map(|input| self.known(node, input));
        let inputs = inputs.collect::<Result<Vec<Known>, String>>()?;
        let all: Option<Vec<Data>> = inputs
            .iter()
            .map(|known| match known {
                Known::Data(data) => Some(data.clone()),
                Known::Constant(_) | Known::Integers(_) | Known::Erf(_) => None,
            })
            .collect();
        match (all.as_deref(), kind) {
            (Some([one]), _) => Ok(Known::Data(one.clone())),
            (Some(all @ [_, _, ..]), kind) => {
                let kind = match kind {
                    Merged::Sum => MergeKind::Add,
                    Merged::Mean => MergeKind::Average,
                    Merged::Max => MergeKind::Maximum,
                    Merged::Min => MergeKind::Minimum,
                };
                self.merge(node, kind, all)
            }
            (_, Merged::Mean) => Err(node.refused("expected values that depend on the image")),
            (_, kind) => {
                let function = match kind {
                    Merged::Sum | Merged::Mean => Binary::Add,
                    Merged::Max => Binary::Maximum,
                    Merged::Min => Binary::Minimum,
                };
                if inputs.len() > 2 && kind != Merged::Sum {
                    return Err(node.refused("expected two inputs where one is a constant"));
                }
                let mut inputs = inputs.into_iter();
                let first = inputs.next().ok_or_else(|| node.refused("it has no inputs"))?;
                inputs.try_fold(first, |sum, next| self.two(node, function, sum, next))
            }
        }
    }
}

/// Values in the file's order of parts, in ours.
fn in_our_order(values: &[f64], parts: &[Atom]) -> Vec<f64> {
    let own = Data::own_order(parts);
    // How far a step along each part goes in the file's order.
    let step = |atom: &Atom| {
        let place = parts.iter().position(|other| other == atom).unwrap_or(0);
        places(&parts[place + 1..])
    };
    let steps: Vec<usize> = own.iter().map(step).collect();
    let at = |mut index: usize| {
        let mut place = 0;
        for (atom, step) in own.iter().zip(&steps).rev() {
            place += index % atom.size * step;
            index /= atom.size;
        }
        values.get(place).copied().unwrap_or(0.0)
    };
    (0..values.len()).map(at).collect()
}
