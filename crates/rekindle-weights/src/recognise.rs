//! Which known network a graph is, names aside.
//!
//! Every value of a graph gets a number for what it is made of: equal numbers are equal layers on equal values, all the
//! way back to where the network starts. A family's network is in a graph where the number of its output is.

mod joined;
mod numbers;

use std::collections::{HashMap, HashSet};

use rekindle_nn::{Architecture, Base, Graph, Layer, Op, Source};

use self::joined::joined;
pub(crate) use self::numbers::{Numbers, settled};
use self::numbers::{
    behind_idle, behind_zeros, described, is_commutative, is_dropout, is_idle, pads_with_zeros,
};

/// A graph whose base is a known network.
#[derive(Debug)]
pub(crate) struct Recognised {
    /// The same network; the base's layers have the family's names, and the base ends where it does.
    pub graph: Graph,
    /// What the file's layers are called in it, where they have variables.
    pub names: HashMap<String, String>,
}

/// How much of a known network a graph begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Begins {
    /// The network.
    pub architecture: Architecture,
    /// How many of its layers the graph has.
    pub layers: usize,
}

/// Fewer layers than these in common are what any convolutional network has.
const LEAST_COMMON: usize = 9;

/// Finds the largest known network in a graph; the error is the one that it begins as, if there is one.
pub(crate) fn recognise(graph: &Graph) -> Result<Recognised, Option<Begins>> {
    let mut recogniser = Recogniser::default();
    recogniser.recognise(graph).or_else(|begins| match joined(graph) {
        Some(joined) => recogniser.recognise(&joined),
        None => Err(begins),
    })
}

/// Looks for known networks in several graphs. All families' graphs are built and numbered once for images of one shape.
#[derive(Default)]
pub(crate) struct Recogniser {
    numbers: Numbers,
    known: HashMap<[usize; 3], Vec<Known>>,
}

/// What a known network's top may be on, for images of some shape.
struct Known {
    architecture: Architecture,
    graph: Graph,
    numbers: Vec<Option<usize>>,
}

impl Recogniser {
    /// As [`recognise`].
    pub fn recognise(&mut self, graph: &Graph) -> Result<Recognised, Option<Begins>> {
        let mut best: Option<Recognised> = None;
        let mut begins: Option<Begins> = None;
        for root in roots(graph) {
            let Some(images) = graph.shape(root).as_map() else { continue };
            let own = self.numbers.of(graph, root, described);
            let there: HashSet<usize> = own.iter().copied().flatten().collect();
            let numbers = &mut self.numbers;
            let known = self.known.entry(images).or_insert_with(|| known(images, numbers));
            for Known { architecture, graph: family, numbers: theirs } in known {
                let common =
                    theirs.iter().flatten().filter(|number| there.contains(number)).count();
                if common >= LEAST_COMMON && begins.is_none_or(|other| common > other.layers) {
                    begins = Some(Begins { architecture: *architecture, layers: common });
                }
                let is_larger = best
                    .as_ref()
                    .is_none_or(|best| family.layers().len() > best.graph.base().layers);
                if is_larger && let Some(found) = found(graph, root, &own, family, theirs) {
                    best = Some(found);
                }
            }
        }
        best.ok_or(begins)
    }
}

/// The known networks for images of this shape; images may be smaller than a family takes.
fn known([height, width, channels]: [usize; 3], numbers: &mut Numbers) -> Vec<Known> {
    let all = Architecture::all().into_iter();
    let all = all.map(|known| known.with_images(height, width, channels));
    let bases = all.filter_map(|architecture| Some((architecture, architecture.bases().ok()?)));
    let graphs = bases.flat_map(|(architecture, bases)| {
        bases.into_iter().map(move |graph| (architecture, graph))
    });
    let known = graphs.map(|(architecture, graph)| {
        let numbers = numbers.of(&graph, Source::Input, described);
        Known { architecture, graph, numbers }
    });
    known.collect()
}

