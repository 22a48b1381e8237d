//! Products of bytes: which nodes compute with bytes, what bytes stand for, and where numbers become bytes and back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rekindle_nn::ops::MergeKind;
use rekindle_nn::{Quantization, Shape};

use crate::PlanError;
use crate::activation::is_by_pixel;
use crate::int8::{MOST_DEPTH, Scale};
use crate::ir::{Conv, Element, Node, NodeOp, PRODUCT, SUM, has_value};

/// A network of which some nodes compute with bytes.
pub(crate) struct Quantized {
    pub output: usize,
    /// Of each node what its bytes stand for.
    pub scales: Vec<Option<Scale>>,
    /// Layers with products that are not of bytes, each with the reason.
    pub kept: Vec<(String, String)>,
}

/// A name for each node's value: its layer's, and a number where that has several.
pub(crate) fn keys(nodes: &[Node]) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let key = |node: &'_ Node, count: usize| match count {
        1 => node.name.clone(),
        _ => format!("{}#{count}", node.name),
    };
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        let count = counts.entry(node.name.as_str()).or_default();
        *count += usize::from(has_value(&node.op));
        all.push(key(node, *count));
    }
    all
}

/// Why a convolution is not computed with bytes; `None` where it is.
fn hindrance(conv: &Conv) -> Option<String> {
    let taps: usize = conv.kernel.iter().product();
    let depth = taps * if conv.depthwise { 1 } else { conv.channels[0] };
    if depth > MOST_DEPTH {
        return Some(format!("it adds up {depth} products, more than {MOST_DEPTH}"));
    }
    // Bytes are read four at a time, which may reach behind the last pixel.
    match conv.slice {
        Some(first) if first % 4 != 0 => Some(format!("a group begins with channel {first}")),
        _ => None,
    }
}

/// What a node does with bytes.
#[derive(Clone, Copy, PartialEq)]
enum With {
    /// Numbers only.
    F32,
    /// A product: takes bytes, and writes bytes or numbers.
    Product,
    /// Takes bytes and writes bytes.
    Bytes,
    /// A function of numbers, which it may write as bytes.
    Function,
    /// Takes either.
    Either,
}

/// Whether a node is one that bytes go through, where they come.
fn passes_bytes(node: &Node, nodes: &[Node]) -> bool {
    match &node.op {
        NodeOp::Pool(_) | NodeOp::Pad(_) | NodeOp::Concat | NodeOp::Flatten => true,
        NodeOp::Merge(MergeKind::Add) => {
            let [first, second] = node.inputs[..] else { return false };
            first != second && [first, second].iter().all(|&input| nodes[input].shape == node.shape)
        }
        NodeOp::Activation(activation) => activation.limits().is_some(),
        _ => false,
    }
}

/// Has every node that can compute with bytes do so.
///
/// # Errors
/// When the quantization does not say between what a value lies.
pub(crate) fn quantize(
    nodes: &mut Vec<Node>,
    output: usize,
    quantization: &Quantization,
) -> Result<Quantized, PlanError> {
    let keys = keys(nodes);
    let (with, kept) = choose(nodes, output, quantization);
    let readers = Readers::of(nodes, output, &with);
    // Whether values are bytes where they are made.
    let is_made: Vec<bool> = (0..nodes.len())
        .map(|index| match with[index] {
            With::Product => readers.bytes[index] > 0,
            With::Bytes => true,
            With::Function => readers.bytes[index] > 0 && readers.numbers[index] == 0,
            With::F32 | With::Either => false,
        })
        .collect();
    let scales = scales(
        nodes,
        &keys,
        quantization,
        |index| is_made[index] || readers.bytes[index] > 0,
        &with,
    )?;
    Ok(rebuild(nodes, output, Parts { with, readers, is_made, scales, kept }))
}

/// The layer that a node is of.
fn layer(node: &Node) -> &str {
    node.name.strip_suffix(PRODUCT).unwrap_or(&node.name)
}

/// What each node's bytes stand for where every value that a product takes or makes is bytes, and which nodes multiply bytes.
/// Shortcuts are nodes of their own.
///
/// # Errors
/// When the quantization does not say between what a value lies.
pub(crate) fn byte_values(
    nodes: &[Node],
    output: usize,
    quantization: &Quantization,
) -> Result<(Vec<Option<Scale>>, Vec<bool>), PlanError> {
    let mut keys = keys(nodes);
    for index in 0..keys.len() {
        // A sum is clamped as soon as it is bytes.
        if keys[index].ends_with(SUM)
            && let Some(clamped) = keys.get(index + 1).cloned()
        {
            keys[index] = clamped;
        }
    }
    let (with, _) = choose(nodes, output, quantization);
    let readers = Readers::of(nodes, output, &with);
    let is_bytes = |index: usize| {
        matches!(with[index], With::Product | With::Bytes) || readers.bytes[index] > 0
    };
    let scales = scales(nodes, &keys, quantization, is_bytes, &with)?;
    Ok((scales, with.iter().map(|with| *with == With::Product).collect()))
}

