//! The fetcher against servers that break, lie, stall and change their minds.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// What a server does with one request.
struct Reply {
    bytes: Vec<u8>,
    /// It then keeps silent instead of closing the connection.
    hold: bool,
}

fn reply(head: &str, body: &[u8]) -> Reply {
    let bytes = [
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
        body,
    ]
    .concat();
    Reply { bytes, hold: false }
}

/// Answers requests, each on a connection of its own, until it is dropped.
struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        Server::start_with(answer, |stream, exchange| exchange(&mut { stream }))
    }

    fn start_with(
        answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
        wrap: impl Fn(TcpStream, &dyn Fn(&mut dyn ReadWrite)) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heads, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (heard, stopped) = (Arc::clone(&heads), Arc::clone(&stop));
        let serve = Arc::new((answer, wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (heard, serve) = (Arc::clone(&heard), Arc::clone(&serve));
                std::thread::spawn(move || {
                    serve.1(stream.unwrap(), &|stream| {
                        let Some(head) = read_head(stream) else { return };
                        let nth = {
                            let mut heard = heard.lock().unwrap();
                            heard.push(head.clone());
                            heard.len()
                        };
                        let reply = serve.0(&head, nth);
                        let _ = stream.write_all(&reply.bytes);
                        let _ = stream.flush();
                        if reply.hold {
                            let _ = stream.read(&mut [0]);
                        }
                    });
                });
            }
        });
        Server { address, heads, stop }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn read_head(stream: &mut dyn ReadWrite) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}

/// A fetcher, and sandboxes for it.
struct Place {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    settings: Settings,
    fetcher: Fetcher,
}

