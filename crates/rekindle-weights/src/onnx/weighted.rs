//! Operators with weights that are products: convolutions and dense layers.

use rekindle_nn::ops::{Conv2d, Dense, DepthwiseConv2d};
use rekindle_nn::{Activation, Padding, Window};

use super::constant::{Binary, Constant};
use super::data::{Atom, Data, Tag, places, whole};
use super::node::Node;
use super::read::{Known, Reader};

/// A window, and how far its last step reaches behind what is there, which ONNX's `ceil_mode` allows.
pub(super) struct Moves {
    pub window: Window,
    pub beyond: [usize; 2],
}

/// Reads how a kernel moves over `size` rows and columns.
pub(super) fn moves(node: &Node, kernel: [usize; 2], size: [usize; 2]) -> Result<Moves, String> {
    let stride = node.pair("strides")?.unwrap_or([1, 1]);
    let dilation = node.pair("dilations")?.unwrap_or([1, 1]);
    let pads = node.edges("pads")?;
    let ceil = node.flag("ceil_mode")?.unwrap_or(false);
    let mut window = Window { kernel, stride, padding: Padding::Valid, dilation };
    match node.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" | "" => {
            if let Some(pads) = pads.filter(|pads| *pads != [[0; 2]; 2]) {
                window.padding = Padding::Explicit(pads);
            }
        }
        _ if pads.is_some_and(|pads| pads != [[0; 2]; 2]) => {
            return Err(node.wrong("pads", pads.unwrap_or_default(), "none beside auto_pad"));
        }
        "VALID" => {}
        "SAME_UPPER" => window.padding = Padding::Same,
        "SAME_LOWER" => {
            window.padding = Padding::Same;
            let swapped = window.edges(size[0], size[1]).map(|[less, more]| [more, less]);
            window.padding = Padding::Explicit(swapped);
        }
        other => {
            return Err(node.wrong("auto_pad", other, "NOTSET, VALID, SAME_UPPER or SAME_LOWER"));
        }
    }
    let own = window.edges(size[0], size[1]);
    let mut beyond = [0; 2];
    if ceil && window.padding != Padding::Same {
        for axis in [0, 1] {
            let padded = size[axis] + own[axis][0] + own[axis][1];
            let Some(room) = padded.checked_sub(window.extent(axis)) else { continue };
            let mut steps = room.div_ceil(stride[axis]);
            // A window that starts behind all that is there is none.
            if steps * stride[axis] >= size[axis] + own[axis][0] {
                steps -= 1;
            }
            beyond[axis] = (steps * stride[axis]).saturating_sub(room);
        }
    }
    // For images of every size the same, where it is so.
    let same = Window { padding: Padding::Same, ..window };
    if stride == [1, 1] && same.edges(size[0], size[1]) == own && window.padding != Padding::Valid {
        window.padding = Padding::Same;
    }
    Ok(Moves { window, beyond })
}

