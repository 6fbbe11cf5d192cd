//! Answering the requests of one connection.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    service::Service,
};
use tonic::{Status, body::Body, service::Routes};
use tower::Service as _;

use super::activity::{Activity, UnderWay};
use crate::admission::Connected;

/// What the headers of one request may take, in bytes.
pub(super) const MAX_HEADERS: u16 = 8 * 1024;

/// Hands requests to the doors, each with the identity of its connection.
pub(super) struct Answering {
    pub(super) routes: Routes,
    pub(super) peer: Option<Arc<Connected>>,
    pub(super) activity: Arc<Activity>,
}

impl Answering {
    /// An answer that no door gives.
    pub(super) fn refuse(&self, status: StatusCode) -> Response<Reply> {
        let mut answer = Response::new(Reply {
            body: Body::empty(),
            _under_way: self.activity.begin(),
        });
        *answer.status_mut() = status;
        answer
    }
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Reply>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // Whatever the request claims, this is the one identity it gets.
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let under_way = self.activity.begin();
        let answer = self.routes.clone().call(request);
        async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Reply {
                body,
                _under_way: under_way,
            }))
        }
        .boxed()
    }
}

/// A reply that is under way until its body has ended or was given up.
pub(super) struct Reply {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
