//! Normalizations.

use rekindle_nn::ops::{BatchNorm, GroupNorm, LayerNorm, Lrn};

use super::constant::Constant;
use super::data::{Data, Tag, joined};
use super::node::Node;
use super::read::{Known, Reader};
use super::shaping::axis;

impl Reader<'_> {
    pub fn batch_normalization(&mut self, node: &Node) -> Result<Known, String> {
        node.only(
            &["consumed_inputs", "epsilon", "is_test", "momentum", "spatial", "training_mode"],
            5,
        )?;
        let is_live = match self.graph.opset {
            ..7 => node.flag("is_test")? != Some(true),
            _ => node.flag("training_mode")? == Some(true),
        };
        if is_live || (self.graph.opset < 14 && node.outputs.len() > 1) {
            return Err(node.wrong(
                "training_mode",
                1,
                "0: export the model for inference, with `model.eval()`",
            ));
        }
        if node.flag("spatial")? == Some(false) {
            return Err(node.wrong("spatial", 0, "1"));
        }
        let data = self.data(node, 0)?;
        let Some(parts) = data.axes.first().cloned() else {
            return Err(node.refused("its input has no channels"));
        };
        let norm = BatchNorm::new()
            .epsilon(node.float("epsilon")?.unwrap_or(1e-5))
            .momentum(node.float("momentum")?.unwrap_or(0.9));
        let count = super::data::places(&parts);
        let values = (1..5).map(|input| {
            let found = self.constant(node, input)?;
            if found.shape() == [count] {
                return Ok(found);
            }
            Err(node.wrong(&format!("input {input}"), found.shape(), &format!("{count} values")))
        });
        let values = values.collect::<Result<Vec<Constant>, String>>()?;
        if parts == data.whole(Tag::Channels) {
            return self.over(node, norm, &data, values);
        }
        if data.rank() != 2 {
            return Err(node
                .refused(&format!("its input is {}, expected channels first", data.described())));
        }
        let (value, parts) = self.vector(node, &data)?;
        let values = values.iter().map(|values| self.reordered(node, values, &parts, 1));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let (source, shape) = self.layer(node, norm, &[value], values)?;
        Ok(Known::Data(self.flattened(&data, source, shape)))
    }

    /// A vector of ours that the file has in another order.
    pub fn flattened(
        &self,
        data: &Data,
        source: rekindle_nn::Source,
        shape: rekindle_nn::Shape,
    ) -> Data {
        // What were height and width are parts of the vector now.
        let mut axes = data.axes.clone();
        let own = Data::own_order(&data.parts());
        let mut stride: usize = own.iter().map(|atom| atom.size).product();
        let mut renamed = Vec::new();
        for atom in own {
            stride /= atom.size;
            renamed.push((atom, super::data::Atom { tag: Tag::Channels, stride, size: atom.size }));
        }
        for parts in &mut axes {
            let new = parts.iter().map(|atom| {
                renamed.iter().find(|(old, _)| old == atom).map_or(*atom, |(_, new)| *new)
            });
            *parts = joined(new.collect::<Vec<_>>());
        }
        Data { source, shape, axes }
    }

    /// Each channel by its own mean and variance; or, where a reshape has put groups of channels in the channels' place,
    /// each group.
    pub fn instance_normalization(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["epsilon"], 3)?;
        let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
        let data = self.data(node, 0)?;
        let Some((groups, rest)) = data.axes.split_first() else {
            return Err(node.refused("its input has no channels"));
        };
        let (scale, bias) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let count = super::data::places(groups);
        if scale.shape() != [count] || bias.shape() != [count] {
            return Err(node.wrong(
                "scale",
                scale.shape(),
                &format!("{count} values, and as many of B"),
            ));
        }
        let channels = data.shape.channels();
        let norm = GroupNorm { epsilon, ..GroupNorm::new(count) };
        if *groups == data.whole(Tag::Channels) {
            return self.over(node, norm, &data, vec![scale, bias]);
        }
        // Groups are the outer part of the channels, and the inner one is all that is behind them.
        let all = joined([groups.clone(), rest.concat()].concat());
        let whole = Data::channels_first(data.source, data.shape).parts();
        let is_grouped = groups.len() == 1
            && groups[0].tag == Tag::Channels
            && all == whole
            && channels.is_multiple_of(count);
        let is_plain = self.numbers(node, &scale)?.iter().all(|&scale| scale == 1.0)
            && self.numbers(node, &bias)?.iter().all(|&bias| bias == 0.0);
        if !is_grouped || !is_plain {
            return Err(node.refused(&format!(
                "its input is {}, expected channels or groups of them first",
                data.described()
            )));
        }
        self.over(node, GroupNorm { center: false, scale: false, ..norm }, &data, Vec::new())
    }

    pub fn group_normalization(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["epsilon", "num_groups", "stash_type"], 3)?;
        let data = self.data(node, 0)?;
        let channels = data.shape.channels();
        let found = node.int("num_groups")?.unwrap_or(0);
        let groups = usize::try_from(found).ok();
        let Some(groups) = groups.filter(|&groups| groups > 0 && channels.is_multiple_of(groups))
        else {
            return Err(node.wrong(
                "num_groups",
                found,
                &format!("a divisor of {channels} channels"),
            ));
        };
        if !data.is(0, Tag::Channels) {
            return Err(node
                .refused(&format!("its input is {}, expected channels first", data.described())));
        }
        let values = (1..3).map(|input| {
            let found = self.constant(node, input)?;
            // The first version has one value for each group.
            match found.shape() {
                [count] if *count == channels => Ok(found),
                [count] if *count == groups && self.graph.opset < 21 => {
                    let each = channels / groups;
                    let values = self.numbers(node, &found)?;
                    Ok(Constant::given(
                        values.into_iter().flat_map(|value| vec![value; each]).collect(),
                    ))
                }
                shape => {
                    Err(node.wrong(&format!("input {input}"), shape, &format!("{channels} values")))
                }
            }
        });
        let values = values.collect::<Result<Vec<_>, String>>()?;
        let norm =
            GroupNorm { epsilon: node.float("epsilon")?.unwrap_or(1e-5), ..GroupNorm::new(groups) };
        self.over(node, norm, &data, values)
    }

    pub fn layer_normalization(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axis", "epsilon", "stash_type"], 3)?;
        let data = self.data(node, 0)?;
        let given = node.int("axis")?.unwrap_or(-1);
        let from = axis(node, given, data.rank())?;
        let Some(from) = from.checked_sub(1) else {
            return Err(node.wrong("axis", given, "axes behind the samples"));
        };
        let over = joined(data.axes[from..].concat());
        let norm = LayerNorm { center: node.input(2).is_some(), ..LayerNorm::new() }
            .epsilon(node.float("epsilon")?.unwrap_or(1e-5));
        let channels = data.whole(Tag::Channels);
        let is_all = data.axes[..from].iter().all(Vec::is_empty);
        if over != channels && !is_all {
            return Err(node.wrong(
                "axis",
                given,
                &format!("that of channels, or all, of {}", data.described()),
            ));
        }
        let count = super::data::places(&over);
        let inputs = if norm.center { 1..3 } else { 1..2 };
        let values = inputs.map(|input| {
            let found = self.constant(node, input)?;
            match found.count() == count {
                true => self.reordered(node, &found, &over, 1),
                false => Err(node.wrong(
                    &format!("input {input}"),
                    found.shape(),
                    &format!("{count} values"),
                )),
            }
        });
        let values = values.collect::<Result<Vec<_>, String>>()?;
        if over == channels {
            return self.over(node, norm, &data, values);
        }
        let axes = match data.shape {
            rekindle_nn::Shape::Map { .. } => vec![1, 2, 3],
            rekindle_nn::Shape::Flat(_) => vec![-1],
        };
        self.over(node, LayerNorm { axes, ..norm }, &data, values)
    }

    pub fn lrn(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["alpha", "beta", "bias", "size"], 1)?;
        let data = self.data(node, 0)?;
        if !data.is(0, Tag::Channels) {
            return Err(node
                .refused(&format!("its input is {}, expected channels first", data.described())));
        }
        let found = node.int("size")?.unwrap_or(0);
        let Some(size) = usize::try_from(found).ok().filter(|size| (1..=1 << 16).contains(size))
        else {
            return Err(node.wrong("size", found, "from 1"));
        };
        let lrn = Lrn {
            size,
            alpha: node.float("alpha")?.unwrap_or(1e-4),
            beta: node.float("beta")?.unwrap_or(0.75),
            bias: node.float("bias")?.unwrap_or(1.0),
        };
        let maps = self.as_maps(node, &data)?;
        let (source, shape) = self.layer(node, lrn, &[maps], Vec::new())?;
        Ok(Known::Data(Data { source, shape, axes: data.axes }))
    }
}