impl Place {
    fn new() -> Self {
        Place::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            directory: directory.path().join("fetched"),
            cache_bytes: 1 << 20,
            bytes_max: 1 << 20,
            stall: Duration::from_secs(60),
            pause: Duration::from_millis(1),
            ca_file: None,
            parallel: 4,
        };
        change(&mut settings);
        Place {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            fetcher: Fetcher::open(settings.clone()).unwrap(),
            settings,
            directory,
        }
    }

    fn restart(&mut self) {
        self.fetcher = Fetcher::open(self.settings.clone()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn fetch(&self, sandbox: &str, uri: &Uri) -> Result<(), String> {
        self.fetch_while(sandbox, uri, watch::channel(false).1)
    }

    fn fetch_while(&self, sandbox: &str, uri: &Uri, cancelled: watch::Receiver<bool>) -> Result<(), String> {
        fs::create_dir_all(self.path(sandbox)).unwrap();
        let own = self.directory.path().metadata().unwrap();
        let user = User {
            uid: own.uid(),
            gid: own.gid(),
            groups: vec![],
        };
        let task = Task {
            uris: std::slice::from_ref(uri),
            sandbox: &self.path(sandbox),
            user: &user,
            disk_bytes: None,
            cancelled,
        };
        self.fetcher.fetch(&task, self.runtime.handle())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

fn uri(value: &str) -> Uri {
    Uri {
        value: value.into(),
        ..Uri::default()
    }
}

fn kept(value: &str) -> Uri {
    Uri {
        cache: Some(true),
        ..uri(value)
    }
}

fn with_checksum(uri: Uri, content: &[u8]) -> Uri {
    Uri {
        checksum: Some(checksum::of(content).to_string()),
        ..uri
    }
}

#[test]
fn a_file_of_a_server_comes_and_belongs_to_the_user() {
    let server = Server::start(|head, _| match head.contains("get /a/program?x=1 http/1.1") {
        true => reply("200 OK", b"content"),
        false => reply("404 Not Found", b""),
    });
    let place = Place::new();
    let program = Uri {
        executable: Some(true),
        ..with_checksum(uri(&server.url("a/program?x=1")), b"content")
    };
    place.fetch("s", &program).unwrap();
    assert_eq!(place.read("s/program"), "content");
    assert_eq!(place.path("s/program").metadata().unwrap().mode() & 0o7777, 0o750);
    let log = place.read("s/fetch.log");
    assert!(
        log.contains(&server.url("a/program")) && log.contains("sha256:"),
        "{log}"
    );
    let error = place.fetch("t", &uri(&server.url("absent"))).unwrap_err();
    assert!(
        error.contains(&server.url("absent")) && error.contains("404"),
        "{error}"
    );
    assert_eq!(server.heads().len(), 2, "a refusal is not asked for again");
    let figures = place.fetcher.figures();
    assert_eq!(
        (figures.succeeded, figures.failed, figures.running, figures.bytes),
        (1, 1, 0, 7)
    );
}

#[test]
fn what_has_another_checksum_is_not_used() {
    let server = Server::start(|_, _| reply("200 OK", b"evil"));
    let place = Place::new();
    for plain in [uri(&server.url("x")), kept(&server.url("x")), uri(&server.url("x.tar"))] {
        let error = place.fetch("s", &with_checksum(plain, b"good")).unwrap_err();
        assert!(
            error.contains("checksum") && error.contains(&server.url("x")),
            "{error}"
        );
        assert_eq!(place.fetcher.figures().held.entries, 0);
        fs::remove_dir_all(place.path("s")).unwrap();
    }
    fs::write(place.path("local"), "evil").unwrap();
    let local = with_checksum(uri(place.path("local").to_str().unwrap()), b"good");
    assert!(place.fetch("s", &local).unwrap_err().contains("checksum"));
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let content = "0123456789".repeat(100);
    let server = Server::start({
        let content = content.clone();
        move |head, nth| {
            let cut = |reply: Reply| Reply {
                bytes: reply.bytes[..reply.bytes.len() - 300].to_vec(),
                ..reply
            };
            if nth == 1 {
                return cut(reply("200 OK\r\nETag: \"v1\"", content.as_bytes()));
            }
            assert!(head.contains("if-range: \"v1\""), "{head}");
            let from: usize = head
                .split("range: bytes=")
                .nth(1)
                .unwrap()
                .split('-')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            let part = reply(
                &format!("206 Partial Content\r\nContent-Range: bytes {from}-999/1000"),
                &content.as_bytes()[from..],
            );
            if nth == 2 {
                Reply {
                    bytes: Vec::new(),
                    hold: false,
                }
            } else {
                part
            }
        }
    });
    let place = Place::new();
    place
        .fetch("s", &with_checksum(uri(&server.url("x")), content.as_bytes()))
        .unwrap();
    assert_eq!(place.read("s/x"), content);
    assert!(server.heads()[2].contains("range: bytes=700-"), "{:?}", server.heads());
}

#[test]
fn a_file_that_changed_meanwhile_comes_anew() {
    let server = Server::start(|_, nth| match nth {
        1 => Reply {
            bytes: b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 9\r\n\r\nold".to_vec(),
            hold: false,
        },
        _ => reply("200 OK\r\nETag: \"v2\"", b"new"),
    });
    let place = Place::new();
    place.fetch("s", &with_checksum(uri(&server.url("x")), b"new")).unwrap();
    assert_eq!(place.read("s/x"), "new");
}

#[test]
fn there_is_an_end_to_patience_redirects_and_sizes() {
    let server = Server::start(|head, _| {
        let path = head.split(' ').nth(1).unwrap();
        match path {
            "/loop" => reply("302 Found\r\nLocation: /loop", b""),
            "/away" => reply("302 Found\r\nLocation: file:///etc/passwd", b""),
            "/here" => reply("307 Temporary Redirect\r\nLocation: there", b""),
            "/there" => reply("200 OK", b"found"),
            "/large" => reply("200 OK", &[0; 2 << 20]),
            "/endless" => Reply {
                bytes: [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[0; 2 << 20]].concat(),
                hold: false,
            },
            "/silent" => Reply {
                bytes: Vec::new(),
                hold: true,
            },
            _ => reply("503 Service Unavailable", b""),
        }
    });
    let place = Place::with(|settings| settings.stall = Duration::from_millis(50));
    place.fetch("s", &uri(&server.url("here"))).unwrap();
    assert_eq!(place.read("s/here"), "found");
    for (path, says) in [
        ("loop", "redirected more than"),
        ("away", "Location"),
        ("large", "larger than"),
        ("endless", "larger than"),
        ("silent", "no answer within"),
        ("busy", "503"),
    ] {
        let error = place.fetch(path, &uri(&server.url(path))).unwrap_err();
        assert!(
            error.contains(says) && error.contains(&server.url(path)),
            "{path}: {error}"
        );
    }
}

#[test]
fn a_task_that_is_killed_does_not_wait_for_its_server() {
    let server = Server::start(|_, _| Reply {
        bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec(),
        hold: true,
    });
    let place = Place::new();
    for wanted in [uri(&server.url("x")), kept(&server.url("x"))] {
        let before = server.heads().len();
        let (cancel, cancelled) = watch::channel(false);
        std::thread::scope(|scope| {
            let fetching = scope.spawn(|| place.fetch_while("s", &wanted, cancelled));
            while server.heads().len() == before {
                std::thread::yield_now();
            }
            cancel.send_replace(true);
            assert!(fetching.join().unwrap().unwrap_err().contains("not wanted"));
        });
        fs::remove_dir_all(place.path("s")).unwrap();
    }
}

#[test]
fn what_is_kept_is_downloaded_once_and_checked_at_each_use() {
    let server = Server::start(|head, _| match head.contains("if-none-match: \"v1\"") {
        true => reply("304 Not Modified", b""),
        false => reply("200 OK\r\nETag: \"v1\"", b"content"),
    });
    let mut place = Place::new();
    let wanted = with_checksum(kept(&server.url("x")), b"content");
    std::thread::scope(|scope| {
        let place = &place;
        let fetching: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let wanted = &wanted;
                    move || place.fetch(&format!("s{n}"), wanted)
                })
            })
            .collect();
        fetching
            .into_iter()
            .for_each(|fetching| fetching.join().unwrap().unwrap());
    });
    assert_eq!(server.heads().len(), 1);
    place.restart();
    place.fetch("again", &wanted).unwrap();
    assert_eq!((server.heads().len(), place.read("again/x").as_str()), (1, "content"));
    // The disk lies.
    for entry in fs::read_dir(place.path("fetched")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none() {
            fs::write(path, "c0ntent").unwrap();
        }
    }
    place.fetch("damaged", &wanted).unwrap();
    assert_eq!((server.heads().len(), place.read("damaged/x").as_str()), (2, "content"));
    // Without a checksum the server is asked, and believed.
    let unchecked = kept(&server.url("x"));
    for sandbox in ["u1", "u2"] {
        place.fetch(sandbox, &unchecked).unwrap();
        assert_eq!(place.read(&format!("{sandbox}/x")), "content");
    }
    let heads = server.heads();
    assert!(heads.len() == 4 && heads[3].contains("if-none-match"), "{heads:?}");
    // And where it cannot be asked, what is here is used.
    drop(server);
    place.fetch("u3", &unchecked).unwrap();
    assert!(place.read("u3/fetch.log").contains("what was kept is used"));
}

