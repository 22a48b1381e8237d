//! Runs that are killed and go on, and what a run leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn photos(classes: usize, count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let all = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../demo/photos");
    let mut names: Vec<_> =
        fs::read_dir(&all).expect("lists").map(|f| f.expect("reads").path()).collect();
    names.sort();
    for class in names.into_iter().filter(|path| path.is_dir()).take(classes) {
        let to = dir.path().join(class.file_name().expect("a name"));
        fs::create_dir(&to).expect("creates");
        let mut files: Vec<_> =
            fs::read_dir(&class).expect("lists").map(|f| f.expect("reads").path()).collect();
        files.sort();
        for file in &files[..count] {
            fs::copy(file, to.join(file.file_name().expect("a name"))).expect("copies");
        }
    }
    dir
}

fn train(photos: &Path, out: &Path, epochs: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command
        .arg("train")
        .arg(photos)
        .args(["--size", "32", "--batch", "4", "--epochs", epochs, "--plain"]);
    command.args([
        "--fine-tune",
        "block_15_add",
        "--fine-tune-epochs",
        "4",
        "--fine-tune-lr",
        "1e-4",
    ]);
    command.args(["--augment", "standard"]);
    command
        .arg("--out")
        .arg(out.join("model.rekindle"))
        .arg("--report")
        .arg(out.join("report.json"));
    command.args(more).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The losses of every epoch, and the numbers of the model's file: what stands before them has no one order.
fn result(out: &Path) -> (Vec<Value>, Vec<u8>) {
    let report = fs::read_to_string(out.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let epochs = report["epochs"].as_array().expect("epochs").iter();
    let losses = epochs.flat_map(|epoch| [epoch["loss"].clone(), epoch["val_loss"].clone()]);
    let model = fs::read(out.join("model.rekindle")).expect("a model");
    let header = u64::from_le_bytes(model[..8].try_into().expect("8 bytes")) as usize;
    (losses.collect(), model[8 + header..].to_vec())
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_with_the_same_numbers() {
    let photos = photos(2, 7);
    let (whole, killed) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let start = Instant::now();
    let status = train(photos.path(), whole.path(), "6", &[]).status().expect("starts");
    assert!(status.success());
    let length = start.elapsed();
    let expected = result(whole.path());
    assert_eq!(expected.0.len(), 20);
    let checkpoint = killed.path().join("run.checkpoint");
    let resume = ["--checkpoint", checkpoint.to_str().expect("text"), "--resume"];
    // Moments that depend on nothing but this number.
    let (mut state, mut kills, mut ends) = (12345_u64, 0, 0);
    while kills < 20 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % (length.as_micros() as u64));
        let mut child = train(photos.path(), killed.path(), "6", &resume).spawn().expect("starts");
        std::thread::sleep(wait);
        if child.try_wait().expect("waits").is_some_and(|status| status.success()) {
            // It had ended: with the same numbers, and the next begins anew.
            assert!(
                result(killed.path()) == expected,
                "{:?}, not {:?}",
                result(killed.path()).0,
                expected.0
            );
            fs::remove_file(&checkpoint).expect("removes");
            ends += 1;
            assert!(ends < 40);
            continue;
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        kills += 1;
    }
    let output = train(photos.path(), killed.path(), "6", &resume).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        result(killed.path()) == expected,
        "{:?}, not {:?}",
        result(killed.path()).0,
        expected.0
    );
    // Nothing else was left there but hidden files that were being written.
    let left = fs::read_dir(killed.path()).expect("lists").map(|f| f.expect("reads").file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// The command with this folder as its own.
fn run_in(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.args(args).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What is unpacked goes there.
    command.env("REKINDLE_CACHE", folder.join("cache"));
    command
}

/// What a command that must succeed says on stderr.
fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = run_in(folder, args).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// What a command that must fail says on stderr.
fn fail(folder: &Path, args: &[&str]) -> String {
    let output = run_in(folder, args).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    said
}

#[test]
fn a_head_on_shards_has_the_numbers_of_one_machine() {
    let photos = photos(3, 8);
    let dir = tempfile::tempdir().expect("a folder");
    let data = photos.path().to_str().expect("text");
    // A photo that cannot be decoded, and a file that is none.
    let class = fs::read_dir(photos.path()).expect("lists").next().expect("one").expect("reads");
    let torn = fs::read_dir(class.path()).expect("lists").next().expect("one").expect("reads");
    let bytes = fs::read(torn.path()).expect("reads");
    fs::write(torn.path(), &bytes[..bytes.len() / 2]).expect("writes");
    fs::write(class.path().join("notes.txt"), "no photo").expect("writes");
    let settings = ["--size", "32", "--resize", "tf-bilinear"];
    let training = ["--epochs", "3", "--batch", "4", "--seed", "7", "--plain"];
    let out = ["--out", "model.rekindle", "--report", "report.json"];
    let with = |begin: &[&str], more: &[&[&str]]| -> Vec<String> {
        begin.iter().chain(more.iter().copied().flatten()).map(|&word| word.to_owned()).collect()
    };
    let run = |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        succeed(dir.path(), &words)
    };
    run(with(&["train", data], &[&settings, &training, &out]));
    let expected = result(dir.path());
    for shards in ["1", "3"] {
        let folder = format!("features-{shards}");
        for index in 0..shards.parse::<usize>().expect("a number") {
            let shard = format!("{index}/{shards}");
            let more = ["--shard", &shard, "--out", &folder, "--plain"];
            let said = run(with(&["features", data], &[&settings, &more]));
            assert!(
                said.contains("layer `head_average_pooling`") && said.contains("[1280]"),
                "{said}"
            );
            let again = run(with(&["features", data], &[&settings, &more]));
            assert!(again.contains("already"), "{again}");
        }
        // How photos are taken is known from the features.
        let said = run(with(&["train", "--features", &folder], &[&training, &out]));
        assert!(said.contains("computed with f32 and kept as f32"), "{said}");
        assert!(said.contains("resize tf-bilinear (from the file)"), "{said}");
        assert!(result(dir.path()) == expected, "{:?}", result(dir.path()).0);
        let report = fs::read_to_string(dir.path().join("report.json")).expect("a report");
        assert!(report.contains("notes.txt") && report.contains("truncated"), "{report}");
    }
    // The same photos in a compressed tar are in the same order.
    let tar = dir.path().join("photos.tar.gz");
    let gzip = flate2::write::GzEncoder::new(
        fs::File::create(&tar).expect("creates"),
        flate2::Compression::fast(),
    );
    let mut tar = tar::Builder::new(gzip);
    tar.append_dir_all("", photos.path()).expect("writes");
    tar.into_inner().expect("writes").finish().expect("writes");
    let more = ["--out", "features-tar", "--plain"];
    let said = run(with(&["features", "photos.tar.gz"], &[&settings, &more]));
    assert!(said.contains("note: 1 file is unpacked in") && said.contains("cache"), "{said}");
    run(with(&["train", "--features", "features-tar"], &[&training, &out]));
    assert!(result(dir.path()) == expected, "{:?}", result(dir.path()).0);
    let train = ["train", "--features", "features-3", "--plain"];
    for (more, said) in [
        (["--size", "64"], "the photos' preprocessing"),
        (["--base", "mobilenet"], "the network"),
        (["--freeze-until", "block_15_add"], "`block_15_add`; compute them with the same head"),
        (["--fine-tune", "block_15_add"], "phase 2 trains on those of `block_15_add`"),
    ] {
        let words = with(
            &train,
            &[&more, if more[1] == "mobilenet" { &["--weights", "random"] } else { &[] }],
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let error = fail(dir.path(), &words);
        assert!(error.contains(said), "{more:?}: {error}");
    }
    fs::remove_file(dir.path().join("features-3/features-00001-of-00003.safetensors"))
        .expect("is there");
    let error = fail(dir.path(), &train);
    assert!(error.contains("1 of 3 shards are missing: 1/3"), "{error}");
    let error = fail(dir.path(), &["features", data, "--out", "x", "--until", "no_layer"]);
    assert!(error.contains("no_layer"), "{error}");
}

/// Kills a command at 20 moments, which do not depend on chance, each time that it is not done yet; begins anew with what
/// `clear` leaves where it is.
fn kill(mut command: impl FnMut() -> Command, mut clear: impl FnMut()) {
    let start = Instant::now();
    let output = command().output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let length = start.elapsed();
    clear();
    let (mut state, mut kills, mut ends) = (54321_u64, 0, 0);
    while kills < 20 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % (length.as_micros() as u64));
        let mut child = command().spawn().expect("starts");
        std::thread::sleep(wait);
        if child.try_wait().expect("waits").is_some_and(|status| status.success()) {
            clear();
            ends += 1;
            assert!(ends < 40);
            continue;
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        kills += 1;
    }
    let output = command().output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shards_that_are_killed_at_any_moment_end_with_the_same_bytes() {
    let photos = photos(3, 16);
    let (whole, killed) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let data = photos.path().to_str().expect("text");
    let features =
        ["features", data, "--size", "64", "--out", "features", "--part", "4", "--plain"];
    let predict = [
        "predict",
        "mobilenet-v2",
        data,
        "--size",
        "64",
        "--shard",
        "0/2",
        "--part",
        "4",
        "--out",
        "predictions.csv",
    ];
    let model = whole.path().join("model.rekindle");
    let model = model.to_str().expect("text");
    succeed(whole.path(), &["train", data, "--size", "64", "--epochs", "1", "--out", model]);
    let predict = predict.map(|word| if word == "mobilenet-v2" { model } else { word });
    let files = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for name in ["features", "."] {
            for entry in fs::read_dir(folder.join(name)).expect("lists") {
                let path = entry.expect("reads").path();
                let own = path.strip_prefix(folder).expect("is there").to_owned();
                assert!(!own.to_string_lossy().contains(".parts"), "{} is left", own.display());
                if !own.ends_with("model.rekindle") && path.is_file() {
                    found.push((own, fs::read(&path).expect("reads")));
                }
            }
        }
        found.sort();
        found
    };
    succeed(whole.path(), &features);
    succeed(whole.path(), &predict);
    let expected = files(whole.path());
    assert_eq!(expected.len(), 3, "features, predictions and their state");
    let clear = |name: &str| drop(fs::remove_file(killed.path().join(name)));
    kill(
        || run_in(killed.path(), &features),
        || clear("features/features-00000-of-00001.safetensors"),
    );
    kill(
        || run_in(killed.path(), &predict),
        || {
            clear("predictions.csv");
            clear("predictions.csv.state");
        },
    );
    let found = files(killed.path());
    let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    assert!(found == expected, "other bytes");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let (photos, out) = (photos(2, 7), tempfile::tempdir().expect("a folder"));
    let checkpoint = out.path().join("run.checkpoint");
    let path = checkpoint.to_str().expect("text");
    let mut command = train(photos.path(), out.path(), "100000", &["--checkpoint", path]);
    let child = command.spawn().expect("starts");
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let status =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kills");
    assert!(status.success());
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--resume") && said.contains(path), "{said}");
    assert!(!out.path().join("model.rekindle").exists());
}

#[test]
fn a_run_leaves_the_records_that_were_asked_for() {
    let (photos, out) = (photos(3, 5), tempfile::tempdir().expect("a folder"));
    let path = |name: &str| out.path().join(name).to_str().expect("text").to_owned();
    let names = ["log.csv", "log.jsonl", "runs", "page.html", "features"].map(path);
    let [csv, json, runs, page, features] = &names;
    let more = [
        "--csv-log",
        csv,
        "--json-log",
        json,
        "--tensorboard",
        runs,
        "--html",
        page,
        "--feature-cache",
        features,
        "--optimizer",
        "nesterov",
        "--schedule",
        "cosine:0.1",
        "--label-smoothing",
        "0.1",
        "--balance",
        "--clip-norm",
        "1",
        "--early-stopping",
        "50",
        "--accumulate",
        "2",
    ];
    let output = train(photos.path(), out.path(), "6", &more).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(csv).expect("a log").lines().count(), 11);
    assert_eq!(fs::read_to_string(json).expect("a log").lines().count(), 10);
    assert_eq!(fs::read_dir(runs).expect("lists").count(), 1);
    let html = fs::read_to_string(page).expect("a page");
    assert!(html.contains("<svg") && html.contains("Confusion matrix") && !html.contains("http"));

    let model = path("model.rekindle");
    let photo = photos.path().join("birds/blackbird.jpg");
    let (heat, confusion) = (path("heat.png"), path("confusion.png"));
    let run = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_rekindle")).args(args).output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    run(&["predict", &model, photo.to_str().expect("text"), "--explain", &heat]);
    let all = photos.path().to_str().expect("text");
    let said = run(&["evaluate", &model, all, "--confusion", &confusion, "--html", page]);
    assert!(said.contains("precision") && said.contains("ROC-AUC"), "{said}");
    for picture in [&heat, &confusion] {
        assert!(fs::read(picture).expect("a picture").starts_with(b"\x89PNG"));
    }
    let found = run(&["train", all, "--size", "32", "--find-lr", "--out", &model]);
    assert!(found.contains("suggested rate") && out.path().join("rates.png").exists(), "{found}");
}

/// What a full disk looks like: files may have no more than some kilobytes. The error names the file, the last checkpoint is as it
/// was, and the run goes on from it when there is room again.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint_as_it_was() {
    let photos = photos(2, 7);
    let out = tempfile::tempdir().expect("a folder");
    let checkpoint = out.path().join("run.checkpoint");
    let resume = ["--checkpoint", checkpoint.to_str().expect("text"), "--resume"];
    let mut child = train(photos.path(), out.path(), "6", &resume).spawn().expect("starts");
    let start = Instant::now();
    while !checkpoint.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    let before = fs::read(&checkpoint).expect("a checkpoint");
    assert!(before.len() > 16 * 1024);
    let full = train(photos.path(), out.path(), "6", &resume);
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(full.get_program())
        .args(full.get_args())
        .output()
        .expect("starts");
    let error = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{error}");
    let first = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(
        first.contains("too large") && first.contains(out.path().to_str().expect("text")),
        "{error}"
    );
    assert!(fs::read(&checkpoint).expect("still there") == before, "the checkpoint was changed");
    let output = train(photos.path(), out.path(), "6", &resume).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(result(out.path()).0.len(), 20);
}

/// Where nothing can be written the error names the place, whatever was to be written there.
#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_written_are_named() {
    let photos = photos(2, 4);
    let out = tempfile::tempdir().expect("a folder");
    for option in [
        "--checkpoint",
        "--csv-log",
        "--json-log",
        "--tensorboard",
        "--html",
        "--curves",
        "--feature-cache",
        "--out",
    ] {
        let more = [option, "/proc/no/file"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command.arg("train").arg(photos.path()).args(["--size", "32", "--epochs", "1", "--plain"]);
        if option != "--out" {
            command.arg("--out").arg(out.path().join("model.rekindle"));
        }
        let output = command.args(more).output().expect("starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{option}: {error}");
        assert!(error.contains("error: ") && error.contains("/proc/no"), "{option}: {error}");
    }
}
