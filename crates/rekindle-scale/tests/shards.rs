//! Tasks with a network that is quickly computed.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use rekindle_nn::Shape;
use rekindle_train::{
    Event, Extracted, FeatureSource, Observer, Photos, Provenance, TrainError, Undecoded,
};
use rekindle_vision::{Place, Preprocessing, Resize, Sample, Shard, Share, Skipped};
use sha2::{Digest, Sha256};

use rekindle_scale::{
    Compute, Content, Done, Each, Element, Format, ScaleError, ShardFile, Shards, Task,
};

/// Numbers of a photo.
const WIDTH: usize = 3;

/// Makes a file's length, first byte and last byte of it; files that end with `!` cannot be decoded.
struct Fake {
    provenance: Provenance,
    computed: Cell<usize>,
}

impl Fake {
    fn new(change: impl FnOnce(&mut Provenance)) -> Self {
        let photos = Photos::new(Shape::image(8), Resize::Bilinear, Preprocessing::Tf);
        let photos = photos.expect("fits");
        let json = serde_json::json!({
            "network": "fake", "model": "ab", "until": "pool", "shape": [WIDTH],
            "photos": photos, "precision": "f32",
        });
        let mut provenance = serde_json::from_value(json).expect("all fields");
        change(&mut provenance);
        Self { provenance, computed: Cell::new(0) }
    }

    fn row(bytes: &[u8]) -> [f32; WIDTH] {
        let at = |place: Option<&u8>| f32::from(*place.expect("no file is empty")) + 0.1;
        [bytes.len() as f32, at(bytes.first()), at(bytes.last())]
    }
}

impl Compute for Fake {
    fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    fn each(
        &self,
        samples: &[&Sample],
        _: bool,
        observer: &mut dyn Observer,
        each: &mut Each<'_>,
    ) -> Result<(), TrainError> {
        for (number, sample) in samples.iter().enumerate() {
            let bytes = sample.bytes()?;
            self.computed.set(self.computed.get() + 1);
            let hash = Sha256::digest(&bytes).into();
            let values = Self::row(&bytes);
            let flow = if bytes.ends_with(b"!") {
                let file = Skipped { path: sample.path.clone(), reason: "it is torn".into() };
                each(number, Err(Undecoded::new(file, Some(hash))))
            } else {
                each(number, Ok(Extracted::new(&values, hash, false)))
            };
            observer.on_event(&Event::Features { done: number + 1, total: samples.len() });
            if flow.is_break() || observer.stops() {
                break;
            }
        }
        Ok(())
    }
}

/// Stops after a number of photos.
struct Stop(usize);

impl Observer for Stop {
    fn on_event(&mut self, event: &Event<'_>) {
        if let Event::Features { .. } = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn stops(&mut self) -> bool {
        self.0 == 0
    }
}

/// A BMP as far as its first bytes say, of this content.
fn photo(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it has one")).expect("creates");
    let mut bytes = b"BM\x40\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend(content.as_bytes());
    fs::write(path, bytes).expect("writes");
}

/// Three classes of photos.
fn photos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for number in 0..60 {
        let class = ["a", "b b", "c"][number % 3];
        let path = format!("{class}/{}/{number}.bmp", number % 2);
        photo(dir.path(), &path, &format!("content {number}"));
    }
    fs::write(dir.path().join("c/notes.txt"), "no photo").expect("writes");
    photo(dir.path(), "c/torn.bmp", "half!");
    dir
}

fn shard(index: usize, count: usize) -> Shard {
    Shard::new(index, count).expect("there is one")
}

fn task(data: &Path, out: &Path, shard: Shard, fake: &Fake) -> Task {
    let share = Share::labelled(data, false, shard).expect("lists");
    Task::features(share, shard, fake.provenance.clone(), out, Format::Safetensors).part(4)
}

fn run(data: &Path, out: &Path, count: usize) -> Vec<Done> {
    let fake = Fake::new(|_| ());
    (0..count)
        .map(|index| {
            task(data, out, shard(index, count), &fake).run(&fake, &mut ()).expect("computes")
        })
        .collect()
}

