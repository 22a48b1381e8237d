//! Rows as Parquet: a column for each thing that is known of a photo, and one of fixed-size lists for its numbers. What all
//! photos have in common is in the file's key-value metadata, so that a second run finds all that it needs in there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float16Array, Float32Array,
    RecordBatch, StringArray, UInt64Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::manifest::{Content, Element, Entry, Manifest, Other};
use crate::{ScaleError, ShardFile, file};

const ABOUT: &str = "rekindle-shard";
const SKIPPED: &str = "rekindle-skipped";
const HASH: &str = "rekindle-sha256";
/// Bytes of rows in memory.
const PIECE: usize = 8 << 20;
/// Bytes of a row group.
const GROUP: usize = 64 << 20;

/// The column of a file's numbers.
fn numbers(content: Content) -> &'static str {
    match content {
        Content::Features => "features",
        Content::Probabilities => "probabilities",
        Content::Top(_) => "top",
    }
}

fn wrong(path: &Path) -> impl Fn(ParquetError) -> ScaleError + '_ {
    move |error| ScaleError::Io { path: path.to_owned(), source: io::Error::other(error) }
}

fn item(element: Element) -> Arc<Field> {
    let kind = match element {
        Element::F32 => DataType::Float32,
        Element::F16 => DataType::Float16,
    };
    Arc::new(Field::new("item", kind, false))
}

/// The columns, but for those of the numbers, of some photos.
fn about(manifest: &Manifest, entries: &[Entry], has_bytes: bool) -> Vec<(Field, ArrayRef)> {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let names = entries.iter().map(|entry| entry.path.to_string_lossy().into_owned());
    let mut columns: Vec<(Field, ArrayRef)> =
        vec![(text("path", false), Arc::new(StringArray::from_iter_values(names)))];
    if has_bytes {
        let bytes = entries.iter().map(|entry| match entry.path.to_str() {
            Some(_) => None,
            None => Some(entry.path.as_os_str().as_encoded_bytes()),
        });
        let array = Arc::new(BinaryArray::from_iter(bytes));
        columns.push((Field::new("path_bytes", DataType::Binary, true), array));
    }
    let class = |label: usize| manifest.classes.get(label).map(String::as_str);
    match (manifest.content, manifest.multi_label) {
        (Content::Features, false) => {
            let labels = entries.iter().map(|e| e.labels.first().and_then(|&label| class(label)));
            columns.push((text("label", true), Arc::new(StringArray::from_iter(labels))));
        }
        (Content::Features, true) => {
            let field = Arc::new(text("item", true));
            let mut lists = ListBuilder::new(StringBuilder::new()).with_field(field.clone());
            for entry in entries {
                lists.append_value(entry.labels.iter().map(|&label| class(label)));
            }
            let field = Field::new("labels", DataType::List(field), false);
            columns.push((field, Arc::new(lists.finish())));
        }
        _ => {}
    }
    let hashes = entries.iter().map(|entry| entry.sha256.as_deref());
    columns.push((text("sha256", true), Arc::new(StringArray::from_iter(hashes))));
    let flag = |name: &str| Field::new(name, DataType::Boolean, false);
    let of = |get: fn(&Entry) -> bool| -> ArrayRef {
        Arc::new(BooleanArray::from(entries.iter().map(get).collect::<Vec<bool>>()))
    };
    columns.push((flag("validation"), of(|entry| entry.valid)));
    let positions = UInt64Array::from_iter(entries.iter().map(|entry| entry.position));
    columns.push((Field::new("position", DataType::UInt64, true), Arc::new(positions)));
    columns.push((flag("exif_ignored"), of(|entry| entry.askew)));
    let reasons = entries.iter().map(|entry| entry.lost.as_deref());
    columns.push((text("error", true), Arc::new(StringArray::from_iter(reasons))));
    columns
}

