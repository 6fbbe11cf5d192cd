//! Who may have which token: the grants of one destination.
//!
//! Whatever no grant allows is denied.

mod pattern;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::identity::CallerId;

use pattern::Shape;
pub use pattern::{CallerPattern, PatternError};

/// One line of the policy: these callers may have a token of this application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant<A> {
    /// Who is meant.
    pub callers: CallerPattern,
    /// What they may use, such as the application whose credentials mint the token.
    pub application: A,
}

/// The grants of one destination, ready to be asked.
///
/// Of all the grants that match a caller the first in file order decides. Where there are
/// more than a few it is found by lookups, so that the cost grows with the length of the
/// caller's name, never with the number of grants.
#[derive(Clone, Debug)]
pub struct Grants<A> {
    in_file_order: Box<[Grant<A>]>,
    /// Most destinations have few callers, and there may be ten thousand of them.
    index: Option<Box<Index>>,
}

/// So many grants are looked at one by one, which takes no longer than a lookup.
const FEW: usize = 8;

/// Where in file order the first grant is of each pattern.
#[derive(Clone, Debug, Default)]
struct Index {
    whole: Positions<CallerId>,
    by_parent: Positions<Arc<str>>,
    by_ancestor: Positions<Arc<str>>,
    /// Each length of an ancestor once, in order: nothing of another length is looked up.
    ancestor_lengths: Vec<usize>,
}

/// Places in file order. All names in it are configured, so a fast hash will do: nobody from
/// outside can add names that collide.
type Positions<Name> = HashMap<Name, usize, RandomState>;

impl<A> Grants<A> {
    /// Compiles the grants, which are in file order.
    pub fn new(grants: impl IntoIterator<Item = (CallerPattern, A)>) -> Self {
        let grants = grants.into_iter().map(|(callers, application)| Grant {
            callers,
            application,
        });
        let in_file_order: Box<[_]> = grants.collect();
        let index = (in_file_order.len() > FEW)
            .then(|| Box::new(Index::of(in_file_order.iter().map(|grant| &grant.callers))));
        Self {
            in_file_order,
            index,
        }
    }

    /// The grant that decides about this caller; none means denied.
    pub fn decide(&self, caller: &CallerId) -> Option<&Grant<A>> {
        self.position(caller)
            .and_then(|at| self.in_file_order.get(at))
    }

    /// The place of that grant in file order, counted from zero.
    pub fn position(&self, caller: &CallerId) -> Option<usize> {
        match &self.index {
            Some(index) => index.position(caller),
            None => (self.in_file_order.iter()).position(|grant| grant.callers.matches(caller)),
        }
    }

    /// All grants, in file order.
    pub fn as_slice(&self) -> &[Grant<A>] {
        &self.in_file_order
    }
}

