//! What other replicas tell.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ::redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};

use super::{Name, News, Sealed, reply::bytes, scripts::MAX_VALUE};
use crate::{
    metrics::Metrics,
    shared_cache::{record::Kind, sealed::HEAD, store::Message},
};

/// The kind, and the name.
const PREFIX: usize = 1 + 16;

/// Hears what is said on one connection.
pub(super) struct Listener {
    channel: String,
    news: mpsc::Sender<News>,
    metrics: Arc<Metrics>,
    /// Whether the connection is in use.
    is_open: AtomicBool,
    /// Whether something was not passed on, or was not heard at all.
    has_missed: AtomicBool,
    /// Whether a connection has ended on which the news may have come.
    is_deaf: AtomicBool,
    /// Somebody ought to look whether the connection still works.
    pub(super) doubt: Notify,
}

impl Listener {
    pub(super) fn new(channel: String, news: mpsc::Sender<News>, metrics: Arc<Metrics>) -> Self {
        Self {
            channel,
            news,
            metrics,
            is_open: AtomicBool::new(false),
            has_missed: AtomicBool::new(true),
            is_deaf: AtomicBool::new(false),
            doubt: Notify::new(),
        }
    }

    /// The connection is in use from now on.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.catch_up();
    }

    /// Tells that something may have been missed, once there is room for it.
    pub(super) fn catch_up(&self) {
        if self.has_missed.swap(false, Ordering::SeqCst)
            && self.news.try_send(News::Connected).is_err()
        {
            self.has_missed.store(true, Ordering::SeqCst);
        }
    }

    /// Whether nothing may be heard any more, until it is asked the next time.
    pub(super) fn take_deaf(&self) -> bool {
        self.is_deaf.swap(false, Ordering::SeqCst)
    }

    /// It is still so.
    pub(super) fn deafen(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Takes what a server said without being asked. It never waits.
    pub(super) fn hear(&self, push: PushInfo) {
        match push.kind {
            PushKind::Message => self.tell(push.data),
            // A node of a cluster was replaced by another, which was silent until now.
            PushKind::Subscribe if self.is_open.load(Ordering::SeqCst) => {
                self.has_missed.store(true, Ordering::SeqCst);
                self.catch_up();
            }
            PushKind::Disconnection => {
                self.is_deaf.store(true, Ordering::SeqCst);
                self.doubt.notify_one();
            }
            _ => {}
        }
    }

    fn tell(&self, data: Vec<Value>) {
        let Some(message) = self.read(data) else {
            self.metrics.shared_cache("news", "garbage");
            return;
        };
        let told = self.news.try_send(News::Told(message)).is_ok();
        if !told {
            self.has_missed.store(true, Ordering::SeqCst);
        }
        let outcome = if told { "ok" } else { "dropped" };
        self.metrics.shared_cache("news", outcome);
    }

    fn read(&self, data: Vec<Value>) -> Option<Message> {
        let [channel, payload] = <[Value; 2]>::try_from(data).ok()?;
        let channel = bytes(channel).ok()?;
        let payload = bytes(payload).ok()?;
        (channel == self.channel.as_bytes()).then(|| decode(&payload))?
    }
}

/// What is told of something that is kept.
pub(super) fn encode(kind: Kind, name: &Name, sealed: &Sealed) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX + sealed.0.len());
    message.push(kind.tag());
    message.extend(name.0);
    message.extend(&sealed.0);
    message
}

fn decode(message: &[u8]) -> Option<Message> {
    let (tag, rest) = message.split_first()?;
    let (name, sealed) = rest.split_first_chunk()?;
    let is_sealed = (HEAD..=MAX_VALUE).contains(&sealed.len());
    let kind = Kind::of_tag(*tag).filter(|_| is_sealed)?;
    Some(Message {
        kind,
        name: Name(*name),
        sealed: Sealed(sealed.to_vec()),
    })
}
