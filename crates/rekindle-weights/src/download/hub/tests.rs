//! Against HTTP servers on loopback that answer as the hub does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::download::tests::downloader;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    method: String,
    path: String,
    token: Option<String>,
    range: Option<usize>,
}

struct Server {
    base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

type Answer = dyn Fn(&Request, usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

impl Server {
    /// `answer` is told the request, and how many came before it.
    fn new(
        answer: impl Fn(&Request, usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Arc<Answer>) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                    let lines: Vec<String> =
                        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    let mut first = lines.first().map_or("", String::as_str).split(' ');
                    let header = |name: &str| {
                        let of = |line: &String| {
                            let (key, value) = line.split_once(": ")?;
                            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
                        };
                        lines.iter().find_map(of)
                    };
                    let range = header("range").and_then(|range| {
                        range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()
                    });
                    let request = Request {
                        method: first.next().unwrap_or_default().into(),
                        path: first.next().unwrap_or_default().into(),
                        token: header("authorization"),
                        range,
                    };
                    let before = {
                        let mut seen = seen.lock().expect("a lock");
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    // A client that has gone away is no failure.
                    let _ = answer(&request, before, &mut stream);
                });
            }
        });
        Self { base, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("a lock").clone()
    }
}

fn head(stream: &mut TcpStream, status: &str, headers: &str, length: usize) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
}

