//! What is spoken on a connection under load.

use std::time::Instant;

/// The client's side of a protocol: how a question is put, and where its answer ends.
pub(crate) trait Talk {
    /// What is said before the first question.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether the server has greeted back.
    fn is_ready(&self) -> bool;

    /// How many questions wait for their answer.
    fn under_way(&self) -> usize;

    /// Asks for one of the keys; the moment comes back with the answer.
    fn ask(&mut self, key: usize, asked: Instant, out: &mut Vec<u8>);

    /// Reads what is whole of what was received, and returns how much that was. The moments
    /// of what is answered are added to `answered`.
    ///
    /// # Errors
    /// When an answer is not the right one.
    fn read(
        &mut self,
        received: &[u8],
        out: &mut Vec<u8>,
        answered: &mut Vec<Instant>,
    ) -> Result<usize, Wrong>;
}

/// What was wrong with an answer.
#[derive(Debug, thiserror::Error)]
#[error("a wrong answer: {0}")]
pub(crate) struct Wrong(pub(crate) String);

/// Ends with what is wrong.
pub(crate) fn wrong<T>(what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(what.into()))
}
