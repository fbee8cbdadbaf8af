use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;
use trilith_telemetry::Telemetry;

use super::*;

const OLD: Duration = Duration::from_secs(1_700_000_000);
const OLD_DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const WAYS: [Resolver; 3] = [
    Resolver::Openat2 { cached: true },
    Resolver::Openat2 { cached: false },
    Resolver::Walk,
];

/// A code base with `public`, served by `Files`.
struct Site {
    dir: TempDir,
    files: Files,
    folder: Arc<Folder>,
    counters: FileCounters,
}

impl Site {
    fn new(way: Resolver, revalidate_after: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("public")).unwrap();
        let mut files = Files::with_resolver(way, revalidate_after);
        files.settled_after = Duration::ZERO;
        let index = ["index.html".to_owned(), "index.txt".to_owned()];
        let folder = files.folder(
            dir.path(),
            Path::new("public"),
            false,
            &index,
            Some("no-cache"),
        );
        let counters = FileCounters::new(&Telemetry::new("test").worker());
        Self {
            dir,
            files,
            folder: Arc::new(folder),
            counters,
        }
    }

    /// Writes a file of `public` with an old time, so that its inode tells it from what was there
    /// (before Linux 6.13 only once the clock has ticked).
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.dir.path().join("public").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let identity = || {
            File::open(&path)
                .ok()
                .map(|f| Identity::of_open(f).unwrap())
        };
        let before = identity();
        loop {
            fs::write(&path, &bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + OLD).unwrap();
            if identity() != before {
                return;
            }
        }
    }

    async fn ask(&self, request: &Request, now_ms: u64) -> Result<Response, Refusal> {
        let path = trilith_route::normalise_path(request.target.path()).unwrap();
        let file = FileRequest {
            folder: &self.folder,
            path: &path,
            public_path: &path,
            request,
            now_ms,
        };
        self.files.serve(file, &self.counters).await
    }

    async fn get(&self, path: &str) -> Result<Response, Refusal> {
        self.ask(&Request::get("www.foobar.com", path), 0).await
    }

    async fn status(&self, path: &str) -> u16 {
        match self.get(path).await {
            Ok(response) => response.status.as_u16(),
            Err(Refusal::Status(status)) => status.as_u16(),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

fn site() -> Site {
    Site::new(Resolver::probe(), Duration::from_secs(1))
}

fn with(path: &str, fields: &[(&str, &str)]) -> Request {
    let mut request = Request::get("www.foobar.com", path);
    for (name, value) in fields {
        request.headers.append(name, value);
    }
    request
}

fn field<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers.get_str(name).unwrap_or_default()
}

async fn body(response: Response) -> Vec<u8> {
    response.body.collect(usize::MAX).await.unwrap().to_vec()
}

/// A small file from memory and a large one from disk.
const SIZES: [usize; 2] = [1000, CACHED_FILE_BYTES_MAX as usize + 1000];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

#[tokio::test]
async fn a_file_and_its_fields() {
    let site = site();
    for size in SIZES {
        site.write("a.css", pattern(size));
        let response = site
            .ask(&Request::get("h", "/a.css"), size as u64 * 1000)
            .await
            .unwrap();
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(field(&response, "content-type"), "text/css; charset=utf-8");
        assert_eq!(field(&response, "last-modified"), OLD_DATE);
        assert_eq!(
            field(&response, "etag"),
            format!("\"{size:x}-{:x}\"", OLD.as_nanos())
        );
        assert_eq!(field(&response, "accept-ranges"), "bytes");
        assert_eq!(field(&response, "x-content-type-options"), "nosniff");
        assert_eq!(field(&response, "cache-control"), "no-cache");
        assert_eq!(response.body.size(), Some(size as u64));
        assert!(body(response).await == pattern(size));
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let site = site();
    for size in SIZES {
        site.write("a.txt", pattern(size));
        let now_ms = size as u64 * 1000;
        let mut request = with("/a.txt", &[("Range", "bytes=0-1")]);
        request.method = Method::HEAD;
        let head = site.ask(&request, now_ms).await.unwrap();
        let get = site
            .ask(&Request::get("h", "/a.txt"), now_ms)
            .await
            .unwrap();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers, get.headers);
        assert_eq!(head.body.size(), get.body.size());
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let site = site();
    site.write("a.txt", "a");
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PURGE",
    ] {
        let mut request = Request::get("h", "/a.txt");
        request.method = method.parse().unwrap();
        let refusal = site.ask(&request, 0).await.unwrap_err();
        assert_eq!(refusal, Refusal::Method, "{method}");
    }
}

#[tokio::test]
async fn conditional_and_range_requests() {
    let site = site();
    for size in SIZES {
        site.write("f.txt", pattern(size));
        let etag = format!("\"{size:x}-{:x}\"", OLD.as_nanos());
        let (etag, last) = (etag.as_str(), (size - 1).to_string());
        let whole: Result<u16, Refusal> = Ok(200);
        let failed = Err(Refusal::Status(StatusCode::PRECONDITION_FAILED));
        let unsatisfiable = Err(Refusal::Range(size as u64));
        for (fields, expected, content_range) in [
            (&[][..], &whole, ""),
            (&[("If-None-Match", etag)], &Ok(304), ""),
            (&[("If-Modified-Since", OLD_DATE)], &Ok(304), ""),
            (&[("If-Match", "\"x\"")], &failed, ""),
            (
                &[("If-None-Match", etag), ("Range", "bytes=0-1")],
                &Ok(304),
                "",
            ),
            (&[("Range", "bytes=2-4")], &Ok(206), "bytes 2-4/"),
            (
                &[("Range", "bytes=2-4"), ("If-Range", etag)],
                &Ok(206),
                "bytes 2-4/",
            ),
            (&[("Range", "bytes=2-4"), ("If-Range", "\"x\"")], &whole, ""),
            (
                &[("Range", "bytes=2-4"), ("If-Range", OLD_DATE)],
                &Ok(206),
                "bytes 2-4/",
            ),
            (&[("Range", "bytes=5000000-")], &unsatisfiable, ""),
            (
                &[("Range", "bytes=5000000-"), ("If-Range", "\"x\"")],
                &whole,
                "",
            ),
            (
                &[("Range", "bytes=0-1"), ("Range", "bytes=0-1")],
                &whole,
                "",
            ),
            (&[("Range", "bytes=0-1,1-2")], &Ok(206), "bytes 0-2/"),
        ] {
            let result = site.ask(&with("/f.txt", fields), size as u64 * 1000).await;
            let status = result.as_ref().map(|r| r.status.as_u16()).map_err(|e| *e);
            assert_eq!(status, *expected, "{fields:?}");
            let Ok(response) = result else { continue };
            match response.status.as_u16() {
                304 => {
                    assert!(response.body.is_empty());
                    let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
                    assert_eq!(names, [&b"ETag"[..], b"Last-Modified", b"Cache-Control"]);
                }
                206 => {
                    let expected = format!("{content_range}{size}");
                    assert_eq!(field(&response, "content-range"), expected);
                    let range = content_range
                        .trim_start_matches("bytes ")
                        .trim_end_matches('/');
                    let (first, last) = range.split_once('-').unwrap();
                    let (first, last): (usize, usize) =
                        (first.parse().unwrap(), last.parse().unwrap());
                    assert_eq!(body(response).await, &pattern(size)[first..=last]);
                }
                _ => assert!(body(response).await == pattern(size)),
            }
        }
        let tail = with("/f.txt", &[("Range", "bytes=-1")]);
        let response = site.ask(&tail, size as u64 * 1000).await.unwrap();
        assert_eq!(
            field(&response, "content-range"),
            format!("bytes {last}-{last}/{size}")
        );
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let site = site();
    for size in SIZES {
        site.write("f.txt", pattern(size));
        let request = with("/f.txt", &[("Range", "bytes=300-302,0-1,-2")]);
        let response = site.ask(&request, size as u64 * 1000).await.unwrap();
        assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
        assert!(!response.headers.contains("content-range"));
        let content_type = field(&response, "content-type").to_owned();
        let boundary = content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        assert_eq!(boundary.len(), 32);

        let promised = response.body.size().unwrap();
        let bytes = body(response).await;
        assert_eq!(bytes.len() as u64, promised);
        let file = pattern(size);
        let part = |range: std::ops::Range<usize>| {
            format!(
                "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Range: bytes {}-{}/{size}\r\n\r\n{}\r\n",
                range.start,
                range.end - 1,
                std::str::from_utf8(&file[range.clone()]).unwrap(),
            )
        };
        let expected = [
            part(300..303),
            part(0..2),
            part(size - 2..size),
            format!("--{boundary}--\r\n"),
        ];
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected.concat());
    }
}

#[tokio::test]
async fn folders_lead_to_their_index() {
    let site = site();
    site.write("index.html", "top");
    site.write("docs/index.txt", "docs");
    site.write("empty/x.txt", "x");
    site.write("odd/index.html/x.txt", "x");
    site.write("odd/index.txt", "second choice");
    for (path, status, text) in [
        ("/", 200, "top"),
        ("/docs/", 200, "docs"),
        ("/odd/", 200, "second choice"),
        ("/empty/", 404, ""),
        ("/missing/", 404, ""),
        ("/docs/index.txt/", 404, ""),
        ("/docs", 301, ""),
    ] {
        assert_eq!(site.status(path).await, status, "{path}");
        if status == 200 {
            assert_eq!(
                body(site.get(path).await.unwrap()).await,
                text.as_bytes(),
                "{path}"
            );
        }
    }
    let response = site.get("/").await.unwrap();
    assert_eq!(field(&response, "content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn redirects_to_folders_stay_on_this_host() {
    let site = site();
    site.write("docs/a b/index.html", "x");
    site.write("evil.com/index.html", "x");
    for (target, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=1&b=%2F", "/docs/?a=1&b=%2F"),
        ("/docs/a%20b", "/docs/a%20b/"),
        ("//docs", "/docs/"),
        ("//evil.com", "/evil.com/"),
        ("/./evil.com/../evil.com", "/evil.com/"),
    ] {
        let response = site.get(target).await.unwrap();
        assert_eq!(field(&response, "location"), location, "{target}");
    }
}

#[tokio::test]
async fn hostile_paths_get_404_or_400() {
    for way in WAYS {
        let site = Site::new(way, Duration::ZERO);
        site.write("a.txt", "a");
        site.write(".env", "SECRET=1");
        site.write(".git/config", "secret");
        site.write("sub/.htpasswd", "secret");
        site.write(".well-known/security.txt", "open");
        site.write(".well-known/.hidden", "secret");
        site.write("sub/.well-known/x", "secret");
        let code = site.dir.path();
        fs::write(code.join("secret.txt"), "secret").unwrap();
        let public = code.join("public");
        symlink("../secret.txt", public.join("link.txt")).unwrap();
        symlink("..", public.join("up")).unwrap();
        symlink("/", public.join("root")).unwrap();
        symlink("/proc/self", public.join("proc")).unwrap();

        for path in [
            "/../secret.txt",
            "/a/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/%2E%2E/secret.txt",
            "/.%2e/secret.txt",
            "/..%2fsecret.txt",
            "/%2e%2e%2fsecret.txt",
            "/..%5csecret.txt",
            "/..\\secret.txt",
            "/sub/..%2f..%2fsecret.txt",
            "/%252e%252e/secret.txt",
            "/%c0%ae%c0%ae/secret.txt",
            "/..%c0%afsecret.txt",
            "/..;/secret.txt",
            "/.../secret.txt",
            "/a.txt%00.html",
            "/a.txt%0a",
            "/%",
            "/%zz",
            "/%u002e%u002e/secret.txt",
            "//etc/passwd",
            "/etc/passwd",
            "/link.txt",
            "/up/secret.txt",
            "/up/public/a.txt",
            "/root/etc/passwd",
            "/proc/cwd/Cargo.toml",
            "/proc/root/etc/passwd",
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/.git",
            "/sub/.htpasswd",
            "/sub/../.env",
            "/.well-known/.hidden",
            "/.well-known/../.env",
            "/sub/.well-known/x",
            "/.well-knownx",
            "/a.txt/",
            "/a.txt/.",
            "/a.txt/../.env",
            "/~root",
            "/C:/windows",
            "/a.txt::$DATA",
            "/nul",
        ] {
            let status = match trilith_route::normalise_path(path) {
                Ok(_) => site.status(path).await,
                Err(_) => 400,
            };
            assert!(status == 404 || status == 400, "{way:?} {path}: {status}");
        }
        let long = format!("/{}", "a".repeat(5000));
        assert_eq!(site.status(&long).await, 404, "{way:?}");
        for path in [
            "/a.txt",
            "/.well-known/security.txt",
            "/x/../a.txt",
            "//a.txt",
            "/%61.txt",
        ] {
            assert_eq!(site.status(path).await, 200, "{way:?} {path}");
        }
    }
}

#[tokio::test]
async fn names_are_decoded() {
    let site = site();
    for (name, path) in [
        ("a b.txt", "/a%20b.txt"),
        ("100%.txt", "/100%25.txt"),
        ("%41.txt", "/%2541.txt"),
        ("größe.txt", "/gr%C3%B6%C3%9Fe.txt"),
        ("a?b#c.txt", "/a%3Fb%23c.txt"),
    ] {
        site.write(name, name);
        assert_eq!(
            body(site.get(path).await.unwrap()).await,
            name.as_bytes(),
            "{path}"
        );
    }
    let path = site
        .dir
        .path()
        .join("public")
        .join(OsStr::from_bytes(b"\xff.txt"));
    fs::write(path, "latin").unwrap();
    assert_eq!(site.status("/%ff.txt").await, 200);
}

#[tokio::test]
async fn an_unreadable_file_is_forbidden() {
    use std::os::unix::fs::PermissionsExt;
    let site = site();
    site.write("a.txt", "a");
    let path = site.dir.path().join("public/a.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    // Root may read it all the same.
    let expected = if File::open(&path).is_ok() { 200 } else { 403 };
    assert_eq!(site.status("/a.txt").await, expected);
}

#[tokio::test]
async fn content_types() {
    let site = site();
    for (name, content_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.PNG", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.webp", "image/webp"),
        ("a.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("a.nobody-knows", "application/octet-stream"),
    ] {
        site.write(name, "x");
        let response = site.get(&format!("/{name}")).await.unwrap();
        assert_eq!(field(&response, "content-type"), content_type, "{name}");
    }
}

#[tokio::test]
async fn memory_is_revalidated() {
    let site = site();
    site.write("a.txt", "one");
    let ask = async |now_ms| {
        let response = site.ask(&Request::get("h", "/a.txt"), now_ms).await;
        match response {
            Ok(response) => String::from_utf8(body(response).await).unwrap(),
            Err(refusal) => format!("{refusal:?}"),
        }
    };
    assert_eq!(ask(0).await, "one");
    site.write("a.txt", "two");
    assert_eq!(ask(999).await, "one", "not looked at again yet");
    // Same size and same modification time: only the inode's own time tells.
    assert_eq!(ask(1000).await, "two");
    fs::remove_file(site.dir.path().join("public/a.txt")).unwrap();
    assert_eq!(ask(1999).await, "two");
    assert_eq!(ask(2000).await, "Status(404)");
    assert_eq!(ask(2000).await, "Status(404)", "and it is out of memory");
    site.write("a.txt", "three");
    assert_eq!(
        ask(2000).await,
        "three",
        "what was missing is looked for at once"
    );
    site.write("a.txt", pattern(SIZES[1]));
    assert_eq!(ask(3000).await.len(), SIZES[1], "from memory to disk");
    site.write("a.txt", "four");
    assert_eq!(ask(3000).await, "four", "and back");
}

#[tokio::test]
async fn a_file_just_written_is_not_kept() {
    let mut site = site();
    site.files.settled_after = FILE_SETTLED_AFTER;
    // A slow machine may take longer than the time in question: try until it did not.
    let mut kept = true;
    for _ in 0..100 {
        site.write("a.txt", "new");
        let written = std::time::Instant::now();
        assert_eq!(site.status("/a.txt").await, 200);
        let age = written.elapsed();
        if age < FILE_SETTLED_AFTER / 2 {
            kept = site.files.cache.get(site.folder.id, "/a.txt").is_some();
            break;
        }
    }
    assert!(!kept);
}

#[tokio::test]
async fn the_same_bytes_serve_every_request() {
    let site = site();
    site.write("a.txt", "a");
    let mut first = site.get("/a.txt").await.unwrap();
    let mut second = site.get("/a.txt").await.unwrap();
    let (first, second) = (
        first.body.take_full().unwrap(),
        second.body.take_full().unwrap(),
    );
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[tokio::test]
async fn an_empty_file() {
    let site = site();
    site.write("empty.txt", "");
    let response = site
        .ask(&with("/empty.txt", &[("Range", "bytes=0-0")]), 0)
        .await
        .unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.body.size(), Some(0));
}

#[tokio::test]
async fn an_exact_route_may_name_a_file() {
    let site = site();
    site.write("images/logo.png", "logo");
    let folder = |path: &str| {
        let path = Path::new(path);
        Arc::new(site.files.folder(site.dir.path(), path, true, &[], None))
    };
    for (folder, path, status) in [
        (folder("public/images/logo.png"), "/favicon.ico", 200),
        (folder("public/images/logo.png"), "/.hidden-name", 200),
        (folder("public/images"), "/logo.png", 200),
        (folder("public/images"), "/favicon.ico", 404),
        (folder("public/images/nowhere.png"), "/favicon.ico", 404),
    ] {
        let request = Request::get("h", path);
        let file = FileRequest {
            folder: &folder,
            path,
            public_path: path,
            request: &request,
            now_ms: 0,
        };
        let result = site.files.serve(file, &site.counters).await;
        match result {
            Ok(response) => {
                assert_eq!(response.status.as_u16(), status, "{path}");
                assert_eq!(field(&response, "content-type"), "image/png");
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Status(status.try_into().unwrap())),
        }
    }
}

#[test]
fn errors_of_the_kernel() {
    for (errno, status) in [
        (Errno::NOENT, 404),
        (Errno::LOOP, 404),
        (Errno::XDEV, 404),
        (Errno::NAMETOOLONG, 404),
        (Errno::ACCESS, 403),
        (Errno::MFILE, 503),
        (Errno::IO, 500),
    ] {
        assert_eq!(status_of(errno).as_u16(), status, "{errno}");
    }
}
