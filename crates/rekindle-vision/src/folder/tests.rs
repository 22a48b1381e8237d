use std::fs;

use super::*;
use crate::Decoding;

/// As much of a JPEG as says that it is one.
const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0";

/// A folder with these files, JPEGs by their first bytes but for what is called `.txt`.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in files {
        let path = dir.path().join(file);
        if file.ends_with('/') {
            fs::create_dir_all(path).expect("creates");
        } else {
            fs::create_dir_all(path.parent().expect("inside")).expect("creates");
            let bytes = if file.ends_with(".txt") { b"text" } else { JPEG };
            fs::write(path, bytes).expect("writes");
        }
    }
    dir
}

fn many(classes: &[(&str, usize)]) -> tempfile::TempDir {
    let files =
        classes.iter().flat_map(|(class, n)| (0..*n).map(move |i| format!("{class}/{i}.jpg")));
    let files: Vec<String> = files.collect();
    folder(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn classes_are_sorted_folders_and_strangers_are_listed() {
    let dir = folder(&[
        "b/1.JPG",
        "a/deep/2.png",
        "a/notes.txt",
        "a/.hidden.txt",
        "stray.jpg",
        "B/3.webp",
    ]);
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert_eq!(folder.classes(), ["B", "a", "b"]);
    assert_eq!(folder.samples().iter().map(|s| s.class()).collect::<Vec<_>>(), [0, 1, 2]);
    let skipped: Vec<_> = folder.skipped().iter().map(|s| s.path.file_name()).collect();
    assert_eq!(skipped, [Some("stray.jpg".as_ref()), Some("notes.txt".as_ref())]);
    assert!(folder.clone().strict(true).split().is_err());
    assert!(folder.split().is_ok());
}

#[test]
fn images_in_memory_take_the_channels_asked_for() {
    let image = RgbImage::from_pixel(2, 1, image::Rgb([10, 20, 30]));
    let images = [(image.clone(), "a".to_owned()), (image, "b".to_owned())];
    let folder = ImageFolder::from_images(images).expect("two classes");
    let of = |channels| {
        let photo = folder.samples()[0].decode(&Decoding::default().with_channels(channels));
        photo.expect("in memory").into_bytes()
    };
    assert_eq!(of(crate::Channels::Grey), [18, 18]);
    assert_eq!(of(crate::Channels::Rgba), [10, 20, 30, 255, 10, 20, 30, 255]);
}

#[test]
fn content_decides_and_not_the_name() {
    let dir =
        folder(&["a/1.jfif", "a/2.JPG", "a/no-extension", "a/phone.heic", "b/2.txt", "b/photo"]);
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("writes");
    write("b/empty.jpg", b"");
    write("b/page.jpg", b"<!doctype html><html>");
    write("b/real.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0");
    let folder = ImageFolder::open(dir.path()).expect("opens");
    let names: Vec<_> = folder.samples().iter().map(|s| s.path.file_name()).collect();
    let expected = ["1.jfif", "2.JPG", "no-extension", "phone.heic", "photo"];
    assert_eq!(names, expected.map(|name| Some(name.as_ref())));
    let causes: Vec<&str> = folder.skipped().iter().map(Skipped::cause).collect();
    let unknown = "not a photo of a known kind";
    assert_eq!(causes, [unknown, "the file is empty", "a web page", "a HEIC photo"]);
}

/// A TIFF of 10 KB whose directory, which says that it is a RAW photo, is at its end.
#[test]
fn raw_photos_are_told_from_tiffs_far_behind_their_start() {
    let mut dng = b"II*\0\x10\x27\0\0".to_vec();
    dng.resize(10_000, 0);
    dng.extend([1, 0, 0x12, 0xC6, 1, 0, 4, 0, 0, 0, 1, 4, 0, 0]);
    let dir = folder(&["a/1.jpg", "b/2.jpg"]);
    fs::write(dir.path().join("b/scan.tif"), dng).expect("writes");
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert_eq!(folder.skipped()[0].cause(), "a camera's RAW photo (DNG)");
}

#[test]
fn what_systems_leave_in_folders_is_never_mentioned() {
    let dir = folder(&[
        "a/1.jpg",
        "b/2.jpg",
        "desktop.ini",
        ".DS_Store",
        "a/Thumbs.db",
        "a/Desktop.ini",
        "a/.DS_Store",
        "a/._1.jpg",
        "a/.ipynb_checkpoints/1-checkpoint.jpg",
        "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".ipynb_checkpoints/x.jpg",
        "@eaDir/x.jpg",
        "__MACOSX/a/1.jpg",
    ]);
    fs::write(dir.path().join("b/.directory"), "[Dolphin]").expect("writes");
    let folder = ImageFolder::open(dir.path()).expect("opens").strict(true);
    assert_eq!((folder.classes().len(), folder.samples().len()), (2, 2));
    assert_eq!(folder.skipped(), []);
    assert!(folder.split().is_ok());
    let (photos, skipped) = list_photos(dir.path()).expect("lists");
    assert_eq!((photos.len(), skipped.len()), (2, 0));
    // A photo that is only hidden is missed by somebody.
    fs::write(dir.path().join("b/.holiday.jpg"), JPEG).expect("writes");
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert!(folder.skipped()[0].reason.contains("begins with a dot"), "{:?}", folder.skipped());
}

#[cfg(unix)]
#[test]
fn links_are_followed_unless_they_never_end() {
    use std::os::unix::fs::symlink;
    let dir = folder(&["photos/a/1.jpg", "photos/b/deep/2.jpg", "far/c/3.jpg", "far/more/4.jpg"]);
    let at = |name: &str| dir.path().join(name);
    for (target, link) in [
        ("far/c", "photos/c"),
        ("far/more", "photos/a/more"),
        ("far/more/4.jpg", "photos/b/file"),
        // What is not followed.
        ("photos", "photos/a/up"),
        ("photos/a", "photos/a/self"),
        ("photos/b", "photos/a/other"),
        ("far", "photos/c/around"),
        ("far/more", "photos/a/twice"),
        ("nowhere", "photos/b/broken.jpg"),
        ("photos/b/round", "photos/b/round"),
        ("photos/b", "photos/z"),
        ("photos", "photos/y"),
    ] {
        symlink(at(target), at(link)).expect("links");
    }
    let folder = ImageFolder::open(at("photos")).expect("opens");
    assert_eq!(folder.classes(), ["a", "b", "c"]);
    let below = |path: &Path| path.strip_prefix(at("photos")).expect("below").to_owned();
    let photos: Vec<_> = folder.samples().iter().map(|s| (below(&s.path), s.class())).collect();
    let expected =
        [("a/1.jpg", 0), ("a/more/4.jpg", 0), ("b/deep/2.jpg", 1), ("b/file", 1), ("c/3.jpg", 2)];
    assert_eq!(photos, expected.map(|(path, class)| (path.into(), class)));
    let skipped: Vec<(PathBuf, &str)> =
        folder.skipped().iter().map(|s| (below(&s.path), s.cause())).collect();
    let (loops, both) =
        ("a link that leads back to a folder that it is in", "a link to photos of another class");
    let expected = [
        ("y", loops),
        ("z", both),
        ("a/other", both),
        ("a/self", loops),
        ("a/twice", "a folder that another link leads to as well"),
        ("a/up", loops),
        ("b/broken.jpg", "a broken link"),
        ("b/round", "a link that cannot be followed"),
        ("c/around", loops),
    ];
    assert_eq!(skipped, expected.map(|(path, cause)| (path.into(), cause)));
    let (photos, skipped) = list_photos(at("photos")).expect("lists");
    // Without classes `b` is taken too, once, where a link leads to it.
    assert_eq!((photos.len(), skipped.len()), (5, 10), "{photos:?} {skipped:?}");
}

/// A pipe that nobody writes into would be waited for.
#[cfg(unix)]
#[test]
fn what_is_neither_file_nor_folder_is_not_opened() {
    let dir = folder(&["a/1.jpg", "b/2.jpg"]);
    let _socket =
        std::os::unix::net::UnixListener::bind(dir.path().join("a/0.jpg")).expect("binds");
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert_eq!(folder.skipped()[0].reason, "neither a file nor a folder");
}

/// Only Linux's file systems take such names.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_work() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&["a/1.jpg"]);
    let of = |bytes: &[u8]| dir.path().join(OsStr::from_bytes(bytes));
    fs::create_dir(of(b"caf\xE9")).expect("creates");
    fs::write(of(b"caf\xE9/cr\xE8me.jpg"), JPEG).expect("writes");
    fs::write(of(b"caf\xE9/\xFF.txt"), "text").expect("writes");
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert_eq!(folder.classes(), ["a", "caf\u{FFFD}"]);
    assert_eq!(folder.samples()[1].path, of(b"caf\xE9/cr\xE8me.jpg"));
    let json = serde_json::to_string(folder.skipped()).expect("JSON");
    assert!(json.contains("\u{FFFD}.txt"), "{json}");
    // Another class would have the same name then.
    fs::create_dir(of(b"caf\xE8")).expect("creates");
    fs::write(of(b"caf\xE8/2.jpg"), JPEG).expect("writes");
    let error = ImageFolder::open(dir.path()).expect_err("fails").to_string();
    assert!(error.contains("two folders would be the class"), "{error}");
}

#[test]
fn validation_folders_say_what_they_skip() {
    let (dir, other) =
        (many(&[("a", 3), ("b", 3)]), folder(&["a/1.jpg", "b/2.jpg", "b/notes.txt"]));
    let folder = ImageFolder::open(dir.path()).expect("opens").valid_folder(other.path());
    let parts = folder.parts().expect("splits");
    assert_eq!((parts.train.len(), parts.valid.len(), parts.skipped.len()), (6, 2, 1));
    let error = folder.strict(true).split().expect_err("strict").to_string();
    assert!(error.contains("notes.txt"), "{error}");
}

#[test]
fn split_is_stratified_and_seeded() {
    let dir = many(&[("a", 10), ("b", 5), ("c", 1), ("d", 2)]);
    let open =
        |seed| ImageFolder::open(dir.path()).expect("opens").seed(seed).split().expect("splits");
    let (train, valid) = open(1);
    let count = |part: &[Sample], class| part.iter().filter(|s| s.class() == class).count();
    assert_eq!([0, 1, 2, 3].map(|class| count(&valid, class)), [2, 1, 0, 1]);
    assert_eq!(train.len() + valid.len(), 18);
    assert!(train.iter().all(|sample| !valid.contains(sample)));
    assert_eq!(open(1), (train.clone(), valid.clone()));
    assert_ne!(open(2).1, valid);
}

#[test]
fn bad_folders_say_what_is_wrong() {
    let error =
        |dir: &tempfile::TempDir| ImageFolder::open(dir.path()).expect_err("fails").to_string();
    assert!(error(&folder(&["a/1.jpg", "b/"])).contains("no photos"));
    assert!(error(&folder(&[])).contains("no class folders"));
    assert!(error(&folder(&["a/1.jpg"])).contains("only one class, `a`"));
    assert!(
        ImageFolder::open("/nonexistent").expect_err("fails").to_string().contains("/nonexistent")
    );
    let spoilt = folder(&["a/1.jpg", "b/1.txt", "b/2.txt", "b/3.jpg"]);
    fs::write(spoilt.path().join("b/3.jpg"), "").expect("empties");
    let message = error(&spoilt);
    let files = "3 files skipped: not a photo of a known kind (2), the file is empty (1)";
    assert!(message.contains("/b: no photos") && message.contains(files), "{message}");
    let dir = many(&[("a", 3), ("b", 3)]);
    let open = || ImageFolder::open(dir.path()).expect("opens");
    assert!(open().valid_split(1.5).split().expect_err("fails").to_string().contains("1.5"));
    let other = many(&[("a", 1), ("z", 1)]);
    let message = open().valid_folder(other.path()).split().expect_err("fails").to_string();
    assert!(message.contains("class `z`"), "{message}");
}

/// What is said of a folder, or why it is not taken.
fn said(files: &[&str]) -> Result<(usize, Option<usize>, Vec<String>), String> {
    let dir = folder(files);
    let root = dir.path().display().to_string();
    let text = |error: VisionError| error.to_string().replace(&root, "photos");
    let folder = ImageFolder::open(dir.path()).map_err(text)?;
    let valid = matches!(folder.split, Split::Folder(_));
    let valid = valid.then(|| folder.parts().expect("splits").valid.len());
    let notes = folder.notes().into_iter().map(|note| note.replace(&root, "photos"));
    Ok((folder.samples().len(), valid, notes.collect()))
}

#[test]
fn folders_that_are_split_are_used_as_such() {
    let train = ["train/a/1.jpg", "train/b/1.jpg", "train/b/2.jpg"];
    let with = |more: &[&str]| said(&[&train[..], more].concat());
    for (validation, test) in [("validation", "test"), ("val", "testing"), ("Valid", "TEST")] {
        let [one, two] = ["a", "b"].map(|class| format!("{validation}/{class}/9.jpg"));
        let tested = format!("{test}/a/7.jpg");
        let (samples, valid, notes) = with(&[&one, &two, &tested]).expect("opens");
        assert_eq!((samples, valid), (3, Some(2)));
        let [note] = &notes[..] else { panic!("{notes:?}") };
        let left = format!("`{test}` is left for `rekindle evaluate MODEL photos/{test}`");
        assert!(note.starts_with("photos is split already: `train` is trained on"), "{note}");
        assert!(note.contains(&format!("`{validation}` is validated on, {left}")), "{note}");
    }
    // A share of what is trained on is validated on then.
    let (samples, valid, notes) = with(&["test/a/7.jpg", "readme.txt"]).expect("opens");
    assert_eq!((samples, valid, notes.len()), (3, None, 1));
    // As competitions have it.
    let (samples, _, notes) = with(&["test/7.jpg"]).expect("opens");
    assert!(samples == 3 && notes[0].contains("rekindle predict MODEL photos/test"), "{notes:?}");

    for (more, message) in [
        (&["val/a/1.jpg", "val/c/1.jpg"][..], "`val` has a class `c`, which `train` has not"),
        (&["val/a/1.jpg", "valid/a/1.jpg"], "both `val` and `valid` are there"),
        (&["val/a/1.jpg", "test/a/1.jpg", "validation/b/2.jpg"], "both"),
        (&["val/1.jpg", "test/a/1.jpg"], "`val` has no folders of classes"),
    ] {
        let error = with(more).expect_err("is neither");
        assert!(error.contains(message) && error.contains("--classes-are-folders"), "{error}");
    }
    // Photos of trains and tests, of kinds of them, and beside cats.
    for classes in [
        &["train/1.jpg", "test/1.jpg"][..],
        &["train/steam/1.jpg", "test/written/1.jpg"],
        &["train/a/1.jpg", "cats/1.jpg"],
    ] {
        assert_eq!(said(classes), Ok((2, None, vec![])), "{classes:?}");
    }
    let (samples, _, notes) = with(&["val/a/1.jpg", "cats/1.jpg"]).expect("opens");
    assert!(samples == 5 && notes[0].contains("every folder is taken as a class"), "{notes:?}");
}

#[test]
fn a_split_can_be_had_otherwise() {
    let files = ["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "train/b/2.jpg"];
    let dir =
        folder(&[&files[..], &["val/a/9.jpg", "val/b/9.jpg", "test/a/7.jpg", "x.txt"]].concat());
    let folder = ImageFolder::open_classes(dir.path()).expect("opens");
    assert_eq!((folder.classes().len(), folder.samples().len()), (3, 7));
    assert_eq!(folder.notes(), Vec::<String>::new());
    let folder = ImageFolder::open(dir.path()).expect("opens");
    assert_eq!(folder.skipped()[0].reason, "not in a class folder");
    let drawn = folder.valid_split(0.5);
    assert_eq!(drawn.split().expect("splits").1.len(), 2);
    assert!(drawn.notes()[0].contains("`val` is not used"), "{:?}", drawn.notes());

    let tested = ImageFolder::labelled(dir.path()).expect("opens");
    assert_eq!((tested.path(), tested.samples().len()), (&*dir.path().join("test"), 1));
    assert!(tested.notes()[0].contains("/test are taken"), "{:?}", tested.notes());
    std::fs::remove_dir_all(dir.path().join("test")).expect("removes");
    let validated = ImageFolder::labelled(dir.path()).expect("opens");
    assert_eq!(validated.samples().len(), 2);
    let all = ImageFolder::labelled_classes(dir.path()).expect("opens");
    assert_eq!(all.classes(), ["train", "val"]);
}