/// The columns of the numbers; a photo without a row has none of them.
fn values(
    manifest: &Manifest,
    entries: &[Entry],
    rows: &[f32],
) -> Result<Vec<(Field, ArrayRef)>, ScaleError> {
    let width = manifest.width();
    let there: Vec<bool> = entries.iter().map(|entry| entry.lost.is_none()).collect();
    let mut next = rows.chunks_exact(width.max(1));
    if let Content::Top(_) = manifest.content {
        let rows: Vec<Option<&[f32]>> =
            there.iter().map(|&there| there.then(|| next.next()).flatten()).collect();
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        for rank in 0..width / 2 {
            let class = rows.iter().map(|row| {
                let number = row.and_then(|row| row.get(2 * rank))?;
                manifest.classes.get(*number as usize).map(String::as_str)
            });
            let probability =
                rows.iter().map(|row| row.and_then(|row| row.get(2 * rank + 1)).copied());
            let name = format!("class_{}", rank + 1);
            let field = Field::new(name, DataType::Utf8, true);
            columns.push((field, Arc::new(StringArray::from_iter(class))));
            let name = format!("probability_{}", rank + 1);
            let field = Field::new(name, DataType::Float32, true);
            columns.push((field, Arc::new(Float32Array::from_iter(probability))));
        }
        return Ok(columns);
    }
    let mut all = Vec::with_capacity(there.len() * width);
    for &there in &there {
        match there.then(|| next.next()).flatten() {
            Some(row) => all.extend_from_slice(row),
            None => all.resize(all.len() + width, 0.0),
        }
    }
    let array: ArrayRef = match manifest.element {
        Element::F32 => Arc::new(Float32Array::from(all)),
        Element::F16 => {
            Arc::new(Float16Array::from_iter_values(all.into_iter().map(f16::from_f32)))
        }
    };
    let field = item(manifest.element);
    let size = i32::try_from(width)
        .map_err(|_| ScaleError::file(Path::new("features"), "over 2^31 numbers of one photo"))?;
    let nulls = Some(NullBuffer::from(there));
    let list = FixedSizeListArray::try_new(field.clone(), size, array, nulls)
        .map_err(|error| ScaleError::file(Path::new("features"), error.to_string()))?;
    let field = Field::new(numbers(manifest.content), DataType::FixedSizeList(field, size), true);
    Ok(vec![(field, Arc::new(list))])
}

/// Writes all rows of a file as Parquet, photos in their order.
pub(crate) fn write(path: &Path, rows: &ShardFile) -> Result<(), ScaleError> {
    let manifest = rows.manifest();
    let other = |error: serde_json::Error| ScaleError::io(path)(io::Error::other(error));
    let texts = [
        (ABOUT, serde_json::to_string(manifest).map_err(other)?),
        (SKIPPED, serde_json::to_string(rows.skipped()).map_err(other)?),
        (HASH, rows.hash().to_owned()),
    ];
    let metadata = texts.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_bytes(Some(GROUP))
        .set_key_value_metadata(Some(metadata))
        .build();
    let has_bytes = rows.entries().iter().any(|entry| entry.path.to_str().is_none());
    let width = manifest.width();
    let at_once = (PIECE / (4 * width.max(1))).clamp(1, 4096);
    let batch = |entries: &[Entry], values_of: &[f32]| -> Result<RecordBatch, ScaleError> {
        let mut columns = about(manifest, entries, has_bytes);
        columns.extend(values(manifest, entries, values_of)?);
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| ScaleError::io(path)(io::Error::other(error)))
    };
    let schema = batch(&[], &[])?.schema();
    let file = File::create(path).map_err(ScaleError::io(path))?;
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(wrong(path))?;
    let mut row = 0;
    for entries in rows.entries().chunks(at_once) {
        let there = entries.iter().filter(|entry| entry.lost.is_none()).count();
        let mut values = vec![0.0; there * width];
        for place in values.chunks_exact_mut(width.max(1)) {
            rows.read(row, place)?;
            row += 1;
        }
        writer.write(&batch(entries, &values)?).map_err(wrong(path))?;
    }
    writer.close().map_err(wrong(path))?;
    Ok(())
}

