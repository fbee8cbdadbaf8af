use super::*;

const START: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(15);

/// Drives a life in virtual time: fires its timers, answers its effects, and writes down what
/// happened.
struct World {
    life: Life,
    start: Instant,
    now: Instant,
    healthy: bool,
    spawns: bool,
    dies_on_sigterm: bool,
    log: Vec<(u64, Effect)>,
}

impl World {
    fn new(kind: AppKind) -> Self {
        let now = Instant::now();
        Self {
            life: Life::new(kind, START, GRACE, now),
            start: now,
            now,
            healthy: true,
            spawns: true,
            dies_on_sigterm: true,
            log: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let Some(effect) = self.life.on(input, self.now, 1.0) else {
                return;
            };
            let at = u64::try_from(self.now.duration_since(self.start).as_millis()).unwrap();
            if effect != Effect::Probe {
                self.log.push((at, effect));
            }
            next = match effect {
                Effect::Spawn if self.spawns => Some(Input::Spawned),
                Effect::Spawn => Some(Input::SpawnFailed),
                Effect::Probe => Some(Input::Probe(self.healthy)),
                Effect::Terminate(_) if self.dies_on_sigterm => Some(Input::Exited),
                Effect::Kill if self.spawns => Some(Input::Exited),
                _ => None,
            };
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            match self.life.next_timer() {
                Some(timer) if timer <= end => {
                    self.now = self.now.max(timer);
                    self.input(Input::Timer);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("a timer that never moves on: {:?}", self.life);
    }

    fn log(&mut self) -> Vec<(u64, Effect)> {
        std::mem::take(&mut self.log)
    }

    fn is_live(&self) -> bool {
        matches!(self.life.phase(), Phase::Live { .. })
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_healthy_web_instance_starts_once_and_stays() {
    let mut world = World::new(AppKind::Web);
    world.run_for(secs(3_600));
    assert_eq!(world.log(), [(0, Effect::Spawn)]);
    assert!(world.is_live());
    assert_eq!(world.life.failures(), 0);
}

#[test]
fn a_worker_is_live_after_a_second() {
    let mut world = World::new(AppKind::Worker);
    world.run_for(Duration::from_millis(999));
    assert!(!world.is_live());
    world.run_for(Duration::from_millis(1));
    assert!(world.is_live());
    assert_eq!(world.life.next_timer(), None);
}

#[test]
fn backoff_doubles_and_is_forgotten_after_a_minute_of_health() {
    let mut world = World::new(AppKind::Worker);
    world.spawns = false;
    world.run_for(secs(100));
    let times: Vec<u64> = world.log().into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        times,
        [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500, 61_500, 91_500]
    );
    assert_eq!(world.life.failures(), 9);
    world.spawns = true;
    world.run_for(secs(30));
    assert!(world.is_live());
    world.run_for(secs(30));
    world.input(Input::Exited);
    assert_eq!(world.life.failures(), 10, "not healthy for long enough");
    world.run_for(secs(31 + 60));
    assert!(world.is_live());
    world.input(Input::Exited);
    assert_eq!(world.life.failures(), 1);
    let before = world.now;
    assert_eq!(
        world.life.next_timer(),
        Some(before + Duration::from_millis(500))
    );
}

#[test]
fn an_instance_that_never_answers_is_stopped_and_tried_again() {
    let mut world = World::new(AppKind::Web);
    world.healthy = false;
    world.run_for(secs(61));
    assert_eq!(
        world.log(),
        [
            (0, Effect::Spawn),
            (60_000, Effect::Terminate(Reason::NotReadyInTime)),
            (60_500, Effect::Spawn),
        ]
    );
}

#[test]
fn three_failed_checks_take_it_out_and_two_good_ones_bring_it_back() {
    let mut world = World::new(AppKind::Web);
    world.run_for(secs(10));
    world.healthy = false;
    world.run_for(secs(4));
    assert!(world.is_live(), "two failures are not enough");
    world.run_for(secs(2));
    assert!(matches!(world.life.phase(), Phase::Unhealthy { .. }));
    world.healthy = true;
    world.run_for(secs(2));
    assert!(!world.is_live());
    world.run_for(secs(2));
    assert!(world.is_live());
    assert_eq!(world.log(), [(0, Effect::Spawn)]);
}

#[test]
fn a_single_failed_check_is_forgotten() {
    let mut world = World::new(AppKind::Web);
    world.run_for(secs(1));
    for _ in 0..5 {
        world.healthy = false;
        world.run_for(secs(4));
        world.healthy = true;
        world.run_for(secs(2));
        assert!(world.is_live());
    }
}

#[test]
fn an_unhealthy_instance_is_restarted_after_ten_seconds() {
    let mut world = World::new(AppKind::Web);
    world.run_for(secs(1));
    world.healthy = false;
    world.run_for(secs(18));
    let log = world.log();
    assert_eq!(log.len(), 3, "{log:?}");
    assert_eq!(log[1].1, Effect::Terminate(Reason::Unhealthy));
    assert_eq!(log[2].1, Effect::Spawn);
    // Started at 0, live at 0.1 s, failed at 2.1, 4.1 and 6.1 s, then ten seconds.
    assert_eq!(log[1].0, 16_100);
}

#[test]
fn sigterm_is_followed_by_sigkill_after_the_grace() {
    let mut world = World::new(AppKind::Web);
    world.dies_on_sigterm = false;
    world.run_for(secs(1));
    world.input(Input::Stop);
    world.run_for(secs(60));
    assert_eq!(
        world.log(),
        [
            (0, Effect::Spawn),
            (1_000, Effect::Terminate(Reason::Stop)),
            (16_000, Effect::Kill)
        ]
    );
    assert_eq!(world.life.phase(), Phase::Stopped);
    assert_eq!(world.life.next_timer(), None);
}

#[test]
fn what_even_sigkill_does_not_end_is_abandoned() {
    let mut world = World::new(AppKind::Worker);
    world.dies_on_sigterm = false;
    world.run_for(secs(2));
    world.spawns = false; // and so SIGKILL has no effect in this world
    world.input(Input::Stop);
    world.run_for(secs(60));
    assert_eq!(world.log().last(), Some(&(22_000, Effect::Abandon)));
    assert_eq!(world.life.phase(), Phase::Stopped);
}

#[test]
fn draining_keeps_the_process_and_starts_no_other() {
    let mut world = World::new(AppKind::Web);
    world.run_for(secs(1));
    world.input(Input::Drain);
    world.healthy = false;
    world.run_for(secs(100));
    assert_eq!(world.log(), [(0, Effect::Spawn)]);
    assert!(world.life.is_draining());
    world.input(Input::Exited);
    assert_eq!(world.life.phase(), Phase::Stopped);
    world.run_for(secs(100));
    assert_eq!(world.log(), []);
}

#[test]
fn a_drained_instance_that_waits_or_starts_is_over_at_once() {
    let mut waiting = World::new(AppKind::Web);
    waiting.spawns = false;
    waiting.run_for(secs(1));
    waiting.input(Input::Drain);
    assert_eq!(waiting.life.phase(), Phase::Stopped);

    let mut starting = World::new(AppKind::Web);
    starting.healthy = false;
    starting.run_for(secs(1));
    starting.input(Input::Drain);
    assert_eq!(
        starting.log().last(),
        Some(&(1_000, Effect::Terminate(Reason::Stop)))
    );
    assert_eq!(starting.life.phase(), Phase::Stopped);
}

#[test]
fn stop_during_a_restart_ends_it_for_good() {
    let mut world = World::new(AppKind::Web);
    world.healthy = false;
    world.dies_on_sigterm = false;
    world.run_for(secs(61));
    assert!(matches!(world.life.phase(), Phase::Ending { .. }));
    world.input(Input::Stop);
    world.input(Input::Exited);
    assert_eq!(world.life.phase(), Phase::Stopped);
}
