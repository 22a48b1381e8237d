use std::fs::{self, File};
use std::path::Path;

use super::*;
use crate::{ImageFolder, Sample, Shard, Share};

fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(File::create(path).expect("creates"));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).expect("writes");
    }
    tar.finish().expect("writes");
}

fn png(shade: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_pixel(3, 2, image::Rgb([shade; 3]));
    let format = image::ImageFormat::Png;
    image.write_to(&mut std::io::Cursor::new(&mut bytes), format).expect("writes");
    bytes
}

#[test]
fn photos_lie_in_tars_with_their_labels() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two, three) = (png(1), png(2), png(3));
    // A name that a tar's header has no place for.
    let long = format!("{}/b.x.png", "long".repeat(40));
    tar(&dir.path().join("000.tar"), &[("a.png", &one), ("a.cls", b"10\n"), ("a.json", b"{}")]);
    tar(&dir.path().join("001.tar"), &[("b.cls", b"9"), ("b.png", &two), (&long, &three)]);
    let pattern = dir.path().join("{000..001}.tar");
    assert!(ImageFolder::from_archives(&pattern).is_ok(), "a folder's name is a label, too");
    tar(
        &dir.path().join("001.tar"),
        &[("b.cls", b"9"), ("b.png", &two), ("c/d.PNG", &three), ("c/d.cls", b"10")],
    );
    for path in [pattern.as_path(), dir.path()] {
        let folder = ImageFolder::from_archives(path).expect("reads").expect("tars");
        assert_eq!(folder.classes(), ["9", "10"]);
        let of = |sample: &Sample| {
            let pixel = sample.open().expect("decodes").get_pixel(0, 0).0[0];
            (sample.labels.clone(), pixel)
        };
        let found: Vec<_> = folder.samples().iter().map(of).collect();
        assert_eq!(found, [(vec![0], 2), (vec![1], 1), (vec![1], 3)]);
    }
    let shares: Vec<usize> = (0..3)
        .map(|index| {
            let shard = Shard::new(index, 3).expect("there");
            let share = Share::labelled(dir.path(), false, shard).expect("reads");
            assert_eq!(share.classes, ["9", "10"]);
            assert!(share.photos.iter().all(|photo| shard.has(&photo.path)));
            share.photos.len()
        })
        .collect();
    assert_eq!(shares.iter().sum::<usize>(), 3);
    assert!(Share::unlabelled(&pattern, Shard::WHOLE).expect("reads").photos.len() == 3);
    assert!(ImageFolder::from_archives(dir.path().join("none")).expect("no tars").is_none());
}

#[test]
fn what_is_wrong_with_a_tar_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.tar");
    let said = |path: &Path| ImageFolder::from_archives(path).expect_err("must fail").to_string();
    tar(&path, &[("a.png", b"x"), ("b.png", b"y"), ("b.cls", b"1")]);
    assert!(said(&path).contains("a.png has no label"), "{}", said(&path));
    tar(&path, &[("a.png", b"x"), ("a.cls", b"1")]);
    assert!(said(&path).contains("1 classes"), "{}", said(&path));
    assert!(said(&dir.path().join("{0..1}.tar")).contains("there is no such file"));
    let many: Vec<u8> = vec![7; 5000];
    tar(&path, &[("x/a.png", &many), ("y/b.png", &many)]);
    assert!(ImageFolder::from_archives(&path).is_ok());
    let bytes = fs::read(&path).expect("reads");
    for length in [100, 600, 3000, 5632, 6000, 8000, 11_264] {
        fs::write(&path, &bytes[..length]).expect("writes");
        let error = said(&path);
        assert!(error.contains("a.tar") && error.contains("cut off"), "{length}: {error}");
    }
    fs::write(&path, [&bytes[..], &bytes].concat()).expect("writes");
    assert!(said(&path).contains("more behind its end"), "{}", said(&path));
    let mut tar = tar::Builder::new(File::create(&path).expect("creates"));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "x/b.png", "a.png").expect("writes");
    tar.finish().expect("writes");
    let tars = Tars::read(&[path], false, &|_| true, None).expect("reads");
    assert!(tars.photos.is_empty() && tars.skipped.len() == 1, "a link is named");
}

