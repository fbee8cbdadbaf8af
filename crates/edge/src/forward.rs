//! Balance and retry: from a route to the response of one of its servers.

use std::rc::Rc;
use std::time::{Duration, Instant};

use trilith_balance::{Failure, Health, NoPick, RetryPermit, Tried, hash_client};
use trilith_http::{
    Body, BodyError, Request, Response, SendError, SendErrorKind, SendTiming, StatusCode,
};
use trilith_web::{AppTrace, RouteId, TRY_ANOTHER};

use crate::limits::{QUEUE_POLL_MAX, QUEUE_POLL_MIN, REPLAY_BYTES_MAX, RETRIES_MAX};
use crate::pool::{ServerPool, WaitFor, Waiting};
use crate::record::Termination;
use crate::view::View;
use crate::worker::{Ejected, Journey, Worker};

/// What a request gets.
pub(crate) enum Answer {
    Response(Response),
    /// An error page for this status.
    Error(StatusCode),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// Counts a request on the server it was given to, until dropped.
pub(crate) struct InFlight {
    view: Rc<View>,
    pool: usize,
    server: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.view.snapshot.pools[self.pool].end(self.server);
    }
}

/// What came of one try.
enum Try {
    Answered(Answer),
    /// The request is as it was, and may go elsewhere.
    Again {
        why: Termination,
        /// The server may have seen it: tries like this are limited in number, lest a request that
        /// kills servers kills all of them.
        was_sent: bool,
    },
}

impl Worker {
    /// Files by the web server of this process.
    pub(crate) async fn local_files(&self, id: RouteId, request: &mut Request) -> Answer {
        let (Some(web), Some(worker)) = (&self.shared.web, &self.web) else {
            return Answer::Error(StatusCode::BAD_GATEWAY);
        };
        let mut trace = AppTrace::default();
        let mut response = web.handle_route(id, request, worker, &mut trace).await;
        response.headers.remove(TRY_ANOTHER);
        response.into()
    }

    /// Sends the request to a server of the balancer's pool, to others if need be, and waits for
    /// one if none is usable.
    pub(crate) async fn balance(
        &self,
        balancer: usize,
        id: RouteId,
        request: &mut Request,
        journey: &mut Journey<'_>,
    ) -> Answer {
        let view = journey.view.clone();
        let plan = &view.snapshot.balancers[balancer];
        let pool = &*view.snapshot.pools[plan.pool];
        let counters = &view.counters.pools[plan.pool];
        let options = &view.snapshot.options;
        let retries_max = options.retries.min(RETRIES_MAX);
        let client = hash_client(journey.origin.client);
        journey.trip.pool = Some(plan.pool);

        let mut now = journey.now;
        let mut tried = Tried::none();
        let mut tries_this_round = 0;
        let mut tries_sent = 0;
        let mut last_failure = Termination::Complete;
        let mut queue = QueuePlace::new(pool);
        loop {
            let mut retry = Retry::none();
            let may_try = tries_this_round <= retries_max;
            let picked = match (may_try, journey.trip.tries) {
                (true, 0) => plan.balancer.pick(self.shared.millis(now), client, &tried),
                (true, _) => {
                    retry = Retry::begin(pool, options.retry_budget_percent);
                    match retry.is_allowed() {
                        true => plan.balancer.pick(self.shared.millis(now), client, &tried),
                        false => Err(NoPick::Full),
                    }
                }
                (false, _) => Err(NoPick::AllTried),
            };
            match picked {
                Ok(server) => {
                    queue.leave(&mut journey.trip.queued);
                    if journey.trip.tries > 0 {
                        counters.retries.inc();
                    }
                    journey.trip.tries += 1;
                    tries_this_round += 1;
                    let in_flight = InFlight {
                        view: view.clone(),
                        pool: plan.pool,
                        server,
                    };
                    journey.trip.server = Some(server);
                    journey.trip.tried = Some(now);
                    match self
                        .try_server(pool, server, in_flight, id, request, journey)
                        .await
                    {
                        Try::Answered(answer) => return answer,
                        Try::Again { why, was_sent } => {
                            last_failure = why;
                            tried.add(server);
                            tries_sent += u32::from(was_sent);
                        }
                    }
                    if tries_sent > retries_max {
                        journey.trip.termination = last_failure;
                        return Answer::Error(StatusCode::BAD_GATEWAY);
                    }
                }
                Err(why) => {
                    drop(retry);
                    if !queue.is_waiting() {
                        if !queue.enter(pool, options.queue_max, options.queue_timeout) {
                            counters.queue_full.inc();
                            journey.trip.termination = Termination::QueueFull;
                            return Answer::Error(StatusCode::SERVICE_UNAVAILABLE);
                        }
                        counters.queued.inc();
                        // Room that came before we were in the queue was not told to us: look again
                        // before waiting, unless everything has just been tried.
                        if why == NoPick::Full {
                            now = Instant::now();
                            continue;
                        }
                    }
                    let wanted = match why {
                        NoPick::Full => WaitFor::Room,
                        NoPick::AllTried => WaitFor::News,
                    };
                    if !queue.wait(pool, wanted, self.jitter()).await {
                        queue.leave(&mut journey.trip.queued);
                        counters.queue_timeouts.inc();
                        journey.trip.termination = match last_failure {
                            Termination::Complete => Termination::QueueTimeout,
                            failure => failure,
                        };
                        return Answer::Error(StatusCode::SERVICE_UNAVAILABLE);
                    }
                    if why == NoPick::AllTried {
                        tried.clear();
                        tries_this_round = 0;
                    }
                }
            }
            now = Instant::now();
        }
    }