/// All files below a folder, with their bytes.
fn all(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("reads")
        .flat_map(|entry| {
            let path = entry.expect("reads").path();
            match path.is_dir() {
                true => {
                    let mut below = all(&path);
                    below.push((path, Vec::new()));
                    below
                }
                false => vec![(path.clone(), fs::read(&path).expect("reads"))],
            }
        })
        .collect();
    found.sort();
    found
}

fn said(result: Result<impl std::fmt::Debug, ScaleError>) -> String {
    result.expect_err("must fail").to_string()
}

#[test]
fn any_number_of_shards_is_one_data_set() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let folder = rekindle_vision::ImageFolder::open(data.path()).expect("opens");
    let mut seen = Vec::new();
    for count in [1, 4, 7] {
        let out = dir.path().join(count.to_string());
        let done = run(data.path(), &out, count);
        assert_eq!(done.iter().map(|done| done.photos).sum::<usize>(), 61);
        assert_eq!(done.iter().map(|done| done.lost.len()).sum::<usize>(), 1);
        assert_eq!(done.iter().map(|done| done.skipped.len()).sum::<usize>(), 1);
        assert_eq!(all(&out).len(), count, "only the shards are left");
        let shards = Shards::open(&out).expect("opens");
        let source = shards.source();
        let found = shards.data();
        assert_eq!(found.classes(), folder.classes());
        // The order of one machine, the damaged photo too, from which the split is drawn.
        assert_eq!(found.samples().len(), 61);
        for (ours, theirs) in found.samples().iter().zip(folder.samples()) {
            assert_eq!(data.path().join(&ours.path), theirs.path);
            assert_eq!(ours.labels, theirs.labels);
            let Place::Row(row) = ours.place else { panic!("a row, or none") };
            let bytes = fs::read(&theirs.path).expect("reads");
            assert_eq!(row.is_none(), bytes.ends_with(b"!"));
            if let Some(row) = row {
                let mut values = [0.0; WIDTH];
                source.read(row, &mut values).expect("reads");
                assert_eq!(values, Fake::row(&bytes));
            }
        }
        let skipped: Vec<_> = found.skipped().iter().map(|file| file.path.clone()).collect();
        assert_eq!(skipped, [Path::new("c/notes.txt"), Path::new("c/torn.bmp")]);
        let (train, valid) = found.split().expect("splits");
        let names = |samples: &[Sample]| -> Vec<PathBuf> {
            samples.iter().map(|sample| sample.path.clone()).collect()
        };
        seen.push((names(&train), names(&valid)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[test]
fn only_what_changed_is_computed_again() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let (data, out) = (data.path(), dir.path());
    let computed = |done: &[Done]| done.iter().map(|done| done.computed).collect::<Vec<_>>();
    assert_eq!(computed(&run(data, out, 2)).iter().sum::<usize>(), 61);
    let before = all(out);
    let again = run(data, out, 2);
    assert!(again.iter().all(|done| done.is_unchanged && done.computed == 0), "{again:?}");
    assert_eq!(all(out), before);
    // One photo changed, one came, one went, one was mended.
    photo(data, "a/0/0.bmp", "another");
    photo(data, "a/new.bmp", "new");
    fs::remove_file(data.join("b b/1/1.bmp")).expect("is there");
    photo(data, "c/torn.bmp", "whole");
    let done = run(data, out, 2);
    assert_eq!(computed(&done).iter().sum::<usize>(), 3);
    let files = before.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let paths = ["a/0/0.bmp", "a/new.bmp", "b b/1/1.bmp", "c/torn.bmp"];
    for (index, file) in files.iter().enumerate() {
        let own = paths.iter().filter(|path| Shard::of(path.as_ref(), 2) == index).count();
        let same = fs::read(file).expect("reads") == before[index].1;
        assert_eq!(same, own == 0, "a photo moves no other");
    }
    // What is there now is what a first run would have made.
    let fresh = tempfile::tempdir().expect("a folder");
    run(data, fresh.path(), 2);
    let bytes = |folder: &Path| all(folder).into_iter().map(|(_, b)| b).collect::<Vec<_>>();
    assert_eq!(bytes(out), bytes(fresh.path()));
}

#[test]
fn what_is_stopped_goes_on_and_ends_the_same() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let whole = tempfile::tempdir().expect("a folder");
    run(data.path(), whole.path(), 1);
    let fake = Fake::new(|_| ());
    for after in [3, 1, 9, 25] {
        let task = task(data.path(), dir.path(), Shard::WHOLE, &fake);
        let error = said(task.run(&fake, &mut Stop(after)));
        assert!(error.contains("of 61 photos; run again"), "{error}");
    }
    assert_eq!(fake.computed.get(), 3 + 1 + 9 + 25);
    // A part that the disk lost half of, and one that was never finished.
    let parts = dir.path().join(".features-00000-of-00001.safetensors.parts");
    let lost = parts.join("part-000001.safetensors");
    let bytes = fs::read(&lost).expect("is there");
    fs::write(&lost, &bytes[..bytes.len() / 2]).expect("writes");
    fs::write(parts.join("writing-1"), "half").expect("writes");
    let done =
        task(data.path(), dir.path(), Shard::WHOLE, &fake).run(&fake, &mut ()).expect("computes");
    assert_eq!(done.computed, 61 - 38 + 1, "but for what the lost part held");
    let bytes = |folder: &Path| all(folder).into_iter().map(|(_, b)| b).collect::<Vec<_>>();
    assert_eq!(bytes(dir.path()), bytes(whole.path()));
}

#[test]
fn every_damage_of_a_shard_is_noticed() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    run(data.path(), dir.path(), 16);
    let path = dir.path().join("features-00003-of-00016.safetensors");
    let bytes = fs::read(&path).expect("reads");
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).expect("writes");
        assert!(ShardFile::open(&path).is_err(), "{length} bytes");
    }
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        fs::write(&path, &altered).expect("writes");
        // Spaces that pad the header say nothing.
        let is_noticed = ShardFile::open(&path).is_err();
        assert!(is_noticed || bytes[position] == b' ', "byte {position}");
    }
    let mut altered = bytes.clone();
    let last = altered.len() - 100;
    altered[last] ^= 1;
    fs::write(&path, &altered).expect("writes");
    let error = said(Shards::open(dir.path()));
    assert!(error.contains("features-00003-of-00016") && error.contains("altered"), "{error}");
    // A task makes it anew.
    let fake = Fake::new(|_| ());
    task(data.path(), dir.path(), shard(3, 16), &fake).run(&fake, &mut ()).expect("computes");
    assert_eq!(fs::read(&path).expect("reads"), bytes);
}