/// Class and first pixel of each photo, and the note.
type Read = (Vec<(usize, u8)>, Option<String>);

/// What a path's archives are, unpacked in a folder.
fn read(path: &Path, cache: &Path) -> Result<Read, VisionError> {
    let files = find(path)?.expect("archives");
    let tars = Tars::read(&files, true, &|_| true, Some(cache.to_owned()))?;
    let of = |(_, sample): &(PathBuf, Sample)| {
        (sample.class(), sample.open().expect("decodes").get_pixel(0, 0).0[0])
    };
    Ok((tars.photos.iter().map(of).collect(), tars.note))
}

#[test]
fn compressed_tars_have_the_photos_of_those_that_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (plain, cache) = (dir.path().join("plain"), dir.path().join("cache"));
    let zipped = dir.path().join("zipped");
    fs::create_dir(&plain).expect("creates");
    fs::create_dir(&zipped).expect("creates");
    let gzip = |name: &str, to: &str| {
        let file = File::create(zipped.join(to)).expect("creates");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let bytes = fs::read(plain.join(name)).expect("reads");
        std::io::Write::write_all(&mut gzip, &bytes).expect("writes");
        gzip.finish().expect("writes");
    };
    tar(&plain.join("0.tar"), &[("a.png", &png(1)), ("a.cls", b"x")]);
    tar(&plain.join("1.tar"), &[("y/b.png", &png(2)), ("x/c.png", &png(3))]);
    gzip("0.tar", "0.tar.gz");
    gzip("1.tar", "1.tar.gz");
    let expected = vec![(0, 1), (0, 3), (1, 2)];
    assert_eq!(read(&plain, &cache).expect("reads"), (expected.clone(), None));
    assert!(!cache.exists(), "plain tars are unpacked nowhere");
    for path in [zipped.clone(), zipped.join("{0..1}.tar.gz"), zipped.join("*.tar.gz")] {
        let (found, note) = read(&path, &cache).expect("reads");
        assert_eq!(found, expected);
        let note = note.expect("says where");
        assert!(note.contains("2 files are unpacked in") && note.contains("cache"), "{note}");
    }
    // Of a tar that is cut off inside of whole gzip, and of two kinds side by side.
    let whole = fs::read(plain.join("1.tar")).expect("reads");
    fs::write(plain.join("1.tar"), &whole[..700]).expect("writes");
    gzip("1.tar", "2.tgz");
    let said = |path: &Path| read(path, &cache).expect_err("must fail").to_string();
    let error = said(&zipped.join("2.tgz"));
    assert!(error.contains("2.tgz: a tar that is cut off"), "{error}");
    fs::copy(plain.join("0.tar"), zipped.join("0.tar")).expect("copies");
    assert!(said(&zipped).contains("side by side"), "{}", said(&zipped));
    fs::write(plain.join("lonely.JPG"), png(1)).expect("writes");
    assert!(said(&plain).contains("tars and photos (`lonely.JPG`)"), "{}", said(&plain));
    assert!(said(&zipped.join("9*.tar")).contains("no file is called so"));
    assert!(said(&zipped.join("9.tar.gz")).contains("there is no such file"));
    fs::create_dir(zipped.join(".cache")).expect("creates");
    let found = find(&zipped.join("*.tgz")).expect("finds").expect("beside a folder");
    assert_eq!(found, [zipped.join("2.tgz")]);
    #[cfg(not(feature = "parquet"))]
    {
        fs::write(dir.path().join("a.parquet"), "PAR1").expect("writes");
        let error = said(&dir.path().join("a.parquet"));
        assert!(error.contains("the feature `parquet`"), "{error}");
    }
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, name, fits) in [
        ("a-*.tar", "a-.tar", true),
        ("a-*.tar", "a-1.tar", true),
        ("a-*.tar", "b-1.tar", false),
        ("*a*.tar", "bab.tar", true),
        ("*.tar", "é.tar", true),
        ("a*", "ba", false),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
    }
}
