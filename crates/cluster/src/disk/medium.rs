//! Where the file lies: a folder of the machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::limits::DAMAGED_FILES_KEPT;
use crate::options::Medium;

const FILE: &str = "store.redb";
const DAMAGED: &str = "store.redb.damaged-";

/// `store.redb` in a folder that only its owner can read.
pub(crate) struct Folder(pub PathBuf);

impl Medium for Folder {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.0.join(FILE))?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        self.sync()?;
        Ok(Box::new(backend))
    }

    fn set_aside(&self) -> io::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut seconds = now.unwrap_or_default().as_secs();
        let mut to = self.0.join(format!("{DAMAGED}{seconds}"));
        while to.exists() {
            seconds += 1;
            to = self.0.join(format!("{DAMAGED}{seconds}"));
        }
        fs::rename(self.0.join(FILE), &to)?;
        self.forget_oldest()?;
        self.sync()?;
        Ok(to.display().to_string())
    }
}

impl Folder {
    /// A rename or a new file is there for sure only after its folder was synced.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// A disk that damages the file again and again must not fill itself up.
    fn forget_oldest(&self) -> io::Result<()> {
        let mut damaged = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if let Some(time) = name.to_str().and_then(|name| name.strip_prefix(DAMAGED)) {
                damaged.push((time.parse::<u64>().unwrap_or(0), name.clone()));
            }
        }
        damaged.sort();
        let excess = damaged.len().saturating_sub(DAMAGED_FILES_KEPT);
        for (_, name) in damaged.drain(..excess) {
            fs::remove_file(self.0.join(name))?;
        }
        Ok(())
    }
}
