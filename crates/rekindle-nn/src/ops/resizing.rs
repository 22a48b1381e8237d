use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rekindle_pixels::{Interpolation, Taps, taps};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::crop::cut;
use super::padding::padded;
use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer};
use crate::run::{Run, as_type, pad};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer, int};
use crate::{Features, NetworkError, Shape};

/// What becomes of an image whose sides are in another proportion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// It is stretched.
    Stretch,
    /// Its middle is taken: Keras's `crop_to_aspect_ratio`.
    Crop,
    /// This value is put on both sides: Keras's `pad_to_aspect_ratio`.
    Pad(f64),
}

/// Keras's `Resizing`, with TensorFlow's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resizing {
    /// Rows that come out.
    pub height: usize,
    /// Columns that come out.
    pub width: usize,
    /// How pixels between pixels are found.
    pub interpolation: Interpolation,
    /// Whether all pixels count where an image shrinks.
    pub antialias: bool,
    /// What becomes of other proportions.
    pub fit: Fit,
}

/// Weights of one line's resizing that are written to a file at most: 256 MiB.
const LARGEST_TABLE: usize = 1 << 26;

/// Where an image's pixels go before it is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// Rows and columns that are left off in front.
    skipped: [usize; 2],
    /// Rows and columns that are kept.
    kept: [usize; 2],
    /// Rows above and below, columns left and right, that are put around.
    added: [usize; 2],
}

impl Resizing {
    /// Bilinear and stretched, as Keras does it where nobody says otherwise.
    #[must_use]
    pub const fn new(height: usize, width: usize) -> Self {
        let interpolation = Interpolation::Bilinear;
        Self { height, width, interpolation, antialias: false, fit: Fit::Stretch }
    }

    /// With another interpolation.
    #[must_use]
    pub const fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// What becomes of other proportions.
    #[must_use]
    pub const fn fit(self, fit: Fit) -> Self {
        Self { fit, ..self }
    }

