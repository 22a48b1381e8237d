//! Photos in Parquet files, as Hugging Face's hub has them: a column of `struct<bytes: binary, path: string>`, and labels as
//! numbers whose names are in the schema's metadata.

use std::fs::File;
use std::io::BufWriter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::unpacked::unwritten;
use crate::VisionError;
use crate::decode::Kind;

/// Photos in memory.
const ROWS: usize = 16;
/// The field of a photo's column with its file.
const BYTES: &str = "bytes";
/// The field with what it was called.
const PATH: &str = "path";

type Reader = ParquetRecordBatchReaderBuilder<File>;

/// What is where in a file.
struct Columns {
    image: String,
    label: Option<Label>,
}

struct Label {
    column: String,
    /// Of the numbers; none, where labels are text or numbers without names.
    names: Vec<String>,
}

/// Sees to it that a file has photos, and labels where they are wanted, before anything is unpacked.
///
/// # Errors
/// When it has not, or cannot be read.
pub(super) fn check(path: &Path, labelled: bool) -> Result<(), VisionError> {
    let file = File::open(path).map_err(|error| VisionError::io(path, error))?;
    guarded(path, || {
        let (reader, columns) = open(path, file)?;
        match (labelled, columns.label) {
            (true, None) => {
                let reason = format!(
                    "no column with labels: expected `label`, of whole numbers or text; there are {}",
                    listed(reader.schema())
                );
                Err(VisionError::folder(path, reason))
            }
            _ => Ok(()),
        }
    })
}

/// Writes a tar of the photos, each with its label.
pub(super) fn to_tar(
    path: &Path,
    source: &File,
    to: &mut BufWriter<File>,
) -> Result<(), VisionError> {
    let source = source.try_clone().map_err(|error| VisionError::io(path, error))?;
    guarded(path, || {
        let (reader, columns) = open(path, source)?;
        let wrong = damaged(path);
        let wanted = [Some(&columns.image), columns.label.as_ref().map(|label| &label.column)];
        let schema = reader.schema().clone();
        let roots: Vec<usize> =
            wanted.into_iter().flatten().filter_map(|name| schema.index_of(name).ok()).collect();
        let mask = ProjectionMask::roots(reader.parquet_schema(), roots);
        let batches = reader.with_projection(mask).with_batch_size(ROWS).build().map_err(&wrong)?;
        let (mut tar, mut row) = (tar::Builder::new(to), 0);
        for batch in batches {
            let batch = batch.map_err(|error| wrong(error.into()))?;
            append(path, &batch, &columns, row, &mut tar)?;
            row += batch.num_rows();
        }
        tar.finish().map_err(|error| unwritten(path, &error))
    })
}

/// The crate has been seen to panic where files are damaged.
fn guarded<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, VisionError>,
) -> Result<T, VisionError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(VisionError::folder(path, "a Parquet file that is damaged: its reader panicked"))
    })
}

fn damaged(path: &Path) -> impl Fn(ParquetError) -> VisionError + '_ {
    move |error| {
        let reason = format!(
            "a Parquet file that is damaged or cut off ({error}): copy or download it again"
        );
        VisionError::folder(path, reason)
    }
}

fn open(path: &Path, file: File) -> Result<(Reader, Columns), VisionError> {
    // The types of Parquet itself: those of the program that wrote it have many forms of text and bytes.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = Reader::try_new_with_options(file, options).map_err(damaged(path))?;
    let columns = features(reader.metadata())
        .and_then(|features| columns(reader.schema(), &features))
        .map_err(|reason| VisionError::folder(path, reason))?;
    compression(reader.metadata(), &columns).map_err(|reason| VisionError::folder(path, reason))?;
    Ok((reader, columns))
}

/// What the hub's library says of the columns: an object with an entry for each; null, where it says nothing.
fn features(metadata: &ParquetMetaData) -> Result<Value, String> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let text = pairs
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
        .and_then(|pair| pair.value.as_deref());
    let Some(text) = text else { return Ok(Value::Null) };
    let mut whole: Value = serde_json::from_str(text).map_err(|error| {
        format!("its metadata `huggingface`, which names the classes, is no JSON ({error}); write the file again")
    })?;
    Ok(whole.pointer_mut("/info/features").map_or(Value::Null, Value::take))
}

/// The columns and their types, for people.
fn listed(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let all: Vec<String> =
        fields.map(|field| format!("`{}` ({})", field.name(), field.data_type())).collect();
    all.join(", ")
}

fn is_photo(kind: &DataType) -> bool {
    match kind {
        DataType::Binary => true,
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| field.name() == BYTES && *field.data_type() == DataType::Binary),
        _ => false,
    }
}

fn is_label(kind: &DataType) -> bool {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, Utf8};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Utf8)
}

/// Which columns have photos and labels: those that the hub's library says, or else those that are called so, or else the only
/// one that can.
fn columns(schema: &Schema, features: &Value) -> Result<Columns, String> {
    let of_type = |name: &str| features.get(name).and_then(|one| one["_type"].as_str());
    let chosen = |usual: &[&str], kind: &str, fits: &dyn Fn(&DataType) -> bool| {
        let all: Vec<&str> = schema
            .fields()
            .iter()
            .filter(|field| fits(field.data_type()))
            .map(|field| field.name().as_str())
            .collect();
        let said: Vec<&str> =
            all.iter().copied().filter(|name| of_type(name) == Some(kind)).collect();
        match said.as_slice() {
            [one] => Some((*one).to_owned()),
            _ => usual.iter().find(|name| all.contains(name)).map(|name| (*name).to_owned()),
        }
    };
    let image = chosen(&["image", "img"], "Image", &is_photo).or_else(|| {
        let mut all = schema.fields().iter().filter(|field| is_photo(field.data_type()));
        let first = all.next()?;
        all.next().is_none().then(|| first.name().clone())
    });
    let Some(image) = image else {
        return Err(format!(
            "no column that is known to have photos: expected `image` or `img`, of struct<bytes, path> or binary, or one such column; there are {}",
            listed(schema)
        ));
    };
    let label = chosen(&["label"], "ClassLabel", &is_label).map(|column| {
        let names = features[&column]["names"].as_array();
        // None is left out, since a label is the place of its name.
        let name = |name: &Value| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        let names = names.map(|names| names.iter().map(name).collect());
        Label { column, names: names.unwrap_or_default() }
    });
    Ok(Columns { image, label })
}

