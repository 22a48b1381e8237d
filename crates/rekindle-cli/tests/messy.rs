//! A folder as people have it: links, junk, damaged photos, names that lie. All that a user has to know of it is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

mod common;

use common::{rekindle, repository, text};

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The demo photos of a class, by name.
fn demo(class: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(repository("demo/photos").join(class)).expect("lists");
    let mut all: Vec<PathBuf> = all.map(|file| file.expect("reads").path()).collect();
    all.sort();
    all
}

fn copy(photos: &[PathBuf], to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for photo in photos {
        fs::copy(photo, to.join(photo.file_name().expect("a name"))).expect("copies");
    }
}

/// `photos` with three classes: 22 birds, 14 houses, and one mammal. What is skipped is listed in [`SKIPPED`].
fn messy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(at(name).parent().expect("a folder")).expect("creates");
        fs::write(at(name), bytes).expect("writes");
    };
    copy(&demo("birds")[..12], &at("photos/birds"));
    copy(&demo("houses")[..12], &at("photos/houses"));
    copy(&demo("mammals")[..1], &at("photos/mammals"));
    let jpeg = fs::read(&demo("birds")[13]).expect("a photo");
    // Photos all the same.
    for name in ["no-extension", "phone.heic", "picture.jfif", "SHOUTED.JPG", "deep/er/one.png"] {
        write(&format!("photos/birds/{name}"), &jpeg);
    }
    for name in ["cmyk-adobe.jpg", "orientation-6.jpg", "rgba.png", "grey.jpg", "cmyk.tif"] {
        let golden = fs::read(repository("tests/golden/images/photos").join(name));
        write(&format!("photos/birds/{name}"), &golden.expect("a golden photo"));
    }
    // Not photos.
    write("photos/birds/cut.jpg", &jpeg[..jpeg.len() / 2]);
    write("photos/houses/cut too.jpg", &jpeg[..jpeg.len() / 2]);
    write("photos/birds/empty.jpg", b"");
    write("photos/birds/notes.txt", b"seen on Sunday");
    write("photos/birds/page.jpg", b"<!doctype html><title>404</title>");
    write("photos/birds/real.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    write("photos/stray.jpg", &jpeg);
    // Never mentioned.
    for name in [
        ".DS_Store",
        "desktop.ini",
        "birds/Thumbs.db",
        "birds/._drake.jpg",
        "houses/.ipynb_checkpoints/house-checkpoint.jpg",
        "houses/@eaDir/house.jpg",
    ] {
        write(&format!("photos/{name}"), b"x");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        copy(&demo("houses")[12..14], &at("elsewhere"));
        symlink(at("elsewhere"), at("photos/houses/more")).expect("links");
        symlink(at("photos"), at("photos/houses/loop")).expect("links");
        symlink(at("nowhere"), at("photos/houses/broken.jpg")).expect("links");
    }
    dir
}

/// What is skipped of the folder, in short.
const SKIPPED: [(&str, &str); 9] = [
    ("stray.jpg", "not in a class folder"),
    ("birds/empty.jpg", "the file is empty"),
    ("birds/notes.txt", "not a photo of a known kind"),
    ("birds/page.jpg", "a web page"),
    ("birds/real.heic", "a HEIC photo"),
    ("houses/broken.jpg", "a broken link"),
    ("houses/loop", "a link that leads back to a folder that it is in"),
    ("birds/cut.jpg", "the JPEG is truncated"),
    ("houses/cut too.jpg", "the JPEG is truncated"),
];