/// What each node does, and the layers whose products are of numbers.
fn choose(
    nodes: &[Node],
    output: usize,
    quantization: &Quantization,
) -> (Vec<With>, Vec<(String, String)>) {
    let mut uses = vec![0; nodes.len()];
    for node in nodes.iter().filter(|node| has_value(&node.op)) {
        node.inputs.iter().for_each(|&input| uses[input] += 1);
    }
    let (mut with, mut kept) = (Vec::with_capacity(nodes.len()), Vec::new());
    // Whether a value may come as bytes.
    let mut may_be = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let mut keep = |why: String| {
            // Of a convolution in groups once.
            if kept.last().is_none_or(|(name, _)| *name != node.name) {
                kept.push((node.name.clone(), why));
            }
            With::F32
        };
        let own = match &node.op {
            op if !has_value(op) => With::F32,
            NodeOp::Conv(_) | NodeOp::Dense { .. } if quantization.kept.contains(layer(node)) => {
                keep("it was left so when the model was quantized".into())
            }
            NodeOp::Conv(conv) => match hindrance(conv) {
                Some(why) => keep(why),
                // Squeeze-and-excite: a few products, on which whole maps depend.
                None if is_gate(nodes, index) => keep("it weighs the channels of a map".into()),
                None => With::Product,
            },
            NodeOp::Dense { weights, bias, .. } => match weights.len() / bias.len().max(1) {
                depth if depth > MOST_DEPTH => {
                    keep(format!("it adds up {depth} products, more than {MOST_DEPTH}"))
                }
                _ => With::Product,
            },
            NodeOp::Activation(activation)
                if activation.limits().is_none() && !is_by_pixel(*activation) =>
            {
                With::Function
            }
            NodeOp::Global(_) => With::Either,
            _ if passes_bytes(node, nodes) && node.inputs.iter().all(|&input| may_be[input]) => {
                With::Bytes
            }
            _ => With::F32,
        };
        may_be[index] = match own {
            With::Product | With::Bytes | With::Function => index != output,
            With::F32 | With::Either => false,
        };
        with.push(own);
    }
    (with, kept)
}

/// Whether a convolution is of a single pixel that stands for a map, and a map is multiplied with what comes of it.
fn is_gate(nodes: &[Node], index: usize) -> bool {
    let is_pixel =
        |index: usize| matches!(nodes[index].shape, Shape::Map { height: 1, width: 1, .. });
    let input = nodes[index].inputs.first().copied();
    if !is_pixel(index) || !input.is_some_and(is_pixel) {
        return false;
    }
    // What is computed of it, as long as that is a pixel.
    let mut reached = BTreeSet::from([index]);
    nodes.iter().enumerate().skip(index + 1).any(|(later, node)| {
        let reads = has_value(&node.op) && node.inputs.iter().any(|input| reached.contains(input));
        if reads && is_pixel(later) {
            reached.insert(later);
        }
        reads && matches!(node.op, NodeOp::Merge(MergeKind::Multiply)) && !is_pixel(later)
    })
}

/// How many nodes want each value as bytes, and how many as numbers.
struct Readers {
    bytes: Vec<usize>,
    numbers: Vec<usize>,
}

impl Readers {
    fn of(nodes: &[Node], output: usize, with: &[With]) -> Self {
        let mut readers = Self { bytes: vec![0; nodes.len()], numbers: vec![0; nodes.len()] };
        readers.numbers[output] += 1;
        for (node, with) in nodes.iter().zip(with).filter(|(node, _)| has_value(&node.op)) {
            for &input in &node.inputs {
                match with {
                    With::Product | With::Bytes => readers.bytes[input] += 1,
                    With::F32 | With::Function => readers.numbers[input] += 1,
                    With::Either => {}
                }
            }
        }
        readers
    }
}

