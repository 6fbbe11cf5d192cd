//! One connection, from its handshake to its end.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    activity::{Activity, Idle},
    answering::{Answering, Doors},
    certificate,
    crowd::Crowd,
    handshake,
    meter::Flood,
    nameless::{Nameless, Stranger},
    talk::{Leave, Talk},
    terms::Terms,
};
use crate::{
    admission::{Admission, Connected, Unwelcome},
    clock::Instant,
    config::ConnectionLimits,
    identity::{CallerId, IdentityError},
    metrics::Metrics,
};

/// When what decides about clients has changed, all connections are judged within this
/// time, and not all of them at once: each takes some signatures to verify.
const JUDGE_WITHIN: Duration = Duration::from_secs(1);
/// Connections come of age up to this part earlier or later, so that clients do not all
/// reconnect at once.
const AGE_JITTER: f64 = 0.1;

/// What every connection is received with.
pub(super) struct Lobby {
    pub(super) crowd: Arc<Crowd>,
    pub(super) nameless: Nameless,
    pub(super) doors: Doors,
    pub(super) terms: watch::Receiver<Arc<Terms>>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

impl Lobby {
    /// Serves a connection until its end.
    pub(super) async fn receive(&self, stream: TcpStream) {
        // Replies are small and complete: waiting for more to send only adds latency.
        let _ = stream.set_nodelay(true);
        let mut newest = self.terms.clone();
        let terms = Arc::clone(&newest.borrow_and_update());
        // Boxed, so that what only the handshake needs does not stay as long as the connection.
        let stream = Box::pin(self.shake_hands(&terms, stream)).await;
        let visit = stream.and_then(|stream| self.welcome(stream, terms, newest));
        let mut visit = match visit {
            Ok(visit) => visit,
            Err(why) => return self.metrics.connection(why),
        };
        let open = self.metrics.open_connection();
        let why = visit.serve().await;
        drop((open, visit));
        self.metrics.closed(why);
    }

    /// # Errors
    /// The label of what was wrong.
    async fn shake_hands(
        &self,
        terms: &Terms,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, &'static str> {
        // Whoever has no address any more has gone.
        let address = stream.peer_addr().map_err(|_| "handshake_failed")?;
        let _entered = self
            .crowd
            .enter(address.ip(), terms.limits.count)
            .ok_or("over_address_capacity")?;
        let acceptor = TlsAcceptor::from(Arc::clone(&terms.tls.config));
        let began = Instant::now();
        let handshake = timeout(terms.limits.handshake, acceptor.accept(stream));
        let ended = self.stop.run_until_cancelled(handshake).await;
        if let Some(Ok(_)) = &ended {
            self.metrics.shook_hands(began.elapsed());
        }
        match ended {
            None => Err("stopping"),
            Some(Err(_)) => Err("handshake_timeout"),
            Some(Ok(Err(error))) => {
                debug!(%error, "the handshake failed");
                Err(handshake::label(&error))
            }
            Some(Ok(Ok(stream))) => Ok(stream),
        }
    }

    /// Begins to speak with whoever shook hands.
    ///
    /// # Errors
    /// The label of why there is no place for it.
    fn welcome(
        &self,
        stream: TlsStream<TcpStream>,
        terms: Arc<Terms>,
        newest: watch::Receiver<Arc<Terms>>,
    ) -> Result<Visit<'_>, &'static str> {
        let chain = chain(&stream);
        let (peer, stranger) = match identify(&chain, &terms.limits) {
            Ok(caller) => match self.admission.connect(&caller, Instant::now()) {
                Ok(connected) => {
                    self.metrics.connection("ok");
                    (Some(Arc::new(connected)), None)
                }
                Err(Unwelcome::TooManyConnections) => return Err("over_caller_capacity"),
                Err(Unwelcome::Barred) => return Err("barred"),
            },
            Err(error) => {
                debug!(%error, "the certificate names no caller");
                let stranger = self.nameless.enter(terms.limits.count);
                let stranger = stranger.ok_or("over_nameless_capacity")?;
                self.metrics.connection(error.label());
                (None, Some(stranger))
            }
        };
        let activity = Activity::new();
        let answering = Answering {
            doors: self.doors.clone(),
            peer: peer.clone(),
            activity: Arc::clone(&activity),
        };
        Ok(Visit {
            lobby: self,
            talk: Talk::new(stream, answering, terms.limits.first_request),
            activity,
            terms,
            newest,
            judge_at: next_expiry(&chain),
            chain,
            peer,
            _stranger: stranger,
        })
    }
}

/// A connection whose handshake is done.
struct Visit<'a> {
    lobby: &'a Lobby,
    talk: Talk,
    activity: Arc<Activity>,
    /// What the connection was made on.
    terms: Arc<Terms>,
    /// What its client is judged by.
    newest: watch::Receiver<Arc<Terms>>,
    chain: Vec<CertificateDer<'static>>,
    /// When the chain may have stopped being good by itself.
    judge_at: Instant,
    /// Nobody, where the certificate names no caller: such a peer is told so, soon sent
    /// away, and nothing else.
    peer: Option<Arc<Connected>>,
    /// The place of such a peer.
    _stranger: Option<Stranger>,
}