#[test]
fn shards_that_do_not_belong_together_are_named() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let out = dir.path();
    run(data.path(), out, 3);
    let file = |index: usize| out.join(format!("features-0000{index}-of-00003.safetensors"));
    let own = fs::read(file(1)).expect("reads");
    let open = || said(Shards::open(out));
    fs::remove_file(file(1)).expect("is there");
    assert!(open().contains("1 of 3 shards are missing: 1/3"), "{}", open());
    let copy = out.join("copy.safetensors");
    fs::copy(file(2), &copy).expect("copies");
    fs::write(file(1), &own).expect("writes");
    assert!(open().contains("are both shard 2/3"), "{}", open());
    fs::remove_file(&copy).expect("is there");
    assert!(Shards::open(out).is_ok());
    type Change = fn(&mut Provenance);
    let changes: [(&str, Change); 5] = [
        ("weights of hash ab", |own| own.model = "cd".into()),
        ("the layer: pool here, other there", |own| own.until = Some("other".into())),
        ("preprocessing", |own| own.photos.preprocessing = Preprocessing::Caffe),
        ("preprocessing", |own| own.photos.height = 9),
        ("precision: f32 here, bf16 there", |own| own.precision = "bf16".into()),
    ];
    for (what, change) in changes {
        let fake = Fake::new(change);
        let task = || task(data.path(), out, shard(1, 3), &fake);
        // A task does not write over what others computed.
        let error = said(task().run(&fake, &mut ()));
        assert!(error.contains("with other settings") && error.contains(what), "{error}");
        assert_eq!(fs::read(file(1)).expect("reads"), own);
        fs::remove_file(file(1)).expect("is there");
        task().run(&fake, &mut ()).expect("computes");
        let error = open();
        assert!(error.contains("do not belong together") && error.contains(what), "{error}");
        assert!(error.contains("features-00001-of-00003"), "{error}");
        fs::write(file(1), &own).expect("writes");
    }
    let fake = Fake::new(|_| ());
    fs::remove_file(file(1)).expect("is there");
    task(data.path(), out, shard(1, 3), &fake)
        .element(Element::F16)
        .run(&fake, &mut ())
        .expect("computes");
    assert!(open().contains("the element: f32 here, f16 there"), "{}", open());
    fs::write(file(1), &own).expect("writes");
    run(data.path(), out, 2);
    assert!(open().contains("of 2 shards, the other of 3"), "{}", open());
    let empty = tempfile::tempdir().expect("a folder");
    assert!(said(Shards::open(empty.path())).contains("no features here"));
    // A photo of another shard: its file was put together by hand.
    let other = tempfile::tempdir().expect("a folder");
    let moved = other.path().join("features-00000-of-00001.safetensors");
    fs::copy(file(1), &moved).expect("copies");
    assert!(said(Shards::open(other.path())).contains("shards are missing: 0/3, 2/3"));
}

