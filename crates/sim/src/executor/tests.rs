use super::*;
use crate::environment::{Sleep, spawn_for};

const MILLISECOND: Nanos = 1_000_000;

fn recorder() -> (
    Arc<Mutex<Vec<String>>>,
    impl Fn(&str) + Clone + Send + 'static,
) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = lines.clone();
    (lines, move |line: &str| {
        writer.lock().unwrap().push(line.to_owned())
    })
}

#[test]
fn time_passes_only_when_nothing_is_to_be_done() {
    let executor = Executor::install(1);
    let (lines, add) = recorder();
    for (name, time) in [("late", 20), ("early", 10)] {
        let add = add.clone();
        spawn_for(WORLD, async move {
            Sleep::new(Duration::from_millis(time)).await;
            add(name);
        });
    }
    executor.run_until(15 * MILLISECOND, || Ok(())).unwrap();
    assert_eq!(*lines.lock().unwrap(), ["early"]);
    assert_eq!(executor.now(), 15 * MILLISECOND);
    executor.run_until(30 * MILLISECOND, || Ok(())).unwrap();
    assert_eq!(*lines.lock().unwrap(), ["early", "late"]);
    executor.finish();
}

#[test]
fn the_order_comes_from_the_seed() {
    let order = |seed| {
        let executor = Executor::install(seed);
        let (lines, add) = recorder();
        for number in 0..20 {
            let add = add.clone();
            spawn_for(WORLD, async move { add(&number.to_string()) });
        }
        executor.run_until(1, || Ok(())).unwrap();
        executor.finish();
        lines.lock().map(|lines| lines.clone()).unwrap()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn the_paused_run_later_and_the_dead_never() {
    let executor = Executor::install(1);
    let (lines, add) = recorder();
    for name in ["paused", "dead"] {
        let server = executor.add_server(Clock::new(0, 0, 0));
        let add = add.clone();
        spawn_for(executor.owner(server), async move {
            Sleep::new(Duration::from_millis(10)).await;
            add(name);
        });
    }
    executor.run_until(5 * MILLISECOND, || Ok(())).unwrap();
    executor.set_paused(0, true);
    let dead = executor.owner(1);
    executor.end_life(1);
    executor.run_until(50 * MILLISECOND, || Ok(())).unwrap();
    assert!(lines.lock().unwrap().is_empty());
    executor.set_paused(0, false);
    spawn_for(dead, async move { add("a ghost") });
    executor.run_until(51 * MILLISECOND, || Ok(())).unwrap();
    assert_eq!(*lines.lock().unwrap(), ["paused"]);
    executor.finish();
}

#[test]
fn a_panic_ends_the_run() {
    let executor = Executor::install(1);
    spawn_for(WORLD, async { panic!("on purpose") });
    let result = executor.run_until(1, || Ok(()));
    assert_eq!(result, Err("a task panicked: on purpose".to_owned()));
    executor.finish();
}

#[test]
fn a_task_that_never_rests_is_found() {
    let executor = Executor::install(1);
    spawn_for(WORLD, async {
        loop {
            let mut rested = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                match std::mem::replace(&mut rested, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    });
    assert!(executor.run_until(1, || Ok(())).is_err());
    executor.finish();
}