impl Reader<'_> {
    pub fn conv(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"], 3)?;
        let data = self.data(node, 0)?;
        let kernel = self.constant(node, 1)?;
        let refused = |reason: String| node.refused(&reason);
        let &[outputs, inputs, height, width] = kernel.shape() else {
            return Err(node.wrong(
                "W",
                kernel.shape(),
                "weights of a convolution over two axes: four extents",
            ));
        };
        if [outputs, inputs, height, width].contains(&0) {
            return Err(node.wrong("W", kernel.shape(), "extents from 1"));
        }
        if let Some(given) = node.pair("kernel_shape")?.filter(|given| *given != [height, width]) {
            return Err(node.wrong(
                "kernel_shape",
                given,
                &format!("[{height}, {width}], as the weights have it"),
            ));
        }
        let maps = self.maps(node, &data)?;
        let Some([rows, columns, channels]) = maps.1.as_map() else {
            return Err(node.refused("its input is no map"));
        };
        let found = node.int("group")?.unwrap_or(1);
        let groups = usize::try_from(found)
            .ok()
            .filter(|&groups| groups > 0 && outputs.is_multiple_of(groups));
        let groups = groups.ok_or_else(|| {
            node.wrong("group", found, &format!("a divisor of {outputs} filters"))
        })?;
        if groups.checked_mul(inputs) != Some(channels) {
            return Err(node.wrong(
                "W",
                kernel.shape(),
                &format!("weights for {channels} channels in {groups} groups"),
            ));
        }
        let Moves { window, .. } = moves(node, [height, width], [rows, columns])?;
        let bias = match node.input(2) {
            Some(_) => Some(self.vector_of(node, 2, outputs)?),
            None => None,
        };
        let has_bias = bias.is_some();
        let activation = Activation::Linear;
        let (value, kernel) = if groups > 1 && inputs == 1 {
            let depth_multiplier = outputs / channels;
            let kernel = kernel
                .reshaped(vec![channels, depth_multiplier, height, width])
                .map_err(refused)?;
            let conv = DepthwiseConv2d { window, depth_multiplier, bias: has_bias, activation };
            (rekindle_nn::Op::from(conv), kernel.transposed(&[2, 3, 0, 1]).map_err(refused)?)
        } else {
            let conv = Conv2d { filters: outputs, window, groups, bias: has_bias, activation };
            (rekindle_nn::Op::from(conv), kernel.transposed(&[2, 3, 1, 0]).map_err(refused)?)
        };
        let values = [kernel].into_iter().chain(bias).collect();
        let (source, shape) = self.layer(node, value, &[maps], values)?;
        Ok(Known::Data(Data::channels_first(source, shape)))
    }

    /// A constant input as a vector of `count` values; a single number counts for all.
    pub fn vector_of(
        &mut self,
        node: &Node,
        input: usize,
        count: usize,
    ) -> Result<Constant, String> {
        let constant = self.constant(node, input)?;
        self.stretched(node, &constant, count)
    }

    fn stretched(
        &mut self,
        node: &Node,
        constant: &Constant,
        count: usize,
    ) -> Result<Constant, String> {
        let refused = |reason: String| node.refused(&reason);
        if constant.count() == count {
            return constant.reshaped(vec![count]).map_err(refused);
        }
        if constant.count() == 1 {
            let value = self.numbers(node, constant)?.first().copied().unwrap_or(0.0);
            return self.full(node, value, vec![count]);
        }
        Err(node.refused(&format!(
            "a constant has the shape {shape:?}, expected {count} values",
            shape = constant.shape()
        )))
    }

    pub fn gemm(&mut self, node: &Node) -> Result<Known, String> {
        // Before opset 7 C stretches only where it is said so.
        node.only(&["alpha", "beta", "broadcast", "transA", "transB"], 3)?;
        if node.flag("transA")? == Some(true) {
            return Err(node.wrong("transA", 1, "0"));
        }
        let data = self.data(node, 0)?;
        let refused = |reason: String| node.refused(&reason);
        let mut kernel = self.constant(node, 1)?;
        if kernel.shape().len() != 2 {
            return Err(node.wrong("B", kernel.shape(), "a matrix"));
        }
        if node.flag("transB")?.unwrap_or(false) {
            kernel = kernel.transposed(&[1, 0]).map_err(refused)?;
        }
        let mut bias = match node.input(2) {
            Some(_) => Some(self.vector_of(node, 2, kernel.shape()[1])?),
            None => None,
        };
        let (alpha, beta) =
            (node.float("alpha")?.unwrap_or(1.0), node.float("beta")?.unwrap_or(1.0));
        let times = |constant: Constant, by: f64| match by == 1.0 {
            true => Ok(constant),
            false => constant.binary(Binary::Multiply, &Constant::given(vec![by as f32])),
        };
        kernel = times(kernel, alpha).map_err(refused)?;
        bias = bias.map(|bias| times(bias, beta)).transpose().map_err(refused)?;
        if data.rank() != 2 {
            return Err(node.refused(&format!(
                "its input is {}, expected [samples, features]",
                data.described()
            )));
        }
        self.dense(node, &data, &kernel, bias)
    }

    pub fn mat_mul(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 2)?;
        let data = self.data(node, 0)?;
        let kernel = self.constant(node, 1)?;
        if kernel.shape().len() != 2 {
            return Err(node.wrong("B", kernel.shape(), "a matrix"));
        }
        self.dense(node, &data, &kernel, None)
    }

    /// A matrix over the last axis.
    fn dense(
        &mut self,
        node: &Node,
        data: &Data,
        kernel: &Constant,
        bias: Option<Constant>,
    ) -> Result<Known, String> {
        let (Some(last), &[rows, units]) = (data.axes.last(), kernel.shape()) else {
            return Err(node.refused("expected a matrix and a value with axes"));
        };
        if rows != places(last) || units == 0 {
            return Err(node.wrong(
                "B",
                kernel.shape(),
                &format!("{} rows for its input {}", places(last), data.described()),
            ));
        }
        let dense = Dense { bias: bias.is_some(), ..Dense::new(units, Activation::Linear) };
        let mut axes = data.axes.clone();
        // Maps of one pixel stay maps where the file has all their axes.
        let is_maps =
            data.rank() == 4 && data.shape.as_map().is_some() && *last == data.whole(Tag::Channels);
        let (value, kernel) = if !is_maps && data.axes.iter().flatten().count() == last.len() {
            // All values of a sample: rows go in the order of our values.
            let (value, parts) = self.vector(node, data)?;
            (value, self.reordered(node, kernel, &parts, units)?)
        } else if *last == data.whole(Tag::Channels) {
            (self.as_maps(node, data)?, kernel.clone())
        } else {
            return Err(node.refused(&format!(
                "its input is {}, expected features or channels last",
                data.described()
            )));
        };
        let values = [kernel].into_iter().chain(bias).collect();
        let (source, shape) = self.layer(node, dense, &[value], values)?;
        if let Some(last) = axes.last_mut() {
            *last = whole(Tag::Channels, units);
        }
        Ok(Known::Data(Data { source, shape, axes }))
    }

    /// A constant whose values, or rows of `columns`, are in the file's order of parts, in ours.
    pub fn reordered(
        &self,
        node: &Node,
        constant: &Constant,
        parts: &[Atom],
        columns: usize,
    ) -> Result<Constant, String> {
        let own = Data::own_order(parts);
        if own == parts {
            return Ok(constant.clone());
        }
        let refused = |reason: String| node.refused(&reason);
        let place = |atom: &Atom| parts.iter().position(|other| other == atom).unwrap_or(0);
        let mut order: Vec<usize> = own.iter().map(place).collect();
        order.push(parts.len());
        let extents: Vec<usize> = parts.iter().map(|atom| atom.size).chain([columns]).collect();
        let shape = constant.shape().to_vec();
        let moved = constant.reshaped(extents).and_then(|constant| constant.transposed(&order));
        moved.and_then(|constant| constant.reshaped(shape)).map_err(refused)
    }
}
