//! Against a small server on loopback that speaks as much of S3 as is needed, and has faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;

use super::*;
use crate::crypto::Rust;

/// What the server does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// 503.
    Throttle,
    /// The body ends in its middle.
    Cut,
    /// The connection ends before an answer.
    Lost,
    Gone,
    Expired,
}

/// What to do to the request of this number for this object.
type Faults = dyn Fn(&str, usize) -> Fault + Send + Sync;

struct Server {
    base: String,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<BTreeMap<String, usize>>,
    faults: Box<Faults>,
    now: AtomicUsize,
    most: AtomicUsize,
}

const SECRET: &str = "a-secret-that-nobody-may-read";
/// Objects on a page of a list.
const PAGE: usize = 7;

impl Server {
    fn start(
        objects: &[(&str, &[u8])],
        faults: impl Fn(&str, usize) -> Fault + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let objects = objects.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec()));
        let server = Arc::new(Self {
            base,
            objects: Mutex::new(objects.collect()),
            requests: Mutex::default(),
            faults: Box::new(faults),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                // A client that has gone away is no failure.
                std::thread::spawn(move || drop(own.answer(stream)));
            }
        });
        server
    }

    fn store(&self, limits: Limits) -> Arc<Store> {
        crate::store::start_tls("s3://b").expect("TLS");
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.base)
            .with_region("us-east-1")
            .with_bucket_name("b")
            .with_access_key_id("id")
            .with_secret_access_key(SECRET)
            .with_crypto_provider(Arc::new(Rust))
            .with_retry(limits.retry())
            .with_client_options(limits.options().with_allow_http(true));
        Store::of("s3://b".into(), Arc::new(builder.build().expect("a store")), limits)
    }

    fn requests(&self, key: &str) -> usize {
        self.requests.lock().expect("a lock").get(key).copied().unwrap_or_default()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let (mut range, mut wanted, mut length, mut signed) = (None, None, 0, false);
        for line in reader.by_ref().lines() {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
                "if-match" => wanted = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap_or_default(),
                "authorization" => signed = value.starts_with("AWS4-HMAC-SHA256"),
                _ => {}
            }
        }
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.strip_prefix("/b").unwrap_or(path).trim_start_matches('/').to_owned();
        assert!(signed, "a request without a signature: {first}");
        if method == "PUT" {
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes)?;
            self.objects.lock().expect("a lock").insert(key, bytes);
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nETag: \"put\"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
        }
        let number = {
            let mut requests = self.requests.lock().expect("a lock");
            let count = requests.entry(key.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let busy = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(busy, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        let object = self.objects.lock().expect("a lock").get(&key).cloned();
        let fault = (self.faults)(&key, number);
        let (status, body, more) = match (fault, object) {
            (Fault::Lost, _) => {
                self.now.fetch_sub(1, Ordering::SeqCst);
                return Ok(());
            }
            (Fault::Throttle, _) => ("503 Slow Down", b"<Code>SlowDown</Code>".to_vec(), None),
            (Fault::Expired, _) => {
                ("400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>".to_vec(), None)
            }
            (Fault::Gone, _) => ("404 Not Found", b"<Code>NoSuchKey</Code>".to_vec(), None),
            (_, None) if key.is_empty() => ("200 OK", self.page(query), None),
            (_, None) => ("404 Not Found", b"<Code>NoSuchKey</Code>".to_vec(), None),
            (_, Some(bytes)) => {
                let tag = tag(&bytes);
                match range {
                    _ if wanted.is_some_and(|wanted| wanted != tag) => {
                        ("412 Precondition Failed", Vec::new(), None)
                    }
                    None => ("200 OK", bytes, Some(format!("ETag: {tag}\r\n"))),
                    Some(range) => {
                        let (from, to) = range.split_once('-').expect("a range");
                        let from: usize = from.parse().expect("a number");
                        let to = to.parse().map_or(bytes.len(), |to: usize| to + 1);
                        let to = to.min(bytes.len());
                        let all = bytes.len();
                        let more = format!(
                            "ETag: {tag}\r\nContent-Range: bytes {from}-{}/{all}\r\n",
                            to - 1
                        );
                        ("206 Partial Content", bytes[from..to].to_vec(), Some(more))
                    }
                }
            }
        };
        let more = more.unwrap_or_default();
        let date = "Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT";
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{date}\r\n{more}Connection: close\r\nContent-Length: {length}\r\n\r\n"
        )?;
        let end = if fault == Fault::Cut { length / 2 } else { length };
        self.now.fetch_sub(1, Ordering::SeqCst);
        match method {
            "HEAD" => Ok(()),
            _ => stream.write_all(&body[..end]),
        }
    }

    /// A page of the list of all objects, as S3 writes it.
    fn page(&self, query: &str) -> Vec<u8> {
        let of = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace("%2F", "/"))
        };
        let prefix = of("prefix").unwrap_or_default();
        let from: usize = of("continuation-token").and_then(|text| text.parse().ok()).unwrap_or(0);
        let objects = self.objects.lock().expect("a lock");
        let below = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let below: Vec<_> = below.collect();
        let mut text = String::from("<ListBucketResult>");
        for (key, bytes) in below.iter().skip(from).take(PAGE) {
            text += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                tag(bytes).replace('"', "&quot;"),
                bytes.len()
            );
        }
        if below.len() > from + PAGE {
            text += &format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                from + PAGE
            );
        }
        (text + "</ListBucketResult>").into_bytes()
    }
}

