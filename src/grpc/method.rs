//! The methods that are called, as spans are named after them.

pub(super) const GET_TOKEN: &str = "tokenbroker.v1.TokenBroker/GetToken";
pub(super) const WATCH_TOKEN: &str = "tokenbroker.v1.TokenBroker/WatchToken";
pub(super) const REPORT_REJECTED: &str = "tokenbroker.v1.TokenBroker/ReportRejected";
pub(super) const CHECK: &str = "envoy.service.auth.v3.Authorization/Check";
pub(super) const STREAM_SECRETS: &str =
    "envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub(super) const DELTA_SECRETS: &str =
    "envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
pub(super) const FETCH_SECRETS: &str =
    "envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
pub(super) const LIST_DESTINATIONS: &str = "tokenbroker.admin.v1.Admin/ListDestinations";
pub(super) const EXPLAIN: &str = "tokenbroker.admin.v1.Admin/Explain";
pub(super) const REFRESH: &str = "tokenbroker.admin.v1.Admin/Refresh";
pub(super) const QUARANTINE: &str = "tokenbroker.admin.v1.Admin/Quarantine";
pub(super) const RELEASE: &str = "tokenbroker.admin.v1.Admin/Release";
pub(super) const RELOAD: &str = "tokenbroker.admin.v1.Admin/Reload";
pub(super) const UNUSED_GRANTS: &str = "tokenbroker.admin.v1.Admin/UnusedGrants";

const ALL: [&str; 14] = [
    GET_TOKEN,
    WATCH_TOKEN,
    REPORT_REJECTED,
    CHECK,
    STREAM_SECRETS,
    DELTA_SECRETS,
    FETCH_SECRETS,
    LIST_DESTINATIONS,
    EXPLAIN,
    REFRESH,
    QUARANTINE,
    RELEASE,
    RELOAD,
    UNUSED_GRANTS,
];

/// The method that a path means; `_OTHER`, as OpenTelemetry has it, where that is health,
/// reflection, or the caller's invention.
pub(super) fn of(path: &str) -> &'static str {
    let name = path.strip_prefix('/').unwrap_or_default();
    let mut known = ALL.into_iter();
    known.find(|method| *method == name).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::api::DESCRIPTORS;

    #[test]
    fn every_method_of_the_protocol_has_its_name() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let mut methods = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    methods.insert(format!("{package}.{service}/{}", method.name()));
                }
            }
        }
        let ours = |name: &&str| name.starts_with("tokenbroker.");
        let named: BTreeSet<_> = ALL
            .iter()
            .copied()
            .filter(ours)
            .map(str::to_owned)
            .collect();
        assert_eq!(named, methods);
    }

    #[test]
    fn a_path_is_named_only_if_it_is_known() {
        assert_eq!(of("/tokenbroker.v1.TokenBroker/GetToken"), GET_TOKEN);
        for other in ["", "/", "/tokenbroker.v1.TokenBroker/Invented", GET_TOKEN] {
            assert_eq!(of(other), "_OTHER");
        }
    }
}