    async fn try_server(
        &self,
        pool: &ServerPool,
        server: usize,
        in_flight: InFlight,
        id: RouteId,
        request: &mut Request,
        journey: &mut Journey<'_>,
    ) -> Try {
        if pool.backends[server].is_local
            && let (Some(web), Some(worker)) = (&self.shared.web, &self.web)
        {
            let mut trace = AppTrace::default();
            let response = web.handle_route(id, request, worker, &mut trace).await;
            journey.trip.connected = trace.connected;
            journey.trip.first_byte = trace.first_byte;
            return self.take_response(pool, server, in_flight, response, journey);
        }
        let copy = match pool.id.is_web() {
            true => match replayable(request).await {
                Ok(copy) => copy,
                Err(error) => return self.take_body_failure(error, journey),
            },
            false => None,
        };
        let mut timing = SendTiming::default();
        let connections = &journey.view.connections[in_flight.pool][server];
        let sent = connections.send(request, &mut timing).await;
        journey.trip.connected = timing.connected;
        journey.trip.first_byte = timing.first_byte;
        let response = match sent {
            Ok(response) => response,
            Err(error) => return self.take_failure(pool, server, error, request, journey),
        };
        match self.take_response(pool, server, in_flight, response, journey) {
            Try::Again { why, was_sent } => match copy {
                Some(body) => {
                    request.body = body;
                    Try::Again { why, was_sent }
                }
                // Part of the body went to the server that declined, and is gone.
                None => {
                    journey.trip.termination = why;
                    Try::Answered(Answer::Error(StatusCode::SERVICE_UNAVAILABLE))
                }
            },
            answered => answered,
        }
    }

    fn take_body_failure(&self, error: BodyError, journey: &mut Journey<'_>) -> Try {
        let error = SendErrorKind::RequestBody(error);
        journey.trip.termination = Termination::of_send(&error);
        Try::Answered(Answer::Error(status_of_failure(&error)))
    }

    fn take_response(
        &self,
        pool: &ServerPool,
        server: usize,
        in_flight: InFlight,
        mut response: Response,
        journey: &mut Journey<'_>,
    ) -> Try {
        match response.status {
            StatusCode::SERVICE_UNAVAILABLE if response.headers.remove(TRY_ANOTHER) => {
                // Outside the cluster the word means nothing.
                if pool.id.is_web() {
                    pool.backends[server].probe.suspect();
                    return Try::Again {
                        why: Termination::UpstreamDeclined,
                        was_sent: false,
                    };
                }
                pool.members.succeeded(server);
            }
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                self.blame(pool, server, Failure::BadGateway);
            }
            _ => {
                pool.members.succeeded(server);
                if pool.members.servers()[server].state.health() != Health::Up {
                    // It serves, and its checks do not know yet.
                    pool.backends[server].probe.ask();
                }
            }
        }
        journey.trip.in_flight = Some(in_flight);
        Try::Answered(response.into())
    }

    fn take_failure(
        &self,
        pool: &ServerPool,
        server: usize,
        error: SendError,
        request: &Request,
        journey: &mut Journey<'_>,
    ) -> Try {
        let why = Termination::of_send(&error.kind);
        let failure = match error.kind {
            SendErrorKind::RequestBody(_) => None,
            SendErrorKind::Connect(_) | SendErrorKind::ConnectTimeout | SendErrorKind::Tls(_) => {
                Some(Failure::Connect)
            }
            _ => Some(Failure::BadGateway),
        };
        if let Some(failure) = failure {
            self.blame(pool, server, failure);
        }
        let nothing_came = matches!(
            error.kind,
            SendErrorKind::Connect(_)
                | SendErrorKind::ConnectTimeout
                | SendErrorKind::Tls(_)
                | SendErrorKind::ClosedEarly
        );
        let may_repeat = error.nothing_sent || request.is_idempotent();
        if nothing_came && error.body_intact && may_repeat {
            return Try::Again {
                why,
                was_sent: !error.nothing_sent,
            };
        }
        journey.trip.termination = why;
        Try::Answered(Answer::Error(status_of_failure(&error.kind)))
    }

    fn blame(&self, pool: &ServerPool, server: usize, failure: Failure) {
        let now = self.shared.millis(Instant::now());
        if let Some(ejection) = pool.failed(server, failure, now) {
            let backend = &pool.backends[server];
            // Fails only when the control plane has ended, and then nobody wants to know.
            let _ = self.shared.ejections.send(Ejected {
                pool: pool.id.clone(),
                server: backend.name.clone(),
                address: backend.address,
                ejection,
                at: now,
            });
        }
    }
}