/// Makes of a Parquet file the file that it was written from, as `to`.
pub(crate) fn restore(path: &Path, to: &Path) -> Result<(), ScaleError> {
    let damaged = |reason: String| {
        ScaleError::file(path, format!("no whole file of Rekindle's ({reason}); compute it again"))
    };
    let open = |columns: &dyn Fn(&str) -> bool| -> Result<_, ScaleError> {
        let file = File::open(path).map_err(ScaleError::io(path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|error| damaged(error.to_string()))?;
        let metadata = builder.metadata().file_metadata().key_value_metadata().cloned();
        let fields = builder.schema().fields();
        let roots: Vec<usize> =
            (0..fields.len()).filter(|&number| columns(fields[number].name())).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_batch_size(1024).with_projection(mask).build();
        Ok((metadata.unwrap_or_default(), reader.map_err(|error| damaged(error.to_string()))?))
    };
    let is_number = |name: &str| {
        ["features", "probabilities"].contains(&name)
            || name.starts_with("class_")
            || name.starts_with("probability_")
    };
    let (metadata, reader) = open(&|name| !is_number(name))?;
    if !metadata.iter().any(|pair| pair.key == ABOUT) {
        return Err(ScaleError::Foreign { path: path.to_owned() });
    }
    let text = |key: &str| {
        let found = metadata.iter().find(|pair| pair.key == key);
        let found = found.and_then(|pair| pair.value.as_deref());
        found.ok_or_else(|| damaged(format!("its metadata have no `{key}`")))
    };
    let manifest: Manifest =
        serde_json::from_str(text(ABOUT)?).map_err(|error| damaged(error.to_string()))?;
    let skipped: Vec<Other> =
        serde_json::from_str(text(SKIPPED)?).map_err(|error| damaged(error.to_string()))?;
    let classes: HashMap<&str, usize> =
        manifest.classes.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
    let mut entries = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        entries_of(&batch, &manifest, &classes, &mut entries).map_err(damaged)?;
    }
    let (_, mut reader) = open(&is_number)?;
    let (mut batch, mut buffer) = (None, Values::default());
    let hash = file::write(to, &manifest, &entries, &skipped, |_, to| {
        loop {
            if buffer.next(&manifest, to) {
                return Ok(());
            }
            batch = next(&mut reader).map_err(damaged)?;
            let Some(batch) = &batch else { return Err(damaged("it has too few rows".into())) };
            buffer = Values::of(batch, &manifest, &classes).map_err(damaged)?;
        }
    })?;
    match hash == text(HASH)? {
        true => Ok(()),
        false => Err(damaged("altered: its content does not have the hash that it should".into())),
    }
}

