//! What every implementation of the store must pass, on three servers over a network in memory.

use std::sync::Arc;
use std::time::Duration;

use super::support::{self, Lab};
use trilith_base::{BootTime, ServerName};
use trilith_consensus::suite::{self, Harness};
use trilith_consensus::{BoxFuture, Store};

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Three(Lab);

impl Harness for Three {
    fn servers(&self) -> usize {
        NAMES.len()
    }

    fn name(&self, server: usize) -> ServerName {
        support::name(NAMES[server])
    }

    fn store(&self, server: usize) -> Arc<dyn Store> {
        self.0.server(NAMES[server])
    }

    fn now(&self) -> BootTime {
        BootTime::now()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn kill(&self, server: usize) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.0.stop(NAMES[server]).await;
            true
        })
    }

    fn restart(&self, server: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.start(NAMES[server]).await;
        })
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_store() {
    let three = Three(Lab::started(&NAMES).await);
    suite::all(&three).await;
    three.0.stop_all().await;
    assert!(three.0.fatal.lock().unwrap().is_empty());
}