/// What the bytes of each value stand for. What lies side by side, is padded or of which the largest is taken has the same
/// scale as what it is made of.
fn scales(
    nodes: &[Node],
    keys: &[String],
    quantization: &Quantization,
    is_bytes: impl Fn(usize) -> bool,
    with: &[With],
) -> Result<Vec<Option<Scale>>, PlanError> {
    let mut group: Vec<usize> = (0..nodes.len()).collect();
    fn root(group: &[usize], mut index: usize) -> usize {
        while group[index] != index {
            index = group[index];
        }
        index
    }
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| with[*index] == With::Bytes) {
        let is_same = match &node.op {
            NodeOp::Pool(pool) => pool.is_max,
            NodeOp::Pad(_) | NodeOp::Concat | NodeOp::Flatten => true,
            _ => false,
        };
        for &input in node.inputs.iter().filter(|_| is_same) {
            let (a, b) = (root(&group, index), root(&group, input));
            group[a.max(b)] = a.min(b);
        }
    }
    let mut ranges: BTreeMap<usize, [f32; 2]> = BTreeMap::new();
    for index in (0..nodes.len()).filter(|&index| is_bytes(index)) {
        // What the same scale is for has the range of all that it is for.
        let range = range(nodes, keys, quantization, index)?;
        let of = ranges.entry(root(&group, index)).or_insert(range);
        *of = [of[0].min(range[0]), of[1].max(range[1])];
    }
    let scale = |index: usize| ranges.get(&root(&group, index)).map(|&range| Scale::of(range));
    Ok((0..nodes.len()).map(|index| scale(index).filter(|_| is_bytes(index))).collect())
}

/// Between what a value lies: of a concatenation what its parts are between, since these may lie where it does.
fn range(
    nodes: &[Node],
    keys: &[String],
    quantization: &Quantization,
    index: usize,
) -> Result<[f32; 2], PlanError> {
    if matches!(nodes[index].op, NodeOp::Concat) {
        return nodes[index].inputs.iter().try_fold([0.0, 0.0], |all: [f32; 2], &part| {
            let part = range(nodes, keys, quantization, part)?;
            Ok([all[0].min(part[0]), all[1].max(part[1])])
        });
    }
    let what = match quantization.values.get(&keys[index]) {
        Some(&[low, high]) if low.is_finite() && high.is_finite() && low <= high => {
            return Ok([low, high]);
        }
        Some([low, high]) => format!("has values from {low} to {high}"),
        None => "has no range of values".into(),
    };
    Err(PlanError::Quantization { layer: keys[index].clone(), what })
}

/// What has been found out.
struct Parts {
    with: Vec<With>,
    readers: Readers,
    is_made: Vec<bool>,
    scales: Vec<Option<Scale>>,
    kept: Vec<(String, String)>,
}

/// Puts nodes between those that write and read different elements.
fn rebuild(nodes: &mut Vec<Node>, output: usize, parts: Parts) -> Quantized {
    let Parts { with, readers, is_made, scales, kept } = parts;
    let count = nodes.len();
    let mut all: Vec<Node> = Vec::with_capacity(count);
    let mut all_scales = Vec::with_capacity(count);
    // Where each value is now, as numbers and as bytes.
    let (mut numbers, mut bytes) = (vec![None; count], vec![None; count]);
    for (index, mut node) in std::mem::take(nodes).into_iter().enumerate() {
        let takes = match with[index] {
            With::Product | With::Bytes => Element::U8,
            With::F32 | With::Function => Element::F32,
            With::Either if bytes[node.inputs[0]].is_some() => Element::U8,
            With::Either => Element::F32,
        };
        let of = |input: usize| {
            let (first, second) = match takes {
                Element::U8 => (bytes[input], numbers[input]),
                _ => (numbers[input], bytes[input]),
            };
            first.or(second).unwrap_or(input)
        };
        node.inputs.iter_mut().for_each(|input| *input = of(*input));
        if let NodeOp::Conv(conv) = &mut node.op {
            conv.residual = conv.residual.map(of);
        }
        if is_made[index]
            && with[index] == With::Function
            && let NodeOp::Activation(activation) = node.op
        {
            node.op = NodeOp::Quantize(Some(activation));
        }
        if is_made[index] {
            node.element = Element::U8;
        }
        let own = all.len();
        let beside = |op, element| Node {
            name: node.name.clone(),
            op,
            inputs: vec![own],
            shape: node.shape,
            element,
        };
        let other = match is_made[index] {
            true => (readers.numbers[index] > 0).then(|| beside(NodeOp::Dequantize, Element::F32)),
            false => {
                (readers.bytes[index] > 0).then(|| beside(NodeOp::Quantize(None), Element::U8))
            }
        };
        let (made, copied) = if is_made[index] {
            (&mut bytes[index], &mut numbers[index])
        } else {
            (&mut numbers[index], &mut bytes[index])
        };
        *made = Some(own);
        let scale = scales[index];
        all_scales.push(scale.filter(|_| is_made[index]));
        all.push(node);
        if let Some(other) = other {
            *copied = Some(all.len());
            all_scales.push(scale.filter(|_| !is_made[index]));
            all.push(other);
        }
    }
    *nodes = all;
    let output = numbers[output].or(bytes[output]).unwrap_or(output);
    Quantized { output, scales: all_scales, kept }
}
