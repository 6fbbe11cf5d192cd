//! The calls of one connection, answered in the connection's own task: no other thread is
//! woken for them, and replies that are ready together are written together.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::{
    future::{CatchUnwind, FutureExt as _},
    stream::{FuturesUnordered, StreamExt as _},
};
use hyper::rt::Executor;

/// A call, from its request to the end of its reply. One that panics ends only itself.
type Stream = CatchUnwind<AssertUnwindSafe<Pin<Box<dyn Future<Output = ()> + Send>>>>;

/// The calls that are under way.
#[derive(Default)]
pub(super) struct Streams {
    begun: Begun,
    under_way: FuturesUnordered<Stream>,
}

/// Where hyper leaves calls that begin.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Stream>>>);

impl Streams {
    /// Where calls are begun.
    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// Goes on with those that can.
    pub(super) fn go_on(&mut self, context: &mut Context<'_>) {
        self.under_way.extend(self.begun.take());
        while let Poll::Ready(Some(_)) = self.under_way.poll_next_unpin(context) {}
    }
}

impl Begun {
    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, stream: F) {
        let stream: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stream);
        let stream = AssertUnwindSafe(stream).catch_unwind();
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(stream);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::poll_fn;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_call_that_panics_ends_only_itself() {
        let mut streams = Streams::default();
        let ended = Arc::new(AtomicUsize::new(0));
        let begun = streams.begun();
        let (answer, answered) = oneshot::channel::<()>();
        begun.execute(async { panic!("on purpose") });
        begun.execute(pending());
        let seen = Arc::clone(&ended);
        begun.execute(async move {
            let _ = answered.await;
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let mut go_on = async || {
            poll_fn(|context| {
                streams.go_on(context);
                Poll::Ready(())
            })
            .await;
        };
        go_on().await;
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        answer.send(()).unwrap();
        go_on().await;
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        assert_eq!(streams.under_way.len(), 1);
    }
}