    /// Resizes one image on the host: `[height, width, channels]` values, in this order, come and go.
    ///
    /// # Errors
    /// When a size is 0, or there are not as many values as the sizes say.
    pub fn resize(
        &self,
        image: &[f32],
        [height, width, channels]: [usize; 3],
    ) -> Result<Vec<f32>, NetworkError> {
        let shape = Shape::map(height, width, channels);
        let expected = match self.output(&[shape]) {
            Ok(_) if shape.checked_count() == Some(image.len()) && !image.is_empty() => None,
            Ok(_) => Some(format!("as many values as {shape} has, not {}", image.len())),
            Err(expected) => Some(expected),
        };
        if let Some(expected) = expected {
            return Err(NetworkError::shape("resizing", expected, &[shape]));
        }
        let frame = self.frame([height, width]);
        let [rows, columns] = self.taps(&frame);
        let ([above, left], [top, start]) = (frame.added, frame.skipped);
        let fill = self.fill();
        let line = frame.size()[1] * channels;
        // Rows first, as TensorFlow does it.
        let mut between = vec![0.0; line];
        let mut resized = vec![0.0; self.height * self.width * channels];
        for (to, row) in resized.chunks_exact_mut(self.width * channels).zip(&rows) {
            between.fill(0.0);
            let (edges, inside) = (left * channels, frame.kept[1] * channels);
            for (&weight, from) in row.weights.iter().zip(row.first..) {
                // Rows and columns of the frame that are not the image's are what it is padded with.
                match from.checked_sub(above).filter(|&from| from < frame.kept[0]) {
                    None => between.iter_mut().for_each(|to| *to += weight * fill),
                    Some(from) => {
                        let place = ((from + top) * width + start) * channels;
                        let (before, rest) = between.split_at_mut(edges);
                        let (middle, behind) = rest.split_at_mut(inside);
                        before.iter_mut().chain(behind).for_each(|to| *to += weight * fill);
                        let values = &image[place..place + inside];
                        middle.iter_mut().zip(values).for_each(|(to, from)| *to += weight * from);
                    }
                }
            }
            for (to, column) in to.chunks_exact_mut(channels).zip(&columns) {
                let from = between[column.first * channels..].chunks_exact(channels);
                for (&weight, from) in column.weights.iter().zip(from) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
                }
            }
        }
        Ok(resized)
    }

    /// For each row and for each column that comes out: the first of the image's rows or columns that it is a sum of, and
    /// their weights; what the image is padded with is left out. This is what gradients go back by.
    #[must_use]
    pub fn weights(&self, size: [usize; 2]) -> [Vec<(usize, Vec<f32>)>; 2] {
        let frame = self.frame(size);
        let mut axis = 0;
        self.taps(&frame).map(|lines| {
            let (added, kept, skipped) = (frame.added[axis], frame.kept[axis], frame.skipped[axis]);
            axis += 1;
            let on_image = |taps: Taps| {
                let before = added.saturating_sub(taps.first).min(taps.weights.len());
                let first = (taps.first + before).saturating_sub(added);
                let weights = taps.weights.into_iter().skip(before);
                (first + skipped, weights.take(kept.saturating_sub(first)).collect())
            };
            lines.into_iter().map(on_image).collect()
        })
    }

    fn fill(&self) -> f32 {
        match self.fit {
            Fit::Pad(fill) => fill as f32,
            Fit::Stretch | Fit::Crop => 0.0,
        }
    }

    /// How an image of this height and width is cropped or padded first.
    fn frame(&self, size: [usize; 2]) -> Frame {
        let [height, width] = size;
        // TensorFlow's numbers here are f32, cut to whole ones.
        let fitting = |side: usize, own: usize, other: usize| {
            (side.saturating_mul(own) as f32 / other as f32) as usize
        };
        let fitting =
            [fitting(width, self.height, self.width), fitting(height, self.width, self.height)];
        let plain = Frame { skipped: [0, 0], kept: size, added: [0, 0] };
        match self.fit {
            Fit::Stretch => plain,
            Fit::Crop => {
                let kept = [0, 1].map(|axis| fitting[axis].min(size[axis]).max(1));
                Frame { skipped: [0, 1].map(|axis| (size[axis] - kept[axis]) / 2), kept, ..plain }
            }
            Fit::Pad(_) => {
                let added = [0, 1].map(|axis| (fitting[axis].max(size[axis]) - size[axis]) / 2);
                Frame { added, ..plain }
            }
        }
    }

    fn taps(&self, frame: &Frame) -> [Vec<Taps>; 2] {
        let [height, width] = frame.size();
        let along = |from, to| taps(self.interpolation, self.antialias, from, to);
        [along(height, self.height), along(width, self.width)]
    }

    /// Whether the frame's pixels are what comes out.
    fn keeps(&self, frame: &Frame) -> bool {
        // Each kernel is 1 in the middle and 0 at all other pixels, but for two.
        let is_plain = match self.interpolation {
            Interpolation::Gaussian | Interpolation::MitchellCubic => false,
            Interpolation::Nearest
            | Interpolation::Bilinear
            | Interpolation::Bicubic
            | Interpolation::Area
            | Interpolation::Lanczos3
            | Interpolation::Lanczos5 => true,
        };
        is_plain && frame.size() == [self.height, self.width]
    }

    /// The maps of a batch, resized.
    pub(super) fn of_maps<B: Backend>(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, _, height, width] = x.dims();
        let frame = self.frame([height, width]);
        let x = crop(x, frame.skipped, frame.kept);
        let x = pad(x, frame.added.map(|count| [count; 2]), self.fill());
        if self.keeps(&frame) {
            return x;
        }
        let [rows, columns] = self.taps(&frame);
        if self.interpolation == Interpolation::Nearest {
            return picked(picked(x, &rows, 2), &columns, 3);
        }
        // Rows first, as TensorFlow does it.
        let x = resampled(x.swap_dims(2, 3), &rows).swap_dims(2, 3);
        resampled(x, &columns)
    }
}

