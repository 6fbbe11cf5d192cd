//! The ordinary call of `GetToken`, without what only others need: it is answered where it
//! arrives, past router, middleware and codecs. Whatever is in any way out of the ordinary
//! goes on to those as it came, so that there is one answer to all that is odd.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version, header::CONTENT_TYPE};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::Message as _;
use tonic::{body::Body as Tonic, metadata::GRPC_CONTENT_TYPE};

use super::{
    MAX_REQUEST, is_grpc,
    reply::{Body, PREFIX},
    status::status,
    token_service::TokenService,
};
use crate::{
    admission::{self, Connected},
    api::v1::GetTokenRequest,
};

const PATH: &str = "/tokenbroker.v1.TokenBroker/GetToken";

/// Answers ordinary calls.
#[derive(Clone)]
pub struct Shortcut {
    tokens: Arc<TokenService>,
}

/// An ordinary call that was let in.
pub struct Ordinary {
    tokens: Arc<TokenService>,
    peer: Arc<Connected>,
    under_way: admission::Call,
    headers: HeaderMap,
    asked: GetTokenRequest,
}

/// A request's body of which something was read.
pub struct Reread<B: HttpBody> {
    first: Option<B::Data>,
    next: Option<Result<Frame<B::Data>, B::Error>>,
    rest: B,
}

impl Shortcut {
    pub(super) fn new(tokens: Arc<TokenService>) -> Self {
        Self { tokens }
    }

    /// Lets an ordinary call in, of a peer that has a name.
    ///
    /// # Errors
    /// The request, as it came, to be answered in the other way.
    #[expect(clippy::result_large_err, reason = "it goes on at once, as it came")]
    pub fn enter<B>(
        &self,
        peer: Option<&Arc<Connected>>,
        request: Request<B>,
    ) -> Result<Ordinary, Request<Reread<B>>>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let peer = peer.filter(|_| is_ordinary(&request));
        let (parts, body) = request.into_parts();
        let mut body = Reread::new(body);
        let Some((peer, asked)) = peer.and_then(|peer| Some((peer, body.message()?))) else {
            return Err(Request::from_parts(parts, body));
        };
        // Who is not let in asks there again, and is told why.
        let Ok(under_way) = peer.call() else {
            return Err(Request::from_parts(parts, body));
        };
        Ok(Ordinary {
            tokens: Arc::clone(&self.tokens),
            peer: Arc::clone(peer),
            under_way,
            headers: parts.headers,
            asked,
        })
    }
}

impl Ordinary {
    /// Answers it.
    pub async fn answer(self) -> Response<Body> {
        let call = self
            .tokens
            .token(Ok(&self.peer), &self.headers, &self.asked);
        let answer = call.await;
        drop(self.under_way);
        match answer {
            Ok(token) => {
                let mut response = Response::new(Body::from(&*token));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
                response
            }
            Err(error) => status(error).into_http::<Tonic>().map(Body::Other),
        }
    }
}

fn is_ordinary<B>(request: &Request<B>) -> bool {
    request.uri().path() == PATH
        && request.method() == Method::POST
        && request.version() == Version::HTTP_2
        && is_grpc(request.headers())
        && !request.headers().contains_key("grpc-encoding")
}

impl<B: HttpBody<Data = Bytes> + Unpin> Reread<B> {
    fn new(body: B) -> Self {
        Self {
            first: None,
            next: None,
            rest: body,
        }
    }

    /// The message, if that is all of the body and all of it is there already. Nobody waits
    /// here for what a peer may never send.
    fn message(&mut self) -> Option<GetTokenRequest> {
        // Whoever reads on is the next to be woken.
        let mut context = Context::from_waker(Waker::noop());
        while !self.rest.is_end_stream() {
            let Poll::Ready(read) = Pin::new(&mut self.rest).poll_frame(&mut context) else {
                return None;
            };
            let Some(read) = read else {
                break;
            };
            match read.map(Frame::into_data) {
                Ok(Ok(data)) if data.is_empty() => {}
                Ok(Ok(data)) if self.first.is_none() => self.first = Some(data),
                Ok(Ok(data)) => self.next = Some(Ok(Frame::data(data))),
                Ok(Err(other)) => self.next = Some(Ok(other)),
                Err(error) => self.next = Some(Err(error)),
            }
            if self.next.is_some() {
                return None;
            }
        }
        let (prefix, message) = self.first.as_ref()?.split_first_chunk::<PREFIX>()?;
        let [0, length @ ..] = *prefix else {
            return None;
        };
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let fits = length == message.len() && length <= MAX_REQUEST;
        fits.then(|| GetTokenRequest::decode(message).ok())?
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Reread<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let first = this.first.take().map(|data| Ok(Frame::data(data)));
        match first.or_else(|| this.next.take()) {
            Some(read) => Poll::Ready(Some(read)),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.next.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        if let Some(read) = self.first.as_ref().map(|data| data.len() as u64) {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + read);
            }
            hint.set_lower(hint.lower() + read);
        }
        hint
    }
}

#[cfg(test)]
mod tests;