#[test]
fn an_archive_is_unpacked_in_place_of_itself() {
    let archive = include_bytes!("fixtures/tree.tar.gz");
    let server = Server::start(|_, _| reply("200 OK", include_bytes!("fixtures/tree.tar.gz")));
    let place = Place::new();
    for (sandbox, uri) in [
        ("s", uri(&server.url("t.tar.gz"))),
        ("k", kept(&server.url("t.tar.gz"))),
    ] {
        place.fetch(sandbox, &with_checksum(uri, archive)).unwrap();
        assert_eq!(place.read(&format!("{sandbox}/a/file")), "hello\n");
        let mut names: Vec<_> = fs::read_dir(place.path(sandbox))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "fetch.log"]);
    }
    let whole = Uri {
        extract: Some(false),
        output_file: Some("sub/archive.bin".into()),
        ..uri(&server.url("t.tar.gz"))
    };
    place.fetch("whole", &whole).unwrap();
    assert_eq!(fs::read(place.path("whole/sub/archive.bin")).unwrap(), archive);
}

#[test]
fn links_in_the_sandbox_lead_no_artifact_out_of_it() {
    let server = Server::start(|_, _| reply("200 OK", b"evil"));
    let place = Place::new();
    fs::create_dir_all(place.path("s/inner")).unwrap();
    fs::create_dir_all(place.path("other")).unwrap();
    for name in ["secret", "other/file"] {
        fs::write(place.path(name), "own").unwrap();
    }
    // As the task of a former fetch, an executor or an archive could leave them.
    for (link, target) in [
        ("up", ".."),
        ("absolute", place.path("other").to_str().unwrap()),
        ("inner/deep", "../../other"),
        ("twice", "up"),
        ("magic", "/proc/self/root"),
        ("x", "../secret"),
        ("fetch.log.2", "../secret"),
        ("tree", "../other"),
    ] {
        symlink(target, place.path("s").join(link)).unwrap();
    }
    let fetch = |name: &str, cached: bool| {
        let artifact = Uri {
            output_file: Some(name.into()),
            cache: Some(cached),
            ..uri(&server.url("artifact"))
        };
        place.fetch("s", &artifact)
    };
    let unharmed = || {
        assert_eq!(
            (place.read("secret"), place.read("other/file")),
            ("own".into(), "own".into())
        );
        assert_eq!(fs::read_dir(place.path("other")).unwrap().count(), 1);
        let outside = fs::read_dir(place.directory.path()).unwrap().count();
        assert_eq!(
            outside, 4,
            "something was made beside the sandbox: s, other, secret, fetched are there"
        );
    };
    for cached in [false, true] {
        for name in [
            "up/secret",
            "up/new",
            "absolute/file",
            "inner/deep/new",
            "twice/new",
            "magic/tmp/new",
            "tree/file",
            "tree/new/er",
        ] {
            assert!(fetch(name, cached).is_err(), "{name}, cached: {cached}");
            unharmed();
        }
        // A link in the very place of the artifact is refused or replaced, not written through.
        if fetch("x", cached).is_ok() {
            assert!(place.path("s/x").symlink_metadata().unwrap().is_file());
        }
        unharmed();
    }
    // Nor does the log of the fetcher follow one.
    fs::remove_file(place.path("s/fetch.log")).unwrap();
    symlink("../secret", place.path("s/fetch.log")).unwrap();
    let _ = fetch("plain", false);
    unharmed();
}

#[test]
fn https_is_trusted_only_with_a_certificate_that_is() {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("certificate"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(std::process::Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no openssl here to make a certificate");
        return;
    }
    use rustls::pki_types::pem::PemObject;
    let own = rustls::pki_types::CertificateDer::from_pem_file(&certificate).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .unwrap();
    let config = Arc::new(config);
    let server = Server::start_with(
        |_, _| reply("200 OK", b"over TLS"),
        move |stream, exchange| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            exchange(&mut rustls::StreamOwned::new(connection, stream));
        },
    );
    let url = server.url("x").replace("http:", "https:");
    let place = Place::with(|settings| settings.ca_file = Some(certificate.clone()));
    place.fetch("s", &uri(&url)).unwrap();
    assert_eq!(place.read("s/x"), "over TLS");
    let stranger = Place::new();
    let error = stranger.fetch("s", &uri(&url)).unwrap_err();
    assert!(
        error.contains("TLS") || error.contains("trusted certificates"),
        "{error}"
    );
}
