//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Ok`. After `patience` the last error is the result.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() >= deadline => {
                return Err(e).with_context(|| format!("not within {patience:?}: {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Asks until the answer is right.
pub fn holds_within<T: Debug>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<T>,
    right: impl Fn(&T) -> bool,
) -> Result<T> {
    eventually(what, patience, || {
        let value = ask()?;
        if right(&value) {
            Ok(value)
        } else {
            Err(anyhow!("it is {value:?}"))
        }
    })
}
