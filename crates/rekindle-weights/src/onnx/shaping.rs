//! Operators that move no number: what they do is what the file's axes mean.

use super::data::{Atom, Data, Tag, places, whole};
use super::integers::{Integer, Integers};
use super::node::{Node, Shown};
use super::read::{Known, Reader};

/// The axis that is meant, where negative ones count from the end.
pub(super) fn axis(node: &Node, axis: i64, rank: usize) -> Result<usize, String> {
    let signed = rank as i64;
    let place = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    match place.and_then(|place| usize::try_from(place).ok()) {
        Some(place) if place < rank => Ok(place),
        _ => Err(node.wrong("axis", axis, &format!("one of {rank} axes"))),
    }
}

/// A list of axes, without doubles.
pub(super) fn axes(node: &Node, list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut found = list.iter().map(|&one| axis(node, one, rank)).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    if found.len() != list.len() {
        return Err(node.wrong("axes", list, "each axis once"));
    }
    Ok(found)
}

impl Reader<'_> {
    /// Axes that are an attribute in old files, and an input in new ones.
    pub fn axes_of(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>, String> {
        if let Some(axes) = node.ints("axes")? {
            return Ok(Some(axes.to_vec()));
        }
        let Some(integers) = self.integers(node, input)? else { return Ok(None) };
        let known = integers.all_known();
        known.map(Some).ok_or_else(|| node.refused("its axes depend on the number of samples"))
    }

    /// A list of known integers in an input.
    pub fn list(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(integers) = self.integers(node, input)? else { return Ok(None) };
        let known = integers.all_known();
        known.map(Some).ok_or_else(|| {
            node.refused(&format!(
                "input {input} depends on the number of samples, expected constants"
            ))
        })
    }

    /// A value with other extents in the same order: the first is the number of samples.
    pub fn with_extents(
        &self,
        node: &Node,
        data: &Data,
        extents: &[usize],
    ) -> Result<Known, String> {
        match data.reshaped(extents) {
            Some(data) => Ok(Known::Data(data)),
            None => Err(node.refused(&format!(
                "it makes [samples, {extents:?}] of {}, which mixes values of different places",
                data.described()
            ))),
        }
    }

    pub fn reshape(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["allowzero"], 2)?;
        let allows_zero = node.flag("allowzero")?.unwrap_or(false);
        let Some(target) = self.integers(node, 1)? else {
            return Err(node.refused("its shape is missing"));
        };
        let data = match self.known(node, 0)? {
            Known::Data(data) => data,
            other => return self.reshape_constant(node, other, &target, allows_zero),
        };
        let own = data.extents();
        let all: usize = own.iter().product();
        let Some((first, rest)) = target.values.split_first() else {
            return Err(node.refused("its shape is empty, expected the samples first"));
        };
        let mut extents = Vec::with_capacity(rest.len());
        let mut open = None;
        for (place, extent) in rest.iter().enumerate() {
            let found = match extent {
                Integer::Known(0) if !allows_zero => own.get(place).copied(),
                Integer::Known(-1) if open.is_none() => {
                    open = Some(place);
                    Some(1)
                }
                Integer::Known(extent) => {
                    usize::try_from(*extent).ok().filter(|&extent| extent > 0)
                }
                Integer::Batch => None,
            };
            let found = found.ok_or_else(|| {
                node.wrong(
                    "shape",
                    &target.values,
                    "the number of samples first, and extents behind it",
                )
            })?;
            extents.push(found);
        }
        let rest: usize =
            extents.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent)).ok_or_else(
                || node.wrong("shape", &target.values, "extents that a computer can count"),
            )?;
        let is_samples = match first {
            Integer::Batch => true,
            Integer::Known(0) => !allows_zero,
            // Also what an exporter wrote that traced one sample.
            Integer::Known(-1) => open.is_none() && rest == all,
            Integer::Known(count) => {
                let same = self.batch.is_some_and(|batch| i64::try_from(batch) == Ok(*count));
                let one = *count == 1 && (open.is_some() || rest == all);
                if one && self.batch.is_none() {
                    let text =
                        "the graph is for one image at a time; its layers take more".to_owned();
                    if !self.assumed.contains(&text) {
                        self.assumed.push(text);
                    }
                }
                same || one
            }
        };
        if !is_samples {
            return Err(node.refused(&format!(
                "it makes {} of {}, expected the samples to stay first",
                target.values.shown(),
                data.described()
            )));
        }
        if let Some(open) = open {
            if !all.is_multiple_of(rest) {
                return Err(node.wrong(
                    "shape",
                    &target.values,
                    &format!("extents that divide {all}"),
                ));
            }
            extents[open] = all / rest;
        }
        self.with_extents(node, &data, &extents)
    }

    fn reshape_constant(
        &self,
        node: &Node,
        known: Known,
        target: &Integers,
        allows_zero: bool,
    ) -> Result<Known, String> {
        let wrong = || node.wrong("shape", &target.values, "a shape for as many values");
        let own: Vec<usize> = match &known {
            Known::Constant(constant) => constant.shape().to_vec(),
            Known::Integers(integers) => integers.shape.clone(),
            Known::Data(_) | Known::Erf(_) => return Err(wrong()),
        };
        let all: usize = own.iter().product();
        let mut shape = Vec::new();
        let mut open = None;
        for (place, extent) in target.values.iter().enumerate() {
            shape.push(match extent {
                Integer::Known(0) if !allows_zero => *own.get(place).ok_or_else(wrong)?,
                Integer::Known(-1) if open.is_none() => {
                    open = Some(place);
                    1
                }
                Integer::Known(extent) => usize::try_from(*extent).map_err(|_| wrong())?,
                Integer::Batch => return Err(wrong()),
            });
        }
        if let Some(open) = open {
            let rest = super::constant::count(&shape).filter(|&rest| rest > 0).ok_or_else(wrong)?;
            shape[open] = all / rest;
        }
        self.constant_as(node, known, shape)
    }

    /// A constant in another shape.
    fn constant_as(&self, node: &Node, known: Known, shape: Vec<usize>) -> Result<Known, String> {
        let refused = |reason: String| node.refused(&reason);
        match known {
            Known::Constant(constant) => {
                Ok(Known::Constant(constant.reshaped(shape).map_err(refused)?))
            }
            Known::Integers(integers) => {
                let found = integers.reshaped(shape);
                found
                    .map(Known::Integers)
                    .ok_or_else(|| node.refused("its integers do not fit the shape"))
            }
            Known::Data(_) | Known::Erf(_) => Err(node.refused("it takes no constant")),
        }
    }

    pub fn flatten(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axis"], 1)?;
        let from = node.int("axis")?.unwrap_or(1);
        let data = match self.known(node, 0)? {
            Known::Data(data) => data,
            Known::Constant(constant) => {
                let rank = constant.shape().len();
                let from = if from == rank as i64 { rank } else { axis(node, from, rank.max(1))? };
                let (rows, columns) = constant.shape().split_at(from.min(rank));
                let shape = vec![rows.iter().product(), columns.iter().product()];
                return self.constant_as(node, Known::Constant(constant), shape);
            }
            Known::Integers(_) | Known::Erf(_) => {
                return Err(node.refused("it takes no list of integers"));
            }
        };
        // Behind axes of one place it is the same.
        let from =
            if from == data.rank() as i64 { data.rank() } else { axis(node, from, data.rank())? };
        let extents = data.extents();
        let (before, behind) = extents.split_at(from.max(1) - 1);
        if from == 0 || before.iter().product::<usize>() != 1 {
            return Err(node.wrong("axis", from, "1: the samples stay"));
        }
        let count = behind.iter().product();
        self.with_extents(node, &data, &[count])
    }

    pub fn squeeze(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axes"], 2)?;
        let list = self.axes_of(node, 1)?;
        let known = self.known(node, 0)?;
        let extents = match &known {
            // The number of samples may be one too, but stays.
            Known::Data(data) => [vec![usize::MAX], data.extents()].concat(),
            Known::Constant(constant) => constant.shape().to_vec(),
            Known::Integers(integers) => integers.shape.clone(),
            Known::Erf(_) => return Err(node.refused("it takes an error function")),
        };
        let gone = match &list {
            Some(list) => axes(node, list, extents.len())?,
            None => (0..extents.len()).filter(|&axis| extents[axis] == 1).collect(),
        };
        if let Some(axis) = gone.iter().find(|&&axis| extents[axis] != 1) {
            let list = list.unwrap_or_default();
            return Err(node.wrong(
                "axes",
                list,
                &format!("axes of one place; axis {axis} has more"),
            ));
        }
        let left = (0..extents.len()).filter(|axis| !gone.contains(axis)).map(|axis| extents[axis]);
        let left: Vec<usize> = left.collect();
        match known {
            Known::Data(data) => self.with_extents(node, &data, &left[1..]),
            constant => self.constant_as(node, constant, left),
        }
    }

    pub fn unsqueeze(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axes"], 2)?;
        let list = self.axes_of(node, 1)?.ok_or_else(|| node.refused("its axes are missing"))?;
        let known = self.known(node, 0)?;
        let extents = match &known {
            Known::Data(data) => [vec![usize::MAX], data.extents()].concat(),
            Known::Constant(constant) => constant.shape().to_vec(),
            Known::Integers(integers) => integers.shape.clone(),
            Known::Erf(_) => return Err(node.refused("it takes an error function")),
        };
        if list.len() > 8 {
            return Err(node.wrong("axes", &list, "a few axes"));
        }
        let rank = extents.len() + list.len();
        let new = axes(node, &list, rank)?;
        let mut own = extents.into_iter();
        let all: Option<Vec<usize>> =
            (0..rank).map(|axis| if new.contains(&axis) { Some(1) } else { own.next() }).collect();
        let all = all.ok_or_else(|| node.wrong("axes", &list, "axes of the result"))?;
        match known {
            Known::Data(_) if new.contains(&0) => {
                Err(node.wrong("axes", &list, "axes behind that of the samples"))
            }
            Known::Data(data) => self.with_extents(node, &data, &all[1..]),
            constant => self.constant_as(node, constant, all),
        }
    }

    pub fn transpose(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["perm"], 1)?;
        let known = self.known(node, 0)?;
        let rank = match &known {
            Known::Data(data) => data.rank(),
            Known::Constant(constant) => constant.shape().len(),
            Known::Integers(_) | Known::Erf(_) => {
                return Err(node.refused("it takes no list of integers"));
            }
        };
        let order: Vec<usize> = match node.ints("perm")? {
            None => (0..rank).rev().collect(),
            Some(list) => {
                axes(node, list, rank)?;
                list.iter().map(|&one| axis(node, one, rank)).collect::<Result<_, _>>()?
            }
        };
        if order.len() != rank {
            return Err(node.wrong("perm", &order, &format!("each of {rank} axes")));
        }
        match known {
            Known::Data(data) => match order.split_first() {
                Some((0, rest)) => {
                    let moved = rest.iter().map(|&axis| data.axes[axis - 1].clone()).collect();
                    Ok(Known::Data(Data { axes: moved, ..data }))
                }
                _ => Err(node.wrong("perm", &order, "the samples to stay first")),
            },
            Known::Constant(constant) => {
                let moved = constant.transposed(&order);
                Ok(Known::Constant(moved.map_err(|reason| node.refused(&reason))?))
            }
            other @ (Known::Integers(_) | Known::Erf(_)) => Ok(other),
        }
    }

    /// Which parts of a concatenated axis there are: all inputs side by side in channels.
    pub fn concat(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axis"], 1 << 12)?;
        let at = node.int("axis")?.ok_or_else(|| node.refused("its axis is missing"))?;
        let count = node.inputs.len();
        let all = (0..count).map(|input| self.known(node, input)).collect::<Result<Vec<_>, _>>()?;
        let lists = all.iter().map(|known| match known {
            Known::Integers(integers) => Some(integers.clone()),
            _ => None,
        });
        if let Some(lists) = lists.collect::<Option<Vec<_>>>() {
            let joined = Integers::concat(&lists);
            return joined
                .map(Known::Integers)
                .ok_or_else(|| node.refused("its lists of integers do not fit"));
        }
        let inputs =
            (0..count).map(|input| self.data(node, input)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = inputs.first() else { return Err(node.refused("it has no inputs")) };
        let place = axis(node, at, first.rank())?;
        let Some(place) = place.checked_sub(1) else {
            return Err(node.wrong("axis", at, "that of channels, not that of the samples"));
        };
        if inputs.len() == 1 {
            return Ok(Known::Data(first.clone()));
        }
        // Vectors that are flattened maps in another order than ours come in the file's first.
        let is_vector = first.rank() == 2;
        let mut parts = Vec::with_capacity(count);
        let mut layout: Vec<Vec<Atom>> = vec![Vec::new(); first.axes.len()];
        for data in &inputs {
            if data.axes.len() != layout.len() {
                return Err(node.refused(&format!(
                    "it joins {} and {}",
                    first.described(),
                    data.described()
                )));
            }
            for (own, (axis, wanted)) in data.axes.iter().zip(layout.iter_mut().enumerate()) {
                let fits = axis == place || wanted.is_empty() || own.is_empty() || own == wanted;
                if !fits {
                    return Err(node.refused(&format!(
                        "it joins {} and {}",
                        first.described(),
                        data.described()
                    )));
                }
                if axis != place && wanted.is_empty() {
                    wanted.clone_from(own);
                }
            }
        }
        let is_plain = inputs.iter().all(|data| data.is(place, Tag::Channels));
        let others = layout.iter().flatten().all(|atom| atom.tag != Tag::Channels);
        if !is_plain && !is_vector || !others {
            return Err(node.refused(&format!(
                "it joins {} along axis {at}, expected to join channels",
                first.described()
            )));
        }
        // Maps of one pixel stay maps.
        let is_maps = !is_vector
            && inputs.iter().any(|data| matches!(data.shape, rekindle_nn::Shape::Map { .. }));
        // All have the same extents beside the channels: ONNX does not stretch them.
        let beside = |data: &Data| {
            let mut extents = data.extents();
            extents.remove(place);
            extents
        };
        if let Some(other) = inputs.iter().find(|data| beside(data) != beside(first)) {
            return Err(node.refused(&format!(
                "it joins {} and {}",
                first.described(),
                other.described()
            )));
        }
        for data in &inputs {
            parts.push(match (is_maps, is_vector) {
                (true, _) => self.as_maps(node, data)?,
                (false, true) => self.vector_in_order(node, data)?,
                (false, false) => self.vector(node, data)?.0,
            });
        }
        let (source, shape) =
            self.layer(node, rekindle_nn::ops::Concatenate::new(), &parts, Vec::new())?;
        layout[place] = whole(Tag::Channels, shape.channels());
        Ok(Known::Data(Data { source, shape, axes: layout }))
    }

    /// The same axes on maps of another height and width.
    pub fn resized(
        &self,
        node: &Node,
        data: &Data,
        source: rekindle_nn::Source,
        shape: rekindle_nn::Shape,
    ) -> Result<Known, String> {
        let fresh = Data::channels_last(source, shape);
        let mut axes = Vec::new();
        // An axis of one place may have become another one: the file's order says which.
        for (place, parts) in data.axes.iter().enumerate() {
            let tags: Vec<Tag> = parts.iter().map(|atom| atom.tag).collect();
            let tag = match (tags.as_slice(), data.axes.len()) {
                ([], 3) => match self.tag_of_empty(data, place) {
                    Some(tag) => tag,
                    None => continue,
                },
                ([tag], _) => *tag,
                _ => return Err(node.refused(&format!("its input is {}", data.described()))),
            };
            axes.push(fresh.whole(tag));
        }
        if axes.len() != data.axes.len() || places(&axes.concat()) != shape.count() {
            return Err(node.refused(&format!("its input is {}, expected maps", data.described())));
        }
        Ok(Known::Data(Data { source, shape, axes }))
    }

    /// Whether an axis is the whole of one of ours; of one place, where its neighbours say so.
    pub fn is_axis(&self, data: &Data, place: usize, tag: Tag) -> bool {
        match data.axes.get(place) {
            Some(parts) if parts.is_empty() => self.tag_of_empty(data, place) == Some(tag),
            Some(_) => data.is(place, tag),
            None => false,
        }
    }

    /// What an axis of one place is, in maps with channels first or last.
    pub fn tag_of_empty(&self, data: &Data, place: usize) -> Option<Tag> {
        if data.axes.len() != 3 {
            return None;
        }
        let orders =
            [[Tag::Channels, Tag::Height, Tag::Width], [Tag::Height, Tag::Width, Tag::Channels]];
        let fits = |order: &&[Tag; 3]| {
            (0..3).all(|axis| data.axes[axis].is_empty() || data.is(axis, order[axis]))
        };
        orders.iter().find(fits).map(|order| order[place])
    }
}
