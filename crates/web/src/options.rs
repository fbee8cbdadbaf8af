//! What `node` tells the web server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use trilith_http::StatusCode;
use trilith_route::PathPattern;

use crate::limits::FILE_REVALIDATE_AFTER;

#[derive(Clone, Debug)]
pub struct Options {
    /// The number of this set of sites: [`crate::RouteId`] says which one its positions are of. Another
    /// one for each [`crate::Web::replace`].
    pub sites_id: u64,
    /// All sites of the config file, in its order: [`crate::RouteId`] counts along it.
    pub sites: Vec<SiteOptions>,
    /// The folder of the code base, or of the release in use. Absolute.
    pub code_root: PathBuf,
    /// How long an app instance may take to accept a connection. It is on this machine.
    pub app_connect_timeout: Duration,
    /// How long an app instance may take from the end of the request to the head of its response.
    pub app_response_timeout: Duration,
    /// How long an idle connection to an app instance is kept.
    pub app_idle_timeout: Duration,
    /// How long files and folders are used without asking the file system whether they changed.
    pub file_revalidate_after: Duration,
}

impl Options {
    pub fn new(code_root: impl Into<PathBuf>, sites: Vec<SiteOptions>) -> Self {
        Self {
            sites_id: 0,
            sites,
            code_root: code_root.into(),
            app_connect_timeout: Duration::from_secs(1),
            app_response_timeout: Duration::from_secs(60),
            app_idle_timeout: Duration::from_secs(55),
            file_revalidate_after: FILE_REVALIDATE_AFTER,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct SiteOptions {
    pub host: String,
    /// Other names that lead here. (An edge redirects them before they do.)
    pub aliases: Vec<String>,
    /// Whether requests for hosts that no site has come here. At most one site.
    pub is_default: bool,
    /// Pages for the errors that Trilith itself answers with: status and file, relative to the code
    /// base. Responses of apps are passed on as they are.
    pub error_pages: Vec<(StatusCode, PathBuf)>,
    pub routes: Vec<RouteOptions>,
}

#[derive(Clone, Debug)]
pub struct RouteOptions {
    pub path: PathPattern,
    pub action: Action,
    /// Taken off the front of the path before it becomes a file name, goes to the app or into a
    /// redirect. For files it defaults to the prefix of `path`: with `/assets/*` and the folder
    /// `public/assets`, `/assets/a.css` is `public/assets/a.css`; say `/` to keep the whole path.
    pub strip_prefix: Option<String>,
    /// File names tried, in order, for a path that ends with a slash.
    pub index: Vec<String>,
    /// `Cache-Control` of files and fixed responses.
    pub cache_control: Option<String>,
    /// Longest request body passed to an app, in bytes.
    pub body_max: u64,
}

impl RouteOptions {
    /// A route with the default index (`index.html`) and body limit (16 MiB).
    pub fn new(path: PathPattern, action: Action) -> Self {
        Self {
            path,
            action,
            strip_prefix: None,
            index: vec!["index.html".to_owned()],
            cache_control: None,
            body_max: 16 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Files of a folder, relative to the code base; or, with an exact path, one file.
    Files(PathBuf),
    /// Instances of the app of that name.
    App(String),
    /// The edge's business: such a request is answered with 421 here.
    Upstream,
    /// `{path}` (or `$path`) in `to` stands for the path of the request, which begins with a slash;
    /// then the query goes along too. Without it, `to` is the `Location` as it stands.
    Redirect { to: String, status: StatusCode },
    Respond {
        status: StatusCode,
        content_type: String,
        body: Bytes,
    },
}

/// A live app instance on this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceAddr {
    /// Such as `web.1`. Unique within the app.
    pub id: String,
    pub address: SocketAddr,
}
