//! Watching over a PostgreSQL that runs.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::error::Error;
use crate::event::{LogRotated, SlotChange, SlotChanged};
use crate::limits::{
    LOG_CHECK_INTERVAL, NOT_STREAMING_CHECKS, REJOIN_CHECKS, REPLICATION_CHECK_INTERVAL,
    SAMPLE_INTERVAL, SAMPLE_TIMEOUT,
};
use crate::logfile;
use crate::options::{Role, slot_name};
use crate::plan::{Rejoin, cannot_catch_up};
use crate::remote::{ask_peer, timed_out};
use crate::run::Manager;
use crate::sql::{Sample, keep_slots, sample};
use crate::status::{CurrentRole, Phase, SlotStatus};

/// Why watching ended.
pub(crate) enum Ended {
    /// The process has ended.
    Died,
    /// It runs, but its data must be replaced.
    Rejoin(Rejoin),
}

/// What a replica that receives nothing has found out so far.
#[derive(Default)]
struct Suspicion {
    not_streaming: u32,
    verdict: Option<Rejoin>,
    same_verdict: u32,
}

impl Manager {
    /// Returns when something must be done.
    pub(crate) async fn watch_over(&mut self) -> Ended {
        let Some(postmaster) = &self.postmaster else {
            return Ended::Died;
        };
        let ended = postmaster.ended();
        tokio::select! {
            () = ended => Ended::Died,
            rejoin = self.look_after() => Ended::Rejoin(rejoin),
        }
    }

    /// Looks again and again. What cannot be asked now is asked the next time: a PostgreSQL that
    /// does not answer is not dead, and is not helped by a restart.
    async fn look_after(&mut self) -> Rejoin {
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut replication_due = Due::every(REPLICATION_CHECK_INTERVAL);
        let mut log_due = Due::every(LOG_CHECK_INTERVAL);
        let mut suspicion = Suspicion::default();
        loop {
            ticks.tick().await;
            if log_due.now() {
                self.rotate_log().await;
            }
            let sample = match self.sample_once().await {
                Ok(sample) => sample,
                Err(error) => {
                    self.no_answer(&error);
                    continue;
                }
            };
            self.tell(&sample);
            if !replication_due.now() {
                continue;
            }
            if !sample.in_recovery {
                // A failure is tried again; the session, which may be broken, is not kept.
                if self.look_after_slots().await.is_err() {
                    self.session = None;
                }
            } else if let Some(rejoin) = self.suspect(&sample, &mut suspicion).await {
                return rejoin;
            }
        }
    }

    async fn sample_once(&mut self) -> Result<Sample, Error> {
        let asking = async {
            let session = match self.session.take() {
                Some(session) => session,
                None => self.connect().await?,
            };
            let sample = sample(&session).await?;
            Ok::<_, Error>((session, sample))
        };
        let doing = "looking at the local PostgreSQL";
        let (session, sample) = timeout(SAMPLE_TIMEOUT, asking)
            .await
            .map_err(|_| timed_out(doing, SAMPLE_TIMEOUT))??;
        self.session = Some(session);
        Ok(sample)
    }

    fn no_answer(&self, error: &Error) {
        if let Error::Sql { source, .. } = error
            && source.is_not_ready()
        {
            // A backend crashed, and PostgreSQL recovers by itself.
            let why = source.0.as_db_error().map(|error| error.message());
            let why = why.unwrap_or_default().to_owned();
            self.set_phase(Phase::Starting { why });
        }
    }

    fn tell(&self, sample: &Sample) {
        self.publish(|status| {
            status.phase = Phase::Running;
            status.role = Some(if sample.in_recovery {
                CurrentRole::Replica
            } else {
                CurrentRole::Primary
            });
            status.lsn = Some(sample.lsn);
            status.streaming = sample.in_recovery.then_some(sample.streaming);
            status.timeline = Some(sample.timeline);
            status.system_id = Some(sample.system_id);
        });
    }

    async fn look_after_slots(&mut self) -> Result<(), Error> {
        let (Some(session), Role::Primary { replicas }) = (&self.session, &self.options.role)
        else {
            return Ok(());
        };
        let doing = "looking after the replication slots";
        let (changes, slots) = timeout(SAMPLE_TIMEOUT, keep_slots(session, replicas))
            .await
            .map_err(|_| timed_out(doing, SAMPLE_TIMEOUT))??;
        self.report_slots(&changes, slots);
        Ok(())
    }

    pub(crate) fn report_slots(&self, changes: &[(SlotChange, String)], slots: Vec<SlotStatus>) {
        for (what, slot) in changes {
            let what = *what;
            self.telemetry.emit(&SlotChanged { slot, what });
        }
        self.publish(|status| status.slots = slots);
    }

    /// A replica that receives nothing: mostly its primary is away and all is well. If the primary
    /// answers and, more than once, what it says rules out that this copy ever catches up, the copy
    /// is of no more use.
    async fn suspect(&self, sample: &Sample, suspicion: &mut Suspicion) -> Option<Rejoin> {
        if sample.streaming {
            *suspicion = Suspicion::default();
            return None;
        }
        suspicion.not_streaming = suspicion.not_streaming.saturating_add(1);
        let Role::Replica { primary } = &self.options.role else {
            return None;
        };
        if suspicion.not_streaming < NOT_STREAMING_CHECKS {
            return None;
        }
        let slot = slot_name(&self.options.server);
        let password = &self.options.secrets.monitor;
        let answer = ask_peer(primary, self.options.tls.as_ref(), password, &slot).await;
        let verdict = cannot_catch_up(sample.system_id, sample.received, &answer);
        if verdict != suspicion.verdict {
            suspicion.verdict = verdict;
            suspicion.same_verdict = 0;
        }
        suspicion.same_verdict += 1;
        verdict.filter(|_| suspicion.same_verdict >= REJOIN_CHECKS)
    }

    async fn rotate_log(&self) {
        let path = self.options.log_file.clone();
        match spawn_blocking(move || logfile::rotate(&path)).await {
            Ok(Ok(Some(bytes))) => self.telemetry.emit(&LogRotated { bytes }),
            Ok(Err(error)) => {
                let path = self.options.log_file.display();
                tracing::warn!(%path, %error, "the log of postgres cannot be rotated");
            }
            _ => {}
        }
    }
}

/// Something that is done every so often, on the beat of something quicker.
struct Due {
    period: Duration,
    next: Instant,
}

impl Due {
    fn every(period: Duration) -> Self {
        Self {
            period,
            next: Instant::now(),
        }
    }

    fn now(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.period;
        }
        due
    }
}
