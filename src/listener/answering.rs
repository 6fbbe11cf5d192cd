//! Answering the requests of one connection.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{FutureExt as _, TryFutureExt as _};
use http::{Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tonic::{Status, body::Body as Tonic, service::Routes};
use tower::Service as _;

use super::activity::{Activity, UnderWay};
use crate::{
    admission::Connected,
    grpc::{Body, Data, Shortcut},
};

/// What the headers of one request may take, in bytes.
pub(super) const MAX_HEADERS: u16 = 8 * 1024;

/// Who answers requests.
#[derive(Clone)]
pub struct Doors {
    /// What is asked most.
    pub shortcut: Shortcut,
    /// Everything.
    pub routes: Routes,
}

/// Hands requests to the doors, each with the identity of its connection.
pub(super) struct Answering {
    pub(super) doors: Doors,
    pub(super) peer: Option<Arc<Connected>>,
    pub(super) activity: Arc<Activity>,
}

impl Answering {
    /// Answers a request.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Reply>, Infallible>> + Send + use<> {
        let under_way = self.activity.begin();
        let entered = self.doors.shortcut.enter(self.peer.as_ref(), request);
        let entered = entered.map_err(|mut request| {
            // Whatever the request claims, this is the one identity it gets.
            if let Some(peer) = &self.peer {
                request.extensions_mut().insert(Arc::clone(peer));
            }
            self.doors.routes.clone().call(request)
        });
        let reply = |body| Reply {
            body,
            _under_way: under_way,
        };
        // Combined rather than awaited: what a block awaits takes its place twice.
        match entered {
            Ok(call) => call
                .answer()
                .map(|answer| Ok(answer.map(reply)))
                .left_future(),
            Err(answer) => answer
                .map_ok(|answer| answer.map(|body| reply(Body::Other(body))))
                .right_future(),
        }
    }

    /// An answer that no door gives.
    pub(super) fn refuse(&self, status: StatusCode) -> Response<Reply> {
        let mut answer = Response::new(Reply {
            body: Body::Other(Tonic::empty()),
            _under_way: self.activity.begin(),
        });
        *answer.status_mut() = status;
        answer
    }
}

/// A reply that is under way until its body has ended or was given up.
pub(super) struct Reply {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Reply {
    type Data = Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
