//! The data plane's threads: one single-threaded runtime each.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{self, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// How many ready tasks run between two looks at the sockets (tokio's default). Higher trades
/// latency for throughput.
const EVENT_INTERVAL: u32 = 61;

/// A fixed set of threads, each with a `current_thread` runtime of its own. A request never changes
/// thread, so what serves it needs no locks and no atomics.
pub struct Workers {
    threads: Vec<Worker>,
}

struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `count` threads named `<name>-0`, `<name>-1`, ... At least one.
    pub fn start(count: usize, name: &str) -> io::Result<Self> {
        let threads = (0..count.max(1))
            .map(|index| start_worker(format!("{name}-{index}")))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Runs `make(worker index)` as a task on every worker.
    pub fn spawn_each<F, Fut>(&self, make: F)
    where
        F: Fn(usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        for index in 0..self.threads.len() {
            let make = make.clone();
            self.spawn_on(index, move || make(index));
        }
    }

    /// Runs `make()` as a task on one worker (`index` below [`Workers::count`], else nothing runs).
    pub fn spawn_on<F, Fut>(&self, index: usize, make: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if let Some(worker) = self.threads.get(index) {
            // A send fails only when the worker has ended, and then there is nothing to run on.
            let _ = worker.jobs.send(Box::new(move || Box::pin(make())));
        }
    }

    /// Ends every worker: what still runs there is dropped. Drain first.
    pub async fn stop(self) {
        let threads: Vec<_> = self
            .threads
            .into_iter()
            .map(|worker| worker.thread)
            .collect();
        // The senders are gone, so the job loops end; joining may take a moment.
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        })
        .await;
    }
}

fn start_worker(name: String) -> io::Result<Worker> {
    let (jobs, queue) = mpsc::unbounded_channel();
    let (built, outcome) = std::sync::mpsc::channel();
    let thread = Builder::new()
        .name(name)
        .spawn(move || match local_runtime() {
            Ok(runtime) => {
                let _ = built.send(Ok(()));
                runtime.block_on(run_jobs(queue));
            }
            Err(error) => {
                let _ = built.send(Err(error));
            }
        })?;
    outcome
        .recv()
        .map_err(|_| io::Error::other("the worker thread ended at its start"))??;
    Ok(Worker { jobs, thread })
}

/// A runtime that cannot leave its thread: tasks need not be `Send`, and waking one takes no lock.
fn local_runtime() -> io::Result<LocalRuntime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default())
}

async fn run_jobs(mut queue: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        tokio::task::spawn_local(job());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::rc::Rc;

    #[tokio::test]
    async fn runs_on_each_worker_without_send() {
        let workers = Workers::start(3, "test").unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        workers.spawn_each(move |index| {
            let sender = sender.clone();
            async move {
                let not_send = Rc::new(index);
                tokio::task::yield_now().await;
                sender
                    .send((*not_send, std::thread::current().id()))
                    .unwrap();
            }
        });
        let mut seen = HashSet::new();
        for _ in 0..3 {
            seen.insert(receiver.recv().await.unwrap());
        }
        assert_eq!(
            seen.iter()
                .map(|(_, thread)| thread)
                .collect::<HashSet<_>>()
                .len(),
            3
        );
        workers.stop().await;
    }
}