impl Index {
    fn of<'a>(in_file_order: impl Iterator<Item = &'a CallerPattern>) -> Self {
        let mut index = Self::default();
        for (position, callers) in in_file_order.enumerate() {
            // `or_insert`, because the first grant in the file decides.
            match callers.shape() {
                Shape::Whole(caller) => index.whole.entry(caller.clone()).or_insert(position),
                Shape::Children(parent) => index
                    .by_parent
                    .entry(Arc::clone(parent))
                    .or_insert(position),
                Shape::Descendants(ancestor) => {
                    if let Err(at) = index.ancestor_lengths.binary_search(&ancestor.len()) {
                        index.ancestor_lengths.insert(at, ancestor.len());
                    }
                    (index.by_ancestor.entry(Arc::clone(ancestor))).or_insert(position)
                }
            };
        }
        index
    }

    fn position(&self, caller: &CallerId) -> Option<usize> {
        let whole = self.whole.get(caller);
        let caller = caller.as_str();
        let parent = (!self.by_parent.is_empty())
            .then(|| caller.rsplit_once('/'))
            .flatten()
            .and_then(|(parent, _)| self.by_parent.get(parent));
        let ancestors = self
            .ancestor_lengths
            .iter()
            .filter(|end| caller.as_bytes().get(**end) == Some(&b'/'))
            .filter_map(|end| self.by_ancestor.get(&caller[..*end]));
        let found = whole.into_iter().chain(parent).chain(ancestors);
        found.min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::select};

    fn grants(patterns: &[&str]) -> Grants<usize> {
        let parsed = patterns
            .iter()
            .map(|text| CallerPattern::parse(text).unwrap());
        Grants::new(parsed.zip(0..))
    }

    #[test]
    fn policy_denies_by_default() {
        let nobody = grants(&[]);
        let somebody = grants(&["spiffe://td/a", "spiffe://td/b/*", "host.example"]);
        for caller in ["spiffe://td/x", "spiffe://td/b", "other.example", "td"] {
            let caller = CallerId::parse(caller).unwrap();
            assert_eq!(nobody.decide(&caller), None, "{caller}");
            assert_eq!(somebody.decide(&caller), None, "{caller}");
        }
    }

    #[test]
    fn the_first_matching_grant_decides() {
        let mut patterns = vec![
            "spiffe://td/ns/shop/sa/cart",
            "spiffe://td/ns/shop/**",
            "spiffe://td/ns/*",
            "spiffe://td/ns/shop/sa/*",
            "spiffe://td/ns/shop/sa/cart",
            "spiffe://td/**",
            "spiffe://td/ns/**",
            "host.example",
        ];
        let few = grants(&patterns);
        patterns.extend(["spiffe://td/ns/more"; FEW]);
        let many = grants(&patterns);
        for (caller, expected) in [
            ("spiffe://td/ns/shop/sa/cart", Some(0)),
            ("spiffe://td/ns/shop/sa/till", Some(1)),
            ("spiffe://td/ns/shop", Some(2)),
            ("spiffe://td/ns/depot/sa/cart", Some(5)),
            ("spiffe://td/ns", Some(5)),
            ("spiffe://other/ns", None),
            ("host.example", Some(7)),
            ("a.host.example", None),
        ] {
            let caller = CallerId::parse(caller).unwrap();
            for table in [&few, &many] {
                assert_eq!(table.position(&caller), expected, "{caller}");
                let decided = table.decide(&caller).map(|grant| grant.application);
                assert_eq!(decided, expected, "{caller}");
            }
        }
    }

    /// A pattern as the oracle sees it: its path levels, and what may follow them.
    #[derive(Clone, Debug)]
    struct Sketch {
        levels: Vec<&'static str>,
        tail: Tail,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Tail {
        Nothing,
        One,
        Any,
    }

    impl Sketch {
        fn text(&self) -> String {
            let tail = match self.tail {
                Tail::Nothing => "",
                Tail::One => "/*",
                Tail::Any => "/**",
            };
            format!("spiffe://{}{tail}", self.levels.join("/"))
        }

        fn admits(&self, caller: &[&str]) -> bool {
            if caller.len() < self.levels.len() {
                return false;
            }
            let (head, rest) = caller.split_at(self.levels.len());
            head == self.levels
                && match self.tail {
                    Tail::Nothing => rest.is_empty(),
                    Tail::One => rest.len() == 1,
                    Tail::Any => !rest.is_empty(),
                }
        }
    }

    // Few and short names, so that random callers and patterns often meet.
    fn levels(depth: std::ops::Range<usize>) -> impl Strategy<Value = Vec<&'static str>> {
        let trust_domain = select(&["t", "td"][..]);
        let path = vec(select(&["a", "b", "ab", "a."][..]), depth);
        (trust_domain, path).prop_map(|(trust_domain, path)| {
            let mut levels = vec![trust_domain];
            levels.extend(path);
            levels
        })
    }

    fn sketch() -> impl Strategy<Value = Sketch> {
        let whole = levels(1..4).prop_map(|levels| Sketch {
            levels,
            tail: Tail::Nothing,
        });
        let open = (levels(0..4), prop_oneof![Just(Tail::One), Just(Tail::Any)])
            .prop_map(|(levels, tail)| Sketch { levels, tail });
        prop_oneof![whole, open]
    }

    fn agrees_with_the_oracle(
        sketches: &[Sketch],
        callers: &[Vec<&str>],
    ) -> Result<(), TestCaseError> {
        let patterns: Vec<_> = sketches
            .iter()
            .map(|sketch| CallerPattern::parse(&sketch.text()).unwrap())
            .collect();
        let compiled = Grants::new(patterns.iter().cloned().zip(0..));
        for levels in callers {
            let caller = CallerId::from_spiffe(&format!("spiffe://{}", levels.join("/"))).unwrap();
            let expected = sketches.iter().position(|sketch| sketch.admits(levels));
            prop_assert_eq!(compiled.position(&caller), expected, "{}", caller);
            let scanned = patterns.iter().position(|pattern| pattern.matches(&caller));
            prop_assert_eq!(scanned, expected, "{}", caller);
        }
        Ok(())
    }

    #[test]
    fn random_decisions_agree_with_an_independent_oracle() {
        const CALLERS: u32 = 100;
        let decisions = std::env::var("TOKEN_BROKER_POLICY_CASES")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(100_000_u32);
        let config = ProptestConfig {
            cases: decisions.div_ceil(CALLERS),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let sketches = vec(sketch(), 0..40);
        let callers = vec(levels(1..6), CALLERS as usize);
        proptest!(config, |(sketches in sketches, callers in callers)| {
            agrees_with_the_oracle(&sketches, &callers)?;
        });
    }
}
