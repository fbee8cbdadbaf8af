//! What a killed server left running: ended without starting it again.

use trilith_base::ServerName;
use trilith_config::{Config, Role};
use trilith_telemetry::Telemetry;

use crate::error::NodeError;
use crate::pidfile::PidFile;
use crate::secrets::DATABASE_FILE;
use crate::{database_guard, lower};

/// Ends the app instances and the PostgreSQL that belong to the state folder of a server that does
/// not run any more: nothing else, and each only when it is proven to be that one. Blocks until
/// they are gone. Says what it ended.
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
    let mut ended = Vec::new();
    if trilith_app::end_leftovers(&run_dir, &Telemetry::new(server.name.as_str())) > 0 {
        ended.push("app instances");
    }
    if let (Some(_), true) = (&config.database, server.has(Role::Db)) {
        let path = config.cluster.secrets.join(DATABASE_FILE);
        if let Some(secrets) = trilith_postgres::Secrets::load(&path).map_err(NodeError::service)?
            && let Some(options) = lower::postgres::options(config, server, &secrets)?
        {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(NodeError::service)?;
            let stopped = runtime.block_on(trilith_postgres::stop_left_behind(&options));
            if stopped.map_err(NodeError::service)? {
                ended.push("PostgreSQL");
            }
            // After PostgreSQL: until then it is what stops a primary at its deadline.
            let fifo = database_guard::options(&options).fifo;
            let guard = trilith_postgres::guard::end_left_behind(&fifo);
            if guard.map_err(NodeError::service)? {
                ended.push("PostgreSQL's guard");
            }
        }
    }
    Ok(ended)
}
