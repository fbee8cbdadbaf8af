//! Starting a replica with no less than its WAL needs, whatever the configuration says.

use tokio::time::{Instant, timeout_at};

use super::Instance;
use super::line::Look;
use super::settings::{Role, Settings};
use crate::conf::CONF_FILE;
use crate::error::{Error, FileContext, SqlContext};
use crate::hot_standby::HotStandby;
use crate::remote::timed_out;

const DOING: &str = "reading settings of the local PostgreSQL";

impl Instance {
    /// Writes the files that PostgreSQL is started with. Whether they say more than the configuration, because
    /// it starts as a replica of somebody who had more.
    pub(super) async fn write_start_config(&mut self, settings: &Settings) -> Result<bool, Error> {
        let dir = self.options.data_dir.clone();
        self.write_config(&dir, settings)?;
        if matches!(settings.role, Role::Primary { .. }) {
            return Ok(false);
        }
        let binaries = self.any_binaries()?;
        let floors = self.programs(&binaries).control_data().await?.hot_standby;
        let path = dir.join(CONF_FILE);
        let conf = std::fs::read_to_string(&path).at("read", &path)?;
        let lines = floors.raise(&conf);
        if lines.is_empty() {
            return Ok(false);
        }
        let conf = format!("{conf}\n# a replica must not have less than its primary had\n{lines}");
        self.owner.write_file_if_changed(&path, &conf, 0o600)?;
        Ok(true)
    }

    /// Once per process: what it was started with.
    pub(super) async fn note_hot_standby(&mut self, until: Instant) -> Result<(), Error> {
        if self.life.hot_standby.is_some() {
            return Ok(());
        }
        let asking = async {
            let line = self.line().await?;
            let row = line.session.query_one(&HotStandby::query(), &[]).await;
            let values: Vec<i64> = row.and_then(|row| row.try_get(0)).doing(DOING)?;
            Ok::<_, Error>(values)
        };
        let limit = crate::limits::ASK_TIMEOUT;
        let values = timeout_at(until, asking).await;
        let values = values.map_err(|_| timed_out(DOING, limit))??;
        let values: Vec<u64> = values.into_iter().map(i64::cast_unsigned).collect();
        self.life.hot_standby = values.try_into().ok().map(HotStandby);
        Ok(())
    }

    /// Whether replicas can have less of something only after a restart of this primary.
    pub(super) fn lowers(&self, look: &Look) -> bool {
        let wanted = HotStandby::wanted(&self.options);
        let running = self.life.hot_standby;
        !look.in_recovery && running.is_some_and(|running| running.is_lowered_by(&wanted))
    }
}