/// Where a network may start: at the image, or behind layers in front that have one input and one reader.
fn roots(graph: &Graph) -> Vec<Source> {
    let mut roots = vec![Source::Input];
    while let Some(&root) = roots.last() {
        let readers = readers(graph, root);
        let [reader] = readers.as_slice() else { break };
        let layer = &graph.layers()[*reader];
        let is_front = layer.inputs.len() == 1
            && graph.shape(Source::Layer(*reader)).as_map().is_some()
            && match &layer.op {
                // Channels in another order, as exported models have it in front.
                Op::Conv2d(conv) => {
                    conv.window.kernel == [1, 1] && conv.filters == graph.input().channels()
                }
                Op::DepthwiseConv2d(_) | Op::ZeroPadding2d(_) => false,
                _ => true,
            };
        if !is_front {
            break;
        }
        roots.push(Source::Layer(*reader));
    }
    roots
}

fn readers(graph: &Graph, source: Source) -> Vec<usize> {
    let layers = graph.layers().iter().enumerate();
    let readers = layers.filter(|(_, layer)| layer.inputs.contains(&source));
    readers.map(|(position, _)| position).collect()
}

/// The graph with the family's layers in the place of its own, where they are the same.
fn found(
    graph: &Graph,
    root: Source,
    own: &[Option<usize>],
    family: &Graph,
    theirs: &[Option<usize>],
) -> Option<Recognised> {
    let base = family.base();
    let end = theirs.get(base.output.layer()?).copied().flatten()?;
    let candidates = (0..own.len())
        .filter(|&position| own[position] == Some(end) && !is_idle(&graph.layers()[position].op));
    candidates
        .filter_map(|position| {
            let pairs = pairs(graph, root, own, position, family, theirs)?;
            rebuilt(graph, root, position, family, &pairs)
        })
        .next()
}

/// Which of the graph's layers is which of the family's, where its output is the layer at `end`. Where the graph drops
/// nothing, the family's dropouts are paired with none; where it does, it has to be as the family does.
pub(crate) fn pairs(
    graph: &Graph,
    root: Source,
    own: &[Option<usize>],
    end: usize,
    family: &Graph,
    theirs: &[Option<usize>],
) -> Option<HashMap<usize, usize>> {
    let mut pairs = HashMap::new();
    let mut taken = HashSet::new();
    let (output, _) = behind_idle(family, Source::Input, family.base().output);
    let mut open = vec![(output.layer()?, end)];
    while let Some((known, found)) = open.pop() {
        if let Some(&other) = pairs.get(&known) {
            if other == found {
                continue;
            }
            return None;
        }
        if theirs[known] != own[found] || !taken.insert(found) {
            return None;
        }
        pairs.insert(known, found);
        let wanted = behind_zeros(family, known).into_iter();
        let wanted: Vec<_> =
            wanted.map(|source| behind_idle(family, Source::Input, source)).collect();
        let inputs = behind_zeros(graph, found).into_iter();
        let mut inputs: Vec<_> = inputs.map(|source| behind_idle(graph, root, source)).collect();
        let number = |numbers: &[Option<usize>], source: Source| match source.layer() {
            Some(position) => numbers[position],
            None => None,
        };
        if is_commutative(&family.layers()[known].op) {
            // In the family's order; a stable sort leaves equal ones as they are.
            let place = |(source, _): &(Source, Vec<usize>)| {
                let own = number(own, *source);
                wanted.iter().position(|(wanted, _)| number(theirs, *wanted) == own)
            };
            inputs.sort_by_key(place);
        }
        for ((wanted, known_idle), (found, found_idle)) in wanted.into_iter().zip(inputs) {
            let mut known_drops =
                known_idle.into_iter().filter(|&at| is_dropout(&family.layers()[at].op));
            let found_drops =
                found_idle.into_iter().filter(|&at| is_dropout(&graph.layers()[at].op));
            let found_drops: Vec<usize> = found_drops.collect();
            if !found_drops.is_empty() {
                for &found in &found_drops {
                    let known = known_drops.next()?;
                    let is_same =
                        family.layers()[known].op.name() == graph.layers()[found].op.name();
                    if !is_same || *pairs.entry(known).or_insert(found) != found {
                        return None;
                    }
                }
                if known_drops.next().is_some() {
                    return None;
                }
            }
            match (wanted, found) {
                (Source::Layer(wanted), Source::Layer(found)) => open.push((wanted, found)),
                // The image, or what comes in its place: the numbers have shown that.
                (Source::Input, _) => {}
                (Source::Layer(_), Source::Input) => return None,
            }
        }
    }
    // All of the family's layers but its pads, which the graph may write otherwise, and what only training sees.
    let all = family.layers().iter().enumerate();
    let is_whole = all
        .filter(|(_, layer)| !matches!(layer.op, Op::ZeroPadding2d(_)) && !is_idle(&layer.op))
        .all(|(position, _)| pairs.contains_key(&position));
    is_whole.then_some(pairs)
}

