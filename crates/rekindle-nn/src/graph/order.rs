use super::Graph;

impl Graph {
    /// The layers' positions in the order of Keras's `model.layers`, which decides on names and order in its
    /// files (`keras/src/ops/function.py`, `map_graph`): by distance to the output, the farthest first, then
    /// in the order in which a search from the output meets them.
    #[must_use]
    pub fn keras_order(&self) -> Vec<usize> {
        let count = self.layers.len();
        let (mut met, mut meetings, mut finished) = (vec![usize::MAX; count], 0, Vec::new());
        if let Some(output) = self.output.layer() {
            // A layer and how many of its inputs have been looked at.
            let mut path = vec![(output, 0)];
            while let Some((layer, next)) = path.last_mut() {
                let layer = *layer;
                if met[layer] == usize::MAX {
                    met[layer] = meetings;
                    meetings += 1;
                }
                match self.layers[layer].inputs.get(*next) {
                    Some(input) => {
                        *next += 1;
                        // Keras counts its InputLayer too, but that moves all others alike.
                        if let Some(input) = input.layer().filter(|&input| met[input] == usize::MAX)
                        {
                            path.push((input, 0));
                        }
                    }
                    None => {
                        finished.push(layer);
                        path.pop();
                    }
                }
            }
        }
        let mut depths = vec![0_usize; count];
        for &layer in finished.iter().rev() {
            for input in self.layers[layer].inputs.iter().filter_map(|input| input.layer()) {
                depths[input] = depths[input].max(depths[layer] + 1);
            }
        }
        finished.sort_by_key(|&layer| (usize::MAX - depths[layer], met[layer]));
        finished
    }
}