/// Refuses what only C can read.
fn compression(metadata: &ParquetMetaData, columns: &Columns) -> Result<(), String> {
    let is_wanted = |root: &str| {
        root == columns.image || columns.label.as_ref().is_some_and(|label| label.column == root)
    };
    for group in metadata.row_groups() {
        for column in group.columns() {
            let parts = column.column_path().parts();
            if !parts.first().is_some_and(|root| is_wanted(root)) {
                continue;
            }
            let name = match column.compression() {
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) => continue,
                Compression::ZSTD(_) => "Zstandard, whose library is written in C",
                Compression::BROTLI(_) => "Brotli",
                Compression::LZ4 | Compression::LZ4_RAW => "LZ4",
                Compression::LZO => "LZO",
            };
            return Err(format!(
                "the column `{}` is compressed with {name}; read are snappy, gzip and none: write it again, as with pyarrow.parquet.write_table(table, file, compression=\"snappy\")",
                parts.join(".")
            ));
        }
    }
    Ok(())
}

fn append(
    path: &Path,
    batch: &RecordBatch,
    columns: &Columns,
    first: usize,
    tar: &mut tar::Builder<&mut BufWriter<File>>,
) -> Result<(), VisionError> {
    let wrong = |row: usize, reason: String| {
        VisionError::folder(path, format!("row {} (from 0): {reason}", first + row))
    };
    let other = || VisionError::folder(path, "its columns have other types than its schema says");
    let images = batch.column_by_name(&columns.image).ok_or_else(other)?;
    let photos = images.as_struct_opt();
    let files: &dyn Array = match photos {
        Some(photos) => photos.column_by_name(BYTES).ok_or_else(other)?,
        None => images,
    };
    let files = files.as_binary_opt::<i32>().ok_or_else(other)?;
    for row in 0..batch.num_rows() {
        if images.is_null(row) || files.is_null(row) {
            let reason = match photos.and_then(|photos| name(photos, row)) {
                Some(name) => format!(
                    "no photo, but only its path, `{name}`; write the file again with the photos in it"
                ),
                None => "no photo".to_owned(),
            };
            return Err(wrong(row, reason));
        }
        let bytes = files.value(row);
        let name = photos.and_then(|photos| name(photos, row));
        let name = member(first + row, name, bytes);
        let label = match &columns.label {
            None => None,
            Some(label) => {
                let values = batch.column_by_name(&label.column).ok_or_else(other)?;
                class(values, &label.names, row).map_err(|reason| wrong(row, reason))?
            }
        };
        let mut write = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes).map_err(|error| unwritten(path, &error))
        };
        write(&name, bytes)?;
        if let Some(label) = label {
            let key = name.split('.').next().unwrap_or(&name);
            write(&format!("{key}.cls"), label.as_bytes())?;
        }
    }
    Ok(())
}

/// What a photo's file was called.
fn name(photos: &StructArray, row: usize) -> Option<&str> {
    let names = photos.column_by_name(PATH)?.as_string_opt::<i32>()?;
    names.is_valid(row).then(|| names.value(row)).filter(|name| !name.is_empty())
}

/// A name of its own in the tar: the row's number, and what the file was called.
fn member(row: usize, name: Option<&str>, bytes: &[u8]) -> String {
    let ending = match Kind::of(bytes) {
        Kind::Png => "png",
        Kind::WebP => "webp",
        Kind::Bmp => "bmp",
        Kind::Gif => "gif",
        Kind::Tiff => "tif",
        // What is none of these is no photo either, which decoding it says.
        _ => "jpg",
    };
    let name = name.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let stem: String = stem.chars().filter(|letter| !letter.is_control()).take(100).collect();
    match stem.is_empty() {
        true => format!("{row:08}.{ending}"),
        false => format!("{row:08}-{stem}.{ending}"),
    }
}

/// The class of a row; none, where it has no label.
fn class(values: &ArrayRef, names: &[String], row: usize) -> Result<Option<String>, String> {
    if values.is_null(row) {
        return Ok(None);
    }
    if let Some(text) = values.as_string_opt::<i32>() {
        return Ok(Some(text.value(row).to_owned()).filter(|label| !label.is_empty()));
    }
    macro_rules! number {
        ($($kind:ident),+) => {
            None$(.or_else(|| {
                values.as_primitive_opt::<$kind>().map(|all| i64::from(all.value(row)))
            }))+
        };
    }
    let number: Option<i64> =
        number!(Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type);
    let number = number.ok_or("a label that is no whole number")?;
    match (number, names) {
        // The hub's sign for a photo whose label is not told.
        (-1, _) => Ok(None),
        (number, []) => Ok(Some(number.to_string())),
        (number, names) => {
            let name = usize::try_from(number).ok().and_then(|number| names.get(number));
            let name = name.ok_or_else(|| {
                format!("class {number}, but there are names of {}, counted from 0", names.len())
            })?;
            Ok(Some(name.clone()))
        }
    }
}

#[cfg(test)]
mod tests;
