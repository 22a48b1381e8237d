use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{BinaryArray, Int32Array, ListArray, StringArray};
use parquet::arrow::ArrowWriter;

use super::super::Tars;
use super::*;

/// What tests/keras/hub_parquet.py has written.
fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("../../tests/golden/images/parquet").join(name)
}

/// Class, shade of the first pixel and name of a photo.
type Row = (String, u8, String);

fn read(files: &[PathBuf], labelled: bool) -> Result<Vec<Row>, VisionError> {
    let cache = tempfile::tempdir().expect("a folder");
    let cache = Some(cache.path().to_owned());
    let tars = Tars::read(files, labelled, &|_| true, cache)?;
    assert!(tars.note.is_some_and(|note| note.contains("unpacked")));
    assert!(tars.skipped.is_empty());
    let photos = tars.photos.iter().map(|(path, sample)| {
        let class = sample.labels.first().map(|&label| tars.classes[label].clone());
        let shade = sample.open().expect("decodes").get_pixel(0, 0).0[0];
        (class.unwrap_or_default(), shade, path.to_string_lossy().into_owned())
    });
    Ok(photos.collect())
}

fn rows(all: &[(&str, u8, &str)]) -> Vec<Row> {
    all.iter().map(|(class, shade, path)| ((*class).into(), *shade, (*path).into())).collect()
}

#[test]
fn the_hub_s_files_have_photos_and_names_of_classes() {
    let one = "train-00000-of-00002.parquet";
    let two = "train-00001-of-00002.parquet";
    let found = read(&[golden(one), golden(two)], true).expect("reads");
    assert_eq!(
        found,
        rows(&[
            ("axolotl", 10, "train-00000-of-00002.parquet/00000000-a.png"),
            ("beagle", 12, "train-00000-of-00002.parquet/00000002-c.png"),
            ("beagle", 14, "train-00001-of-00002.parquet/00000000-a.png"),
            ("tabby", 11, "train-00000-of-00002.parquet/00000001.png"),
            ("tabby", 13, "train-00000-of-00002.parquet/00000003-d.png"),
        ])
    );
    let test = golden("test-00000-of-00001.parquet");
    let error = read(std::slice::from_ref(&test), true).expect_err("no labels").to_string();
    assert!(error.contains("00000000-t.png has no label"), "{error}");
    assert_eq!(read(&[test], false).expect("reads").len(), 1);
    let error = super::super::find(&golden("")).expect_err("kinds of parts").to_string();
    assert!(error.contains("several parts of a data set (test, train)"), "{error}");
    assert!(error.contains("test-*.parquet"), "{error}");
    let train = super::super::find(&golden("train-*.parquet")).expect("finds").expect("files");
    assert_eq!(train, [golden(one), golden(two)]);
}

#[test]
fn other_columns_are_taken_where_only_one_can_be_meant() {
    for codec in ["none", "gzip", "snappy"] {
        let name = format!("plain_{codec}.parquet");
        let found = read(&[golden(&name)], true).expect(codec);
        let path = |row: usize| format!("{name}/{row:08}.png");
        assert_eq!(found, rows(&[("cat", 21, &path(1)), ("dog", 20, &path(0))]));
    }
    let error = check(&golden("plain_zstd.parquet"), true).expect_err("C").to_string();
    assert!(error.contains("Zstandard") && error.contains("compression=\"snappy\""), "{error}");
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("fits");
    let file = File::create(path).expect("creates");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("writes");
    writer.write(&batch).expect("writes");
    writer.close().expect("writes");
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.parquet");
    let photo = || -> ArrayRef { Arc::new(BinaryArray::from_vec(vec![b"photo"])) };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let list = || -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]))
    };
    let said = || check(&path, true).expect_err("must fail").to_string();
    write(&path, vec![("caption", text("x")), ("label", text("x"))]);
    assert!(said().contains("there are `caption` (Utf8), `label` (Utf8)"), "{}", said());
    write(&path, vec![("left", photo()), ("right", photo())]);
    assert!(said().contains("`left` (Binary), `right` (Binary)"), "{}", said());
    write(&path, vec![("left", photo()), ("labels", list())]);
    assert!(said().contains("no column with labels"), "{}", said());
    assert!(check(&path, false).is_ok(), "the only column with bytes");
    let number: ArrayRef = Arc::new(Int32Array::from(vec![3, -1]));
    let of = |names: &[&str], row| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        class(&number, &names, row)
    };
    assert_eq!((of(&[], 0), of(&[], 1)), (Ok(Some("3".into())), Ok(None)));
    assert!(of(&["a"], 0).expect_err("one name").contains("class 3, but there are names of 1"));
    let none: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![None]));
    write(&path, vec![("image", none), ("label", text("x"))]);
    let error = read(std::slice::from_ref(&path), true).expect_err("no photo").to_string();
    assert!(error.contains("a.parquet: row 0 (from 0): no photo"), "{error}");
    let bytes = fs::read(golden("train-00000-of-00002.parquet")).expect("reads");
    for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).expect("writes");
        assert!(said().contains("a.parquet: a Parquet file that is damaged or cut off"));
    }
    // Nothing that a byte may be is a panic or a hang.
    let (mut refused, mut random) = (0, 1_u64);
    for _ in 0..300 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = bytes.clone();
        let place = (random >> 33) as usize % bytes.len();
        bytes[place] ^= 1 << (random >> 61);
        fs::write(&path, &bytes).expect("writes");
        let file = File::open(&path).expect("opens");
        let to = File::create(dir.path().join("a.tar")).expect("creates");
        refused += usize::from(to_tar(&path, &file, &mut BufWriter::new(to)).is_err());
    }
    assert!((1..300).contains(&refused), "{refused} of 300");
}
