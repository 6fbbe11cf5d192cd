//! Where callers get in.

use std::fmt;

/// A door, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// Envoy asks about requests.
    ExtAuthz,
    /// The gRPC services for callers and operators.
    Grpc,
    /// The OAuth 2 token endpoint.
    OAuth2,
    /// The token endpoint of Occtoo.
    Occtoo,
    /// Envoy subscribes to secrets.
    Sds,
}

impl Door {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::ExtAuthz,
        Self::Grpc,
        Self::OAuth2,
        Self::Occtoo,
        Self::Sds,
    ];

    /// How metrics and records name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExtAuthz => "ext_authz",
            Self::Grpc => "grpc",
            Self::OAuth2 => "oauth2",
            Self::Occtoo => "occtoo",
            Self::Sds => "sds",
        }
    }

    /// The one of these that is this door's, in the order of [`Door::ALL`].
    pub(super) fn of<T>(self, each: &[T; Self::ALL.len()]) -> &T {
        match self {
            Self::ExtAuthz => &each[0],
            Self::Grpc => &each[1],
            Self::OAuth2 => &each[2],
            Self::Occtoo => &each[3],
            Self::Sds => &each[4],
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_they_are_in_order() {
        assert!(Door::ALL.map(Door::name).is_sorted());
        for door in Door::ALL {
            assert_eq!(*door.of(&Door::ALL), door);
        }
    }
}
