//! The seam: what any store of shared values can do, and how it fails.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;

use super::{
    record::Kind,
    sealed::{Head, Sealed},
};

/// The name of something that is kept, which is a keyed hash: it tells nothing of what it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub(super) [u8; 16]);

/// What is kept in a store, and what replicas tell each other through it. A store never
/// looks into what is sealed.
///
/// Every call ends within the store's own time limit, and dropping one changes nothing for
/// any other.
pub(crate) trait Store: Send + Sync {
    /// Waits until the store answered for the first time, or could not be reached.
    fn settled(&self) -> BoxFuture<'_, ()>;

    /// Why it cannot be asked just now, as far as is known without asking.
    fn trouble(&self) -> Option<Trouble>;

    /// What is kept for a slot: its token, its failure, or both.
    fn look<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Vec<Entry>, Trouble>>;

    /// The turn to mint for a slot, for as long as `life`; unless there is something at its place whose head
    /// was not `seen`, or somebody else has the turn.
    fn begin<'a>(
        &'a self,
        name: &'a Name,
        seen: &'a [Head],
        life: Duration,
    ) -> BoxFuture<'a, Result<Beginning, Trouble>>;

    /// Ends a turn, keeps what came of it, if anything did, and tells the others. Says whether the turn had lasted
    /// until then. Nothing is kept if a later turn has kept something before.
    /// Without a turn it is kept in any case.
    fn finish<'a>(
        &'a self,
        name: &'a Name,
        turn: Option<&'a Turn>,
        outcome: Option<Kept>,
    ) -> BoxFuture<'a, Result<bool, Trouble>>;

    /// Gives a turn back, some time soon, without waiting for it.
    fn abandon(&self, name: &Name, turn: &Turn);

    /// Forgets what is kept for a slot. A turn that is under way keeps nothing any more.
    fn forget<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<(), Trouble>>;

    /// The pause of a host, if it is kept.
    fn pause<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Sealed>, Trouble>>;

    /// Keeps the pause of a host for so long, unless a longer one is kept, and tells the others.
    fn keep_pause<'a>(
        &'a self,
        name: &'a Name,
        sealed: Sealed,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>>;

    /// All quarantines and releases that are kept.
    fn quarantines(&self) -> BoxFuture<'_, Result<Vec<(Name, Sealed)>, Trouble>>;

    /// Keeps a quarantine or a release under the first of these names, in place of what is kept
    /// under any of them, and tells the others.
    fn keep_quarantine<'a>(
        &'a self,
        names: &'a [Name],
        sealed: Sealed,
    ) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Keeps what a replica tells of itself under the first of these names for so long, in place of what is kept
    /// under any of them, or takes that out if it tells nothing. Answers with what others have told: no more
    /// than [`MOST_REPLICAS`] of them.
    fn beat<'a>(
        &'a self,
        names: &'a [Name],
        told: Option<Sealed>,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Vec<(Name, Sealed)>, Trouble>>;
}

/// As many replicas are told of. Whatever else is where they tell of themselves is left out.
pub(crate) const MOST_REPLICAS: usize = 1000;

/// Something that is kept for a slot.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) sealed: Sealed,
}

/// What came of a turn.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    /// How long it is of use.
    pub(crate) lasts: Duration,
}

/// What the wish to mint led to.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// There is something to look at first.
    Found(Vec<Entry>),
    /// It is this replica's turn.
    Granted(Turn),
    /// It is another's, for so long.
    Held(Duration),
}

/// A turn to mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose it is, at random.
    pub(crate) owner: u128,
    /// Grows with each turn of a slot: the fencing token.
    pub(crate) fence: u64,
}

/// What another replica, or this one, has kept just now.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) kind: Kind,
    /// Whose it is.
    pub name: Name,
    pub(crate) sealed: Sealed,
}

/// Why a store was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It cannot be connected to, or the connection broke.
    Unreachable,
    /// It did not answer in time.
    Slow,
    /// It does not let the broker in, or does not let it do this.
    Denied,
    /// It has no memory left.
    Full,
    /// It takes no writes, since another server is in charge.
    ReadOnly,
    /// It is in charge, and takes no writes as long as it could lose them: it cannot save them,
    /// or has too few replicas.
    Unsafe,
    /// It is still reading its own data, or its cluster is incomplete.
    Loading,
    /// It says that another server is in charge.
    Moved,
    /// Its answer makes no sense.
    Garbage,
}

impl Trouble {
    /// The outcome that metrics and logs show.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::ReadOnly | Self::Unsafe => "read_only",
            Self::Loading => "loading",
            Self::Moved => "moved",
            Self::Garbage => "garbage",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Name {
    /// How long it is where it is written.
    pub(super) const LENGTH: usize = 32;

    /// Reads a name as it is written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let name = Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes());
        (name.to_string() == text).then_some(name)
    }
}
