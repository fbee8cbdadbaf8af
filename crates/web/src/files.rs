//! Files of the code base, as RFC 9110 wants a GET or HEAD answered.

mod cache;
mod conditional;
mod range;
mod respond;
mod root;
mod stream;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::Stat;
use rustix::io::Errno;
use trilith_http::{Body, Method, Request, Response, StatusCode};
use trilith_route::decode_path;
use trilith_telemetry::{HotCounter, Labels, WorkerMetrics};

use crate::limits::{CACHED_FILE_BYTES_MAX, FILE_SETTLED_AFTER};
use cache::{Entry, FileCache};
use respond::{Meta, memory_body, redirect_to_folder, respond};
use root::{Found, Identity, Resolver, Root, Wait};
use stream::{FileStream, Segment};

pub use root::{is_beneath, open_code};

/// What serves files: how this kernel opens them, and those in memory.
#[derive(Debug)]
pub struct Files {
    cache: FileCache,
    resolver: Resolver,
    revalidate_after_ms: u64,
    settled_after: Duration,
    next_folder: AtomicU64,
}

/// A folder to serve from, and how.
#[derive(Debug)]
pub struct Folder {
    /// Unique in the process: cache entries of a former release are never found again.
    id: u64,
    root: Arc<Root>,
    /// The one file of an exact route; then the request's path says nothing.
    only: Option<PathBuf>,
    index: Arc<[String]>,
    cache_control: Option<String>,
}

/// Counters of one worker.
#[derive(Debug)]
pub struct FileCounters {
    hits: HotCounter,
    misses: HotCounter,
    failures: HotCounter,
}

impl FileCounters {
    pub fn new(metrics: &WorkerMetrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, Labels::new());
        Self {
            hits: counter("web_file_cache_hits", "Files served from memory"),
            misses: counter("web_file_cache_misses", "Files opened to be served"),
            failures: counter(
                "web_file_failures",
                "Files that could not be sent whole (truncated meanwhile, or unreadable)",
            ),
        }
    }
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 405
    Method,
    /// 416, for a file of that many bytes.
    Range(u64),
    /// Whatever else.
    Status(StatusCode),
}

/// What serves one request: a folder, a normal path beneath it, and the request.
#[derive(Clone, Copy, Debug)]
pub struct FileRequest<'a> {
    pub folder: &'a Arc<Folder>,
    /// Normal, relative to the folder, with its leading slash.
    pub path: &'a str,
    /// Normal, as the client knows it, for redirects.
    pub public_path: &'a str,
    pub request: &'a Request,
    /// Milliseconds on a clock that never goes back.
    pub now_ms: u64,
}

impl Files {
    pub fn new(revalidate_after: Duration) -> Self {
        Self::with_resolver(Resolver::probe(), revalidate_after)
    }

    fn with_resolver(resolver: Resolver, revalidate_after: Duration) -> Self {
        Self {
            cache: FileCache::new(),
            resolver,
            revalidate_after_ms: revalidate_after.as_millis().try_into().unwrap_or(u64::MAX),
            settled_after: FILE_SETTLED_AFTER,
            next_folder: AtomicU64::new(0),
        }
    }

