//! `[ext_authz]`: whose word about callers is taken.

use super::{reader::Section, values};
use crate::policy::CallerPattern;

/// How requests of Envoy's external authorization are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtAuthz {
    /// Proxies that are believed who their own callers are.
    pub trusted_proxies: Vec<CallerPattern>,
}

impl ExtAuthz {
    pub(super) fn read(section: Section<'_>) -> Self {
        let trusted_proxies = section.one_or_list("trusted_proxies", values::pattern);
        section.finish();
        Self { trusted_proxies }
    }
}