#[test]
fn halves_are_rounded_and_what_they_cannot_hold_is_an_error() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let fake = Fake::new(|_| ());
    let task = || task(data.path(), dir.path(), Shard::WHOLE, &fake).element(Element::F16);
    task().run(&fake, &mut ()).expect("computes");
    let file = ShardFile::open(dir.path().join("features-00000-of-00001.safetensors"));
    let mut values = [0.0; WIDTH];
    file.expect("opens").read(0, &mut values).expect("reads");
    let expected = Fake::row(&fs::read(data.path().join("a/0/0.bmp")).expect("reads"));
    for (found, expected) in values.into_iter().zip(expected) {
        assert_eq!(found, half::f16::from_f32(expected).to_f32());
    }
    photo(data.path(), "a/long.bmp", &"x".repeat(70_000));
    let error = said(task().run(&fake, &mut ()));
    assert!(error.contains("a/long.bmp") && error.contains("take f32"), "{error}");
}

#[test]
fn predictions_are_text_and_go_on_the_same_way() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let fake = Fake::new(|_| ());
    let classes = || vec!["long".to_owned(), "first, of all".into(), "last".into()];
    let run = |name: &str, content, observer: &mut dyn Observer| {
        let target = dir.path().join(name);
        let format = Format::of(&target).expect("is known");
        let share = Share::unlabelled(data.path(), shard(1, 2)).expect("lists");
        let own = fake.provenance.clone();
        let task = Task::new(share, shard(1, 2), own, content, target, format);
        task.classes(classes()).part(3).run(&fake, observer)
    };
    assert!(said(run("top.csv", Content::Top(2), &mut Stop(7))).contains("stopped after 7"));
    let done = run("top.csv", Content::Top(2), &mut ()).expect("computes");
    assert_eq!(done.computed, done.photos - 7);
    let text = || fs::read_to_string(dir.path().join("top.csv")).expect("reads");
    let lines = text();
    assert!(lines.starts_with("image,class_1,probability_1,class_2,probability_2,error\n"));
    let share = Share::unlabelled(data.path(), shard(1, 2)).expect("lists");
    assert_eq!(lines.lines().count(), 1 + share.photos.len() + share.skipped.len());
    let [long, first, last] = Fake::row(&fs::read(&share.photos[0].sample.path).expect("reads"));
    assert!(first > last && last > long);
    let photo = share.photos[0].path.display();
    let expected = format!("{photo},\"first, of all\",{first},last,{last},");
    assert_eq!(lines.lines().nth(1), Some(expected.as_str()));
    let again = run("top.csv", Content::Top(2), &mut ()).expect("is there");
    assert!(again.is_unchanged && again.computed == 0);
    // A table that is gone, or was changed, is written again and nothing computed.
    for damage in [None, Some("image,class_1\n")] {
        match damage {
            None => fs::remove_file(dir.path().join("top.csv")).expect("is there"),
            Some(text) => fs::write(dir.path().join("top.csv"), text).expect("writes"),
        }
        let again = run("top.csv", Content::Top(2), &mut ()).expect("writes");
        assert!(!again.is_unchanged && again.computed == 0);
        assert_eq!(text(), lines);
    }
    let error = said(run("top.csv", Content::Top(1), &mut ()));
    assert!(
        error.contains("what is kept: the best 2 classes here, the best 1 classes there"),
        "{error}"
    );
    run("all.jsonl", Content::Probabilities, &mut ()).expect("computes");
    let lines = fs::read_to_string(dir.path().join("all.jsonl")).expect("reads");
    let first: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["probabilities"].as_array().map(Vec::len), Some(WIDTH));
    let torn = |line: &&str| line.contains("it is torn") || line.contains("notes.txt");
    assert_eq!(
        lines.lines().filter(torn).count(),
        ["c/torn.bmp", "c/notes.txt"].iter().filter(|p| Shard::of(p.as_ref(), 2) == 1).count()
    );
    assert_eq!(Format::of("x.xlsx".as_ref()), None);
}

