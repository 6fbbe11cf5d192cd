//! What is stopped, and what was released: here, and at other replicas.
//!
//! Of all that was done to one application of a destination, or to all of them as one, only
//! the last counts, and its moment is remembered for releases as well. So replicas come to
//! the same whatever they hear first, and what is told again changes nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::ActError;
use crate::{
    clock,
    destination::{ApplicationName, DestinationId},
    usage::{Quarantine, SharedQuarantine, millis, of_millis},
};

/// The last that was done to everything that was ever stopped or released, also at
/// destinations that are not configured now.
#[derive(Debug, Default)]
pub(super) struct Stops(BTreeMap<Stopped, SharedQuarantine>);

/// A destination and one of its applications, or all of them, those to come included.
type Stopped = (DestinationId, Option<ApplicationName>);

/// What an act of another replica changes here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is known.
    Nothing,
    /// Something later was done, which whoever told this does not know.
    Stale(SharedQuarantine),
    /// This is stopped now.
    Stopped,
    /// It was stopped before, and is for another reason now.
    Renewed,
    /// These stops have ended, if there were any.
    Released(Vec<Option<ApplicationName>>),
}

impl Stops {
    /// Those of the last process.
    pub(super) fn of(acts: Vec<SharedQuarantine>) -> Self {
        let acts = acts.into_iter();
        Self(acts.map(|act| (name(&act), act)).collect())
    }

    /// The stop that counts for an application of a destination.
    pub(super) fn find(
        &self,
        destination: &DestinationId,
        application: &ApplicationName,
    ) -> Option<&Quarantine> {
        let one = (destination.clone(), Some(application.clone()));
        let all = (destination.clone(), None);
        [one, all]
            .iter()
            .find_map(|name| self.0.get(name)?.quarantine.as_ref())
    }

    /// All that is stopped.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Quarantine> {
        self.0.values().filter_map(|act| act.quarantine.as_ref())
    }

    /// What was released, and when.
    pub(super) fn releases(
        &self,
    ) -> impl Iterator<Item = (&DestinationId, Option<&ApplicationName>, SystemTime)> {
        let released = self.0.values().filter(|act| act.quarantine.is_none());
        released.map(|act| (&act.destination, act.application.as_ref(), act.at))
    }

    /// Everything, to be written down.
    pub(super) fn to_vec(&self) -> Vec<SharedQuarantine> {
        self.0.values().cloned().collect()
    }

    /// Stops something. If it is stopped already, who was first and why stays, but it is told
    /// as done now: there may have been a release that is not known here.
    pub(super) fn stop(&mut self, quarantine: Quarantine) -> SharedQuarantine {
        let destination = quarantine.destination.clone();
        let application = quarantine.application.clone();
        let at = self.next_moment(&destination);
        let act = SharedQuarantine {
            destination,
            application,
            at,
            quarantine: Some(quarantine),
        };
        let last = self.0.entry(name(&act)).or_insert_with(|| act.clone());
        match last.quarantine {
            Some(_) => last.at = at,
            None => *last = act,
        }
        last.clone()
    }

    /// What a release of one application, or of everything at a destination, would end.
    ///
    /// # Errors
    /// [`ActError::StoppedAsOne`] for one application where all of them are stopped.
    pub(super) fn ended(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Result<Vec<Option<ApplicationName>>, ActError> {
        let stops = self
            .in_force()
            .filter(|stop| stop.destination == *destination);
        let stops: Vec<_> = stops.map(|stop| stop.application.clone()).collect();
        // What would be left of it are the applications of today, and not those to come.
        if application.is_some() && stops.contains(&None) {
            return Err(ActError::StoppedAsOne);
        }
        let ends = |which: &Option<_>| application.is_none() || which.as_ref() == application;
        Ok(stops.into_iter().filter(ends).collect())
    }

    /// Releases one application, or everything at a destination, at a moment that is the next
    /// one for it. The acts are for whoever
    /// knows of stops that are not known here as well.
    pub(super) fn release(
        &mut self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
        ended: &[Option<ApplicationName>],
        at: SystemTime,
    ) -> Vec<SharedQuarantine> {
        let mut names = ended.to_vec();
        if !names.iter().any(|name| name.as_ref() == application) {
            names.push(application.cloned());
        }
        let acts = names.into_iter().map(|application| SharedQuarantine {
            destination: destination.clone(),
            application,
            at,
            quarantine: None,
        });
        let acts: Vec<_> = acts.collect();
        self.0
            .extend(acts.iter().map(|act| (name(act), act.clone())));
        acts
    }

    /// Takes in what was done at another replica.
    pub(super) fn take_in(&mut self, act: &SharedQuarantine) -> Change {
        let SharedQuarantine {
            destination,
            application,
            at,
            quarantine,
        } = act;
        let known = self.0.get(&name(act));
        if let Some(known) = known {
            match act.rank().cmp(&known.rank()) {
                std::cmp::Ordering::Less => return Change::Stale(known.clone()),
                std::cmp::Ordering::Equal => return Change::Nothing,
                std::cmp::Ordering::Greater => {}
            }
        }
        let was_stopped = known.is_some_and(|known| known.quarantine.is_some());
        let all = self.0.get(&(destination.clone(), None));
        let released = all.filter(|all| application.is_some() && all.quarantine.is_none());
        if let Some(released) = released.filter(|all| quarantine.is_some() && *at < all.at) {
            let release = SharedQuarantine {
                application: application.clone(),
                ..released.clone()
            };
            self.0.insert(name(&release), release.clone());
            return Change::Stale(release);
        }
        self.0.insert(name(act), act.clone());
        if quarantine.is_some() {
            return if was_stopped {
                Change::Renewed
            } else {
                Change::Stopped
            };
        }
        let mut ended = Vec::new();
        if was_stopped {
            ended.push(application.clone());
        }
        if application.is_none() {
            let others = self.0.iter_mut().filter(|((stopped, which), other)| {
                let is_stopped = other.quarantine.is_some() && other.at < *at;
                stopped == destination && which.is_some() && is_stopped
            });
            for ((_, which), other) in others {
                (other.at, other.quarantine) = (*at, None);
                ended.push(which.clone());
            }
        }
        Change::Released(ended)
    }

    /// What a store that has these lacks. A release without its stop is told as well: whoever
    /// missed both has tokens from before.
    pub(super) fn lacking(&self, kept: &[SharedQuarantine]) -> Vec<SharedQuarantine> {
        let kept: BTreeMap<_, _> = kept.iter().map(|act| (name(act), act.at)).collect();
        let lacks = |act: &SharedQuarantine| kept.get(&name(act)).is_none_or(|at| *at < act.at);
        let acts = self.0.values();
        acts.filter(|act| lacks(act)).cloned().collect()
    }

    /// A moment for what is done now. It is later than all that is known of the destination,
    /// so that whatever an operator sees gives way, and be it from a replica whose clock is
    /// ahead.
    pub(super) fn next_moment(&self, destination: &DestinationId) -> SystemTime {
        let known = self
            .0
            .values()
            .filter(|act| act.destination == *destination);
        let last = known.map(|act| act.at).max();
        let after = last.and_then(|last| last.checked_add(Duration::from_millis(1)));
        // No fraction that is lost on the way to others.
        let now = of_millis(millis(clock::wall())).unwrap_or(SystemTime::UNIX_EPOCH);
        after.map_or(now, |after| after.max(now))
    }
}

