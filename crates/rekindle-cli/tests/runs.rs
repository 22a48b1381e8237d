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
