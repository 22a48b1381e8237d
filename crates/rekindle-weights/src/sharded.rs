//! The index of a model in several files: safetensors', `{"weight_map": {"layer/variable": "file"}}`, and Keras 3's,
//! `{"weight_map": {"/layers/conv2d/vars": ["file"]}}`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::files::in_folder;
use crate::{TensorInfo, WeightsError, hdf5, safetensors, torch};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, Files>,
}

/// One file, or several among which the variables of a layer are divided.
#[derive(Deserialize)]
#[serde(untagged)]
enum Files {
    One(String),
    Several(Vec<String>),
}

impl Files {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// Opens the files of an index.
pub(crate) fn open(path: &Path, index: Value) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let index: Index = serde_json::from_value(index).map_err(|error| {
        wrong(format!("is JSON, but not the index of a sharded safetensors or Keras file: {error}"))
    })?;
    let is_keras = index.weight_map.keys().any(|name| name.starts_with('/'));
    let mut merged = Merged::default();
    let mut files: Vec<&String> = index.weight_map.values().flat_map(Files::names).collect();
    files.sort();
    files.dedup();
    for file in files {
        let Some(place) = path.parent().and_then(|folder| in_folder(folder, file)) else {
            return Err(wrong(format!("names `{file}`, expected a file in its own folder")));
        };
        let open = if is_keras { hdf5::open_shard } else { safetensors::open };
        let shard = open(&place)?;
        let listed = index.weight_map.iter().filter(|(_, files)| files.names().contains(file));
        let names = listed.map(|(name, _)| name.as_str());
        let kept = match is_keras {
            true => of_layers(&shard, names),
            false => named(&shard, names).map_err(|name| {
                wrong(format!("says that `{file}` holds `{name}`, but it does not"))
            })?,
        };
        merged.add(shard, kept).map_err(wrong)?;
    }
    let Merged { tensors, names, shards, places, .. } = merged;
    if is_keras {
        let there: HashSet<&str> = tensors.iter().map(|tensor| tensor.layer.as_str()).collect();
        for (name, files) in &index.weight_map {
            if layer_of(name).is_some_and(|layer| !there.contains(layer.as_str())) {
                let files = files.names().join("`, `");
                return Err(wrong(format!("says that `{files}` holds `{name}`, but it does not")));
            }
        }
    }
    if tensors.is_empty() {
        return Err(wrong("lists no tensors".into()));
    }
    let naming = match is_keras {
        true => Naming::Numbers,
        false if torch::is_named(names.iter().map(String::as_str)) => Naming::Modules,
        false => Naming::Names,
    };
    let reader = Box::new(Reader { shards, places });
    Ok(Checkpoint::new(path, tensors, None, reader).with_names(names).with_naming(naming))
}

/// The layer that a place in Keras's files means; nothing for what is of no layer, as an optimizer's state.
fn layer_of(place: &str) -> Option<String> {
    let layer = place.strip_prefix("/layers/")?.strip_suffix("/vars")?;
    Some(layer.replace("/layers/", "/"))
}

/// The shard's tensors of the layers at these places.
fn of_layers<'a>(shard: &Checkpoint, places: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let layers: HashSet<String> = places.filter_map(layer_of).collect();
    let tensors = shard.tensors().iter().enumerate();
    tensors.filter(|(_, tensor)| layers.contains(&tensor.layer)).map(|(index, _)| index).collect()
}

/// The shard's tensors of these names; the error is one that it has not.
fn named<'a>(
    shard: &Checkpoint,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<usize>, String> {
    let all = 0..shard.tensors().len();
    let by_name: HashMap<&str, usize> =
        all.map(|index| (shard.name_in_file(index), index)).collect();
    names.map(|name| by_name.get(name).copied().ok_or_else(|| name.to_owned())).collect()
}

/// The tensors of the files that were opened.
#[derive(Default)]
struct Merged {
    tensors: Vec<TensorInfo>,
    names: Vec<String>,
    seen: HashSet<String>,
    shards: Vec<Box<dyn ReadTensor>>,
    /// Shard and number in it.
    places: Vec<(usize, usize)>,
}

impl Merged {
    fn add(&mut self, shard: Checkpoint, kept: Vec<usize>) -> Result<(), String> {
        for index in kept {
            let info = &shard.tensors()[index];
            if !self.seen.insert(info.path()) {
                return Err(format!("two of its files hold `{}`", info.path()));
            }
            self.tensors.push(info.clone());
            self.names.push(shard.name_in_file(index).to_owned());
            self.places.push((self.shards.len(), index));
        }
        self.shards.push(shard.into_parts().1);
        Ok(())
    }
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
