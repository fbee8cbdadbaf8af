//! What can be wrong with the web server's options.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Routes(#[from] trilith_route::RouterError),
    #[error("the code base {path} cannot be opened: {source}; set code.path to the folder of your application", path = path.display())]
    CodeBase {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("site `{site}`: {path} does not lie in the code base; name a path relative to it, without `..`", path = path.display())]
    OutsideCodeBase { site: String, path: PathBuf },
}
