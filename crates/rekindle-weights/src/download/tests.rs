//! Against a real HTTP server, on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use md5::Digest as _;
use tempfile::TempDir;

use super::{BASE, Downloader, Published, beside};

/// How the server answers one request; it is told the request's number and the first byte asked for.
type Answer = dyn Fn(usize, Option<u64>, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

struct Server {
    base: String,
    requests: Arc<AtomicUsize>,
    /// The `Range` headers that came.
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    fn new(
        answer: impl Fn(usize, Option<u64>, &mut TcpStream) -> std::io::Result<()>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (count, seen, answer): (_, _, Arc<Answer>) =
            (requests.clone(), ranges.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (count, seen, answer) = (count.clone(), seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut start = None;
                    let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                    for line in lines.map_while(Result::ok) {
                        let lower = line.to_ascii_lowercase();
                        if let Some(range) = lower.strip_prefix("range: bytes=") {
                            start = range.trim_end_matches('-').parse().ok();
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    seen.lock().expect("a lock").push(start);
                    // A client that has gone away is no failure.
                    let _ = answer(count.fetch_add(1, Ordering::SeqCst), start, &mut stream);
                });
            }
        });
        Self { base, requests, ranges }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

const TAG: &str = "ETag: \"one\"\r\n";

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn head(stream: &mut TcpStream, status: &str, headers: &str, length: usize) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
}

/// All of it, or the part that was asked for.
fn serve(start: Option<u64>, stream: &mut TcpStream) -> std::io::Result<()> {
    let content = content();
    match start {
        None => head(stream, "200 OK", TAG, content.len())?,
        Some(start) => {
            let range = format!(
                "{TAG}Content-Range: bytes {start}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            );
            head(stream, "206 Partial Content", &range, content.len() - start as usize)?;
        }
    }
    stream.write_all(&content[start.unwrap_or(0) as usize..])
}

pub(super) fn downloader(base: &str, cache: &TempDir) -> Downloader {
    Downloader {
        base: base.to_owned(),
        cache: Some(cache.path().to_owned()),
        keras: None,
        attempts: 3,
        wait: Duration::from_millis(5),
        timeout: Duration::from_millis(500),
        largest: 10_000_000,
        offline: false,
        bar: false,
    }
}

fn published() -> Published {
    Published::new("folder/", "weights.h5".into(), None)
}

#[test]
fn keras_has_files_without_a_folder_elsewhere() {
    let cache = tempfile::tempdir().expect("a folder");
    let address =
        |base, folder| downloader(base, &cache).url(&Published::new(folder, "f.h5".into(), None));
    let keras = "https://storage.googleapis.com";
    assert_eq!(
        address(BASE, "vgg16/"),
        format!("{keras}/tensorflow/keras-applications/vgg16/f.h5")
    );
    assert_eq!(address(BASE, ""), format!("{keras}/keras-applications/f.h5"));
    assert_eq!(address("http://mirror", ""), "http://mirror/f.h5");
}

fn files(cache: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(cache.path()).expect("lists").flatten();
    let mut names: Vec<String> =
        names.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_downloaded_once() {
    let (server, cache) = (
        Server::new(|_, start, stream| serve(start, stream)),
        tempfile::tempdir().expect("a folder"),
    );
    let downloader = downloader(&server.base, &cache);
    let path = downloader.fetch(&published()).expect("downloads");
    assert_eq!(std::fs::read(&path).expect("reads"), content());
    assert_eq!(downloader.fetch(&published()).expect("is there"), path);
    assert_eq!(server.requests(), 1);
    assert_eq!(files(&cache), ["weights.h5", "weights.h5.lock", "weights.h5.sha256"]);
    // Altered afterwards, it is not used.
    let mut altered = content();
    altered[1000] ^= 1;
    std::fs::write(&path, altered).expect("writes");
    let error = downloader.fetch(&published()).expect_err("altered").to_string();
    assert!(error.contains("it was altered; delete it"), "{error}");
}

#[test]
fn a_cut_connection_is_resumed() {
    let server = Server::new(|number, start, stream| match number {
        0 => {
            head(stream, "200 OK", TAG, content().len())?;
            stream.write_all(&content()[..500_000])
        }
        _ => serve(start, stream),
    });
    let cache = tempfile::tempdir().expect("a folder");
    let path = downloader(&server.base, &cache).fetch(&published()).expect("downloads");
    assert_eq!(std::fs::read(path).expect("reads"), content());
    assert_eq!(*server.ranges.lock().expect("a lock"), [None, Some(500_000)]);
}

#[test]
fn a_part_without_a_tag_or_of_another_file_is_started_anew() {
    // No tag: there is nothing to say that the rest belongs to the part.
    let server = Server::new(|number, _, stream| {
        head(stream, "200 OK", "", content().len())?;
        stream.write_all(&content()[..if number == 0 { 500_000 } else { content().len() }])
    });
    let cache = tempfile::tempdir().expect("a folder");
    let path = downloader(&server.base, &cache).fetch(&published()).expect("downloads");
    assert_eq!(std::fs::read(path).expect("reads"), content());
    assert_eq!(*server.ranges.lock().expect("a lock"), [None, None]);

    // A server whose part starts elsewhere than asked.
    let server = Server::new(|number, start, stream| match number {
        0 => {
            head(stream, "200 OK", TAG, content().len())?;
            stream.write_all(&content()[..500_000])
        }
        1 => serve(start.map(|start| start - 7), stream),
        _ => serve(start, stream),
    });
    let cache = tempfile::tempdir().expect("a folder");
    let path = downloader(&server.base, &cache).fetch(&published()).expect("downloads");
    assert_eq!(std::fs::read(path).expect("reads"), content());
    assert_eq!(*server.ranges.lock().expect("a lock"), [None, Some(500_000), None]);
}

#[test]
fn a_server_in_trouble_is_tried_again_and_a_missing_file_is_not() {
    let server = Server::new(|number, start, stream| match number {
        0 => head(stream, "500 Internal Server Error", "", 0),
        _ => serve(start, stream),
    });
    let cache = tempfile::tempdir().expect("a folder");
    downloader(&server.base, &cache).fetch(&published()).expect("downloads at the second attempt");
    assert_eq!(server.requests(), 2);

    let server = Server::new(|_, _, stream| head(stream, "503 Unavailable", "", 0));
    let cache = tempfile::tempdir().expect("a folder");
    let error =
        downloader(&server.base, &cache).fetch(&published()).expect_err("never").to_string();
    assert!(error.contains("status 503 (after 3 attempts)"), "{error}");

    let server = Server::new(|_, _, stream| head(stream, "404 Not Found", "", 0));
    let cache = tempfile::tempdir().expect("a folder");
    let error =
        downloader(&server.base, &cache).fetch(&published()).expect_err("missing").to_string();
    assert!(error.contains("status 404"), "{error}");
    assert!(error.contains(&format!("{}folder/weights.h5", server.base)), "{error}");
    let by_hand = cache.path().join("weights.h5");
    assert!(error.contains(&format!("put the file at {}", by_hand.display())), "{error}");
    assert_eq!(server.requests(), 1);
    // So does a user.
    std::fs::write(&by_hand, "by hand").expect("writes");
    assert_eq!(downloader(&server.base, &cache).fetch(&published()).expect("is there"), by_hand);
}

#[test]
fn a_slow_server_is_given_time_and_a_silent_one_is_not() {
    let server = Server::new(|_, _, stream| {
        head(stream, "200 OK", TAG, 10)?;
        for byte in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(&[byte])?;
        }
        Ok(())
    });
    let cache = tempfile::tempdir().expect("a folder");
    let path = downloader(&server.base, &cache).fetch(&published()).expect("downloads");
    assert_eq!(std::fs::read(path).expect("reads"), (0..10).collect::<Vec<u8>>());

    let server = Server::new(|_, _, stream| {
        head(stream, "200 OK", TAG, 10)?;
        std::thread::sleep(Duration::from_secs(60));
        drop(stream.write_all(&[0]));
        Ok(())
    });
    let cache = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    let error =
        downloader(&server.base, &cache).fetch(&published()).expect_err("silence").to_string();
    assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    assert!(error.contains("after 3 attempts"), "{error}");
}

#[test]
fn wrong_lengths_sizes_and_checksums_are_errors() {
    // Shorter than said, each time.
    let server = Server::new(|_, _, stream| {
        head(stream, "200 OK", "", 1000)?;
        stream.write_all(&[0; 999])
    });
    let cache = tempfile::tempdir().expect("a folder");
    let error =
        downloader(&server.base, &cache).fetch(&published()).expect_err("short").to_string();
    assert!(error.contains("999"), "{error}");
    assert!(!cache.path().join("weights.h5").exists());

    // Too large, said or not.
    let server = Server::new(|number, _, stream| match number {
        0 => head(stream, "200 OK", "", 20_000_000),
        _ => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            (0..300).try_for_each(|_| stream.write_all(&[0; 65_536]))
        }
    });
    for message in ["20000000 bytes, expected at most 10000000", "more than 10000000 bytes"] {
        let cache = tempfile::tempdir().expect("a folder");
        let error =
            downloader(&server.base, &cache).fetch(&published()).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert!(!beside(&cache.path().join("weights.h5"), ".part").exists());
    }

    let server = Server::new(|_, start, stream| serve(start, stream));
    let cache = tempfile::tempdir().expect("a folder");
    let other = Published { hash: Some("00000000000000000000000000000000"), ..published() };
    let error =
        downloader(&server.base, &cache).fetch(&other).expect_err("another file").to_string();
    assert!(error.contains("expected 00000000000000000000000000000000"), "{error}");
    assert_eq!(files(&cache), ["weights.h5.lock"]);
}

#[test]
fn downloads_can_be_turned_off() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::new(|_, start, stream| serve(start, stream));
    let online = downloader(&server.base, &cache);
    let offline = Downloader { offline: true, ..online.clone() };
    let error = offline.fetch(&published()).expect_err("offline").to_string();
    assert!(error.contains("downloads are turned off; put the file at"), "{error}");
    assert_eq!((server.requests(), files(&cache).len()), (0, 0));
    let there = online.fetch(&published()).expect("downloads");
    assert_eq!(offline.fetch(&published()).expect("is there"), there);
}

