use super::{Graph, Source};
use crate::NetworkError;

/// The layers between two places of a graph, in topological order: all that its end depends on and that comes behind
/// its start. This is the cut that transfer learning makes: what is before it is frozen and computed once, what is
/// behind it trains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The value that comes in.
    pub start: Source,
    /// The value that comes out.
    pub end: Source,
    /// The positions of the layers between.
    pub layers: Vec<usize>,
}

impl Graph {
    /// The part behind layer `after`, or behind the input, up to and with layer `until`, or to the output.
    ///
    /// # Errors
    /// When there is no such layer, or another value from before the start is needed.
    pub fn part(&self, after: Option<&str>, until: Option<&str>) -> Result<Part, NetworkError> {
        let source = |name: &str| Ok(Source::Layer(self.position(name)?));
        let start = after.map_or(Ok(Source::Input), source)?;
        let end = until.map_or(Ok(self.output), source)?;
        let mut needed = vec![false; self.layers.len()];
        let mut open = vec![end];
        while let Some(value) = open.pop() {
            if value == start {
                continue;
            }
            let Some(position) = value.layer() else {
                let layer = self.reader_of_input(&needed);
                return Err(NetworkError::NotASplit {
                    cut: after.unwrap_or_default().into(),
                    layer,
                });
            };
            if !std::mem::replace(&mut needed[position], true) {
                open.extend(&self.layers[position].inputs);
            }
        }
        let layers = (0..self.layers.len()).filter(|&position| needed[position]).collect();
        Ok(Part { start, end, layers })
    }

    /// The first of the layers that takes the image.
    fn reader_of_input(&self, needed: &[bool]) -> String {
        let takes_input = |position: &usize| self.layers[*position].inputs.contains(&Source::Input);
        let mut readers = (0..needed.len()).filter(|&position| needed[position]);
        let reader = readers.find(takes_input);
        reader.map(|position| self.layers[position].name.clone()).unwrap_or_default()
    }
}