/// Of the content, as S3's.
fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", rekindle_vision::short_hash(bytes))
}

fn limits() -> Limits {
    let wait = Duration::from_millis(2);
    Limits { parallel: 4, attempts: 4, wait, piece: 64, ..Limits::default() }
}

const WISH: Wish = Wish { labelled: true, classes_are_folders: false };

fn share_of(store: &Arc<Store>, address: &str, shard: Shard) -> Result<Share, CloudError> {
    let cache = tempfile::tempdir().expect("a folder");
    match store.find(address.as_ref(), WISH, shard, cache.path())? {
        Found::Share(share) => Ok(share),
        Found::Archives(files) => panic!("{} archives", files.len()),
    }
}

/// Photos of two classes, each with a content of its own.
fn photos(count: usize) -> Vec<(String, Vec<u8>)> {
    let photo = |number: usize| {
        let key = format!(
            "data/{}/{number:04}.jpg",
            if number.is_multiple_of(3) { "cat" } else { "dog" }
        );
        let bytes = key.repeat(1 + number % 9).into_bytes();
        (key, bytes)
    };
    (0..count).map(photo).collect()
}

fn borrowed(all: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    all.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice())).collect()
}

#[test]
fn photos_are_listed_in_pages_and_read_many_at_a_time_through_faults() {
    let all = photos(40);
    let mut objects = borrowed(&all);
    objects.extend([
        ("data/", &b""[..]),
        ("data/cat/", b""),
        ("data/readme.txt", b"text"),
        ("data/cat/.hidden.jpg", b"x"),
        ("data/dog/empty.jpg", b""),
        ("database/cat/other.jpg", b"of another data set"),
    ]);
    let server = Server::start(&objects, |key, number| match (key.as_bytes().last(), number) {
        (None, number) if number.is_multiple_of(2) => Fault::Throttle,
        (Some(_), 0) if key.contains("1.jpg") => Fault::Throttle,
        (Some(_), 0) if key.contains("2.jpg") => Fault::Cut,
        (Some(_), 0) if key.contains("3.jpg") => Fault::Lost,
        _ => Fault::None,
    });
    let store = server.store(limits());
    let share = share_of(&store, "s3://b/data", Shard::WHOLE).expect("lists");
    assert_eq!(share.classes, ["cat", "dog"]);
    assert_eq!(share.photos.len(), 40);
    assert!(server.requests("") > 6, "{} requests for pages", server.requests(""));
    let skipped: Vec<&str> = share.skipped.iter().map(|file| file.reason.as_str()).collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    let samples: Vec<&Sample> = share.photos.iter().map(|photo| &photo.sample).collect();
    let mut last = (0, PathBuf::new());
    for (photo, file) in share.photos.iter().zip(rekindle_vision::read_elsewhere(&samples)) {
        let now = (photo.sample.class(), photo.path.clone());
        assert!(now > last, "by class and path");
        last = now;
        let key = format!("data/{}", photo.path.display());
        let expected = &all.iter().find(|(name, _)| *name == key).expect("one").1;
        assert_eq!(&file.expect("not on this machine").expect("reads"), expected, "{key}");
        assert_eq!(photo.sample.path.to_string_lossy(), format!("s3://b/{key}"));
    }
    let most = server.most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} requests at a time");
    // Every photo is in one shard, and classes are all in each.
    let shares = (0..3).map(|index| {
        let shard = Shard::new(index, 3).expect("there");
        let share = share_of(&store, "s3://b/data/", shard).expect("lists");
        assert_eq!(share.classes, ["cat", "dog"]);
        assert!(share.photos.iter().all(|photo| shard.has(&photo.path)));
        share.photos.len()
    });
    assert_eq!(shares.sum::<usize>(), 40);
}

