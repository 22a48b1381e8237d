//! From a graph to one whose every operation is a layer of Keras with the same answer.

use std::collections::{BTreeMap, HashMap, HashSet};

use rekindle_nn::ops::{
    ActivationLayer, Conv2d, Cropping2d, DepthwiseConv2d, Flatten, Interpolation, LayerNorm,
    LayerScale, Merge, NoiseKind, Pool2d, PoolKind, RandomCrop, Rescaling, Reshape, Resizing,
    ScaledAdd, SeparableConv2d, SoftmaxOver, Statistics, TrainingOnly, UnitNorm, ZeroPadding2d,
};
use rekindle_nn::{Activation, Base, Graph, Layer, Op, Padding, Shape, Source, Window};

use crate::export::Exported;

/// Which programs have to read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Keras 3.
    Keras3,
    /// Keras 3 and Keras 2, which is tf-keras: only what means the same in both is written.
    Both,
}

/// A graph that Keras can be told of.
pub(super) struct Plain {
    pub graph: Graph,
    /// By the graph's names.
    pub variables: Variables,
    /// What layers are called in the graph, where that is another name than their own.
    pub names: BTreeMap<String, String>,
}

/// Shape and values in Keras's layout, by layer and variable.
pub(super) type Variables = HashMap<(String, String), (Vec<usize>, Vec<f32>)>;

/// The same network in Keras's layers.
///
/// # Errors
/// When Keras has no layers that compute one of the network's; the message names it.
pub(super) fn plain(model: Exported, dialect: Dialect) -> Result<Plain, String> {
    let graph = model.card.graph;
    let base = graph.base();
    let own: Vec<&str> = graph.layers().iter().map(|layer| layer.name.as_str()).collect();
    let names = written_names(&own);
    let mut used: HashSet<String> = names.iter().cloned().collect();
    used.extend(own.iter().map(|name| (*name).to_owned()));
    let mut plain =
        Writer { dialect, layers: Vec::new(), used, old: model.variables, new: HashMap::new() };
    let mut sources: Vec<Source> = Vec::with_capacity(own.len());
    let mut base_layers = 0;
    let place = |sources: &[Source], source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(position) => sources[position],
    };
    for (position, layer) in graph.layers().iter().enumerate() {
        let inputs: Vec<Source> =
            layer.inputs.iter().map(|source| place(&sources, *source)).collect();
        let view = View { name: &names[position], own: &layer.name, inputs: &inputs };
        let shapes = graph.input_shapes(position);
        let output = plain
            .layer(view, &layer.op, &shapes)
            .map_err(|reason| format!("layer `{}` ({}) {reason}", layer.name, layer.op.class()))?;
        sources.push(output);
        if position < base.layers {
            base_layers = plain.layers.len();
        }
    }
    let base =
        Base { layers: base_layers, output: place(&sources, base.output), architecture: None };
    let output = place(&sources, graph.output());
    let made = Graph::new(graph.input(), plain.layers, output, base);
    let renamed = names.into_iter().zip(own).filter(|(written, own)| written != own);
    Ok(Plain {
        graph: made.map_err(|error| error.to_string())?,
        variables: plain.new,
        names: renamed.map(|(written, own)| (written, own.to_owned())).collect(),
    })
}

/// What layers are called in Keras's files: TensorFlow takes letters, digits and `_.-` for names of scopes, and Keras
/// takes no `/`.
pub(super) fn written_names(own: &[&str]) -> Vec<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let is_fine = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '.')
            && name.chars().all(is_plain)
    };
    // Names that are fine stay, whatever the others become.
    let mut used: HashSet<String> =
        own.iter().filter(|name| is_fine(name)).map(|name| (*name).to_owned()).collect();
    let written = own.iter().map(|name| {
        if is_fine(name) {
            return (*name).to_owned();
        }
        let plain: String =
            name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
        let plain = plain.trim_start_matches(['_', '-']);
        crate::recognise::unique(if plain.is_empty() { "layer" } else { plain }, &mut used)
    });
    written.collect()
}