impl Frame {
    /// Height and width of what is resized.
    fn size(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.kept[axis] + 2 * self.added[axis])
    }
}

/// Some rows and columns of maps.
pub(super) fn crop<B: Backend>(
    x: Tensor<B, 4>,
    [top, left]: [usize; 2],
    [height, width]: [usize; 2],
) -> Tensor<B, 4> {
    let [batch, channels, rows, columns] = x.dims();
    if [rows, columns] == [height, width] {
        return x;
    }
    x.slice([0..batch, 0..channels, top..top + height, left..left + width])
}

/// Pixels as they are.
fn picked<B: Backend>(x: Tensor<B, 4>, taps: &[Taps], axis: usize) -> Tensor<B, 4> {
    let places: Vec<i64> = taps.iter().map(|taps| taps.first as i64).collect();
    let count = places.len();
    let places = Tensor::<B, 1, Int>::from_data(TensorData::new(places, [count]), &x.device());
    x.select(axis, places)
}

/// Weighted sums along the last axis.
fn resampled<B: Backend>(x: Tensor<B, 4>, taps: &[Taps]) -> Tensor<B, 4> {
    let [batch, channels, rows, input] = x.dims();
    let output = taps.len();
    let weights = table(taps, input);
    let weights = Tensor::from_data(TensorData::new(weights, [input, output]), &x.device());
    let weights = as_type(weights, x.dtype());
    let y = x.reshape([batch * channels * rows, input]).matmul(weights);
    y.reshape([batch, channels, rows, output])
}

/// The weights of all pixels of a line of `input`, `[input, output]`.
fn table(taps: &[Taps], input: usize) -> Vec<f32> {
    let output = taps.len();
    let mut weights = vec![0.0; input * output];
    for (to, taps) in taps.iter().enumerate() {
        for (weight, from) in taps.weights.iter().zip(taps.first..) {
            weights[from * output + to] = *weight;
        }
    }
    weights
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |place: usize| values[place % rows * columns + place / rows];
    (0..values.len()).map(at).collect()
}

/// The scale of ONNX's `Resize` from one size to another, where its places between pixels are TensorFlow's to the bit,
/// whichever numbers they are computed in.
fn exact_scale(from: usize, to: usize) -> Option<f32> {
    let scale = to as f32 / from as f32;
    let step = from as f32 / to as f32;
    let is_same = |x: usize| {
        let theirs = (x as f32 + 0.5) * step - 0.5;
        let half_pixel = (x as f64 + 0.5) / f64::from(scale) - 0.5;
        (x as f32 + 0.5) / scale - 0.5 == theirs && half_pixel == f64::from(theirs)
    };
    let makes =
        (from as f32 * scale) as usize == to && (from as f64 * f64::from(scale)) as usize == to;
    (makes && (0..to).all(is_same)).then_some(scale)
}