/// Whether a line of these begins and ends so.
#[track_caller]
fn has_line(text: &str, begin: &str, parts: &[&str]) {
    let is_it = |line: &&str| line.trim_start().starts_with(begin);
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no line `{begin}` in:\n{text}"));
    for part in parts {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
}

/// That each skipped file is there with its reason.
#[track_caller]
fn lists_skipped(list: &Value, photos: &Path) {
    let list = list.as_array().expect("a list");
    let found: Vec<(&str, &str)> = list
        .iter()
        .map(|file| (file["path"].as_str().expect("text"), file["reason"].as_str().expect("text")))
        .collect();
    for (name, reason) in SKIPPED {
        let wanted = photos.join(name);
        let is_it =
            |(file, why): &&(&str, &str)| Path::new(file) == wanted && why.starts_with(reason);
        assert!(found.iter().any(|file| is_it(&file)), "{name}: {reason} in {found:?}");
    }
    assert_eq!(found.len(), SKIPPED.len(), "{found:?}");
}

#[cfg(unix)]
#[test]
fn all_that_a_user_has_to_know_of_a_messy_folder_is_said() {
    let dir = messy();
    let photos = dir.path().join("photos");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let [model, report, page, table] = ["m.rekindle", "r.json", "p.html", "t.csv"].map(at);
    let settings = ["--size", "32", "--epochs", "2", "--batch", "8", "--plain"];
    let train = ["train", path(&photos), "--out", &model, "--report", &report, "--html", &page];
    let output = rekindle(&[&train[..], &settings].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");

    // What was found and assumed. Which photos are damaged is not known yet.
    has_line(
        &said,
        "39 photos of 3 classes (birds 23, houses 15, mammals 1), 31 to train on, 8 to validate on; mobilenet-v2",
        &[
            "size 32 x 32 (as asked), resize bilinear (the default), JPEG decoder pillow (goes with the resize)",
            "preprocessing tf (from the file), transparency white (the default), orientation ignore (the default)",
        ],
    );
    // What will hardly work, and what to do.
    has_line(&said, "WARN fewer than 10 photos of `mammals` (1): ", &["--augment standard"]);
    has_line(&said, "WARN no photos to validate on of `mammals`, so that", &["add some"]);
    has_line(&said, "WARN 1 photo has an EXIF orientation", &["--orientation apply"]);
    assert!(!said.contains("the numbers say nothing"), "{said}");
    // What was not used: while it is found out, in short, and file by file.
    has_line(&said, "WARN skipped ", &["cut.jpg: the JPEG is truncated"]);
    has_line(
        &said,
        "9 files skipped: the JPEG is truncated (2), not in a class folder (1), the file is empty (1)",
        &["a link that leads back"],
    );
    let json: Value = serde_json::from_slice(&fs::read(&report).expect("written")).expect("JSON");
    lists_skipped(&json["skipped"], &photos);
    assert_eq!(json["train_images"].as_u64().zip(json["valid_images"].as_u64()), Some((29, 8)));
    let html = fs::read_to_string(&page).expect("a page");
    for (name, reason) in SKIPPED {
        // The name may be a link that opens the file.
        let is_said = |item: &str| item.contains(name) && item.contains(&format!(": {reason}"));
        assert!(html.split("<li>").any(is_said), "{name}");
    }
    // Nobody has to know of these.
    for junk in ["DS_Store", "desktop.ini", "Thumbs.db", "._drake", "ipynb_checkpoints", "@eaDir"] {
        assert!(!said.contains(junk) && !html.contains(junk), "{junk}");
    }

    let output = rekindle(&["evaluate", &model, path(&photos), "--json"]);
    let said = text(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    has_line(
        &said,
        "39 photos of 3 classes (birds 23, houses 15, mammals 1); mobilenet-v2 1.0 of 3 classes (birds, houses, mammals); size",
        &[
            "size 32 x 32 (from the file), resize bilinear (from the file)",
            "preprocessing tf (from the file)",
        ],
    );
    has_line(&said, "WARN fewer than 10 photos of `mammals` (1), so that", &["add some"]);
    has_line(&said, "WARN 1 photo has an EXIF orientation", &[]);
    assert_eq!(json["images"], 37);
    lists_skipped(&json["skipped"], &photos);
    let shown = text(&rekindle(&["evaluate", &model, path(&photos)]).stdout);
    has_line(&shown, "9 files skipped: the JPEG is truncated (2)", &[]);

    // A folder is predicted whole, in batches; what is no photo is in the table with its reason.
    let output = rekindle(&["predict", &model, path(&photos), "--csv", &table, "--top", "2"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    has_line(
        &said,
        "40 photos; mobilenet-v2 1.0 of 3 classes (birds, houses, mammals); size 32",
        &[],
    );
    has_line(
        &said,
        "38 predicted; 8 files skipped: the JPEG is truncated (2)",
        &["a web page (1)"],
    );
    let table = fs::read_to_string(&table).expect("a table");
    has_line(&table, "image,class_1,probability_1,class_2,probability_2,error", &[]);
    assert_eq!(table.lines().count(), 1 + 38 + 8, "{table}");
    has_line(
        &table,
        &format!("{}/birds/cut.jpg,,,,,", photos.display()),
        &["the JPEG is truncated"],
    );
    for line in table.lines().filter(|line| line.ends_with(',')).skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, best, first, next, second, ""] = fields[..] else { panic!("{line}") };
        assert!(best != next && ["birds", "houses", "mammals"].contains(&best), "{line}");
        let number = |text: &str| text.parse::<f32>().expect("a number");
        assert!(number(first) >= number(second), "{line}");
    }
}

#[test]
fn strict_stops_at_the_first_of_them() {
    let dir = messy();
    let photos = dir.path().join("photos");
    let model = dir.path().join("m.rekindle");
    let train = |folder: &Path, more: &[&str]| {
        let settings = ["--size", "32", "--epochs", "1", "--plain", "--out", path(&model)];
        rekindle(&[&["train", path(folder)][..], &settings, more].concat())
    };
    let fails = |output: Output, parts: &[&str]| {
        assert_eq!(output.status.code(), Some(1));
        has_line(&text(&output.stderr), "error: ", parts);
    };
    fails(train(&photos, &["--strict"]), &["stray.jpg: not in a class folder"]);
    assert!(!model.exists());
    // Only damaged inside.
    let few = dir.path().join("few");
    copy(&demo("birds")[..3], &few.join("birds"));
    copy(&demo("houses")[..3], &few.join("houses"));
    assert!(train(&few, &["--strict"]).status.success());
    let cut = few.join("birds/a cut.jpg");
    fs::copy(photos.join("birds/cut.jpg"), &cut).expect("copies");
    let parts = ["a cut.jpg: the JPEG is truncated"];
    fs::remove_file(&model).expect("removes");
    fails(train(&few, &["--strict"]), &parts);
    assert!(!model.exists() && train(&few, &[]).status.success());
    let model = path(&model);
    fails(rekindle(&["evaluate", model, path(&few), "--strict"]), &parts);
    fails(rekindle(&["predict", model, path(&few), "--strict"]), &parts);
    assert!(rekindle(&["evaluate", model, path(&few)]).status.success());
    assert!(rekindle(&["predict", model, path(&few)]).status.success());
    // Who names it wants it.
    let output = rekindle(&["predict", model, path(&cut)]);
    has_line(&text(&output.stderr), "error: ", &parts);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn patterns_and_labels_beside_a_model_are_used_and_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, photos) = (dir.path().join("model.keras"), dir.path().join("photos"));
    let packed = repository("tests/golden/checkpoints/mobilenet_v2_keras3_sequential.keras.gz");
    let mut packed = flate2::read::GzDecoder::new(fs::File::open(packed).expect("opens"));
    std::io::copy(&mut packed, &mut fs::File::create(&model).expect("creates")).expect("gzip");
    copy(&demo("birds")[..2], &photos);
    copy(&demo("houses")[..1], &photos);
    let pattern = path(&photos).to_owned() + "/*.jpg";
    let run = |more: &[&str]| {
        let output = rekindle(&[&["predict", path(&model), &pattern, "--json"][..], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let class = json[0]["predictions"][0]["class"].as_str().expect("text").to_owned();
        (json.as_array().expect("a list").len(), class, text(&output.stderr))
    };
    let (count, class, said) = run(&[]);
    assert_eq!(count, 3);
    assert!(["0", "1", "2"].contains(&class.as_str()));
    has_line(&said, "note: the file names no classes: they are called 0 to 2", &[]);
    has_line(
        &said,
        "3 photos; mobilenet-v2",
        &["size 32 x 32 (from the file)", "resize bilinear (assumed)"],
    );
    let labels = dir.path().join("labels.txt");
    fs::write(&labels, "\u{FEFF}0 cat\r\n1 dog\r\n2 hen\r\n").expect("writes");
    let (_, class, said) = run(&[]);
    assert!(["cat", "dog", "hen"].contains(&class.as_str()));
    has_line(&said, "note: the file names no classes: the names are those of", &["labels.txt"]);
    // What is asked for goes before what is found.
    let other = dir.path().join("other.json");
    fs::write(&other, "[\"a\", \"b\", \"c\"]").expect("writes");
    let (_, class, said) = run(&["--labels", path(&other), "--preprocess", "tf"]);
    assert!(["a", "b", "c"].contains(&class.as_str()) && !said.contains("labels.txt"), "{said}");
    has_line(&said, "3 photos; mobilenet-v2", &["(a, b, c)", "preprocessing tf (as asked)"]);
    fs::write(&labels, "cat\ndog\n").expect("writes");
    let (_, _, said) = run(&[]);
    has_line(&said, "note: the file names no classes, and", &["2 names, and the model 3 outputs"]);

    // A network to start from says how it takes photos, too.
    let tutorial = dir.path().join("tutorial.keras");
    let packed = repository("tests/golden/checkpoints/mobilenet_v2_keras3_tutorial.keras.gz");
    let mut packed = flate2::read::GzDecoder::new(fs::File::open(packed).expect("opens"));
    std::io::copy(&mut packed, &mut fs::File::create(&tutorial).expect("creates")).expect("gzip");
    let classes = dir.path().join("classes");
    copy(&demo("birds")[..3], &classes.join("birds"));
    copy(&demo("houses")[..3], &classes.join("houses"));
    let out = dir.path().join("m.rekindle");
    for (file, origin) in [(&tutorial, "from the file"), (&model, "the network's own")] {
        let weights = ["--weights", path(file), "--out", path(&out), "--epochs", "1", "--plain"];
        let output = rekindle(&[&["train", path(&classes)][..], &weights].concat());
        let said = text(&output.stderr);
        has_line(&said, "6 photos of 2 classes", &[&format!("preprocessing tf ({origin})")]);
    }

    let output = rekindle(&["predict", path(&model), &(path(&photos).to_owned() + "/*.bmp")]);
    assert_eq!(output.status.code(), Some(1));
    has_line(&text(&output.stderr), "error: ", &["*.bmp: no photo is called so"]);
    let none = dir.path().join("none");
    fs::create_dir(&none).expect("creates");
    let output = rekindle(&["predict", path(&model), path(&none)]);
    has_line(&text(&output.stderr), "error: ", &["there are no photos in this folder"]);
    // The wrong way round.
    let photo = photos.join(demo("birds")[0].file_name().expect("a name"));
    let output = rekindle(&["predict", path(&photo), path(&model)]);
    has_line(&text(&output.stderr), "error: ", &["this is a photo: the model is named before"]);
}

#[test]
fn a_split_folder_is_used_as_such() {
    let dir = tempfile::tempdir().expect("a folder");
    let photos = dir.path().join("photos");
    for (part, range) in [("train", 0..4), ("val", 4..6), ("test", 6..9)] {
        for class in ["birds", "houses"] {
            copy(&demo(class)[range.clone()], &photos.join(part).join(class));
        }
    }
    let model = dir.path().join("m.rekindle");
    let train = |more: &[&str]| {
        let settings = ["--size", "32", "--epochs", "1", "--plain", "--out", path(&model)];
        let output = rekindle(&[&["train", path(&photos)][..], &settings, more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = train(&[]);
    let note = format!("note: {} is split already: `train` is trained on", photos.display());
    has_line(
        &said,
        &note,
        &["`val` is validated on", "rekindle evaluate MODEL", "--classes-are-folders"],
    );
    has_line(
        &said,
        "12 photos of 2 classes (birds 6, houses 6), 8 to train on, 4 to validate on",
        &[],
    );
    let output = rekindle(&["evaluate", path(&model), path(&photos)]);
    has_line(&text(&output.stderr), "note: ", &["is split already", "/test are taken"]);
    has_line(&text(&output.stdout), "6 images", &[]);
    let said = train(&["--valid-split", "0.5"]);
    has_line(&said, &note, &["`val` is not used"]);
    has_line(&said, "8 photos of 2 classes (birds 4, houses 4), 4 to train on", &[]);
    let said = train(&["--classes-are-folders"]);
    has_line(&said, "18 photos of 3 classes (test 6, train 8, val 4)", &[]);
    assert!(!said.contains("split already"), "{said}");
    // One photo of two is half of them.
    let two = dir.path().join("two");
    copy(&demo("birds")[..2], &two.join("birds"));
    copy(&demo("houses")[..12], &two.join("houses"));
    let settings = ["--size", "32", "--epochs", "1", "--plain", "--out", path(&model)];
    let output = rekindle(&[&["train", path(&two)][..], &settings].concat());
    has_line(
        &text(&output.stderr),
        "WARN validation takes one photo of `birds` (of 2), more than the share of 20 %",
        &["--valid-split 0"],
    );
}

/// Only Linux's file systems take such names.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_are_trained_on_and_predicted() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().expect("a folder");
    let at = |bytes: &[u8]| dir.path().join(OsStr::from_bytes(bytes));
    copy(&demo("birds")[..3], &at(b"photos/birds"));
    copy(&demo("houses")[..2], &at(b"photos/caf\xE9"));
    fs::copy(&demo("houses")[3], at(b"photos/caf\xE9/cr\xE8me.jpg")).expect("copies");
    fs::write(at(b"photos/caf\xE9/\xFF.txt"), "text").expect("writes");
    let run = |words: &[&[u8]]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        let output = command.args(words.iter().map(|word| OsStr::from_bytes(word))).output();
        let output = output.expect("starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let [photos, model, table, report] = [&b"photos"[..], b"m.rekindle", b"t\xE9.csv", b"r.json"]
        .map(|name| at(name).into_os_string().as_bytes().to_vec());
    let settings: [&[u8]; 5] = [b"--size", b"32", b"--epochs", b"1", b"--plain"];
    let train: [&[u8]; 6] = [b"train", &photos, b"--out", &model, b"--report", &report];
    let said = run(&[&train[..], &settings].concat());
    has_line(&said, "6 photos of 2 classes (birds 3, caf\u{FFFD} 3)", &[]);
    let json = fs::read_to_string(at(b"r.json")).expect("a report");
    assert!(json.contains("caf\u{FFFD}/\u{FFFD}.txt"), "{json}");
    run(&[b"evaluate", &model, &photos]);
    run(&[b"predict", &model, &photos, b"--csv", &table]);
    let table = fs::read(at(b"t\xE9.csv")).expect("a table");
    let has = |name: &[u8]| table.windows(name.len()).any(|bytes| bytes == name);
    assert!(has(b"photos/caf\xE9/cr\xE8me.jpg,"), "{}", String::from_utf8_lossy(&table));
}
