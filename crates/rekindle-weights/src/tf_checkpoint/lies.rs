//! Files that no TensorFlow writes, made here.

use prost::Message;

use super::messages::{BundleEntryProto, BundleHeaderProto, DimProto, TensorShapeProto};
use super::messages::{ExtentProto, SavedSlice, SavedSliceMeta, SavedTensorSliceMeta};
use super::messages::{SavedTensorSlices, TensorProto, TensorSliceProto, VersionDef};
use super::table::masked;
use super::tests::{refused, whole};

/// A table with a block for each entry.
fn table(entries: &[(&[u8], Vec<u8>)], compression: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut add = |mut block: Vec<u8>, compression| {
        block.extend([0; 4]);
        if compression == 1 {
            block = snap::raw::Encoder::new().compress_vec(&block).expect("compresses");
        }
        let mut handle = Vec::new();
        prost::encoding::encode_varint(file.len() as u64, &mut handle);
        prost::encoding::encode_varint(block.len() as u64, &mut handle);
        block.push(compression);
        file.extend(&block);
        file.extend(masked(crc32c::crc32c(&block)).to_le_bytes());
        handle
    };
    let entry = |key: &[u8], value: &[u8]| {
        let mut bytes = vec![0];
        prost::encoding::encode_varint(key.len() as u64, &mut bytes);
        prost::encoding::encode_varint(value.len() as u64, &mut bytes);
        [&bytes, key, value].concat()
    };
    let mut index = Vec::new();
    for (key, value) in entries {
        let handle = add(entry(key, value), compression);
        index.extend(entry(key, &handle));
    }
    let mut footer = add(Vec::new(), 0);
    footer.extend(add(index, 0));
    footer.resize(40, 0);
    file.extend(footer);
    file.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    file
}

fn header() -> BundleHeaderProto {
    BundleHeaderProto { num_shards: 1, ..BundleHeaderProto::default() }
}

/// Four ones.
fn entry() -> BundleEntryProto {
    let shape = TensorShapeProto { dim: vec![DimProto { size: 4 }], unknown_rank: false };
    let crc32c = masked(crc32c::crc32c(&1.0_f32.to_le_bytes().repeat(4)));
    BundleEntryProto {
        dtype: 1,
        shape: Some(shape),
        size: 16,
        crc32c,
        ..BundleEntryProto::default()
    }
}

/// What reading a bundle of one tensor gives.
fn bundle(
    header: BundleHeaderProto,
    entry: BundleEntryProto,
    compression: u8,
) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.index");
    let entries: [(&[u8], Vec<u8>); 2] =
        [(b"", header.encode_to_vec()), (b"net/a/weights", entry.encode_to_vec())];
    std::fs::write(&path, table(&entries, compression)).expect("writes");
    let data = 1.0_f32.to_le_bytes().repeat(4);
    std::fs::write(folder.path().join("x.data-00000-of-00001"), data).expect("writes");
    whole(&path)
}

#[test]
fn snappy_is_read_and_other_compressions_are_refused() {
    bundle(header(), entry(), 0).expect("reads");
    bundle(header(), entry(), 1).expect("reads");
    let error = bundle(header(), entry(), 4).expect_err("zstd");
    assert!(error.contains("compressed in way 4"), "{error}");
}

#[test]
fn tables_out_of_order_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.index");
    let (header, entry) = (header().encode_to_vec(), entry().encode_to_vec());
    let keys: [&[u8]; 3] = [b"", b"net/b/weights", b"net/a/weights"];
    let entries =
        keys.map(|key| (key, if key.is_empty() { header.clone() } else { entry.clone() }));
    std::fs::write(&path, table(&entries, 0)).expect("writes");
    assert!(refused(&path).contains("not behind the one before"));
    // 1 GB of zeros.
    let mut bomb = vec![0x80, 0x80, 0x80, 0x80, 0x04];
    bomb.extend([0; 10]);
    assert!(super::table::unpacked(&bomb).expect_err("refused").contains("claims 1073741824"));
}