impl Operation for Resizing {
    const CLASSES: &'static [&'static str] = &["Resizing"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let [height, width] = size(config)?;
        let interpolation = match config.text("interpolation")? {
            None => Interpolation::Bilinear,
            Some(name) => Interpolation::by_name(&name).ok_or_else(|| {
                let names = Interpolation::NAMES.map(|(name, _)| name);
                config.wrong("interpolation", &name, format!("one of {}", names.join(", ")))
            })?,
        };
        let crops = config.flag("crop_to_aspect_ratio")?.unwrap_or(false);
        let pads = config.flag("pad_to_aspect_ratio")?.unwrap_or(false);
        let fill = config.number("fill_value")?.unwrap_or(0.0);
        if let Some(mode) = config.text("fill_mode")?.filter(|mode| mode != "constant") {
            return Err(config.wrong("fill_mode", mode, "constant"));
        }
        let fit = match (crops, pads) {
            (false, false) => Fit::Stretch,
            (true, false) => Fit::Crop,
            (false, true) => Fit::Pad(fill),
            (true, true) => {
                let expected = "false where `crop_to_aspect_ratio` is true";
                return Err(config.wrong("pad_to_aspect_ratio", true, expected));
            }
        };
        config.channels_last()?;
        let antialias = config.flag("antialias")?.unwrap_or(false);
        Ok(Self { height, width, interpolation, antialias, fit })
    }

    fn to_keras(&self) -> Map<String, Value> {
        let fill = match self.fit {
            Fit::Pad(fill) => fill,
            Fit::Stretch | Fit::Crop => 0.0,
        };
        config([
            ("height", self.height.into()),
            ("width", self.width.into()),
            ("interpolation", self.interpolation.name().into()),
            ("crop_to_aspect_ratio", matches!(self.fit, Fit::Crop).into()),
            ("pad_to_aspect_ratio", matches!(self.fit, Fit::Pad(_)).into()),
            ("fill_mode", "constant".into()),
            ("fill_value", fill.into()),
            ("antialias", self.antialias.into()),
            ("data_format", "channels_last".into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape::Map { height, width, channels } = one(inputs)? else {
            return Err("(None, height, width, channels)".into());
        };
        if [height, width, self.height, self.width].contains(&0) {
            return Err("at least one pixel, and makes as many".into());
        }
        // An extreme proportion would be padded to more than there is room for.
        let [rows, columns] = self.frame([height, width]).size();
        match rows.checked_mul(columns).and_then(|pixels| pixels.checked_mul(channels.max(1))) {
            Some(count) if count <= super::MOST_VALUES => {
                Ok(Shape::map(self.height, self.width, channels))
            }
            _ => Err("images of a proportion that is nearer to the one they are padded to".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let [height, width, _] = layer.map()?;
        let frame = self.frame([height, width]);
        let x = layer.input();
        let x = cut(layer, &x, [height, width], frame.skipped, frame.kept);
        let fill = Some(f64::from(self.fill())).filter(|&fill| fill != 0.0);
        let x = padded(layer, &x, frame.added.map(|count| [count; 2]), fill);
        if self.keeps(&frame) {
            return Ok(x);
        }
        let sizes = [0, 1].map(|axis| (frame.size()[axis], [self.height, self.width][axis]));
        let plain = match self.interpolation {
            Interpolation::Nearest => Some("nearest"),
            Interpolation::Bilinear if !self.antialias => Some("linear"),
            Interpolation::Bilinear
            | Interpolation::Bicubic
            | Interpolation::Area
            | Interpolation::Lanczos3
            | Interpolation::Lanczos5
            | Interpolation::Gaussian
            | Interpolation::MitchellCubic => None,
        };
        let scales = sizes.map(|(from, to)| exact_scale(from, to));
        if let (Some(mode), [Some(rows), Some(columns)]) = (plain, scales) {
            let scales = layer.full_floats("scales", vec![4], vec![1.0, 1.0, rows, columns]);
            let settings = vec![
                ("coordinate_transformation_mode", Attribute::Text("half_pixel")),
                ("mode", Attribute::Text(mode)),
                ("nearest_mode", Attribute::Text("round_prefer_ceil")),
            ];
            return Ok(layer.node("Resize", &[&x, "", &scales], settings));
        }
        let taps = self.taps(&frame);
        if self.interpolation == Interpolation::Nearest {
            let [rows, columns] =
                taps.map(|taps| taps.iter().map(|taps| taps.first as i64).collect::<Vec<i64>>());
            let rows = layer.integers("rows", &rows);
            let columns = layer.integers("columns", &columns);
            let x = layer.node("Gather", &[&x, &rows], vec![("axis", Attribute::Int(2))]);
            return Ok(layer.node("Gather", &[&x, &columns], vec![("axis", Attribute::Int(3))]));
        }
        if let Some((from, to)) = sizes.iter().find(|(from, to)| from * to > LARGEST_TABLE) {
            return Err(format!(
                "ONNX's Resize computes {} of {from} pixels to {to} otherwise, and a table of all weights is too large: \
                 resize images before the network",
                self.interpolation.name()
            ));
        }
        layer.in_full(&x, |layer, x| {
            let [rows, columns] = &taps;
            let (weights, [from, to]) = (table(rows, sizes[0].0), [sizes[0].0, rows.len()]);
            let rows = layer.floats("rows", vec![to, from], transposed(&weights, from, to));
            let (weights, [from, to]) = (table(columns, sizes[1].0), [sizes[1].0, columns.len()]);
            let columns = layer.floats("columns", vec![from, to], weights);
            let x = layer.plain("MatMul", &[&rows, x]);
            Ok(layer.plain("MatMul", &[&x, &columns]))
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let [height, width, channels] = layer.map()?;
        let frame = self.frame([height, width]);
        let x = layer.input()?;
        let x = layer.cut(x, frame.skipped, frame.kept)?;
        let fill = Some(f64::from(self.fill())).filter(|&fill| fill != 0.0);
        let x = layer.padded(x, frame.added.map(|count| [count; 2]), fill)?;
        if self.keeps(&frame) {
            return Ok(x);
        }
        let plain = match self.interpolation {
            Interpolation::Nearest => Some(Operator::ResizeNearestNeighbor),
            Interpolation::Bilinear if !self.antialias => Some(Operator::ResizeBilinear),
            Interpolation::Bilinear
            | Interpolation::Bicubic
            | Interpolation::Area
            | Interpolation::Lanczos3
            | Interpolation::Lanczos5
            | Interpolation::Gaussian
            | Interpolation::MitchellCubic => None,
        };
        if let Some(operator) = plain {
            let size = layer.integers("size", &[int(self.height)?, int(self.width)?], &[2]);
            return Ok(layer.node(operator, &[x, size], &[self.height, self.width, channels]));
        }
        let sizes = [0, 1].map(|axis| (frame.size()[axis], [self.height, self.width][axis]));
        if let Some((from, to)) = sizes.iter().find(|(from, to)| from * to > LARGEST_TABLE) {
            return Err(format!(
                "TensorFlow Lite has no {} resizing, and a table of all weights of {from} pixels to {to} is too large: resize \
                 images before the network",
                self.interpolation.name()
            ));
        }
        // Sums along the last axis: of rows [batch, channels, width, height], of columns [batch, channels, rows, width].
        let [rows, columns] = self.taps(&frame);
        let sums =
            |layer: &mut TfliteLayer<'_>, name: &str, taps: &[Taps], from: usize, x: TensorId| {
                let weights = transposed(&table(taps, from), from, taps.len());
                let weights = layer.floats(name, &[taps.len(), from], weights);
                let mut extents = layer.extents(x);
                if let Some(last) = extents.last_mut() {
                    *last = taps.len();
                }
                let operator = Operator::FullyConnected { keeps_axes: true, fused: Fused::None };
                layer.node(operator, &[x, weights], &extents)
            };
        let x = layer.transposed(x, [0, 3, 2, 1]);
        let x = sums(layer, "rows", &rows, sizes[0].0, x);
        let x = layer.transposed(x, [0, 1, 3, 2]);
        let x = sums(layer, "columns", &columns, sizes[1].0, x);
        Ok(layer.transposed(x, [0, 2, 3, 1]))
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        Features::Map(self.of_maps(first(inputs).into_map()))
    }
}

/// Reads a layer's `height` and `width`.
pub(super) fn size(config: &mut LayerConfig) -> Result<[usize; 2], NetworkError> {
    let mut side = |setting: &str| match config.count(setting)? {
        Some(size @ 1..) => Ok(size),
        other => Err(config.wrong(setting, other.unwrap_or(0), "at least 1")),
    };
    Ok([side("height")?, side("width")?])
}