    /// A folder beneath `code`. With `exact`, `path` may also name a file, which is then the answer
    /// to every request. It need not exist yet.
    pub fn folder(
        &self,
        code: &Path,
        path: &Path,
        exact: bool,
        index: &[String],
        cache_control: Option<&str>,
    ) -> Folder {
        let (path, only) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if exact && !root::is_folder(code, path, self.resolver) => {
                (parent, Some(PathBuf::from(name)))
            }
            _ => (path, None),
        };
        Folder {
            id: self.next_folder.fetch_add(1, Relaxed),
            root: Arc::new(Root::new(
                code,
                path,
                self.resolver,
                self.revalidate_after_ms,
            )),
            only,
            index: index.into(),
            cache_control: cache_control.map(str::to_owned),
        }
    }

    /// Answers a request for a file.
    pub async fn serve(
        &self,
        file: FileRequest<'_>,
        counters: &FileCounters,
    ) -> Result<Response, Refusal> {
        let method = &file.request.method;
        if *method != Method::GET && *method != Method::HEAD {
            return Err(Refusal::Method);
        }
        if file.folder.only.is_none() {
            if is_hidden(file.path) {
                return Err(Refusal::Status(StatusCode::NOT_FOUND));
            }
            // The folder itself, under the name that a prefix route has for it.
            if file.path == "/" && !file.public_path.ends_with('/') {
                return Ok(redirect_to_folder(file.public_path, file.request));
            }
        }
        match self
            .find(file.folder, file.path, file.now_ms, counters)
            .await?
        {
            Content::Folder => Ok(redirect_to_folder(file.public_path, file.request)),
            Content::Memory(entry) => respond(&entry.meta, file.request, |selected| {
                memory_body(&entry.body, selected)
            }),
            Content::Open(meta, fd) => respond(&meta, file.request, |selected| {
                let size = meta.identity.size;
                let segments = selected.unwrap_or_else(|| vec![Segment::File(0..size)]);
                Body::stream(FileStream::new(fd, segments, counters.failures.clone()))
            }),
        }
    }

    /// A small file whole (error pages): its content type and bytes. `None` when it is missing,
    /// unreadable, or larger than [`CACHED_FILE_BYTES_MAX`].
    pub async fn load(
        &self,
        folder: &Arc<Folder>,
        path: &str,
        now_ms: u64,
        counters: &FileCounters,
    ) -> Option<(&'static str, Bytes)> {
        match self.find(folder, path, now_ms, counters).await {
            Ok(Content::Memory(entry)) => Some((entry.meta.content_type, entry.body.clone())),
            _ => None,
        }
    }

    async fn find(
        &self,
        folder: &Arc<Folder>,
        path: &str,
        now_ms: u64,
        counters: &FileCounters,
    ) -> Result<Content, Refusal> {
        let path = if folder.only.is_some() { "" } else { path };
        let cached = self.cache.get(folder.id, path);
        if let Some(entry) = &cached
            && entry.age_ms(now_ms) < self.revalidate_after_ms
        {
            counters.hits.inc();
            return Ok(Content::Memory(Arc::clone(entry)));
        }
        let found = self
            .look(folder, path, now_ms, cached.as_ref(), counters)
            .await;
        if cached.is_some() && !matches!(found, Ok(Content::Memory(_))) {
            self.cache.remove(folder.id, path);
        }
        found
    }

    /// Asks the file system, also whether `cached` is still the file.
    async fn look(
        &self,
        folder: &Arc<Folder>,
        path: &str,
        now_ms: u64,
        cached: Option<&Arc<Entry>>,
        counters: &FileCounters,
    ) -> Result<Content, Refusal> {
        for _ in 0..READS_MAX {
            let (fd, stat, content_type) = match open(folder, path, now_ms).await {
                Ok(Opened::File(fd, stat, content_type)) => (fd, stat, content_type),
                Ok(Opened::Folder) => return Ok(Content::Folder),
                Err(errno) => return Err(Refusal::Status(status_of(errno))),
            };
            let identity = Identity::of(&stat);
            if let Some(entry) = cached
                && entry.meta.identity == identity
            {
                entry.checked(now_ms);
                counters.hits.inc();
                return Ok(Content::Memory(Arc::clone(entry)));
            }
            counters.misses.inc();
            let meta = Meta::new(identity, content_type, folder.cache_control.as_deref());
            if identity.size > CACHED_FILE_BYTES_MAX {
                return Ok(Content::Open(meta, fd));
            }
            if let Some((fd, body)) = read_whole(fd, identity.size as usize).await?
                && Identity::of_open(&fd).is_ok_and(|now| now == identity)
            {
                let entry = Arc::new(Entry::new(meta, body, now_ms));
                if self.is_settled(&identity) {
                    self.cache.insert(folder.id, path, Arc::clone(&entry));
                }
                return Ok(Content::Memory(entry));
            }
        }
        counters.failures.inc();
        Err(Refusal::Status(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Whether the last change is long enough ago that another one would show.
    fn is_settled(&self, identity: &Identity) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let changed = Duration::from_nanos(identity.changed_ns);
        // A time in the future comes of a clock that was set back, and says nothing.
        changed > now || now - changed >= self.settled_after
    }
}

/// How often a file is read that changes while it is read.
const READS_MAX: u32 = 3;

/// What a path stands for.
enum Content {
    Memory(Arc<Entry>),
    Open(Meta, OwnedFd),
    Folder,
}

/// What opening gave: the file with its content type.
enum Opened {
    File(OwnedFd, Stat, &'static str),
    Folder,
}

/// Without waiting where the kernel has the way in memory, else on a thread that may wait.
async fn open(folder: &Arc<Folder>, path: &str, now_ms: u64) -> Result<Opened, Errno> {
    match folder.open(path, now_ms, Wait::No) {
        Err(Errno::AGAIN) => {}
        result => return result,
    }
    let (folder, path) = (Arc::clone(folder), path.to_owned());
    tokio::task::spawn_blocking(move || folder.open(&path, now_ms, Wait::Yes))
        .await
        .unwrap_or(Err(Errno::IO))
}

impl Folder {
    fn open(&self, path: &str, now_ms: u64, wait: Wait) -> Result<Opened, Errno> {
        if let Some(only) = &self.only {
            return self.open_named(only, now_ms, wait);
        }
        let bytes = decode_path(path.strip_prefix('/').unwrap_or(path));
        let relative = Path::new(OsStr::from_bytes(&bytes));
        if !bytes.is_empty() && !bytes.ends_with(b"/") {
            return self.open_named(relative, now_ms, wait);
        }
        for name in &*self.index {
            match self.open_named(&relative.join(name), now_ms, wait) {
                Ok(Opened::Folder) | Err(Errno::NOENT) => {}
                result => return result,
            }
        }
        Err(Errno::NOENT)
    }

    fn open_named(&self, path: &Path, now_ms: u64, wait: Wait) -> Result<Opened, Errno> {
        Ok(match self.root.find(path, now_ms, wait)? {
            Found::File(fd, stat) => Opened::File(fd, stat, content_type(path)),
            Found::Folder => Opened::Folder,
        })
    }
}

/// By the name's extension. Text is UTF-8: whatever else it was in 2004, it is that now.
fn content_type(path: &Path) -> &'static str {
    match mime_guess::from_path(path).first_raw() {
        None => "application/octet-stream",
        Some("text/html") => "text/html; charset=utf-8",
        Some("text/css") => "text/css; charset=utf-8",
        // RFC 9239 retired the second.
        Some("text/javascript" | "application/javascript") => "text/javascript; charset=utf-8",
        Some("text/plain") => "text/plain; charset=utf-8",
        Some("text/markdown") => "text/markdown; charset=utf-8",
        Some("text/csv") => "text/csv; charset=utf-8",
        Some("text/xml") => "text/xml; charset=utf-8",
        Some("text/calendar") => "text/calendar; charset=utf-8",
        Some("text/vtt") => "text/vtt; charset=utf-8",
        Some("text/x-yaml") => "text/x-yaml; charset=utf-8",
        Some(other) => other,
    }
}

/// Names that begin with a dot are nobody's business, except `/.well-known` (RFC 8615).
fn is_hidden(path: &str) -> bool {
    let path = path.strip_prefix("/.well-known/").unwrap_or(path);
    path.starts_with('.') || path.contains("/.")
}

/// The whole file; `None` when it is not `size` bytes long any more.
async fn read_whole(fd: OwnedFd, size: usize) -> Result<Option<(OwnedFd, Bytes)>, Refusal> {
    let mut bytes = vec![0; size];
    let mut have = 0;
    while have < size {
        match stream::read_nowait(&fd, &mut bytes[have..], have as u64) {
            Ok(0) => return Ok(None),
            Ok(count) => have += count,
            Err(_) => break,
        }
    }
    if have == size {
        return Ok(Some((fd, bytes.into())));
    }
    let read = tokio::task::spawn_blocking(move || {
        while have < size {
            let at = have as u64;
            match rustix::io::retry_on_intr(|| rustix::io::pread(&fd, &mut bytes[have..], at))? {
                0 => return Ok(None),
                count => have += count,
            }
        }
        Ok::<_, Errno>(Some((fd, Bytes::from(bytes))))
    });
    match read.await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(_)) | Err(_) => Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}

fn status_of(errno: Errno) -> StatusCode {
    match errno {
        // XDEV: it leads out of the folder. LOOP: symlinks, where none are followed.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::LOOP
        // A socket, a device without driver.
        | Errno::NXIO | Errno::NODEV => StatusCode::NOT_FOUND,
        Errno::ACCESS | Errno::PERM => StatusCode::FORBIDDEN,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::BUSY => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests;
