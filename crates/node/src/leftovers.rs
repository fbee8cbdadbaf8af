//! What a killed server left running: ended without starting it again.

use std::collections::BTreeMap;

use trilith_app::{Release, ReleaseId, Supervisor};
use trilith_base::ServerName;
use trilith_config::{Config, Role, Server};
use trilith_telemetry::Telemetry;

use crate::error::NodeError;
use crate::lower;
use crate::pidfile::PidFile;
use crate::secrets::DATABASE_FILE;

/// Ends the app instances and the PostgreSQL that belong to the state folder of a server that does not run
/// any more: nothing else, and each only when it is proven to be that one. Blocks until they are gone. Says
/// what it ended.
///
/// # Errors
/// [`NodeError::AlreadyRunning`] when the server runs.
pub fn stop_left_behind(
    config: &Config,
    server: &ServerName,
) -> Result<Vec<&'static str>, NodeError> {
    let Some(server) = config.server(server) else {
        return Ok(Vec::new());
    };
    let run_dir = config.state_dir(&server.name).join("run");
    if !run_dir.is_dir() {
        return Ok(Vec::new());
    }
    // Nobody may start it while we are at it.
    let _lock = PidFile::acquire(&run_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(NodeError::service)?;
    let mut ended = Vec::new();
    if runtime.block_on(end_instances(config, server))? {
        ended.push("app instances");
    }
    if let (Some(_), true) = (&config.database, server.has(Role::Db)) {
        let path = config.cluster.secrets.join(DATABASE_FILE);
        if let Some(secrets) = trilith_postgres::Secrets::load(&path).map_err(NodeError::service)?
            && let Some(options) = lower::postgres::options(config, server, &secrets)?
        {
            let stopped = runtime.block_on(trilith_postgres::stop_left_behind(&options));
            if stopped.map_err(NodeError::service)? {
                ended.push("PostgreSQL");
            }
        }
    }
    Ok(ended)
}

/// A supervisor of nothing: it ends what the last one left, as at every start. Whether there was
/// something.
async fn end_instances(config: &Config, server: &Server) -> Result<bool, NodeError> {
    let telemetry = Telemetry::new(server.name.as_str());
    let Some(id) = ReleaseId::parse("000000000000") else {
        return Ok(false);
    };
    let release = Release {
        id,
        dir: config.state_dir(&server.name),
    };
    let options = lower::app::options(config, server, release, Vec::new(), BTreeMap::new());
    let supervisor = Supervisor::start(options, telemetry.clone()).await;
    supervisor.map_err(NodeError::service)?.stop(async {}).await;
    let ended = telemetry.counter("app_leftovers_ended", "", Vec::new());
    Ok(ended.get() > 0)
}
