//! Version 2 (`tensor_bundle.proto`): an index, whose values say where in which file of data each tensor is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;

use super::messages::{BundleEntryProto, BundleHeaderProto, TrackableObjectGraph};
use super::names::Kept;
use super::table::{Table, masked, varint};
use super::{Described, Opened, bytes, check_version, names, objects, with_ending};
use crate::checkpoint::ReadTensor;
use crate::safetensors::decode;
use crate::{Dtype, TensorInfo};

/// Where `tf.train.Checkpoint` says which object has which tensor.
const OBJECTS: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";
/// Far more than the largest networks' objects take.
const LONGEST_OBJECTS: u64 = 16 << 20;
const STRING: i32 = 7;

pub(super) fn read(mut table: Table, header: Bytes, path: &Path) -> Result<Opened, String> {
    let header = BundleHeaderProto::decode(header)
        .map_err(|error| format!("its header is damaged: {error}"))?;
    check_version(header.version.as_ref())?;
    match header.endianness {
        0 => {}
        1 => {
            return Err(
                "its numbers are big-endian, expected little-endian: save it on such a machine"
                    .into(),
            );
        }
        other => return Err(format!("its header has the order of bytes {other}: it is damaged")),
    }
    let mut shards = Shards::new(path, header.num_shards)?;
    let (mut all, mut entries) = (Vec::new(), Vec::new());
    table.walk(|key, value| {
        // The header, and slices of partitioned variables.
        if key.first().is_none_or(|first| *first == 0) {
            return Ok(());
        }
        let name = std::str::from_utf8(key).map_err(|_| {
            format!("the name `{}` is not UTF-8: the index is damaged", key.escape_ascii())
        })?;
        let mut entry = BundleEntryProto::decode(value)
            .map_err(|error| format!("`{name}`: its entry is damaged: {error}"))?;
        all.push(Described {
            name: name.to_owned(),
            r#type: entry.dtype,
            shape: entry.shape.take(),
            is_partitioned: !entry.slices.is_empty(),
        });
        entries.push(entry);
        Ok(())
    })?;
    let graph = all.iter().position(|described| described.name == OBJECTS);
    let graph = graph.map(|at| {
        read_objects(&mut shards, &entries[at]).map_err(|reason| format!("`{OBJECTS}`: {reason}"))
    });
    let found = match graph.transpose()? {
        Some(graph) => objects::read(&graph, &all)?,
        None => names::read(&all)?,
    };
    let (mut tensors, mut names, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for Kept { index, layer, variable } in found.kept {
        let (described, entry) = (&all[index], &entries[index]);
        let (shape, dtype) = described.checked()?;
        let wrong = |reason: String| format!("`{}`: {reason}", described.name);
        let expected = bytes(&shape, dtype).unwrap_or_default();
        if usize::try_from(entry.size) != Ok(expected) {
            return Err(wrong(format!(
                "has {} bytes, expected {expected} for the shape {shape:?}: the index is damaged",
                entry.size
            )));
        }
        places.push((shards.place(entry).map_err(wrong)?, dtype));
        tensors.push(TensorInfo { layer, variable, shape, dtype });
        names.push(described.name.clone());
    }
    let reader = Box::new(Reader { shards, places });
    let (is_ordered, left_out) = (found.is_ordered, found.left_out);
    Ok(Opened { tensors, names, reader, is_ordered, left_out })
}

/// The objects' graph, which is a string: its length, the CRC of that, and its bytes.
fn read_objects(
    shards: &mut Shards,
    entry: &BundleEntryProto,
) -> Result<TrackableObjectGraph, String> {
    let is_one = entry.shape.as_ref().is_none_or(|shape| shape.dim.is_empty());
    if entry.dtype != STRING || !is_one {
        return Err("is not one string: the index is damaged".into());
    }
    let place = shards.place(entry)?;
    if place.size > LONGEST_OBJECTS {
        return Err(format!("has {} bytes, expected at most {LONGEST_OBJECTS}", place.size));
    }
    let bytes = shards.bytes(&place)?;
    let mut rest = bytes.as_slice();
    let length = varint(&mut rest);
    let Some((sum, text)) = rest.split_first_chunk::<4>() else {
        return Err("is shorter than a string: the data are damaged".into());
    };
    if length != Some(text.len() as u64) {
        let said = length.map_or("a length".into(), |length| length.to_string());
        return Err(format!("holds {} bytes, expected {said}: damaged", text.len()));
    }
    // The CRC is of the length as a whole number, whatever it takes in the file.
    let crc = crc32c::crc32c(&(text.len() as u32).to_le_bytes());
    place.check(crc32c::crc32c_append(crc32c::crc32c_append(crc, sum), text))?;
    TrackableObjectGraph::decode(text).map_err(|error| format!("is damaged: {error}"))
}

/// The files of data.
struct Shards {
    /// What their names begin with.
    prefix: PathBuf,
    count: i32,
    /// The lengths of those that tensors are in.
    lengths: HashMap<i32, u64>,
}

/// Where a tensor's bytes are.
struct Place {
    shard: i32,
    offset: u64,
    size: u64,
    crc: u32,
}

impl Place {
    fn check(&self, crc: u32) -> Result<(), String> {
        let found = masked(crc);
        if found == self.crc {
            return Ok(());
        }
        Err(format!(
            "its {} bytes at byte {} have the CRC {found:#010x}, expected {:#010x}: the data are damaged, or of another checkpoint than the index; copy or download both again",
            self.size, self.offset, self.crc
        ))
    }
}

impl Shards {
    fn new(index: &Path, count: i32) -> Result<Self, String> {
        if count < 1 {
            return Err(format!("its header says that there are {count} files of data: damaged"));
        }
        // Their names begin with that of the index.
        if index.extension().is_none_or(|ending| ending != "index") {
            return Err("is a checkpoint's index, but is not called `NAME.index`: give it its name back, so that `NAME.data-...` is found".into());
        }
        Ok(Self { prefix: index.with_extension(""), count, lengths: HashMap::new() })
    }

    fn path(&self, shard: i32) -> PathBuf {
        with_ending(&self.prefix, &format!(".data-{shard:05}-of-{:05}", self.count))
    }

    /// Where an entry's tensor is, which is within a file that is there.
    fn place(&mut self, entry: &BundleEntryProto) -> Result<Place, String> {
        let shard = entry.shard_id;
        if !(0..self.count).contains(&shard) {
            return Err(format!(
                "is in file {shard} of {}, counted from 0: the index is damaged",
                self.count
            ));
        }
        let path = self.path(shard);
        let length = match self.lengths.get(&shard) {
            Some(&length) => length,
            None => {
                let length = std::fs::metadata(&path).map_err(|error| {
                    let path = path.display();
                    format!("its values are in `{path}`: {error}; the index and all files of data belong together")
                })?.len();
                self.lengths.insert(shard, length);
                length
            }
        };
        match (u64::try_from(entry.offset), u64::try_from(entry.size)) {
            (Ok(offset), Ok(size)) if offset.checked_add(size).is_some_and(|end| end <= length) => {
                Ok(Place { shard, offset, size, crc: entry.crc32c })
            }
            _ => Err(format!(
                "its {} bytes at byte {} are not within the {length} bytes of `{}`: truncated, or of another checkpoint; copy or download it again",
                entry.size,
                entry.offset,
                path.display()
            )),
        }
    }

    fn bytes(&self, place: &Place) -> Result<Vec<u8>, String> {
        let path = self.path(place.shard);
        let text = |error: std::io::Error| format!("`{}`: {error}", path.display());
        let mut bytes = vec![0; usize::try_from(place.size).map_err(|error| error.to_string())?];
        let mut file = File::open(&path).map_err(text)?;
        file.seek(SeekFrom::Start(place.offset)).map_err(text)?;
        file.read_exact(&mut bytes).map_err(text)?;
        Ok(bytes)
    }
}

struct Reader {
    shards: Shards,
    places: Vec<(Place, Dtype)>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let (place, dtype) = &self.places[index];
        let bytes = self.shards.bytes(place)?;
        place.check(crc32c::crc32c(&bytes))?;
        Ok(decode(&bytes, *dtype))
    }
}
