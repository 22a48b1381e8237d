//! Pools, paddings and resizing.

use rekindle_nn::Padding;
use rekindle_nn::ops::{
    Cropping2d, Fit, GlobalPool, Interpolation, Pool2d, PoolKind, Rescaling, Resizing,
    ZeroPadding2d,
};

use super::data::{Data, Tag, joined};
use super::node::Node;
use super::read::{Known, Reader};
use super::shaping::axes;
use super::weighted::{Moves, moves};

impl Reader<'_> {
    pub fn pool(&mut self, node: &Node) -> Result<Known, String> {
        let is_max = node.op == "MaxPool";
        let mut known =
            vec!["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"];
        known.push(if is_max { "storage_order" } else { "count_include_pad" });
        node.only(&known, 1)?;
        let data = self.data(node, 0)?;
        if data.rank() != 4 {
            return Err(node.refused(&format!(
                "its input is {}, expected [samples, channels, height, width]",
                data.described()
            )));
        }
        let kernel = node.pair("kernel_shape")?;
        let kernel = kernel
            .ok_or_else(|| node.refused("`kernel_shape` is missing, expected two integers"))?;
        let mut maps = self.maps(node, &data)?;
        let Some([height, width, _]) = maps.1.as_map() else {
            return Err(node.refused("its input is no map"));
        };
        let Moves { mut window, beyond } = moves(node, kernel, [height, width])?;
        let counts = !is_max && node.flag("count_include_pad")?.unwrap_or(false);
        if !is_max && window.dilation != [1, 1] {
            return Err(node.wrong("dilations", window.dilation, "1 in a mean"));
        }
        if beyond != [0, 0] {
            let mut edges = window.edges(height, width);
            if counts && edges != [[0; 2]; 2] {
                // Padding counts, what `ceil_mode` reaches behind it does not.
                maps = self.layer(node, ZeroPadding2d { padding: edges }, &[maps], Vec::new())?;
                edges = [[0; 2]; 2];
            }
            edges[0][1] += beyond[0];
            edges[1][1] += beyond[1];
            window.padding = Padding::Explicit(edges);
        }
        let kind = if is_max { PoolKind::Max } else { PoolKind::Average };
        let counts_padding = counts && beyond == [0, 0] && window.padding != Padding::Valid;
        let pool = Pool2d { kind, window, counts_padding };
        let (source, shape) = self.layer(node, pool, &[maps], Vec::new())?;
        Ok(Known::Data(Data::channels_first(source, shape)))
    }

    pub fn global_pool(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 1)?;
        let data = self.data(node, 0)?;
        let is_max = node.op == "GlobalMaxPool";
        if !data.is(0, Tag::Channels) || data.rank() < 3 {
            return Err(node
                .refused(&format!("its input is {}, expected channels first", data.described())));
        }
        let gone: Vec<usize> = (1..data.axes.len()).collect();
        let kind = if is_max { PoolKind::Max } else { PoolKind::Average };
        self.pooled(node, &data, kind, &gone, true)
    }

    /// The mean or the maximum over axes (0 is that behind the samples) that are all of height and width.
    fn pooled(
        &mut self,
        node: &Node,
        data: &Data,
        kind: PoolKind,
        gone: &[usize],
        keeps: bool,
    ) -> Result<Known, String> {
        let over = gone.iter().flat_map(|&axis| data.axes[axis].clone());
        let mut over = joined(over.collect::<Vec<_>>());
        over.sort_by_key(|atom| atom.tag);
        let maps = joined([data.whole(Tag::Height), data.whole(Tag::Width)].concat());
        let mut wanted = maps.clone();
        wanted.sort_by_key(|atom| atom.tag);
        if joined(over.clone()) != joined(wanted) {
            return Err(node.refused(&format!(
                "it reduces axes {axes:?} of {}, expected height and width",
                data.described(),
                axes = gone.iter().map(|axis| axis + 1).collect::<Vec<_>>()
            )));
        }
        let mut left = data.axes.clone();
        for &axis in gone {
            left[axis].clear();
        }
        if !keeps {
            let mut place = 0;
            left.retain(|_| {
                place += 1;
                !gone.contains(&(place - 1))
            });
        }
        let (source, shape) = match data.shape {
            // Nothing is left to reduce.
            rekindle_nn::Shape::Flat(_) => (data.source, data.shape),
            rekindle_nn::Shape::Map { .. } => {
                let pool = GlobalPool { kind, keep_dims: false };
                self.layer(node, pool, &[(data.source, data.shape)], Vec::new())?
            }
        };
        Ok(Known::Data(Data { source, shape, axes: left }))
    }

    pub fn reduce(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axes", "keepdims", "noop_with_empty_axes"], 2)?;
        let keeps = node.flag("keepdims")?.unwrap_or(true);
        let data = self.data(node, 0)?;
        let Some(list) = self.axes_of(node, 1)?.filter(|list| !list.is_empty()) else {
            return Err(node.refused("its axes are missing, expected those of height and width"));
        };
        let gone: Option<Vec<usize>> =
            axes(node, &list, data.rank())?.into_iter().map(|axis| axis.checked_sub(1)).collect();
        let gone =
            gone.ok_or_else(|| node.wrong("axes", &list, "axes behind that of the samples"))?;
        let kind = if node.op == "ReduceMax" { PoolKind::Max } else { PoolKind::Average };
        let count: usize = gone.iter().map(|&axis| super::data::places(&data.axes[axis])).product();
        let pooled = self.pooled(node, &data, kind, &gone, keeps)?;
        match (node.op.as_str(), pooled) {
            ("ReduceSum", Known::Data(mean)) => {
                self.over(node, Rescaling::new(count as f64, 0.0), &mean, Vec::new())
            }
            (_, pooled) => Ok(pooled),
        }
    }

    pub fn pad(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["mode", "pads", "value"], 4)?;
        let mode = node.text("mode")?.unwrap_or("constant");
        if mode != "constant" {
            return Err(node.wrong("mode", mode, "constant"));
        }
        let value = match node.float("value")? {
            Some(value) => value,
            None => self.number(node, 2)?.unwrap_or(0.0),
        };
        let data = self.data(node, 0)?;
        let list = match node.ints("pads")? {
            Some(list) => list.to_vec(),
            None => self.list(node, 1)?.ok_or_else(|| node.refused("its pads are missing"))?,
        };
        let own = match self.list(node, 3)? {
            Some(list) => {
                axes(node, &list, data.rank())?;
                list.iter()
                    .map(|&one| super::shaping::axis(node, one, data.rank()))
                    .collect::<Result<_, _>>()?
            }
            None => (0..data.rank()).collect::<Vec<_>>(),
        };
        if list.len() != 2 * own.len() {
            return Err(node.wrong("pads", &list, &format!("two for each of {} axes", own.len())));
        }
        let (mut padding, mut cropping) = ([[0; 2]; 2], [[0; 2]; 2]);
        for (number, &place) in own.iter().enumerate() {
            let edges = [list[number], list[number + own.len()]];
            if edges == [0, 0] {
                continue;
            }
            let tag = |tag: Tag| place > 0 && self.is_axis(&data, place - 1, tag);
            let which = match (tag(Tag::Height), tag(Tag::Width)) {
                (true, false) => 0,
                (false, true) => 1,
                _ => {
                    return Err(node.wrong(
                        "pads",
                        &list,
                        &format!("zeros around height and width of {}", data.described()),
                    ));
                }
            };
            for (side, edge) in edges.into_iter().enumerate() {
                match usize::try_from(edge.unsigned_abs()) {
                    Ok(size) if size > 1 << 20 => {
                        return Err(node.wrong("pads", &list, "fewer rows and columns"));
                    }
                    Ok(size) if edge < 0 => cropping[which][side] = size,
                    Ok(size) => padding[which][side] = size,
                    Err(_) => return Err(node.wrong("pads", &list, "fewer rows and columns")),
                }
            }
        }
        if padding == [[0; 2]; 2] && cropping == [[0; 2]; 2] {
            return Ok(Known::Data(data));
        }
        if value != 0.0 && padding != [[0; 2]; 2] {
            return Err(node.wrong("value", value, "0"));
        }
        let mut data = data;
        if cropping != [[0; 2]; 2] {
            let maps = self.as_maps(node, &data)?;
            let (source, shape) = self.layer(node, Cropping2d { cropping }, &[maps], Vec::new())?;
            match self.resized(node, &data, source, shape)? {
                Known::Data(cropped) => data = cropped,
                other => return Ok(other),
            }
        }
        if padding == [[0; 2]; 2] {
            return Ok(Known::Data(data));
        }
        let maps = self.as_maps(node, &data)?;
        let (source, shape) = self.layer(node, ZeroPadding2d { padding }, &[maps], Vec::new())?;
        self.resized(node, &data, source, shape)
    }

    pub fn resize(&mut self, node: &Node) -> Result<Known, String> {
        node.only(
            &[
                "antialias",
                "axes",
                "coordinate_transformation_mode",
                "cubic_coeff_a",
                "exclude_outside",
                "extrapolation_value",
                "keep_aspect_ratio_policy",
                "mode",
                "nearest_mode",
                "scales",
            ],
            4,
        )?;
        let data = self.data(node, 0)?;
        let old = self.graph.opset < 11;
        let policy = node.text("keep_aspect_ratio_policy")?.unwrap_or("stretch");
        if policy != "stretch" {
            return Err(node.wrong("keep_aspect_ratio_policy", policy, "stretch"));
        }
        let (scales, sizes) = if old { (1, usize::MAX) } else { (2, 3) };
        let own: Vec<usize> = match node.ints("axes")? {
            Some(list) => {
                axes(node, list, data.rank())?;
                list.iter()
                    .map(|&one| super::shaping::axis(node, one, data.rank()))
                    .collect::<Result<_, _>>()?
            }
            None => (0..data.rank()).collect(),
        };
        let extents = data.extents();
        let scales = match (node.floats("scales")?, node.input(scales)) {
            // Upsample before opset 9.
            (Some(scales), _) => Some(scales.to_vec()),
            (None, Some(_)) => {
                let constant = self.constant(node, scales)?;
                Some(self.numbers(node, &constant)?).filter(|scales| !scales.is_empty())
            }
            (None, None) => None,
        };
        let sizes = match scales {
            Some(_) => None,
            None => self.integers(node, sizes)?,
        };
        let given =
            scales.as_ref().map(Vec::len).or(sizes.as_ref().map(|sizes| sizes.values.len()));
        if given != Some(own.len()) {
            return Err(node.refused(&format!(
                "expected scales or sizes, one for each of {} axes",
                own.len()
            )));
        }
        let mut result: [Option<(usize, usize, f64)>; 2] = [None, None];
        for (number, &place) in own.iter().enumerate() {
            let size = sizes.as_ref().map(|sizes| sizes.values[number]);
            let scale = scales.as_ref().map(|scales| f64::from(scales[number]));
            let Some(place) = place.checked_sub(1) else {
                let is_same = scale == Some(1.0)
                    || size.is_some_and(|size| match size {
                        super::integers::Integer::Batch => true,
                        super::integers::Integer::Known(count) => {
                            count == 1 || self.batch.is_some_and(|b| b as i64 == count)
                        }
                    });
                if is_same {
                    continue;
                }
                return Err(node.refused("it resizes the samples"));
            };
            let input = extents[place];
            let output = match (size.and_then(super::integers::Integer::known), scale) {
                (Some(size), _) => usize::try_from(size).unwrap_or(0),
                (None, Some(scale)) if scale > 0.0 && scale.is_finite() => {
                    (input as f64 * scale).floor() as usize
                }
                (None, _) => 0,
            };
            if !(1..=1 << 16).contains(&output) {
                return Err(node
                    .refused(&format!("it makes {output} rows or columns, expected 1 to 65536")));
            }
            let scale = scale.unwrap_or(output as f64 / input as f64);
            let tag = |tag: Tag| self.is_axis(&data, place, tag);
            match (tag(Tag::Height), tag(Tag::Width)) {
                _ if output == input && scale == 1.0 => {}
                (true, false) => result[0] = Some((input, output, scale)),
                (false, true) => result[1] = Some((input, output, scale)),
                _ => {
                    return Err(node.refused(&format!(
                        "it resizes axis {} of {}",
                        place + 1,
                        data.described()
                    )));
                }
            }
        }
        let maps = self.as_maps(node, &data)?;
        let Some([height, width, _]) = maps.1.as_map() else {
            return Err(node.refused("its input is no map"));
        };
        if result == [None, None] {
            return Ok(Known::Data(data));
        }
        if node.flag("antialias")? == Some(true) {
            // ONNX's and TensorFlow's differ in the weights of a shrinking image.
            return Err(node.wrong("antialias", 1, "0"));
        }
        let interpolation = self.interpolation(node, &result)?;
        let side = |own: usize, which: usize| result[which].map_or(own, |(_, output, _)| output);
        let resizing = Resizing {
            height: side(height, 0),
            width: side(width, 1),
            interpolation,
            antialias: false,
            fit: Fit::Stretch,
        };
        let (source, shape) = self.layer(node, resizing, &[maps], Vec::new())?;
        self.resized(node, &data, source, shape)
    }

    /// The interpolation of ours that makes the same of every row and column.
    fn interpolation(
        &self,
        node: &Node,
        lines: &[Option<(usize, usize, f64)>],
    ) -> Result<Interpolation, String> {
        let old = self.graph.opset < 11;
        let plain = if old { "asymmetric" } else { "half_pixel" };
        let transformation = node.text("coordinate_transformation_mode")?.unwrap_or(plain);
        let place = |x: usize, (input, output, scale): (usize, usize, f64)| {
            let (x, input, output) = (x as f64, input as f64, output as f64);
            Some(match transformation {
                "half_pixel" => (x + 0.5) / scale - 0.5,
                "pytorch_half_pixel" if output > 1.0 => (x + 0.5) / scale - 0.5,
                "half_pixel_symmetric" => {
                    let adjustment = output / (input * scale);
                    input / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
                }
                "pytorch_half_pixel" => 0.0,
                "asymmetric" => x / scale,
                "align_corners" if output > 1.0 => x * (input - 1.0) / (output - 1.0),
                "align_corners" => 0.0,
                _ => return None,
            })
        };
        let wrong = |what: &str, found: &str| {
            node.wrong(what, found, "what makes the same image as Keras's `Resizing`")
        };
        // Places that only differ where both are beyond the first or the last pixel are the same.
        let is_half_pixel = |line: (usize, usize, f64)| {
            let (input, output, _) = line;
            let last = input as f64 - 1.0;
            (0..output).all(|x| {
                let theirs = (x as f64 + 0.5) * input as f64 / output as f64 - 0.5;
                place(x, line).is_some_and(|own| {
                    (own.clamp(0.0, last) - theirs.clamp(0.0, last)).abs() < 1e-6
                })
            })
        };
        let mode = node.text("mode")?.unwrap_or("nearest");
        match mode {
            "nearest" => {
                let rounding = node.text("nearest_mode")?.unwrap_or(if old {
                    "floor"
                } else {
                    "round_prefer_floor"
                });
                let round = |place: f64| {
                    Some(match rounding {
                        "round_prefer_floor" => (place - 0.5).ceil(),
                        "round_prefer_ceil" => (place + 0.5).floor(),
                        "floor" => place.floor(),
                        "ceil" => place.ceil(),
                        _ => return None,
                    })
                };
                let is_same = |line: (usize, usize, f64)| {
                    let (input, output, _) = line;
                    let last = input as f64 - 1.0;
                    let scale = input as f32 / output as f32;
                    (0..output).all(|x| {
                        let theirs = f64::from(((x as f32 + 0.5) * scale).floor()).clamp(0.0, last);
                        place(x, line)
                            .and_then(round)
                            .is_some_and(|own| own.clamp(0.0, last) == theirs)
                    })
                };
                match lines.iter().flatten().all(|&line| is_same(line)) {
                    true => Ok(Interpolation::Nearest),
                    false => Err(wrong("nearest_mode", &format!("{rounding} of {transformation}"))),
                }
            }
            _ if !lines.iter().flatten().all(|&line| is_half_pixel(line)) => {
                Err(wrong("coordinate_transformation_mode", transformation))
            }
            "linear" => Ok(Interpolation::Bilinear),
            "cubic" => {
                let steepness = node.float("cubic_coeff_a")?.unwrap_or(-0.75);
                let excludes = node.flag("exclude_outside")?.unwrap_or(false);
                match steepness == -0.5 && excludes {
                    true => Ok(Interpolation::Bicubic),
                    false => Err(wrong(
                        "mode",
                        &format!(
                            "cubic with cubic_coeff_a {steepness} and exclude_outside {excludes}"
                        ),
                    )),
                }
            }
            other => Err(wrong("mode", other)),
        }
    }
}