fn next(reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>, String> {
    reader.next().transpose().map_err(|error| error.to_string())
}

/// What is known of a batch's photos.
fn entries_of(
    batch: &RecordBatch,
    manifest: &Manifest,
    classes: &HashMap<&str, usize>,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    let text = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("it has no column `{name}` of text"))
    };
    let flag = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_boolean_opt());
        column.ok_or_else(|| format!("it has no column `{name}`"))
    };
    let (paths, hashes, errors) = (text("path")?, text("sha256")?, text("error")?);
    let (valid, askew) = (flag("validation")?, flag("exif_ignored")?);
    let positions = batch.column_by_name("position");
    let positions = positions.and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let positions = positions.ok_or("it has no column `position`")?;
    let bytes = batch.column_by_name("path_bytes").and_then(|c| c.as_binary_opt::<i32>());
    let lists = batch.column_by_name("labels").and_then(|c| c.as_list_opt::<i32>());
    let class = |name: &str| {
        let found = classes.get(name).copied();
        found.ok_or_else(|| format!("`{name}` is not one of its classes"))
    };
    for row in 0..batch.num_rows() {
        let labels = match (manifest.content, lists) {
            (Content::Features, Some(lists)) => {
                let list = lists.value(row);
                let names = list.as_string_opt::<i32>().ok_or("its labels are no text")?;
                names.iter().flatten().map(class).collect::<Result<Vec<usize>, String>>()?
            }
            (Content::Features, None) => {
                let labels = text("label")?;
                let own = labels.is_valid(row).then(|| class(labels.value(row))).transpose()?;
                own.into_iter().collect()
            }
            _ => Vec::new(),
        };
        let own = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        let path = match bytes.filter(|bytes| bytes.is_valid(row)) {
            Some(bytes) => path_of(bytes.value(row))?,
            None => PathBuf::from(paths.value(row)),
        };
        entries.push(Entry {
            path,
            sha256: own(hashes),
            labels,
            position: positions.is_valid(row).then(|| positions.value(row)),
            valid: valid.value(row),
            askew: askew.value(row),
            lost: own(errors),
        });
    }
    Ok(())
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Result<PathBuf, String> {
    String::from_utf8(bytes.to_vec()).map(PathBuf::from).map_err(|error| error.to_string())
}

/// The numbers of a batch's photos that have any.
#[derive(Default)]
struct Values {
    rows: Vec<f32>,
    at: usize,
}

impl Values {
    fn of(
        batch: &RecordBatch,
        manifest: &Manifest,
        classes: &HashMap<&str, usize>,
    ) -> Result<Self, String> {
        let width = manifest.width();
        let mut rows = Vec::new();
        if let Content::Top(_) = manifest.content {
            for row in 0..batch.num_rows() {
                for rank in 1..=width / 2 {
                    let name = format!("class_{rank}");
                    let names = batch.column_by_name(&name).and_then(|c| c.as_string_opt::<i32>());
                    let names = names.ok_or_else(|| format!("it has no column `{name}`"))?;
                    let name = format!("probability_{rank}");
                    let values = batch.column_by_name(&name);
                    let values = values.and_then(|c| c.as_primitive_opt::<Float32Type>());
                    let values = values.ok_or_else(|| format!("it has no column `{name}`"))?;
                    if names.is_valid(row) && values.is_valid(row) {
                        let class = classes.get(names.value(row)).copied();
                        let class = class.ok_or("a class that is not one of the network's")?;
                        rows.extend([class as f32, values.value(row)]);
                    }
                }
            }
            return Ok(Self { rows, at: 0 });
        }
        let name = numbers(manifest.content);
        let lists = batch.column_by_name(name).and_then(|c| c.as_fixed_size_list_opt());
        let lists = lists.filter(|lists| usize::try_from(lists.value_length()) == Ok(width));
        let lists = lists.ok_or_else(|| format!("it has no column `{name}` of {width} numbers"))?;
        for row in (0..batch.num_rows()).filter(|&row| lists.is_valid(row)) {
            let list = lists.value(row);
            match manifest.element {
                Element::F32 => {
                    let own =
                        list.as_primitive_opt::<Float32Type>().ok_or("its numbers are no f32")?;
                    rows.extend_from_slice(own.values());
                }
                Element::F16 => {
                    let own =
                        list.as_primitive_opt::<Float16Type>().ok_or("its numbers are no f16")?;
                    rows.extend(own.values().iter().map(|value| value.to_f32()));
                }
            }
        }
        Ok(Self { rows, at: 0 })
    }

    /// Adds the bytes of the next row, if there is one.
    fn next(&mut self, manifest: &Manifest, to: &mut Vec<u8>) -> bool {
        let width = manifest.width();
        let Some(row) = self.rows.get(self.at..self.at + width).filter(|row| !row.is_empty())
        else {
            return false;
        };
        self.at += width;
        // They were of this element before.
        manifest.element.write(row, Path::new(""), to).is_ok()
    }
}