#[test]
fn what_is_not_ours_is_not_written_over() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let target = dir.path().join("features-00000-of-00001.safetensors");
    let header = br#"{"__metadata__":{"format":"pt"}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    fs::write(&target, &bytes).expect("writes");
    let fake = Fake::new(|_| ());
    let error = said(task(data.path(), dir.path(), Shard::WHOLE, &fake).run(&fake, &mut ()));
    assert!(error.contains("no file of Rekindle's"), "{error}");
    assert_eq!((fs::read(&target).expect("reads"), fake.computed.get()), (bytes, 0));
    assert!(said(Shards::open(dir.path())).contains("no file of Rekindle's"));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_it_says_so() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let fake = Fake::new(|_| ());
    let share = Share::labelled(data.path(), false, Shard::WHOLE).expect("lists");
    let own = fake.provenance.clone();
    let task = Task::features(share, Shard::WHOLE, own, dir.path(), Format::Parquet);
    assert!(said(task.run(&fake, &mut ())).contains("the feature `parquet`"));
    assert_eq!(fake.computed.get(), 0);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_goes_on_the_same_way() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let fake = Fake::new(|_| ());
    let run = |element, content, observer: &mut dyn Observer| {
        let share = Share::labelled(data.path(), false, shard(0, 2)).expect("lists");
        let target = dir.path().join(format!("{element:?}{content:?}.parquet"));
        let own = fake.provenance.clone();
        let task = Task::new(share, shard(0, 2), own, content, target, Format::Parquet);
        task.element(element).part(4).run(&fake, observer)
    };
    for (element, content) in [
        (Element::F32, Content::Features),
        (Element::F16, Content::Features),
        (Element::F32, Content::Probabilities),
        (Element::F32, Content::Top(2)),
    ] {
        assert!(said(run(element, content, &mut Stop(5))).contains("stopped after 5"));
        let done = run(element, content, &mut ()).expect("computes");
        assert_eq!(done.computed, done.photos - 5);
        let bytes = fs::read(&done.path).expect("reads");
        assert!(bytes.starts_with(b"PAR1"));
        let again = run(element, content, &mut ()).expect("is there");
        assert!(again.is_unchanged && again.computed == 0, "{again:?}");
        assert_eq!(fs::read(&done.path).expect("reads"), bytes);
        // Without the table all is computed, with the same bytes.
        fs::remove_file(&done.path).expect("is there");
        let again = run(element, content, &mut ()).expect("computes");
        assert_eq!(again.computed, done.photos);
        assert_eq!(fs::read(&done.path).expect("reads"), bytes);
        // A photo more: the others come from the table.
        let path = format!("a/{element:?}{content:?}{}.bmp", "x".repeat(content.width(1)));
        let name = (0..).map(|number| format!("{path}{number}.bmp"));
        let name = name.into_iter().find(|name| Shard::of(name.as_ref(), 2) == 0).expect("one");
        photo(data.path(), &name, "more");
        assert_eq!(run(element, content, &mut ()).expect("computes").computed, 1);
        // An altered table is made anew, with what can be read of it: in the middle are the statistics of its pages.
        let whole = fs::read(&done.path).expect("reads");
        for (place, reads) in [(64, false), (whole.len() / 2, true)] {
            let mut altered = whole.clone();
            altered[place..place + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(&done.path, &altered).expect("writes");
            let again = run(element, content, &mut ()).expect("computes");
            assert!(!again.is_unchanged && (reads || again.computed > 1), "{again:?}");
            assert_eq!(fs::read(&done.path).expect("reads"), whole);
        }
    }
    assert_eq!(all(dir.path()).len(), 4, "only the tables are left");
}