/// A file, or the part of it that is asked for, with a tag.
fn serve(request: &Request, content: &[u8], stream: &mut TcpStream) -> std::io::Result<()> {
    let start = request.range.unwrap_or(0);
    let (status, range) = match request.range {
        Some(_) => {
            let range = format!("Content-Range: bytes {start}-{}/*\r\n", content.len() - 1);
            ("206 Partial Content", range)
        }
        None => ("200 OK", String::new()),
    };
    let headers = format!("ETag: \"one\"\r\nX-Repo-Commit: {COMMIT}\r\n{range}");
    head(stream, status, &headers, content.len() - start)?;
    if request.method == "HEAD" { Ok(()) } else { stream.write_all(&content[start..]) }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn weights() -> Vec<u8> {
    (0..200_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// A hub with these files, of which large ones are redirected to `storage`.
fn hub_of(files: BTreeMap<&'static str, Vec<u8>>, storage: String) -> Server {
    Server::new(move |request, _, stream| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        match files.get(name) {
            None => head(stream, "404 Not Found", "X-Error-Code: EntryNotFound\r\n", 0),
            Some(content) if name.ends_with(".safetensors") => {
                let headers = format!(
                    "Location: {storage}/{name}\r\nX-Linked-Etag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
                    sha256(content)
                );
                head(stream, "302 Found", &headers, 0)
            }
            Some(content) => serve(request, content, stream),
        }
    })
}

fn hub(server: &Server, cache: &TempDir) -> Hub {
    Hub {
        endpoint: server.base.clone(),
        token: Some(TOKEN.into()),
        theirs: None,
        downloader: downloader("", cache),
    }
}

fn offline(mut hub: Hub) -> Hub {
    hub.downloader.offline = true;
    hub
}

fn cache() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn files() -> BTreeMap<&'static str, Vec<u8>> {
    [(CONFIG, b"{}".to_vec()), (WEIGHTS[0], weights())].into()
}

#[test]
fn a_model_is_downloaded_once_at_one_commit_and_the_token_stays_with_the_hub() {
    // Cut in its middle, once.
    let storage = Server::new(|request, before, stream| match before {
        0 => {
            head(stream, "200 OK", "ETag: \"one\"\r\n", weights().len())?;
            stream.write_all(&weights()[..300_000])
        }
        _ => serve(request, &weights(), stream),
    });
    let server = hub_of(files(), storage.base.clone());
    let cache = cache();
    let hub = hub(&server, &cache);
    let folder = hub.model("hf:timm/resnet50.a1_in1k").expect("downloads");
    assert!(folder.ends_with(format!("hub/models--timm--resnet50.a1_in1k/{COMMIT}")), "{folder:?}");
    assert_eq!(std::fs::read(folder.join(WEIGHTS[0])).expect("reads"), weights());
    assert_eq!(std::fs::read(folder.join(CONFIG)).expect("reads"), b"{}");
    assert!(!folder.join(PREPROCESSOR).exists());
    let requests = server.requests();
    for (place, request) in requests.iter().enumerate() {
        // The first asks which commit it is; all others are of that commit.
        let revision = if place <= 1 { "main" } else { COMMIT };
        let expected = format!("/timm/resnet50.a1_in1k/resolve/{revision}/");
        assert!(request.path.starts_with(&expected), "{place}: {request:?}");
        assert_eq!(request.token.as_deref(), Some("Bearer hf_secret"));
    }
    let ranges: Vec<_> = storage.requests().iter().map(|request| request.range).collect();
    assert_eq!(ranges, [None, Some(300_000)]);
    assert!(storage.requests().iter().all(|request| request.token.is_none()));
    // From now on nothing is asked, also offline.
    let offline = Hub { endpoint: "http://127.0.0.1:1".into(), ..offline(hub) };
    assert_eq!(offline.model("hf:timm/resnet50.a1_in1k").expect("is there"), folder);
    assert_eq!(server.requests().len(), requests.len());
    // A file that was altered since is not used.
    std::fs::write(folder.join(CONFIG), "{ }").expect("writes");
    let error = offline.model("hf:timm/resnet50.a1_in1k").expect_err("altered").to_string();
    assert!(error.contains("it was altered; delete it"), "{error}");
}

#[test]
fn parts_are_those_of_the_index() {
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let storage = Server::new(|request, _, stream| serve(request, &weights(), stream));
    let mut all = BTreeMap::from([(CONFIG, b"{}".to_vec()), (WEIGHTS[1], index.to_vec())]);
    all.insert("model-00001-of-00002.safetensors", weights());
    let server = hub_of(all.clone(), storage.base.clone());
    let folder = cache();
    let error = hub(&server, &folder).model("hf:a/b").expect_err("a part is missing").to_string();
    assert!(error.contains("has no model-00002-of-00002.safetensors"), "{error}");
    all.insert("model-00002-of-00002.safetensors", weights());
    let server = hub_of(all.clone(), storage.base.clone());
    let found = hub(&server, &folder).model("hf:a/b").expect("downloads");
    assert_eq!(
        std::fs::read(found.join("model-00002-of-00002.safetensors")).expect("reads"),
        weights()
    );
    for name in ["../../x.safetensors", "x.bin", "/etc/x.safetensors"] {
        let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        all.insert(WEIGHTS[1], index.into_bytes());
        let server = hub_of(all.clone(), storage.base.clone());
        let error = hub(&server, &cache()).model("hf:a/b").expect_err("refused").to_string();
        assert!(error.contains("expected names of .safetensors files"), "{error}");
    }
}

#[test]
fn what_the_hub_refuses_says_what_to_do_and_not_the_token() {
    for (status, code, token, words) in [
        (
            "401 Unauthorized",
            "GatedRepo",
            None,
            &["status 401", "private or gated, and no token", "set HF_TOKEN"][..],
        ),
        (
            "403 Forbidden",
            "GatedRepo",
            Some(TOKEN),
            &["status 403", "the token in HF_TOKEN may not", "accept its terms"],
        ),
        ("404 Not Found", "RepoNotFound", Some(TOKEN), &["the hub has no such model"]),
        ("404 Not Found", "RevisionNotFound", Some(TOKEN), &["it has no revision `v2`"]),
        ("404 Not Found", "EntryNotFound", Some(TOKEN), &["has no config.json"]),
        ("418 Teapot", "", Some(TOKEN), &["status 418, expected 200"]),
        ("503 Unavailable", "", Some(TOKEN), &["status 503 (after 3 attempts)"]),
    ] {
        let server = Server::new(move |_, _, stream| {
            head(stream, status, &format!("X-Error-Code: {code}\r\n"), 0)
        });
        let folder = cache();
        let hub = Hub { token: token.map(str::to_owned), ..hub(&server, &folder) };
        let error = hub.model("hf:owner/name@v2").expect_err("refused").to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(error.contains("/owner/name/resolve/v2/config.json"), "{error}");
        assert!(!error.contains(TOKEN) && !format!("{hub:?}").contains(TOKEN), "{error}");
    }
    let circle = Server::new(|_, _, stream| head(stream, "307 Moved", "Location: /a/b\r\n", 0));
    let error = hub(&circle, &cache()).model("hf:a/b").expect_err("a circle").to_string();
    assert!(error.contains("redirected more than 5 times"), "{error}");
}

#[test]
fn a_renamed_repository_is_followed_and_other_content_is_refused() {
    let server = Server::new(|request, _, stream| {
        if request.path.starts_with("/old/") {
            let to = request.path.replacen("/old/", "/new/", 1);
            return head(stream, "307 Temporary Redirect", &format!("Location: {to}\r\n"), 0);
        }
        match request.path.rsplit('/').next() {
            Some("config.json") => serve(request, b"{}", stream),
            // Another file than the tag says.
            Some("model.safetensors") => {
                let headers = format!("X-Linked-Etag: \"{}\"\r\n", sha256(b"other"));
                head(stream, "200 OK", &headers, 4)?;
                if request.method == "HEAD" { Ok(()) } else { stream.write_all(b"this") }
            }
            _ => head(stream, "404 Not Found", "X-Error-Code: EntryNotFound\r\n", 0),
        }
    });
    let folder = cache();
    let error = hub(&server, &folder).model("hf:old/b").expect_err("another file").to_string();
    assert!(error.contains(&format!("expected {}", sha256(b"other"))), "{error}");
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.contains(&format!("/new/b/resolve/{COMMIT}/model.safetensors")), "{paths:?}");
    // What was downloaded before it is kept, but the model is not taken for whole.
    let offline = offline(hub(&server, &folder));
    assert!(offline.model("hf:old/b").is_err());
}

