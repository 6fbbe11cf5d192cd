//! `tokenbroker.admin.v1.Admin`: translates what operators ask and are answered.

use std::{
    panic::resume_unwind,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::timeout_at;
use tonic::{Request, Response, Status};

use super::{
    DOOR, deadline, method,
    status::{act_status, note_status},
};
use crate::{
    admission::Connected,
    api::{
        admin::v1::{self as api, admin_server::Admin},
        proto, span,
    },
    aside::Aside,
    broker::{
        ActError, Administrator, Asked, CallError, Idle, Kept, Operator, Protected, State, Survey,
        Told, Warning,
    },
    cache::Condition,
    clock::Instant,
    request_id::RequestId,
    shared_cache::Replica,
    telemetry::{Call, Calls, Operation},
    upstream::Trial,
    usage::Quarantine,
};

/// The methods that change something, by the last part of their path.
const ACTS: [(&str, &str); 4] = [
    ("Refresh", "refresh"),
    ("Quarantine", "quarantine"),
    ("Release", "release"),
    ("Reload", "reload"),
];

/// Answers operators over gRPC.
pub(super) struct AdminService {
    operator: Arc<Operator>,
    calls: Calls,
    /// Operators wait for each other's lists.
    aside: Aside,
}

/// What a method is called as in records, if it changes something.
pub(super) fn act(method: &str) -> Option<&'static str> {
    let mut acts = ACTS.iter();
    acts.find(|(name, _)| *name == method).map(|(_, act)| *act)
}

/// Everything of a request but its message.
struct Wish<'a> {
    administrator: Administrator,
    call: &'a Call,
    deadline: Instant,
}

impl<'a> Wish<'a> {
    fn of<T>(request: &Request<T>, call: &'a Call) -> Result<Self, ActError> {
        let extensions = request.extensions();
        // Whoever is none was sent away at the door.
        let administrator = extensions.get::<Administrator>();
        let administrator = administrator.ok_or(ActError::NotAdministrator)?.clone();
        let longest = extensions.get::<Arc<Connected>>();
        let longest = longest.map_or(Duration::ZERO, |peer| peer.longest_call());
        let headers = request.metadata().as_ref();
        Ok(Self {
            administrator,
            call,
            deadline: Instant::now() + deadline::of(headers, longest),
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            administrator: &self.administrator,
            request_id: self.call.request_id.as_str(),
            span: &self.call.span,
            deadline: self.deadline,
        }
    }
}

impl AdminService {
    pub(super) fn new(operator: Arc<Operator>, calls: Calls) -> Self {
        Self {
            operator,
            calls,
            aside: Aside::default(),
        }
    }

    /// Every destination, looked at where no caller waits for it: a thousand of them take
    /// milliseconds, and whoever watches asks ten times a second.
    async fn list(&self) -> Result<api::ListDestinationsResponse, ActError> {
        let operator = Arc::clone(&self.operator);
        let list = self.aside.run(move || listed(&operator));
        // A panic ends the call, as it would have right here.
        list.await.or_else(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime has ended.
            Err(_) => Err(CallError::DeadlineExceeded.into()),
        })
    }