/// A layer to be written.
#[derive(Clone, Copy)]
struct View<'a> {
    /// What it is called in the file.
    name: &'a str,
    /// What its variables are filed under.
    own: &'a str,
    inputs: &'a [Source],
}

/// Writes layers one after the other.
pub(super) struct Writer {
    pub dialect: Dialect,
    layers: Vec<Layer>,
    /// Names that a further layer cannot have.
    used: HashSet<String>,
    /// Variables by the graph's names, and by those of the layers that are written.
    old: Variables,
    new: Variables,
}

impl Writer {
    /// Adds a layer of exactly this name.
    pub fn add(&mut self, name: &str, op: impl Into<Op>, inputs: &[Source]) -> Source {
        let (name, op, inputs) = (name.to_owned(), op.into(), inputs.to_vec());
        self.layers.push(Layer { name, op, inputs });
        Source::Layer(self.layers.len() - 1)
    }

    /// Adds a layer beside the one of this name.
    pub fn beside(&mut self, name: &str, what: &str, op: impl Into<Op>, input: Source) -> Source {
        let name = self.free(name, what);
        self.add(&name, op, &[input])
    }

    /// A name that no other layer has.
    pub fn free(&mut self, name: &str, what: &str) -> String {
        crate::recognise::unique(&format!("{name}_{what}"), &mut self.used)
    }

    /// Files a variable of the graph's layer `own` under a name and with a shape of the same count.
    fn give(
        &mut self,
        own: &str,
        variable: &str,
        (name, as_variable): (&str, &str),
        shape: Option<Vec<usize>>,
    ) -> Result<(), String> {
        let key = (own.to_owned(), variable.to_owned());
        let Some((old, values)) = self.old.remove(&key) else {
            return Err(format!("has no values for its {variable}"));
        };
        let shape = shape.unwrap_or(old);
        self.new.insert((name.to_owned(), as_variable.to_owned()), (shape, values));
        Ok(())
    }

    /// The layer as it is, with all of its variables.
    fn same(&mut self, view: View<'_>, op: Op, shapes: &[Shape]) -> Result<Source, String> {
        for variable in op.variables(shapes) {
            self.give(view.own, variable.name, (view.name, variable.name), None)?;
        }
        Ok(self.add(view.name, op, view.inputs))
    }