#[test]
fn the_hub_s_own_cache_comes_first_and_being_offline_is_explained() {
    let (folder, theirs) = (cache(), cache());
    let server = Server::new(|_, _, stream| head(stream, "404 Not Found", "", 0));
    let hub = Hub { theirs: Some(theirs.path().to_owned()), ..offline(hub(&server, &folder)) };
    let error = hub.model("hf:a/b").expect_err("offline").to_string();
    for word in ["HF_HUB_OFFLINE forbids requests", "unset it, or put config.json"] {
        assert!(error.contains(word), "{error}");
    }
    let home = theirs.path().join("models--a--b");
    let snapshot = home.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).expect("creates");
    std::fs::create_dir_all(home.join("refs")).expect("creates");
    std::fs::write(home.join("refs/main"), COMMIT).expect("writes");
    std::fs::write(snapshot.join(CONFIG), "{}").expect("writes");
    assert!(hub.model("hf:a/b").is_err(), "without weights");
    std::fs::write(snapshot.join(WEIGHTS[0]), "").expect("writes");
    for path in ["hf:a/b".to_owned(), format!("hf:a/b@{COMMIT}")] {
        assert_eq!(hub.model(&path).expect("is there"), snapshot);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn paths_of_the_hub_are_names() {
    let of = |path: &str| Repository::of(path);
    let found = of("hf:google/mobilenet_v2_1.0_224").expect("a model");
    assert_eq!(
        (found.owner.as_str(), found.name.as_str(), found.revision.as_str()),
        ("google", "mobilenet_v2_1.0_224", "main")
    );
    assert_eq!(of("hf:a/b@refs/pr/1").expect("a revision").revision, "refs/pr/1");
    for path in [
        "hf:",
        "hf:a",
        "hf:a/",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/b@",
        "hf:a/b@../c",
        "hf:a b/c",
        "hf:a/b?c",
    ] {
        let error = of(path).expect_err(path);
        assert!(error.contains("expected hf:OWNER/NAME"), "{error}");
    }
}