fn name(act: &SharedQuarantine) -> Stopped {
    (act.destination.clone(), act.application.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Stamp;

    fn act(application: Option<&str>, at: u64, is_stop: bool) -> SharedQuarantine {
        let destination = DestinationId::parse("d").unwrap();
        let application = application.map(|name| ApplicationName::parse(name).unwrap());
        SharedQuarantine {
            destination: destination.clone(),
            application: application.clone(),
            at: of_millis(at).unwrap(),
            quarantine: is_stop.then(|| Quarantine {
                destination,
                application,
                since: Stamp(at),
                administrator: format!("ops-{at}"),
                comment: String::new(),
            }),
        }
    }

    fn in_force(stops: &Stops) -> Vec<(Option<String>, u64)> {
        let stops = stops.in_force();
        stops
            .map(|stop| {
                (
                    stop.application.as_ref().map(ToString::to_string),
                    stop.since.0,
                )
            })
            .collect()
    }

    #[test]
    fn replicas_come_to_the_same_in_whatever_order_they_hear() {
        const STOP: bool = true;
        const RELEASE: bool = false;
        let (all, app, other) = (None, Some("app"), Some("other"));
        for (acts, expected) in [
            (&[(all, 1, STOP), (all, 2, RELEASE)][..], &[][..]),
            (&[(all, 1, RELEASE), (all, 2, STOP)], &[(all, 2)]),
            (&[(all, 1, STOP), (all, 2, STOP)], &[(all, 2)]),
            // Of two of one moment the stop.
            (&[(all, 1, STOP), (all, 1, RELEASE)], &[(all, 1)]),
            (
                &[(app, 1, STOP), (app, 2, RELEASE), (app, 3, STOP)],
                &[(app, 3)],
            ),
            // A release of all ends what was stopped by name before, and nothing later.
            (&[(app, 1, STOP), (all, 2, RELEASE)], &[]),
            (&[(app, 2, STOP), (all, 2, RELEASE)], &[(app, 2)]),
            (
                &[(app, 3, STOP), (other, 1, STOP), (all, 2, RELEASE)],
                &[(app, 3)],
            ),
            // A release by name ends no stop of all.
            (&[(all, 1, STOP), (app, 2, RELEASE)], &[(all, 1)]),
            (
                &[(all, 1, STOP), (app, 2, STOP), (other, 3, RELEASE)],
                &[(all, 1), (app, 2)],
            ),
        ] {
            let acts: Vec<_> = acts
                .iter()
                .map(|(name, at, stop)| act(*name, *at, *stop))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, at)| (name.map(str::to_owned), *at))
                .collect();
            for turn in 0..acts.len() {
                for backwards in [false, true] {
                    let mut order = acts.clone();
                    order.rotate_left(turn);
                    if backwards {
                        order.reverse();
                    }
                    let mut stops = Stops::default();
                    // Twice, since what is told again changes nothing.
                    for act in order.iter().chain(&order) {
                        stops.take_in(act);
                    }
                    assert_eq!(in_force(&stops), expected, "{order:?}");
                    let restored = Stops::of(stops.to_vec());
                    assert_eq!(in_force(&restored), expected, "{order:?}");
                }
            }
        }
    }

    #[test]
    fn a_store_lacks_what_it_does_not_have_or_has_an_earlier_act_of() {
        let acts = [
            act(Some("a"), 5, true),
            act(Some("b"), 5, false),
            act(None, 5, false),
        ];
        let stops = Stops::of(acts.to_vec());
        let [a, b, all] = acts;

        assert_eq!(stops.lacking(&[]), [all.clone(), a.clone(), b.clone()]);
        assert_eq!(stops.lacking(&[a.clone(), b.clone(), all]), []);
        let older = |name| act(name, 4, true);
        let kept = [older(Some("a")), older(Some("b")), act(None, 6, true)];
        assert_eq!(stops.lacking(&kept), [a, b]);
    }
}
