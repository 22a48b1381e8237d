//! The index of a sharded safetensors file: `{"weight_map": {"layer/variable": "file"}}`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, ReadTensor};
use crate::files::in_folder;
use crate::{WeightsError, safetensors};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

pub(crate) fn open(path: &Path, index: Value) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let index: Index = serde_json::from_value(index).map_err(|error| {
        wrong(format!("is JSON, but not the index of a sharded safetensors file: {error}"))
    })?;
    let mut shards: Vec<Box<dyn ReadTensor>> = Vec::new();
    let (mut tensors, mut places) = (Vec::new(), Vec::new());
    let mut files: Vec<&String> = index.weight_map.values().collect();
    files.sort();
    files.dedup();
    for file in files {
        let Some(place) = path.parent().and_then(|folder| in_folder(folder, file)) else {
            return Err(wrong(format!("names `{file}`, expected a file in its own folder")));
        };
        let shard = safetensors::open(&place)?;
        let by_name: HashMap<String, usize> = (0..shard.tensors().len())
            .map(|index| (shard.name_in_file(index).to_owned(), index))
            .collect();
        for (name, _) in index.weight_map.iter().filter(|(_, shard)| *shard == file) {
            let Some(&found) = by_name.get(name) else {
                return Err(wrong(format!("says that `{file}` holds `{name}`, but it does not")));
            };
            tensors.push(shard.tensors()[found].clone());
            places.push((shards.len(), found));
        }
        shards.push(shard.into_parts().1);
    }
    if tensors.is_empty() {
        return Err(wrong("lists no tensors".into()));
    }
    Ok(Checkpoint::new(path, tensors, None, Box::new(Reader { shards, places })))
}

struct Reader {
    shards: Vec<Box<dyn ReadTensor>>,
    /// Shard and number in it.
    places: Vec<(usize, usize)>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let (shard, index) = self.places[index];
        self.shards[shard].read(index)
    }
}
