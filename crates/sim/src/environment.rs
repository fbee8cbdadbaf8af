//! What `cluster` runs on here: the executor's tasks and time, the seed's randomness, a simulated disk.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::TokioOneShotSender;
use tokio::sync::oneshot;
use trilith_base::BootTime;
use trilith_cluster::Environment;

use crate::disk;
use crate::executor::{Nanos, Owner, executor};

/// The environment of whichever server's code is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimEnvironment;

impl Environment for SimEnvironment {
    fn boot_time() -> BootTime {
        let executor = executor();
        BootTime(executor.boot_time(executor.current()))
    }

    async fn pause(time: Duration) {
        Self::sleep(time).await;
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        disk::blocking(work).await
    }

    fn random() -> u64 {
        executor().draw_u64()
    }
}

impl AsyncRuntime for SimEnvironment {
    type JoinError = Cancelled;
    type JoinHandle<T: Send + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = Timeout<T>;
    type ThreadLocalRng = SeededRng;
    type OneshotSender<T: Send> = TokioOneShotSender<T>;
    type OneshotReceiver<T: Send> = oneshot::Receiver<T>;
    type OneshotReceiverError = oneshot::error::RecvError;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        spawn_for(executor().current(), future)
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::new(duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        Sleep::until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::new(Sleep::new(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: Instant, future: F) -> Timeout<F> {
        Timeout::new(Sleep::until(deadline.0), future)
    }

    fn is_panic(_: &Cancelled) -> bool {
        // A panic fails the seed before anybody hears of it.
        false
    }

    fn thread_rng() -> SeededRng {
        SeededRng
    }

    fn oneshot<T: Send>() -> (TokioOneShotSender<T>, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (TokioOneShotSender(sender), receiver)
    }
}

/// Starts a task that belongs to `owner`, and ends with it.
pub fn spawn_for<T>(owner: Owner, future: T) -> JoinHandle<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    let shared = Arc::new(Mutex::new(Joint {
        result: None,
        waker: None,
        over: false,
    }));
    let ending = Ending {
        shared: shared.clone(),
        result: None,
    };
    executor().spawn(
        owner,
        Box::pin(async move {
            let mut ending = ending;
            ending.result = Some(future.await);
        }),
    );
    JoinHandle { shared }
}

pub struct JoinHandle<T> {
    shared: Arc<Mutex<Joint<T>>>,
}

struct Joint<T> {
    result: Option<T>,
    waker: Option<Waker>,
    over: bool,
}

struct Ending<T> {
    shared: Arc<Mutex<Joint<T>>>,
    result: Option<T>,
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let mut joint = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        joint.result = self.result.take();
        joint.over = true;
        let waker = joint.waker.take();
        drop(joint);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut joint = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if joint.over {
            return Poll::Ready(joint.result.take().ok_or(Cancelled));
        }
        joint.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The task was dropped before its end.
#[derive(Debug)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was dropped before its end")
    }
}

/// Waits on the monotonic clock of the server that made it.
pub struct Sleep {
    owner: Owner,
    deadline: Nanos,
    timer: Option<(Waker, Arc<AtomicBool>)>,
}

impl Sleep {
    pub fn new(duration: Duration) -> Self {
        let executor = executor();
        let owner = executor.current();
        let deadline = executor.monotonic(owner).saturating_add(nanos(duration));
        Self::at(owner, deadline)
    }

    pub fn until(deadline: Nanos) -> Self {
        Self::at(executor().current(), deadline)
    }

    fn at(owner: Owner, deadline: Nanos) -> Self {
        Self {
            owner,
            deadline,
            timer: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let executor = executor();
        if executor.monotonic(self.owner) >= self.deadline {
            return Poll::Ready(());
        }
        // A timer that has gone off is cancelled; so is one that wakes somebody else.
        if let Some((waker, cancelled)) = &self.timer
            && !cancelled.load(Ordering::Relaxed)
            && waker.will_wake(context.waker())
        {
            return Poll::Pending;
        }
        self.cancel();
        let cancelled = executor.wake_at(self.owner, self.deadline, context.waker());
        self.timer = Some((context.waker().clone(), cancelled));
        Poll::Pending
    }
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some((_, cancelled)) = self.timer.take() {
            cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

pub struct Timeout<F> {
    sleep: Sleep,
    future: Pin<Box<F>>,
}

impl<F> Timeout<F> {
    pub fn new(sleep: Sleep, future: F) -> Self {
        Self {
            sleep,
            future: Box::pin(future),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep)
            .poll(context)
            .map(|()| Err(Elapsed))
    }
}

#[derive(Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

/// A reading of a server's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Nanos);

impl openraft::Instant for Instant {
    fn now() -> Self {
        let executor = executor();
        Self(executor.monotonic(executor.current()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        *self = *self + time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        *self = *self - time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Draws from the seed.
#[derive(Debug)]
pub struct SeededRng;

impl rand_core_0_6::RngCore for SeededRng {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        executor().draw_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_0_6::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