#[test]
fn indexes_that_lie_are_refused() {
    let shape = |sizes: &[i64]| {
        let dim = sizes.iter().map(|&size| DimProto { size }).collect();
        Some(TensorShapeProto { dim, unknown_rank: false })
    };
    let huge = 1 << 62;
    let unknown = TensorShapeProto { unknown_rank: true, ..TensorShapeProto::default() };
    for (entry, said) in [
        (BundleEntryProto { size: 17, ..entry() }, "has 17 bytes, expected 16"),
        (BundleEntryProto { size: -1, ..entry() }, "has -1 bytes"),
        (BundleEntryProto { offset: 1, ..entry() }, "not within the 16 bytes"),
        (BundleEntryProto { offset: i64::MAX, ..entry() }, "not within the 16 bytes"),
        (BundleEntryProto { shard_id: 1, ..entry() }, "file 1 of 1"),
        (BundleEntryProto { shard_id: -1, ..entry() }, "file -1 of 1"),
        (BundleEntryProto { dtype: 10, ..entry() }, "found bool values"),
        (BundleEntryProto { dtype: 99, ..entry() }, "type 99"),
        (BundleEntryProto { crc32c: 1, ..entry() }, "CRC"),
        (BundleEntryProto { shape: shape(&[5]), ..entry() }, "expected 20"),
        (BundleEntryProto { shape: shape(&[-4]), ..entry() }, "[-4]"),
        (BundleEntryProto { shape: shape(&[huge, huge, 0]), ..entry() }, "memory"),
        (BundleEntryProto { shape: Some(unknown), ..entry() }, "known"),
        (
            BundleEntryProto { shape: shape(&[huge / 4]), size: i64::MAX, ..entry() },
            "bytes, expected",
        ),
    ] {
        let error = bundle(header(), entry, 0).expect_err(said);
        assert!(error.contains(said) && error.contains("a/"), "{error}");
    }
    let newer = VersionDef { producer: 9, min_consumer: 9 };
    for (header, said) in [
        (BundleHeaderProto { num_shards: 0, ..header() }, "0 files of data"),
        (BundleHeaderProto { num_shards: 2, ..header() }, "x.data-00000-of-00002"),
        (BundleHeaderProto { endianness: 1, ..header() }, "big-endian"),
        (BundleHeaderProto { endianness: 7, ..header() }, "order of bytes 7"),
        (BundleHeaderProto { version: Some(newer), ..header() }, "update rekindle"),
    ] {
        let error = bundle(header, entry(), 0).expect_err(said);
        assert!(error.contains(said) && error.contains("x.index"), "{error}");
    }
}

#[test]
fn files_that_are_no_checkpoint_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint");
    std::fs::write(&path, "model_checkpoint_path: \"model.ckpt-7\"\n").expect("writes");
    assert!(refused(&path).contains("give one of these"));
    let path = folder.path().join("model.ckpt-7");
    std::fs::write(&path, "something else").expect("writes");
    assert!(refused(&path).contains("do not end as a TensorFlow checkpoint"));
    let path = folder.path().join("plain.index");
    std::fs::write(&path, table(&[(b"key", vec![1])], 0)).expect("writes");
    assert!(refused(&path).contains("another program's"));
    let data = folder.path().join("lost.data-00000-of-00001");
    std::fs::write(&data, [0; 16]).expect("writes");
    assert!(refused(&data).contains("lost.index"));
}

/// What reading a file of version 1 with one tensor gives.
fn slices(meta: SavedSliceMeta, key: &[u8], data: SavedSlice) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.ckpt");
    let list = SavedTensorSliceMeta { tensor: vec![meta], versions: None };
    let list = SavedTensorSlices { meta: Some(list), data: None };
    let data = SavedTensorSlices { meta: None, data: Some(data) };
    let entries: [(&[u8], Vec<u8>); 2] = [(b"", list.encode_to_vec()), (key, data.encode_to_vec())];
    std::fs::write(&path, table(&entries, 0)).expect("writes");
    whole(&path)
}

#[test]
fn slices_that_lie_are_refused() {
    let shape = |size| TensorShapeProto { dim: vec![DimProto { size }], unknown_rank: false };
    let all = TensorSliceProto { extent: vec![ExtentProto::default()] };
    let meta = SavedSliceMeta {
        name: "net/a/weights".into(),
        shape: Some(shape(2)),
        r#type: 1,
        slice: vec![all.clone()],
    };
    let key = b"\0net/a/weights\0\x01\x01\x01\x80\x7f";
    let tensor = TensorProto { dtype: 1, float_val: vec![1.0, 2.0], ..TensorProto::default() };
    let data = |tensor: TensorProto| SavedSlice {
        name: "net/a/weights".into(),
        slice: Some(all.clone()),
        data: Some(tensor),
    };
    slices(meta.clone(), key, data(tensor.clone())).expect("reads");
    let content = 1.0_f32.to_le_bytes().repeat(2);
    let packed =
        |content: Vec<u8>| TensorProto { tensor_content: content.into(), ..TensorProto::default() };
    slices(meta.clone(), key, data(packed(content.clone()))).expect("reads bytes");
    let half = SavedSliceMeta { r#type: 19, ..meta.clone() };
    let wide = TensorProto { half_val: vec![0, 1 << 16], ..TensorProto::default() };
    let other = SavedSlice { name: "net/b/weights".into(), ..data(tensor.clone()) };
    let part = ExtentProto { start: 0, length: Some(2) };
    let part = TensorSliceProto { extent: vec![part] };
    for (meta, key, data, said) in [
        (meta.clone(), &key[..5], data(tensor.clone()), "not in the file"),
        (meta.clone(), key, data(TensorProto::default()), "found 0 values"),
        (meta.clone(), key, data(packed(content[1..].to_vec())), "7 bytes"),
        (meta.clone(), key, other, "`net/b/weights`"),
        (half, key, data(wide), "16 bits"),
        (SavedSliceMeta { slice: vec![part], ..meta.clone() }, key, data(tensor.clone()), "slices"),
        (SavedSliceMeta { slice: vec![], ..meta.clone() }, key, data(tensor.clone()), "slices"),
        (
            SavedSliceMeta { shape: Some(shape(1 << 40)), ..meta.clone() },
            key,
            data(tensor.clone()),
            "can hold",
        ),
    ] {
        let error = slices(meta, key, data).expect_err(said);
        assert!(error.contains(said) && error.contains("x.ckpt"), "{error}");
    }
}
