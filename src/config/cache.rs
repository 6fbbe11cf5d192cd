//! `[cache]`: how tokens are kept.

use std::{ops::RangeInclusive, time::Duration};

use super::{reader::Section, values};

/// How tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// A token with less life left than this is no longer handed out. The slot caps it
    /// at a tenth of the token's life.
    pub expiry_margin: Duration,
    /// When minting fails, a token that can be handed out for less time than this is worth
    /// a warning. At most a quarter of its life counts.
    pub runway_warning: Duration,
}

const DEFAULT_EXPIRY_MARGIN: Duration = Duration::from_secs(60);
const DEFAULT_RUNWAY_WARNING: Duration = Duration::from_secs(600);

// Without any margin a token could expire on its way to the destination.
const MARGINS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1800);
const RUNWAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);

impl CacheSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let margin = values::duration(MARGINS);
        let expiry_margin = section.or("expiry_margin", DEFAULT_EXPIRY_MARGIN, margin);
        let runway = values::duration(RUNWAYS);
        let runway_warning = section.or("runway_warning", DEFAULT_RUNWAY_WARNING, runway);
        section.finish();
        Self {
            expiry_margin,
            runway_warning,
        }
    }
}
