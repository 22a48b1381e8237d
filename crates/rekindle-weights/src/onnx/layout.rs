//! Values as the layers of ours take them: maps, or vectors.

use rekindle_nn::ops::{Flatten, Permute, Reshape};
use rekindle_nn::{Shape, Source};

use super::data::{Atom, Data, Tag, joined, places};
use super::node::Node;
use super::read::Reader;

impl Reader<'_> {
    /// The value as maps whose height, width and channels are these parts, in this order of ours.
    fn arranged(
        &mut self,
        node: &Node,
        data: &Data,
        axes: [&[Atom]; 3],
    ) -> Result<(Source, Shape), String> {
        let [height, width, channels] = axes;
        let wanted = Shape::map(places(height), places(width), places(channels));
        let target: Vec<Atom> = joined(axes.concat());
        let own = Data::own_order(&target);
        let mut value = (data.source, data.shape);
        if target != joined(own.clone()) {
            // Neighbours here that are neighbours there too move together.
            let mut blocks: Vec<Vec<Atom>> = Vec::new();
            for atom in own {
                let follows = blocks
                    .last()
                    .and_then(|block| block.last())
                    .is_some_and(|last| target.windows(2).any(|pair| pair == [*last, atom]));
                match blocks.last_mut() {
                    Some(block) if follows => block.push(atom),
                    _ => blocks.push(vec![atom]),
                }
            }
            let place =
                |block: &Vec<Atom>| target.iter().position(|atom| block.first() == Some(atom));
            let mut order: Vec<usize> = (0..blocks.len()).collect();
            order.sort_by_key(|&block| place(&blocks[block]));
            let (sizes, dims): ([usize; 3], [usize; 3]) = match (
                blocks.as_slice(),
                order.as_slice(),
            ) {
                ([a, b], [1, 0]) => ([1, places(a), places(b)], [1, 3, 2]),
                ([a, b, c], &[x, y, z]) => {
                    ([places(a), places(b), places(c)], [x + 1, y + 1, z + 1])
                }
                _ => {
                    return Err(node.refused(&format!(
                        "its input has the axes {}, which takes more than one transpose to use here",
                        data.described()
                    )));
                }
            };
            let [a, b, c] = sizes;
            value = self.reshaped(node, value, Shape::map(a, b, c))?;
            value = self.layer(node, Permute { dims: dims.to_vec() }, &[value], Vec::new())?;
        }
        self.reshaped(node, value, wanted)
    }

    /// The same values in the same order in another shape.
    fn reshaped(
        &mut self,
        node: &Node,
        value: (Source, Shape),
        shape: Shape,
    ) -> Result<(Source, Shape), String> {
        match (value.1, shape) {
            (own, shape) if own == shape => Ok(value),
            (_, Shape::Flat(_)) => self.layer(node, Flatten {}, &[value], Vec::new()),
            (_, Shape::Map { height, width, channels }) => {
                let target = [height, width, channels].map(|extent| extent as i64).to_vec();
                self.layer(node, Reshape { target }, &[value], Vec::new())
            }
        }
    }

    /// Maps, where the file's axes are channels, height and width.
    pub fn maps(&mut self, node: &Node, data: &Data) -> Result<(Source, Shape), String> {
        let [channels, height, width] = data.axes.as_slice() else {
            return Err(node.refused(&format!(
                "its input is {}, expected [samples, channels, height, width]",
                data.described()
            )));
        };
        self.arranged(node, data, [height, width, channels])
    }

    /// The value as maps whatever the file's axes are, its own order kept.
    pub fn as_maps(&mut self, node: &Node, data: &Data) -> Result<(Source, Shape), String> {
        let shape = match data.shape {
            map @ Shape::Map { .. } => map,
            Shape::Flat(count) => Shape::map(1, 1, count),
        };
        self.reshaped(node, (data.source, data.shape), shape)
    }

    /// The value as a vector in our order, and its parts as the file orders them.
    pub fn vector(
        &mut self,
        node: &Node,
        data: &Data,
    ) -> Result<((Source, Shape), Vec<Atom>), String> {
        let count = data.shape.count();
        let value = self.reshaped(node, (data.source, data.shape), Shape::Flat(count))?;
        Ok((value, data.parts()))
    }

    /// The value as a vector in the file's order.
    pub fn vector_in_order(&mut self, node: &Node, data: &Data) -> Result<(Source, Shape), String> {
        let parts = data.parts();
        let value = match parts == joined(Data::own_order(&parts)) {
            true => (data.source, data.shape),
            false => self.arranged(node, data, [&[], &[], &parts])?,
        };
        self.reshaped(node, value, Shape::Flat(data.shape.count()))
    }

    /// Where the network ends: as a vector where the file has one, else as maps.
    pub fn output(&mut self, data: &Data) -> Result<Source, String> {
        let name = self.graph.name(self.graph.outputs[0]).to_owned();
        let node = Node {
            op: "Flatten".into(),
            domain: String::new(),
            name,
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
            label: None,
        };
        let filled: Vec<&Vec<Atom>> = data.axes.iter().filter(|parts| !parts.is_empty()).collect();
        match (data.axes.as_slice(), filled.as_slice()) {
            // Vectors, also where axes of one place stand around them.
            (_, [] | [_]) => Ok(self.vector_in_order(&node, data)?.0),
            // Both orders of maps are ours.
            ([_, _, _], _)
                if data.is(0, Tag::Height)
                    && data.is(1, Tag::Width)
                    && data.is(2, Tag::Channels) =>
            {
                Ok(self.as_maps(&node, data)?.0)
            }
            ([_, _, _], _) => Ok(self.maps(&node, data)?.0),
            _ => Err(format!(
                "the graph's output `{}` is {}, expected probabilities or maps",
                node.name,
                data.described()
            )),
        }
    }
}