impl Visit<'_> {
    /// Serves the connection to its end, and says why it ended.
    async fn serve(&mut self) -> &'static str {
        let terms = Arc::clone(&self.terms);
        let limits = &terms.limits;
        let activity = Arc::clone(&self.activity);
        let mut idle = pin!(activity.idle(limits.first_request, limits.idle));
        let mut age = pin!(sleep_until(Instant::now() + self.age()));
        // Why the connection was asked to end and how, and when it is cut if it does not.
        let mut leaving: Option<(&'static str, Option<Instant>, Leave)> = None;
        let mut stopping = false;
        loop {
            let cut_at = leaving.and_then(|(_, cut_at, _)| cut_at);
            let why = tokio::select! {
                ended = self.talk.ended() => {
                    if let Some(flood) = self.talk.flood() {
                        self.strike(flood);
                        return flood.label();
                    }
                    if self.talk.was_slow() {
                        return "slow_request";
                    }
                    if let Err(error) = &ended {
                        debug!(%error, "the connection broke");
                    }
                    let by_peer = if ended.is_ok() { "peer" } else { "error" };
                    return leaving.map_or(by_peer, |(why, ..)| why);
                }
                // The listener cuts what does not leave by the drain deadline. Whoever was
                // to leave gently must now leave as soon as it can.
                () = self.lobby.stop.cancelled(), if !stopping => {
                    stopping = true;
                    let (why, cut_at, _) = leaving.unwrap_or(("stop", None, Leave::Soon));
                    (why, cut_at, Leave::Soon)
                }
                () = age.as_mut(), if leaving.is_none() => {
                    let (why, grace, how) = if self.peer.is_some() {
                        ("age", limits.last_calls, Leave::Gently)
                    } else {
                        ("unidentified", limits.handshake, Leave::Soon)
                    };
                    (why, Some(Instant::now() + grace), how)
                }
                idle = idle.as_mut(), if leaving.is_none() => {
                    let why = match idle {
                        Idle::NoRequest => "no_request",
                        Idle::Unused => "idle",
                    };
                    (why, Some(Instant::now() + limits.handshake), Leave::Soon)
                }
                () = sleep_until(cut_at.unwrap_or(self.judge_at)), if cut_at.is_some() => {
                    match leaving {
                        // It was begun before the peer could know that none should be.
                        Some((why, _, Leave::Gently)) if self.talk.may_begin() && !activity.is_quiet() => {
                            (why, Some(Instant::now() + limits.last_calls), Leave::Soon)
                        }
                        leaving => return leaving.map_or("cut", |(why, ..)| why),
                    }
                }
                Ok(()) = self.newest.changed() => {
                    let soon = Instant::now() + JUDGE_WITHIN.mul_f64(rand::random());
                    self.judge_at = self.judge_at.min(soon);
                    continue;
                }
                () = sleep_until(self.judge_at) => match self.judge() {
                    Ok(()) => continue,
                    Err(why) => return why,
                },
            };
            let (why, cut_at, how) = why;
            // A peer that has not begun to speak has nothing to end, and would hold its
            // place for as long as it says nothing.
            if !self.talk.has_begun() {
                return why;
            }
            leaving = Some((why, cut_at, how));
            self.talk.leave(how);
        }
    }

    /// Whether the client is believed still, by what decides now.
    fn judge(&mut self) -> Result<(), &'static str> {
        let terms = Arc::clone(&self.newest.borrow_and_update());
        terms.tls.believes(&self.chain)?;
        if self.peer.is_some() {
            identify(&self.chain, &terms.limits).map_err(IdentityError::label)?;
        }
        self.judge_at = next_expiry(&self.chain);
        Ok(())
    }

    /// Throttles the caller, who would only connect anew.
    fn strike(&self, flood: Flood) {
        if let Some(peer) = &self.peer {
            warn!(caller = %peer.id(), flood = flood.label(), "closed a connection that was flooded");
            peer.strike(Instant::now());
        }
    }

    fn age(&self) -> Duration {
        let limits = &self.terms.limits;
        if self.peer.is_none() {
            return limits.first_request;
        }
        let spread = AGE_JITTER * (2.0 * rand::random::<f64>() - 1.0);
        limits.age.mul_f64(1.0 + spread)
    }
}

/// Who is at the other end, if these terms know such callers.
fn identify(
    chain: &[CertificateDer<'_>],
    limits: &ConnectionLimits,
) -> Result<CallerId, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::Unreadable)?;
    let caller = certificate::caller(leaf)?;
    let is_known = caller.is_known_to(&limits.trust_domains);
    is_known.then_some(caller).ok_or(IdentityError::TrustDomain)
}

/// The certificates that the client sent, its own first.
fn chain(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect()
}

/// When the next of these certificates runs out, on the clock that decides. The chain may
/// be good without it: clients send more than is needed.
fn next_expiry(chain: &[CertificateDer<'_>]) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let now = SystemTime::now();
    let left = chain
        .iter()
        .filter_map(certificate::not_after)
        // It is good in the whole of its last second.
        .filter_map(|last| u64::try_from(last).ok()?.checked_add(1))
        .filter_map(|end| {
            (UNIX_EPOCH + Duration::from_secs(end))
                .duration_since(now)
                .ok()
        })
        .filter(|left| !left.is_zero())
        .min();
    Instant::now() + left.unwrap_or(YEAR).min(YEAR)
}