fn rebuilt(
    graph: &Graph,
    root: Source,
    end: usize,
    family: &Graph,
    pairs: &HashMap<usize, usize>,
) -> Option<Recognised> {
    let layers = graph.layers();
    let mut section: HashSet<usize> = pairs.values().copied().collect();
    for &found in pairs.values().filter(|&&found| !is_idle(&layers[found].op)) {
        let mut inputs = layers[found].inputs.clone();
        if pads_with_zeros(&layers[found].op)
            && let &[Source::Layer(pad)] = inputs.as_slice()
            && matches!(layers[pad].op, Op::ZeroPadding2d(_))
        {
            section.insert(pad);
            inputs.clone_from(&layers[pad].inputs);
        }
        for input in inputs {
            section.extend(behind_idle(graph, root, input).1);
        }
    }
    // Nothing outside takes a value from within.
    let crosses = |position: usize| {
        let takes = |input: &Source| {
            input.layer().is_some_and(|input| input != end && section.contains(&input))
        };
        !section.contains(&position) && layers[position].inputs.iter().any(takes)
    };
    let output_is_within =
        graph.output().layer().is_some_and(|output| output != end && section.contains(&output));
    if (0..layers.len()).any(crosses) || output_is_within {
        return None;
    }
    let mut before = vec![false; layers.len()];
    let mut open = vec![root];
    while let Some(source) = open.pop() {
        if let Some(position) = source.layer()
            && !std::mem::replace(&mut before[position], true)
        {
            open.extend(&layers[position].inputs);
        }
    }
    let mut used: HashSet<String> =
        family.layers().iter().map(|layer| layer.name.clone()).collect();
    let mut built: Vec<Layer> = Vec::new();
    let mut places: HashMap<Source, Source> = HashMap::from([(Source::Input, Source::Input)]);
    let mut names = HashMap::new();
    let mut keep =
        |position: usize, built: &mut Vec<Layer>, places: &mut HashMap<Source, Source>| {
            let layer = &layers[position];
            let inputs: Option<Vec<Source>> =
                layer.inputs.iter().map(|input| places.get(input).copied()).collect();
            let name = unique(&layer.name, &mut used);
            names.insert(layer.name.clone(), name.clone());
            places.insert(Source::Layer(position), Source::Layer(built.len()));
            built.push(Layer { name, op: layer.op.clone(), inputs: inputs? });
            Some(())
        };
    for position in (0..layers.len()).filter(|&position| before[position]) {
        keep(position, &mut built, &mut places)?;
    }
    let offset = built.len();
    let root = places.get(&root).copied()?;
    let moved = |source: Source| match source {
        Source::Input => root,
        Source::Layer(position) => Source::Layer(position + offset),
    };
    for (position, layer) in family.layers().iter().enumerate() {
        let own = pairs.get(&position).map(|&found| &layers[found].op);
        let op = match (layer.op.clone(), own) {
            // What only training sees is as the file says.
            (Op::BatchNorm(mut norm), Some(Op::BatchNorm(own))) => {
                norm.momentum = own.momentum;
                Op::BatchNorm(norm)
            }
            (Op::Dropout(_) | Op::SharedDropout(_), Some(own)) => own.clone(),
            // A file that drops nothing is trained further without.
            (Op::Dropout(mut dropout), None) => {
                dropout.rate = 0.0;
                Op::Dropout(dropout)
            }
            (Op::SharedDropout(mut dropout), None) => {
                dropout.rate = 0.0;
                Op::SharedDropout(dropout)
            }
            (op, _) => op,
        };
        let inputs = layer.inputs.iter().map(|input| moved(*input)).collect();
        built.push(Layer { name: layer.name.clone(), op, inputs });
    }
    let base = Base {
        layers: built.len(),
        output: moved(family.base().output),
        architecture: family.base().architecture,
    };
    places.insert(Source::Layer(end), base.output);
    let behind = |position: &usize| !before[*position] && !section.contains(position);
    for position in (0..layers.len()).filter(behind) {
        keep(position, &mut built, &mut places)?;
    }
    for (known, found) in pairs {
        names.insert(layers[*found].name.clone(), family.layers()[*known].name.clone());
    }
    let output = places.get(&graph.output()).copied()?;
    let graph = Graph::new(graph.input(), built, output, base).ok()?;
    Some(Recognised { graph, names })
}