#[test]
fn a_list_s_order_is_kept() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let list = data.path().join("list.csv");
    let rows = "path,labels\nc/1/5.bmp,y;x\na/0/0.bmp,\nc/1/5.bmp,x\na/1/3.bmp,y\n";
    fs::write(&list, rows).expect("writes");
    // With a number of shards that has the photos in several.
    let of = |path: &str, count| Shard::of(path.as_ref(), count);
    let is_apart = |&count: &usize| of("c/1/5.bmp", count) != of("a/1/3.bmp", count);
    let count = (2..).find(is_apart).expect("some number");
    run(&list, dir.path(), count);
    let shards = Shards::open(dir.path()).expect("opens");
    let samples = shards.data().samples();
    let found: Vec<_> = samples.iter().map(|s| (s.path.to_str(), s.labels.as_slice())).collect();
    let of = |path: &'static str, labels: &'static [usize]| (Some(path), labels);
    assert_eq!(
        found,
        [
            of("c/1/5.bmp", &[1, 0]),
            of("a/0/0.bmp", &[]),
            of("c/1/5.bmp", &[0]),
            of("a/1/3.bmp", &[1])
        ]
    );
    assert!(shards.data().is_multi_label());
    // A line more before the others moves them: shards of both lists are not one.
    let rows = rows.replace("labels\n", "labels\nc/0/2.bmp,x\n");
    fs::write(&list, rows).expect("writes");
    let moved = shard(Shard::of("c/1/5.bmp".as_ref(), count), count);
    let fake = Fake::new(|_| ());
    let done = task(&list, dir.path(), moved, &fake).run(&fake, &mut ());
    assert!(!done.expect("computes").is_unchanged);
    let error = said(Shards::open(dir.path()));
    assert!(error.contains("of the list: it changed between shards"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_come_back() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let name = Path::new("a").join(OsStr::from_bytes(b"\xff\xe9.bmp"));
    let bytes = fs::read(data.path().join("a/0/0.bmp")).expect("reads");
    fs::write(data.path().join(&name), bytes).expect("writes");
    run(data.path(), dir.path(), 2);
    let shards = Shards::open(dir.path()).expect("opens");
    assert!(shards.data().samples().iter().any(|sample| sample.path == name));
    assert!(run(data.path(), dir.path(), 2).iter().all(|done| done.is_unchanged));
}

/// Runs the same task while it is computed.
struct Twice<'a>(&'a Fake, &'a Path, &'a Path);

impl Compute for Twice<'_> {
    fn provenance(&self) -> &Provenance {
        &self.0.provenance
    }

    fn each(
        &self,
        samples: &[&Sample],
        strict: bool,
        observer: &mut dyn Observer,
        each: &mut Each<'_>,
    ) -> Result<(), TrainError> {
        let Self(fake, data, out) = *self;
        let error = said(task(data, out, Shard::WHOLE, fake).run(fake, &mut ()));
        assert!(error.contains("another process computes this shard"), "{error}");
        assert!(error.contains(".features-00000-of-00001.safetensors.parts"), "{error}");
        fake.each(samples, strict, observer, each)
    }
}

#[test]
fn one_process_has_a_task_at_a_time() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    let fake = Fake::new(|_| ());
    let task = task(data.path(), dir.path(), Shard::WHOLE, &fake);
    let done = task.run(&Twice(&fake, data.path(), dir.path()), &mut ()).expect("computes");
    assert_eq!((done.computed, fake.computed.get()), (61, 61));
}

#[test]
fn rows_that_are_not_there_are_errors() {
    let (data, dir) = (photos(), tempfile::tempdir().expect("a folder"));
    run(data.path(), dir.path(), 1);
    let shards = Shards::open(dir.path()).expect("opens");
    let source: std::sync::Arc<dyn FeatureSource> = shards.source();
    fs::write(dir.path().join("features-00000-of-00001.safetensors"), "").expect("writes");
    let error = source.read(59, &mut [0.0; WIDTH]).expect_err("is gone").to_string();
    assert!(error.contains("features-00000-of-00001"), "{error}");
}