fn status_of_failure(error: &SendErrorKind) -> StatusCode {
    match error {
        SendErrorKind::RequestBody(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        SendErrorKind::RequestBody(BodyError::Idle | BodyError::TooSlow) => {
            StatusCode::REQUEST_TIMEOUT
        }
        SendErrorKind::RequestBody(_) => StatusCode::BAD_REQUEST,
        SendErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        SendErrorKind::Connect(_)
        | SendErrorKind::ConnectTimeout
        | SendErrorKind::Tls(_)
        | SendErrorKind::ClosedEarly
        | SendErrorKind::Malformed(_) => StatusCode::BAD_GATEWAY,
    }
}

/// A second copy of the request's body, where it is or can be taken into memory. A web server may
/// decline a request only after it got some of the body.
async fn replayable(request: &mut Request) -> Result<Option<Body>, BodyError> {
    let is_short = |size: u64| size <= REPLAY_BYTES_MAX as u64;
    if !request.body.is_replayable() && request.body.size().is_some_and(is_short) {
        let body = std::mem::take(&mut request.body);
        request.body = Body::full(body.collect(REPLAY_BYTES_MAX).await?);
    }
    Ok(request.body.try_clone())
}

/// A place in the retry budget, given back on drop.
struct Retry<'a>(Option<(&'a ServerPool, RetryPermit)>);

impl<'a> Retry<'a> {
    fn none() -> Self {
        Self(None)
    }

    fn begin(pool: &'a ServerPool, percent: u32) -> Self {
        let permit = pool.members.begin_retry(percent);
        Self(permit.map(|permit| (pool, permit)))
    }

    fn is_allowed(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        if let Some((pool, permit)) = self.0.take() {
            pool.members.end_retry(permit);
            pool.queue.tell_room();
        }
    }
}

/// A request's place in the queue of its pool, once it has to wait.
struct QueuePlace {
    waiting: Option<Waiting>,
    since: Option<Instant>,
    deadline: Option<Instant>,
    polls: u32,
    /// [`crate::pool::Queue::news_count`] when it last looked for a server.
    news_seen: u64,
}

impl QueuePlace {
    fn new(pool: &ServerPool) -> Self {
        Self {
            waiting: None,
            since: None,
            deadline: None,
            polls: 0,
            news_seen: pool.queue.news_count(),
        }
    }

    fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The deadline is that of the first time: a request does not wait longer by failing again.
    fn enter(&mut self, pool: &ServerPool, max: u32, timeout: Duration) -> bool {
        self.waiting = pool.queue.enter(max);
        let now = Instant::now();
        self.since = Some(now);
        self.deadline = self.deadline.or(now.checked_add(timeout));
        self.is_waiting()
    }

    /// Waits for news, or until it is worth looking without; false once the deadline has passed.
    async fn wait(&mut self, pool: &ServerPool, wanted: WaitFor, jitter: f64) -> bool {
        let (Some(waiting), Some(deadline)) = (&self.waiting, self.deadline) else {
            return false;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let poll = QUEUE_POLL_MIN
            .saturating_mul(1 << self.polls.min(10))
            .min(QUEUE_POLL_MAX)
            .mul_f64(0.75 + 0.25 * jitter);
        self.polls += 1;
        waiting.wait(wanted, self.news_seen, poll.min(left)).await;
        self.news_seen = pool.queue.news_count();
        true
    }

    fn leave(&mut self, queued: &mut Duration) {
        if self.waiting.take().is_some()
            && let Some(since) = self.since.take()
        {
            *queued += since.elapsed();
        }
    }
}
