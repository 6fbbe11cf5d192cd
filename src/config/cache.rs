//! `[cache]`: how tokens are kept.

use std::{ops::RangeInclusive, time::Duration};

use super::{reader::Section, values};

/// How tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// A token with less life left than this is no longer handed out. The slot caps it
    /// at a tenth of the token's life.
    pub expiry_margin: Duration,
}

const DEFAULT_EXPIRY_MARGIN: Duration = Duration::from_secs(60);

// Without any margin a token could expire on its way to the destination.
const MARGINS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1800);

impl CacheSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let margin = values::duration(MARGINS);
        let expiry_margin = section.or("expiry_margin", DEFAULT_EXPIRY_MARGIN, margin);
        section.finish();
        Self { expiry_margin }
    }
}