    fn layer(&mut self, view: View<'_>, op: &Op, shapes: &[Shape]) -> Result<Source, String> {
        let (Some(&x), Some(&shape)) = (view.inputs.first(), shapes.first()) else {
            return Err("has no input".into());
        };
        match op {
            Op::Conv2d(conv) => {
                let activation = self.embedded(conv.activation);
                self.convolved(view, conv.window, conv.activation, x, |writer, view, window| {
                    let conv = Conv2d { window, activation, ..conv.clone() };
                    writer.same(view, conv.into(), shapes)
                })
            }
            Op::DepthwiseConv2d(conv) => self.depthwise(view, conv, shape),
            Op::SeparableConv2d(conv) => self.separable(view, conv, shape),
            Op::Dense(dense) => {
                let mut bare = dense.clone();
                bare.activation = self.embedded(dense.activation);
                let y = self.same(view, bare.into(), shapes)?;
                self.behind(view.name, dense.activation, y)
            }
            Op::Activation(ActivationLayer { function, by_name }) => {
                // By its name where it has one, as the network's author wrote it.
                let is_named = *by_name && self.embedded(*function) == *function;
                if is_named && function.name().is_some() {
                    return Ok(self.add(view.name, op.clone(), view.inputs));
                }
                self.function(view.name, *function, x)
            }
            Op::LayerScale(LayerScale { channels, .. }) => self.scaled(view, *channels, x, shape),
            Op::ScaledAdd(ScaledAdd { scale }) => {
                let &[x, branch] = view.inputs else { return Err("has not two inputs".into()) };
                let branch = self.beside(view.name, "scale", Rescaling::new(*scale, 0.0), branch);
                Ok(self.add(view.name, Merge::ADD, &[x, branch]))
            }
            Op::Pool2d(pool) => self.pool(view, pool, x, shape),
            Op::Resizing(resizing) => {
                self.can_resize(resizing)?;
                Ok(self.add(view.name, *resizing, view.inputs))
            }
            Op::RandomCrop(crop) => self.random_crop(view, crop, x, shape),
            Op::TrainingOnly(only) => {
                self.can_augment(only)?;
                Ok(self.add(view.name, op.clone(), view.inputs))
            }
            Op::Lrn(_) => Err("is local response normalization: Keras has no layer that \
                               computes it, nor several that do"
                .into()),
            Op::Noise(noise) if noise.kind == NoiseKind::GaussianNoise && noise.amount > 1.0 => {
                Err(format!("has a deviation of {}: Keras 3's is from 0 to 1", noise.amount))
            }
            Op::LayerNorm(LayerNorm { axes, .. })
            | Op::UnitNorm(UnitNorm { axes })
            | Op::SoftmaxOver(SoftmaxOver { axes }) => {
                self.has_axes(axes)?;
                self.same(view, op.clone(), shapes)
            }
            Op::Normalization(normalization) => {
                let mut normalization = normalization.clone();
                let one = |given: &Statistics| given.mean.len() == 1 && given.variance.len() == 1;
                // A single number is the same along any axis.
                if self.dialect == Dialect::Both && normalization.given.as_ref().is_some_and(one) {
                    normalization.axes = vec![-1];
                }
                self.has_axes(&normalization.axes)?;
                self.same(view, normalization.into(), shapes)
            }
            Op::BatchNorm(_)
            | Op::GroupNorm(_)
            | Op::Prelu(_)
            | Op::GlobalPool(_)
            | Op::ZeroPadding2d(_)
            | Op::Cropping2d(_)
            | Op::CenterCrop(_)
            | Op::Flatten(_)
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Rescaling(_)
            | Op::Dropout(_)
            | Op::SharedDropout(_)
            | Op::Noise(_)
            | Op::Merge(_)
            | Op::Concatenate(_)
            | Op::Identity(_) => self.same(view, op.clone(), shapes),
        }
    }

