//! What the servers answer, read strictly: they may say anything.

use std::time::Duration;

use ::redis::Value;

use super::{
    Beginning, Entry, Name, Sealed, Trouble, Turn,
    scripts::{MAX_QUARANTINES, MAX_VALUE},
};
use crate::shared_cache::record::Kind;

/// What is kept for a slot: a kind, a value, and so on.
pub(super) fn entries(answer: Value) -> Result<Vec<Entry>, Trouble> {
    let Value::Array(parts) = answer else {
        return Err(Trouble::Garbage);
    };
    pairs(parts.into_iter())
}

/// What the wish to mint led to.
pub(super) fn beginning(answer: Value, owner: u128) -> Result<Beginning, Trouble> {
    let Value::Array(parts) = answer else {
        return Err(Trouble::Garbage);
    };
    let mut parts = parts.into_iter();
    let what = bytes(parts.next().ok_or(Trouble::Garbage)?)?;
    match (what.as_slice(), parts.next()) {
        (b"granted", Some(fence)) => Ok(Beginning::Granted(Turn {
            owner,
            fence: number(&fence)?,
        })),
        (b"held", Some(left)) => Ok(Beginning::Held(Duration::from_millis(number(&left)?))),
        (b"found", Some(first)) => {
            let all = std::iter::once(first).chain(parts);
            Ok(Beginning::Found(pairs(all)?))
        }
        _ => Err(Trouble::Garbage),
    }
}

/// Whether a turn had lasted.
pub(super) fn lasted(answer: &Value) -> Result<bool, Trouble> {
    match answer {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(Trouble::Garbage),
    }
}

/// That something was done.
pub(super) fn done(answer: &Value) -> Result<(), Trouble> {
    lasted(answer).map(|_| ())
}

/// A value that may be missing.
pub(super) fn value(answer: Value) -> Result<Option<Sealed>, Trouble> {
    match answer {
        Value::Nil => Ok(None),
        value => sealed(value).map(Some),
    }
}

/// How many were left out, and values by name. Each that is not one of ours is told to `odd`.
pub(super) fn named(answer: Value, mut odd: impl FnMut()) -> Result<Vec<(Name, Sealed)>, Trouble> {
    let Value::Array(parts) = answer else {
        return Err(Trouble::Garbage);
    };
    let mut parts = parts.into_iter();
    let left_out = number(&parts.next().ok_or(Trouble::Garbage)?)?;
    // Whatever number a server says is counted no further than this.
    let most = u64::try_from(MAX_QUARANTINES).unwrap_or(u64::MAX);
    (0..left_out.min(most)).for_each(|_| odd());
    let read = |field, value| {
        let field = bytes(field).ok()?;
        let name = Name::parse(str::from_utf8(&field).ok()?)?;
        Some((name, sealed(value).ok()?))
    };
    let mut named = Vec::with_capacity(parts.len() / 2);
    while let Some(field) = parts.next() {
        let value = parts.next().ok_or(Trouble::Garbage)?;
        match read(field, value) {
            Some(field) => named.push(field),
            None => odd(),
        }
    }
    Ok(named)
}

/// A value, unless it is too large to be one of ours.
pub(super) fn sealed(value: Value) -> Result<Sealed, Trouble> {
    let bytes = bytes(value)?;
    if bytes.len() > MAX_VALUE {
        return Err(Trouble::Garbage);
    }
    Ok(Sealed(bytes))
}

/// A text of bytes.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Trouble> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(Trouble::Garbage),
    }
}

fn number(value: &Value) -> Result<u64, Trouble> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Trouble::Garbage),
        _ => Err(Trouble::Garbage),
    }
}

fn pairs(mut parts: impl Iterator<Item = Value>) -> Result<Vec<Entry>, Trouble> {
    let mut entries = Vec::new();
    while let Some(kind) = parts.next() {
        let kind = match bytes(kind)?.as_slice() {
            [tag] => Kind::of_tag(*tag).ok_or(Trouble::Garbage)?,
            _ => return Err(Trouble::Garbage),
        };
        let sealed = sealed(parts.next().ok_or(Trouble::Garbage)?)?;
        entries.push(Entry { kind, sealed });
    }
    Ok(entries)
}