    /// Does what a request asks for, counts it, and turns its error into a status.
    async fn answer<T, R>(
        &self,
        method: &'static str,
        request: Request<T>,
        work: impl AsyncFnOnce(&Wish<'_>, T) -> Result<R, ActError>,
    ) -> Result<Response<R>, Status> {
        let headers = request.metadata().as_ref();
        let (operation, id) = (Operation::Grpc(method), RequestId::of(headers));
        let call = self.calls.begin(DOOR, operation, headers, id);
        let mut caller = String::new();
        let result = match Wish::of(&request, &call) {
            Ok(wish) => {
                wish.administrator.id().as_str().clone_into(&mut caller);
                work(&wish, request.into_inner()).await
            }
            Err(error) => Err(error),
        };
        let outcome = result.as_ref().map_or_else(ActError::code, |_| "ok");
        let result = result
            .map(Response::new)
            .map_err(|error| act_status(&error));
        note_status(&result, &call.span);
        self.calls.answered(&call, &caller, None, outcome);
        result
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_destinations(
        &self,
        request: Request<api::ListDestinationsRequest>,
    ) -> Result<Response<api::ListDestinationsResponse>, Status> {
        self.answer(method::LIST_DESTINATIONS, request, async |wish, _| {
            timeout_at(wish.deadline, self.list())
                .await
                .unwrap_or(Err(CallError::DeadlineExceeded.into()))
        })
        .await
    }

    async fn explain(
        &self,
        request: Request<api::ExplainRequest>,
    ) -> Result<Response<api::ExplainResponse>, Status> {
        self.answer(method::EXPLAIN, request, async |_, asked| {
            let explanation = self
                .operator
                .explain(&asked.caller, &asked.destination_id)?;
            let application = explanation.application.map(|name| name.to_string());
            Ok(api::ExplainResponse {
                granted: explanation.granted,
                rule: explanation.rule,
                application: application.unwrap_or_default(),
                cache_decision: explanation.decision,
            })
        })
        .await
    }

    async fn refresh(
        &self,
        request: Request<api::RefreshRequest>,
    ) -> Result<Response<api::RefreshResponse>, Status> {
        self.answer(method::REFRESH, request, async |wish, asked| {
            let refreshed = self
                .operator
                .refresh(&wish.asked(), &asked.destination_id, &asked.application)
                .await?;
            let refreshed = refreshed.into_iter().map(|one| {
                let application = one.application.to_string();
                match one.result {
                    Ok(token) => api::Refreshed {
                        application,
                        token_id: token.id.to_string(),
                        expires_at: Some(token.expires_at().wall.into()),
                        reason: String::new(),
                    },
                    Err(error) => api::Refreshed {
                        application,
                        reason: error.code().to_owned(),
                        ..api::Refreshed::default()
                    },
                }
            });
            Ok(api::RefreshResponse {
                refreshed: refreshed.collect(),
            })
        })
        .await
    }

    async fn quarantine(
        &self,
        request: Request<api::QuarantineRequest>,
    ) -> Result<Response<api::QuarantineResponse>, Status> {
        self.answer(method::QUARANTINE, request, async |wish, asked| {
            let api::QuarantineRequest {
                destination_id,
                comment,
                application,
            } = asked;
            let applied = self
                .operator
                .quarantine(&wish.asked(), &destination_id, &application, &comment)
                .await?;
            Ok(api::QuarantineResponse {
                applications: texts(&applied.applications),
                kept: applied.kept == Kept::Yes,
                replicas: replicas(applied.told).into(),
            })
        })
        .await
    }

    async fn release(
        &self,
        request: Request<api::ReleaseRequest>,
    ) -> Result<Response<api::ReleaseResponse>, Status> {
        self.answer(method::RELEASE, request, async |wish, asked| {
            let applied = self
                .operator
                .release(&wish.asked(), &asked.destination_id, &asked.application)
                .await?;
            Ok(api::ReleaseResponse {
                applications: texts(&applied.applications),
                all: applied.all,
                // A restart without a state file stops nothing.
                kept: applied.kept != Kept::Unwritten,
                replicas: replicas(applied.told).into(),
            })
        })
        .await
    }

    async fn reload(
        &self,
        request: Request<api::ReloadRequest>,
    ) -> Result<Response<api::ReloadResponse>, Status> {
        self.answer(method::RELOAD, request, async |wish, _| {
            let changes = self.operator.reload(&wish.asked()).await?;
            Ok(api::ReloadResponse { changes })
        })
        .await
    }

    async fn unused_grants(
        &self,
        request: Request<api::UnusedGrantsRequest>,
    ) -> Result<Response<api::UnusedGrantsResponse>, Status> {
        self.answer(method::UNUSED_GRANTS, request, async |_, asked| {
            let idle_for = asked.idle_for.as_ref().map_or(Some(Duration::ZERO), span);
            let idle_for = idle_for.ok_or(ActError::InvalidIdleFor)?;
            let unused = self.operator.unused(idle_for).into_iter().map(|unused| {
                let seen = api::UnusedGrant {
                    last_used_at: unused.last_used.map(|stamp| stamp.wall().into()),
                    known_since: Some(unused.known_since.wall().into()),
                    ..api::UnusedGrant::default()
                };
                match unused.what {
                    Idle::Grant(name) => api::UnusedGrant {
                        destination_id: name.destination.to_string(),
                        caller_pattern: name.callers.to_string(),
                        application: name.application.unwrap_or_default().to_string(),
                        ..seen
                    },
                    Idle::Credential(credential) => api::UnusedGrant { credential, ..seen },
                }
            });
            Ok(api::UnusedGrantsResponse {
                grants: unused.collect(),
            })
        })
        .await
    }
}

fn listed(operator: &Arc<Operator>) -> api::ListDestinationsResponse {
    let (surveys, warnings) = operator.survey();
    api::ListDestinationsResponse {
        destinations: surveys.into_iter().map(destination).collect(),
        warnings: warnings.into_iter().map(warning).collect(),
        started_at: Some(operator.started_at().into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replicas: operator
            .shared()
            .replicas()
            .into_iter()
            .map(replica)
            .collect(),
    }
}

fn destination(survey: Survey) -> api::Destination {
    let base = api::Destination {
        id: survey.id.to_string(),
        name: survey.name.map(|name| name.to_string()).unwrap_or_default(),
        last_used_at: at(survey.last_used),
        state: api::DestinationState::Unprotected.into(),
        rotation: api::RotationState::None.into(),
        ..api::Destination::default()
    };
    let protected = match survey.state {
        State::Unprotected => return base,
        State::Protected(protected) => *protected,
    };
    let Protected {
        application,
        condition,
        token,
        due_at,
        is_minting,
        runway,
        last_success,
        last_failure,
        failures,
        retry_at,
        secret,
        trial,
        callers,
        warnings,
        quarantine,
    } = protected;
    let reason = last_failure.map(|(reason, _)| reason.code().to_owned());
    api::Destination {
        application: application.to_string(),
        state: state(condition).into(),
        expires_at: at(token.map(|token| token.expires_at)),
        next_refresh_at: at(due_at),
        runway: proto(runway),
        last_success_at: at(last_success),
        last_failure_at: at(last_failure.map(|(_, at)| at)),
        last_failure_reason: reason.unwrap_or_default(),
        callers: texts(&callers),
        credential: secret.credential.to_string(),
        credential_generation: secret.generation.clone(),
        rotation: rotation(trial).into(),
        warnings: warnings.into_iter().map(warning).collect(),
        quarantine: quarantine.map(note),
        requested_at: at(token.map(|token| token.requested_at)),
        served_until: at(token.map(|token| token.served_until)),
        minting: is_minting,
        failures_in_a_row: failures,
        retry_at: at(retry_at),
        ..base
    }
}

fn state(condition: Condition) -> api::DestinationState {
    match condition {
        Condition::Cold => api::DestinationState::Cold,
        Condition::Pending => api::DestinationState::Pending,
        Condition::Fresh => api::DestinationState::Fresh,
        Condition::RefreshFailing => api::DestinationState::RefreshFailing,
        Condition::Failing => api::DestinationState::Failing,
        Condition::Quarantined => api::DestinationState::Quarantined,
    }
}

fn rotation(trial: Option<Trial>) -> api::RotationState {
    match trial {
        None => api::RotationState::None,
        Some(Trial::Pending) => api::RotationState::Pending,
        Some(Trial::Promoted) => api::RotationState::Promoted,
        Some(Trial::RolledBack { .. }) => api::RotationState::RolledBack,
    }
}

fn replicas(told: Told) -> api::Replicas {
    match told {
        Told::NothingShared => api::Replicas::None,
        Told::Yes => api::Replicas::Told,
        Told::NotYet => api::Replicas::NotToldYet,
    }
}

fn warning(warning: Warning) -> api::Warning {
    api::Warning {
        code: warning.trouble.label().to_owned(),
        message: warning.message,
        since: Some(warning.since.into()),
    }
}

fn replica(replica: Replica) -> api::Replica {
    api::Replica {
        name: replica.name,
        version: replica.version,
        started_at: at(Some(replica.since)),
        last_heard_at: at(Some(replica.seen)),
        is_this: replica.is_this,
    }
}

fn note(quarantine: Quarantine) -> api::QuarantineNote {
    api::QuarantineNote {
        since: Some(quarantine.since.wall().into()),
        administrator: quarantine.administrator,
        comment: quarantine.comment,
    }
}

fn at(moment: Option<SystemTime>) -> Option<prost_types::Timestamp> {
    moment.map(Into::into)
}

fn texts(names: &[impl ToString]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::{
        admission::{Admission, Shares},
        metrics::Metrics,
        telemetry::Traces,
    };

    fn asked(operator: &Operator) -> Request<api::ListDestinationsRequest> {
        let ops = crate::identity::CallerId::from_spiffe("spiffe://td/ops").unwrap();
        let admission = Admission::new(Shares {
            connections_per_caller: 1,
            calls_per_second: 1.try_into().unwrap(),
            calls: 1,
            longest_call: Duration::from_secs(30),
        });
        let connected = admission.connect(&ops, Instant::now()).ok().unwrap();
        let mut request = Request::new(api::ListDestinationsRequest::default());
        let extensions = request.extensions_mut();
        extensions.insert(operator.administrator(&ops).unwrap());
        extensions.insert(Arc::new(connected));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_waits_for_the_one_before_it_and_no_longer_than_its_deadline() {
        let (_, operator) = Operator::sample();
        let calls = Calls::new(Arc::new(Metrics::new()), Traces::off());
        let service = AdminService::new(Arc::clone(&operator), calls);
        let before = service.aside.turn().try_acquire().unwrap();
        let mut hasty = asked(&operator);
        hasty.set_timeout(Duration::from_secs(5));
        let began = Instant::now();
        let refused = service.list_destinations(hasty).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert_eq!(began.elapsed(), Duration::from_secs(5));

        let patient = service.list_destinations(asked(&operator));
        let leaves = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(before);
        };
        let (listed, ()) = tokio::join!(patient, leaves);
        assert_eq!(listed.unwrap().get_ref().destinations, []);
        assert_eq!(service.aside.turn().available_permits(), 1);
    }
}