#[test]
fn what_a_photo_cannot_be_read_for_is_told_apart() {
    let all = photos(9);
    let server = Server::start(&borrowed(&all), |key, _| match key {
        "data/cat/0000.jpg" => Fault::Gone,
        "data/dog/0001.jpg" => Fault::Throttle,
        "data/dog/0002.jpg" => Fault::Expired,
        _ => Fault::None,
    });
    let store = server.store(limits());
    let share = share_of(&store, "s3://b/data", Shard::WHOLE).expect("lists");
    let changed = b"other bytes".to_vec();
    server.objects.lock().expect("a lock").insert("data/cat/0003.jpg".into(), changed);
    let said = |key: &str| {
        let photo = share.photos.iter().find(|photo| photo.path == Path::new(key)).expect("one");
        photo.sample.bytes().expect_err(key)
    };
    for (key, reason) in [("cat/0000.jpg", "is gone"), ("cat/0003.jpg", "it changed")] {
        let error = said(key);
        let is_one_photo = matches!(error, VisionError::Image { .. });
        assert!(is_one_photo && error.to_string().contains(reason), "{error}");
    }
    for (key, reason) in [("dog/0001.jpg", "does not answer"), ("dog/0002.jpg", "renew them")] {
        let error = said(key);
        assert!(matches!(error, VisionError::Elsewhere { .. }), "{error}");
        let text = format!("{error} {:?}", error);
        assert!(text.contains(reason) && text.contains(key) && !text.contains(SECRET), "{text}");
    }
    assert_eq!(server.requests("data/dog/0001.jpg"), 4, "as often as is allowed");
    assert_eq!(server.requests("data/dog/0002.jpg"), 1, "never again");
}

#[test]
fn what_is_no_data_set_is_said() {
    let server = Server::start(
        &[
            ("split/train/cat/1.jpg", b"x"),
            ("split/train/dog/1.jpg", b"x"),
            ("split/val/cat/1.jpg", b"x"),
            ("one/cat/1.jpg", b"x"),
        ],
        |_, _| Fault::None,
    );
    let store = server.store(limits());
    for (address, reason) in [
        ("s3://b/none", "nothing is there"),
        ("s3://b/split", "it looks split already (train, val)"),
        ("s3://b/one", "1 folders of classes"),
        ("s3://b/list.csv", "lists of photos are read on this machine only"),
        ("s3://b/a-*.tar", "nothing is called so"),
        ("s3://b/{0..1}.tar", "`0.tar` is not there"),
        ("s3://b/0.tar", "there is no such object"),
    ] {
        let error = share_of(&store, address, Shard::WHOLE).expect_err(address).to_string();
        assert!(error.contains(reason), "{address}: {error}");
    }
    assert_eq!(
        share_of(&store, "s3://b/split/train", Shard::WHOLE).expect("lists").classes,
        ["cat", "dog"]
    );
}

#[test]
fn archives_and_models_are_downloaded_once_for_each_version() {
    let long: Vec<u8> = (0..1000_u32).map(|number| number as u8).collect();
    let server = Server::start(
        &[("a/0.tar", &long), ("a/1.tar", b"short"), ("a/x.txt", b"text")],
        |key, number| match (key, number) {
            ("a/0.tar", 5) => Fault::Cut,
            ("a/0.tar", 8) => Fault::Throttle,
            _ => Fault::None,
        },
    );
    let (store, cache) = (server.store(limits()), tempfile::tempdir().expect("a folder"));
    let find = |address: &str| match store.find(address.as_ref(), WISH, Shard::WHOLE, cache.path())
    {
        Ok(Found::Archives(files)) => files,
        Ok(Found::Share(_)) => panic!("no archives"),
        Err(error) => panic!("{error}"),
    };
    for address in ["s3://b/a/{0..1}.tar", "s3://b/a/*.tar", "s3://b/a"] {
        let files = find(address);
        assert!(files[0].ends_with("0.tar") && files[1].ends_with("1.tar"));
        assert_eq!(std::fs::read(&files[0]).expect("reads"), long, "{address}");
    }
    let asked = server.requests("a/0.tar");
    assert!((16..30).contains(&asked), "{asked} pieces, once");
    server.objects.lock().expect("a lock").insert("a/1.tar".into(), b"another".to_vec());
    let files = find("s3://b/a/*.tar");
    assert_eq!(std::fs::read(&files[1]).expect("reads"), b"another");
    assert_eq!(server.requests("a/0.tar"), asked);
}

#[test]
fn outputs_are_fetched_and_put() {
    let server = Server::start(
        &[("out/features-0.bin", b"old"), ("out/features-1.bin", b"other"), ("out/x/y", b"z")],
        |_, _| Fault::None,
    );
    let (store, folder) = (server.store(limits()), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("own");
    let output = store.clone().output(&path, "out", "features-0").expect("fetches");
    assert_eq!(std::fs::read(path.join("features-0.bin")).expect("reads"), b"old");
    assert!(!path.join("features-1.bin").exists());
    std::fs::write(path.join("features-0.bin"), b"new").expect("writes");
    assert_eq!(output.put("features-0.bin").expect("puts"), "s3://b/out/features-0.bin");
    assert_eq!(server.objects.lock().expect("a lock")["out/features-0.bin"], b"new");
    server.objects.lock().expect("a lock").remove("out/features-0.bin");
    store.output(&path, "out", "features-0").expect("fetches");
    assert!(!path.join("features-0.bin").exists(), "what is gone there is gone here");
}