    /// Zeros around `x` where a window has paddings of ONNX's kind, the layer `write` without them, and the part of its
    /// activation that it cannot have itself.
    fn convolved(
        &mut self,
        view: View<'_>,
        window: Window,
        activation: Activation,
        x: Source,
        write: impl FnOnce(&mut Self, View<'_>, Window) -> Result<Source, String>,
    ) -> Result<Source, String> {
        let dilation = window.dilation;
        if window.stride != [1, 1] && dilation != [1, 1] {
            return Err(format!(
                "has strides {stride:?} and dilation {dilation:?}: Keras's convolutions have only one of both",
                stride = window.stride
            ));
        }
        let (x, window) = match window.padding {
            Padding::Explicit(padding) => {
                let valid = Window { padding: Padding::Valid, ..window };
                let is_padded = padding != [[0; 2]; 2];
                let zeros = ZeroPadding2d { padding };
                let x = if is_padded { self.beside(view.name, "pad", zeros, x) } else { x };
                (x, valid)
            }
            Padding::Same | Padding::Valid => (x, window),
        };
        let y = write(self, View { inputs: &[x], ..view }, window)?;
        self.behind(view.name, activation, y)
    }

    fn depthwise(
        &mut self,
        view: View<'_>,
        conv: &DepthwiseConv2d,
        shape: Shape,
    ) -> Result<Source, String> {
        let Some(&x) = view.inputs.first() else { return Err("has no input".into()) };
        let activation = self.embedded(conv.activation);
        let (channels, multiplier) = (shape.channels(), conv.depth_multiplier);
        self.convolved(view, conv.window, conv.activation, x, |writer, view, window| {
            if window.stride[0] == window.stride[1] {
                let conv = DepthwiseConv2d { window, activation, ..conv.clone() };
                return writer.same(view, conv.into(), &[shape]);
            }
            // TensorFlow wants the same stride both ways, but not of a convolution in groups of one channel.
            let [height, width] = window.kernel;
            let filters = channels * multiplier;
            let kernel = Some(vec![height, width, 1, filters]);
            writer.give(view.own, "kernel", (view.name, "kernel"), kernel)?;
            if conv.bias {
                writer.give(view.own, "bias", (view.name, "bias"), None)?;
            }
            let grouped = Conv2d { filters, window, groups: channels, bias: conv.bias, activation };
            Ok(writer.add(view.name, grouped, view.inputs))
        })
    }

    fn separable(
        &mut self,
        view: View<'_>,
        conv: &SeparableConv2d,
        shape: Shape,
    ) -> Result<Source, String> {
        let Some(&x) = view.inputs.first() else { return Err("has no input".into()) };
        if conv.window.stride[0] != conv.window.stride[1] {
            return Err(format!(
                "has strides {stride:?}: Keras's has the same both ways",
                stride = conv.window.stride
            ));
        }
        let activation = self.embedded(conv.activation);
        self.convolved(view, conv.window, conv.activation, x, |writer, view, window| {
            let conv = SeparableConv2d { window, activation, ..conv.clone() };
            writer.same(view, conv.into(), &[shape])
        })
    }

    /// ConvNeXt's layer scale, which is a class of its own in Keras's applications, as filters of one pixel.
    fn scaled(
        &mut self,
        view: View<'_>,
        channels: usize,
        x: Source,
        shape: Shape,
    ) -> Result<Source, String> {
        let kernel = Some(vec![1, 1, channels, 1]);
        let scale = DepthwiseConv2d::new([1, 1]).valid();
        if shape.as_map().is_some() {
            self.give(view.own, "gamma", (view.name, "kernel"), kernel)?;
            return Ok(self.add(view.name, scale, &[x]));
        }
        let target = vec![1, 1, channels as i64];
        let pixel = self.beside(view.name, "pixel", Reshape { target }, x);
        let name = self.free(view.name, "scale");
        self.give(view.own, "gamma", (&name, "kernel"), kernel)?;
        let y = self.add(&name, scale, &[pixel]);
        Ok(self.add(view.name, Flatten {}, &[y]))
    }

    /// Keras's pools pad as `same` does, or not at all, and never count what they pad.
    fn pool(
        &mut self,
        view: View<'_>,
        pool: &Pool2d,
        x: Source,
        shape: Shape,
    ) -> Result<Source, String> {
        let window = pool.window;
        if window.dilation != [1, 1] {
            let dilation = window.dilation;
            return Err(format!("has a dilation of {dilation:?}: Keras's pools have none"));
        }
        let Some([height, width, _]) = shape.as_map() else { return Err("takes no maps".into()) };
        let counts = pool.counts_padding && pool.kind == PoolKind::Average;
        let padding = match window.padding {
            Padding::Same if !counts => return Ok(self.add(view.name, pool.clone(), &[x])),
            Padding::Same | Padding::Valid | Padding::Explicit(_) => window.edges(height, width),
        };
        let valid = Window { padding: Padding::Valid, ..window };
        let plain = |window| Pool2d { window, counts_padding: false, ..pool.clone() };
        if padding == [[0; 2]; 2] {
            return Ok(self.add(view.name, plain(valid), &[x]));
        }
        if counts {
            let x = self.beside(view.name, "pad", ZeroPadding2d { padding }, x);
            return Ok(self.add(view.name, plain(valid), &[x]));
        }
        // With stride 1, `same` pads on each side what does not depend on the size; of that, too much is cut off, and every
        // so many results are kept.
        let every = Window { padding: Padding::Same, stride: [1, 1], ..window };
        let most = every.edges(height, width);
        let cut = |axis: usize, side: usize| most[axis][side].checked_sub(padding[axis][side]);
        let [Some(top), Some(bottom), Some(left), Some(right)] =
            [cut(0, 0), cut(0, 1), cut(1, 0), cut(1, 1)]
        else {
            return Err(format!(
                "pads {padding:?} around windows of {kernel:?}: Keras's pools pad at most {most:?}",
                kernel = window.kernel
            ));
        };
        let mut y = self.beside(view.name, "all", plain(every), x);
        let cropping = [[top, bottom], [left, right]];
        let is_cropped = cropping != [[0; 2]; 2];
        if is_cropped {
            y = self.beside(view.name, "crop", Cropping2d { cropping }, y);
        }
        let some = Window { kernel: [1, 1], ..valid };
        let some = Pool2d { kind: PoolKind::Max, window: some, counts_padding: false };
        Ok(self.add(view.name, some, &[y]))
    }

    /// Keras 3 takes from an HDF5 only a single axis, and does not say so.
    fn has_axes(&self, axes: &[i64]) -> Result<(), String> {
        match (self.dialect, axes.len()) {
            (Dialect::Keras3, _) | (Dialect::Both, 1) => Ok(()),
            (Dialect::Both, _) => Err(format!(
                "is over axes {axes:?}: of an .h5, Keras 3 takes a single one; export it as .keras"
            )),
        }
    }

    fn can_resize(&self, resizing: &Resizing) -> Result<(), String> {
        match resizing.interpolation {
            Interpolation::Nearest
            | Interpolation::Bilinear
            | Interpolation::Bicubic
            | Interpolation::Area
            | Interpolation::Lanczos3
            | Interpolation::Lanczos5 => {}
            Interpolation::Gaussian | Interpolation::MitchellCubic => {
                let name = resizing.interpolation.name();
                return Err(format!("interpolates by `{name}`, which Keras 3 does not"));
            }
        }
        let is_new = resizing.antialias || matches!(resizing.fit, rekindle_nn::ops::Fit::Pad(_));
        if is_new && self.dialect == Dialect::Both {
            return Err("has `antialias` or `pad_to_aspect_ratio`, which Keras 2 has not: \
                        export it as .keras"
                .into());
        }
        Ok(())
    }

    fn random_crop(
        &mut self,
        view: View<'_>,
        crop: &RandomCrop,
        x: Source,
        shape: Shape,
    ) -> Result<Source, String> {
        let op = Op::RandomCrop(crop.clone());
        match (crop.resizes, self.dialect) {
            // What is written of it is a Resizing.
            (true, _) => self.same(view, op, &[shape]),
            (false, Dialect::Keras3) => Ok(self.add(view.name, op, &[x])),
            (false, Dialect::Both) => Err("is Keras 3's, which leaves images as they are; \
                                           Keras 2's resizes them: export it as .keras"
                .into()),
        }
    }

    fn can_augment(&self, only: &TrainingOnly) -> Result<(), String> {
        // Those of Keras 2 that Keras 3 has too, and the one that Keras 3 has not.
        const OLD: [&str; 7] = [
            "RandomFlip",
            "RandomRotation",
            "RandomZoom",
            "RandomTranslation",
            "RandomContrast",
            "RandomBrightness",
            "ActivityRegularization",
        ];
        let is_gone = ["RandomHeight", "RandomWidth"].contains(&only.class.as_str());
        if is_gone {
            return Err("is no layer of Keras 3".into());
        }
        if self.dialect == Dialect::Both && !OLD.contains(&only.class.as_str()) {
            return Err("is no layer of Keras 2: export it as .keras".into());
        }
        Ok(())
    }
}
