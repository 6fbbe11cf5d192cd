//! Values by their names, put in order once.

/// Values by their names, in the order of these. There may be a hundred thousand, and a list
/// has nothing beside them: a tree that is filled in order is half empty.
#[derive(Debug)]
pub(super) struct Register<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Register<K, V> {
    /// Puts them in order. Of those with the same name the first one counts.
    pub(super) fn new(mut all: Vec<(K, V)>) -> Self {
        // Mostly they are in order, and to sort them takes as much memory again.
        if !all.is_sorted_by(|(a, _), (b, _)| a < b) {
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            all.dedup_by(|(later, _), (earlier, _)| later == earlier);
        }
        all.shrink_to_fit();
        Self(all)
    }

    pub(super) fn get(&self, name: &K) -> Option<&V> {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(name)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl<K, V> Default for Register<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_in_order_and_the_first_of_a_name_counts() {
        for all in [
            vec![("a", 1), ("b", 2), ("c", 3)],
            vec![("b", 2), ("c", 3), ("b", 4), ("a", 1), ("a", 5)],
            vec![("a", 1), ("a", 5), ("b", 2), ("c", 3)],
        ] {
            let register = Register::new(all);
            let shown: Vec<_> = register.iter().map(|(name, n)| (*name, *n)).collect();
            assert_eq!(shown, [("a", 1), ("b", 2), ("c", 3)]);
            assert_eq!(register.get(&"b"), Some(&2));
            assert_eq!(register.get(&"d"), None);
        }
        assert_eq!(Register::<&str, u8>::default().get(&"a"), None);
    }
}