/// A name that no other layer has.
pub(crate) fn unique(name: &str, used: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 1;
    while !used.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use rekindle_nn::ops::{ActivationLayer, Dropout, SharedDropout, ZeroPadding2d};
    use rekindle_nn::{
        Activation, ConvNextTinyConfig, EfficientNetB0Config, HeadConfig, MobileNetV2Config,
        Padding, Shape,
    };

    use super::*;

    fn network() -> Graph {
        let known = Architecture::from(MobileNetV2Config::new().with_alpha(0.35).with_size(96));
        let base = known.graph().expect("valid");
        HeadConfig::default().graph(&base, 3).expect("a head")
    }

    /// The graph with other names, and what `change` makes of its layers.
    fn changed(change: impl Fn(&mut Layer)) -> Graph {
        let graph = network();
        let layers = graph.layers().iter().enumerate().map(|(position, layer)| {
            let mut layer = Layer { name: format!("layer_{position}"), ..layer.clone() };
            change(&mut layer);
            layer
        });
        let base = Base { architecture: None, ..graph.base() };
        Graph::new(graph.input(), layers.collect(), graph.output(), base).expect("valid")
    }

    #[test]
    fn a_known_network_is_known_whatever_its_layers_are_called() {
        let expected = network();
        let found = recognise(&changed(|layer| match &mut layer.op {
            // What no answer depends on, and the other way to write ReLU(6).
            Op::BatchNorm(norm) => norm.momentum = 0.5,
            Op::Activation(activation) => *activation = ActivationLayer::named(activation.function),
            _ => {}
        }))
        .expect("MobileNetV2");
        assert_eq!(found.graph.base(), expected.base());
        let names = |graph: &Graph| -> Vec<String> {
            graph.layers()[..graph.base().layers].iter().map(|layer| layer.name.clone()).collect()
        };
        assert_eq!(names(&found.graph), names(&expected));
        assert_eq!(found.names["layer_0"], "Conv1");
        let momentum = found.graph.layers().iter().find_map(|layer| match &layer.op {
            Op::BatchNorm(norm) => Some(norm.momentum),
            _ => None,
        });
        assert_eq!(momentum, Some(0.5), "what the file says of training is kept");
        assert_eq!(found.graph.head().len(), 3);
    }

    #[test]
    fn a_network_is_known_by_what_its_top_is_on() {
        let known = Architecture::from(ConvNextTinyConfig::new().with_size(32));
        let graph = known.with_top(Some(5)).graph().expect("valid");
        let found = recognise(&graph).expect("ConvNeXt");
        assert_eq!(found.graph, graph);
        let other = graph.with_input(Shape::image(64)).expect("fits");
        assert_eq!(other.base().architecture, Some(known.with_size(64)));
    }

    #[test]
    fn zeros_of_a_layer_of_their_own_are_padding() {
        // Keras 2.2 wrote MobileNetV2's first convolution so.
        let graph = changed(|_| ());
        let mut layers = graph.layers().to_vec();
        let Op::Conv2d(conv) = &mut layers[0].op else { panic!("a convolution") };
        conv.window.padding = Padding::Valid;
        let moved = |source: Source| source.layer().map_or(source, |at| Source::Layer(at + 1));
        for layer in &mut layers {
            layer.inputs = layer.inputs.iter().map(|source| moved(*source)).collect();
        }
        layers[0].inputs = vec![Source::Layer(0)];
        let pad = |padding| Layer {
            name: "pad".into(),
            op: ZeroPadding2d { padding }.into(),
            inputs: vec![Source::Input],
        };
        for (padding, is_known) in [([[0, 1], [0, 1]], true), ([[1, 0], [1, 0]], false)] {
            let layers = [pad(padding)].into_iter().chain(layers.clone()).collect();
            let base = Base {
                layers: graph.base().layers + 1,
                output: moved(graph.base().output),
                architecture: None,
            };
            let padded = Graph::new(graph.input(), layers, moved(graph.output()), base);
            let found = recognise(&padded.expect("valid"));
            assert_eq!(found.is_ok(), is_known, "{padding:?}");
        }
    }

    #[test]
    fn a_changed_or_cut_network_is_another() {
        let begins = |graph: &Graph| recognise(graph).map(|_| ()).expect_err("another network");
        let last = network().base().layers - 1;
        let graph = changed(|layer| match &mut layer.op {
            Op::Activation(activation) if layer.name == format!("layer_{last}") => {
                activation.function = Activation::HardSilu;
            }
            _ => {}
        });
        assert_eq!(begins(&graph).expect("begins as MobileNetV2").layers, last);
        let graph = changed(|_| ());
        let end = graph.position("layer_50").expect("a layer");
        let layers = graph.layers()[..=end].to_vec();
        let base = Base { layers: end + 1, output: Source::Layer(end), architecture: None };
        let cut = Graph::new(graph.input(), layers, Source::Layer(end), base).expect("valid");
        let begins = begins(&cut).expect("begins as MobileNetV2");
        assert_eq!(begins.architecture.to_string(), "mobilenet-v2 0.35, 96 x 96, no top");
        assert_eq!(begins.layers, end + 1);
    }

    #[test]
    fn dropouts_are_the_family_s_or_none() {
        let known = Architecture::from(EfficientNetB0Config::new().with_size(32));
        let base = known.graph().expect("valid");
        let graph = HeadConfig::default().graph(&base, 3).expect("a head");
        let drops = |graph: &Graph| -> Vec<f64> {
            let base = graph.layers()[..graph.base().layers].iter();
            base.filter_map(|layer| match &layer.op {
                Op::SharedDropout(drop) => Some(drop.rate),
                _ => None,
            })
            .collect()
        };
        let of = |change: &dyn Fn(&Layer) -> Op| {
            let layers = graph.layers().iter();
            let layers = layers.map(|layer| Layer { op: change(layer), ..layer.clone() });
            let base = Base { architecture: None, ..graph.base() };
            Graph::new(graph.input(), layers.collect(), graph.output(), base).expect("valid")
        };
        let half = of(&|layer| match &layer.op {
            Op::SharedDropout(_) => SharedDropout::of_samples(0.5).into(),
            other => other.clone(),
        });
        let found = recognise(&half).expect("EfficientNet");
        assert_eq!(drops(&found.graph), vec![0.5; 9]);
        assert_eq!(found.graph.base(), graph.base());
        // As formats for inference alone have it.
        let all = graph.layers().iter().enumerate();
        let gone = all.filter(|(_, layer)| is_dropout(&layer.op)).map(|(position, _)| position);
        let without = crate::graph::without(&half, &gone.collect()).expect("valid");
        let found = recognise(&without).expect("EfficientNet");
        assert_eq!(drops(&found.graph), vec![0.0; 9]);
        assert_eq!(found.graph.base(), graph.base());
        // Other dropouts, or fewer, train otherwise.
        let other = of(&|layer| match &layer.op {
            Op::SharedDropout(_) => Dropout { rate: 0.2 }.into(),
            other => other.clone(),
        });
        assert!(recognise(&other).is_err());
        let idle = of(&|layer| match &layer.op {
            Op::Activation(activation)
                if activation.function == Activation::Silu && layer.name == "stem_activation" =>
            {
                Dropout { rate: 0.2 }.into()
            }
            other => other.clone(),
        });
        assert!(recognise(&idle).is_err());
    }
}