#[test]
fn processes_at_once_download_once() {
    let server = Server::new(|_, start, stream| {
        std::thread::sleep(Duration::from_millis(100));
        serve(start, stream)
    });
    let cache = tempfile::tempdir().expect("a folder");
    let downloader = downloader(&server.base, &cache);
    std::thread::scope(|scope| {
        let fetch =
            || std::fs::read(downloader.fetch(&published()).expect("downloads")).expect("reads");
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(fetch)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), content());
        }
    });
    assert_eq!(server.requests(), 1);
}

#[test]
fn keras_s_own_folder_comes_first_and_being_offline_is_explained() {
    let (cache, keras) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let offline = Downloader {
        keras: Some(keras.path().to_owned()),
        ..downloader(&format!("http://{port}"), &cache)
    };
    let error = offline.fetch(&published()).expect_err("offline").to_string();
    assert!(error.contains("put the file at"), "{error}");
    assert!(error.contains(&format!("http://{port}/folder/weights.h5")), "{error}");

    let theirs = keras.path().join("weights.h5");
    std::fs::write(&theirs, content()).expect("writes");
    assert_eq!(offline.fetch(&published()).expect("is there"), theirs);
    // But not what is not what Keras published.
    let md5: String =
        md5::Md5::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect();
    let md5: &'static str = md5.leak();
    let known = Published { hash: Some(md5), ..published() };
    assert_eq!(offline.fetch(&known).expect("is there"), theirs);
    std::fs::write(&theirs, "altered").expect("writes");
    assert!(offline.fetch(&known).is_err());
}
