//! One sink: a queue, and who empties it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::oneshot, task, time::timeout};
use tracing::warn;

use super::{
    queue::{Job, Queue, Records, Ticket},
    writer::Writer,
};

/// One sink. Its thread ends when it is closed or dropped, and its task with the thread; but
/// nobody waits for one that is stuck in a system call.
pub(super) struct Sink {
    name: &'static str,
    queue: Arc<Queue>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Attends to the queue until the thread is at its end.
    attendant: task::JoinHandle<()>,
}

impl Sink {
    /// Starts the thread, which begins with opening what it writes to, and the task that
    /// attends to its queue and writes what takes no waiting.
    pub(super) fn start(name: &'static str, writer: Writer, queue: Queue) -> io::Result<Self> {
        let queue = Arc::new(queue);
        let (end, ended) = oneshot::channel();
        let writer = Arc::new(Mutex::new(writer));
        let (jobs, work) = (Arc::clone(&queue), Arc::clone(&writer));
        let handle = thread::Builder::new()
            .name(format!("audit-{name}"))
            .spawn(move || {
                write(&jobs, &work);
                drop(end);
            })?;
        let attended = Arc::clone(&queue);
        let attendant = tokio::spawn(async move {
            let at_once = |records: &Records| {
                // The thread has it only while it is at work, and is not asked for it then.
                let writer = writer.try_lock();
                writer.is_ok_and(|mut writer| writer.write_at_once(records))
            };
            attended.attend(ended, at_once).await;
        });
        Ok(Self {
            name,
            queue,
            thread: Mutex::new(Some(Thread { handle, attendant })),
        })
    }

    /// Queues a record, unless the sink fails.
    pub(super) fn offer(&self, body: &str, waker: &Waker) -> Option<Ticket> {
        self.queue.offer(body, waker)
    }

    /// Whether it has a record; whoever waits is woken once that is known.
    pub(super) fn poll(&self, ticket: &Ticket, waker: &Waker) -> Poll<bool> {
        self.queue.poll(ticket, waker)
    }

    /// Whether it takes records, as far as anybody can know.
    pub(super) fn accepts(&self) -> bool {
        self.queue.accepts()
    }

    /// Begins a new file, if it is one.
    pub(super) fn rotate(&self) {
        self.queue.rotate();
    }

    /// Writes what is queued and ends in order, if that is done in time.
    pub(super) async fn close(&self, within: Duration) {
        self.queue.close();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Thread {
            handle,
            mut attendant,
        }) = thread
        else {
            return;
        };
        if timeout(within, &mut attendant).await.is_err() {
            attendant.abort();
            warn!(
                sink = self.name,
                "the audit sink is stuck: it may not have been closed in order, or not be on the disk yet"
            );
            return;
        }
        // It is at its end. A panic has been reported where it happened.
        let _ = handle.join();
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Does one job after the other until the sink is closed.
fn write(queue: &Queue, writer: &Mutex<Writer>) {
    let writer = || writer.lock().unwrap_or_else(PoisonError::into_inner);
    // The queue knows that this is under way.
    let opened = writer().write(0, &Records::default());
    queue.done(opened, 0, 0);
    loop {
        match queue.next() {
            Job::Write { missed, records } => {
                let written = writer().write(missed, &records);
                queue.done(written, missed, records.len());
            }
            Job::Rotate => {
                let rotated = writer().rotate();
                queue.rotated(rotated);
            }
            Job::Close { missed } => return writer().close(missed),
        }
    }
}
