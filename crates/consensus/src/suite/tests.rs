use super::*;
use crate::memory::MemoryStore;

struct Memory(Vec<MemoryStore>);

impl Memory {
    fn of(names: &[&str]) -> Self {
        let names = names.iter().map(|name| ServerName::new(name).unwrap());
        Self(MemoryStore::cluster(names))
    }
}

impl Harness for Memory {
    fn servers(&self) -> usize {
        self.0.len()
    }

    fn name(&self, server: usize) -> ServerName {
        self.0[server].name().clone()
    }

    fn store(&self, server: usize) -> Arc<dyn Store> {
        Arc::new(self.0[server].clone())
    }

    fn now(&self) -> BootTime {
        self.0[0].now()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0[0].advance(self.0[0].now() + time);
        })
    }

    fn kill(&self, server: usize) -> BoxFuture<'_, bool> {
        self.0[server].stop();
        Box::pin(async { true })
    }

    fn restart(&self, server: usize) -> BoxFuture<'_, ()> {
        self.0[server].start();
        Box::pin(async {})
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn slack(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test]
async fn the_reference_passes_with_three_servers() {
    all(&Memory::of(&["one", "two", "three"])).await;
}

#[tokio::test]
async fn the_reference_passes_with_one_server() {
    all(&Memory::of(&["one"])).await;
}

#[tokio::test]
async fn the_reference_passes_when_all_answers_are_late() {
    let memory = Memory::of(&["one", "two", "three", "four", "five"]);
    // The clock must go on while a call waits for its answer.
    let clock = memory.0[0].clone();
    for store in &memory.0 {
        store.delay(Duration::from_millis(5));
    }
    let ticking = tokio::spawn(async move {
        loop {
            clock.advance(clock.now() + Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    });
    all(&memory).await;
    ticking.abort();
}
