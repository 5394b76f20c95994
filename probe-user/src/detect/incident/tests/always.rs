//! What holds whatever happens.

use proptest::{collection::vec, prelude::*};

use super::*;

/// What happens to a host for some seconds.
#[derive(Clone, Debug)]
enum Chance {
    Loss(u64, Vec<(Kind, f64)>, Name),
    Blind(u64),
    Restart(i64),
    ClockSet(i64),
}

fn chances() -> impl Strategy<Value = Chance> {
    use Kind::{Inside, LocalPolicy, LocalTx, MalformedLocal, MalformedPath, NetworkIn, NetworkOut};
    let share = prop_oneof![Just(0.0), Just(0.002), Just(0.02), Just(0.3)];
    let loss = (prop::sample::select(vec![NetworkIn, NetworkOut, Inside, LocalTx, LocalPolicy]), share);
    let frames = (prop::sample::select(vec![MalformedLocal, MalformedPath]), prop_oneof![Just(0.0), Just(30.0)]);
    let names = prop::sample::select(vec![
        Name::None,
        Name::LocalTx,
        Name::LocalPolicy,
        Name::Inside,
        Name::NetworkIn,
        Name::NetworkOut,
        Name::NetworkMalformed,
        Name::RemoteMalformed,
        Name::Link,
        Name::Mixed,
        Name::Unknown,
    ]);
    prop_oneof![
        12 => (1..40_u64, vec(prop_oneof![loss, frames], 0..3), names).prop_map(|(n, losses, name)| Chance::Loss(n, losses, name)),
        1 => (1..120_u64).prop_map(Chance::Blind),
        1 => (-300..300_i64).prop_map(Chance::Restart),
        1 => (-4_000..4_000_i64).prop_map(Chance::ClockSet),
    ]
}

/// Which state may follow which.
fn may_follow(one: State, next: State) -> bool {
    match one {
        State::Opening => matches!(next, State::Active | State::Closed),
        State::Active | State::Easing | State::Acceptable => next != one && next != State::Opening,
        State::Closed => false,
    }
}

fn is_sound(incident: &Incident) {
    assert_eq!(incident.check(), Ok(()));
    let of = |text: &String| time(text).unwrap();
    assert_eq!(incident.states[0].state, State::Opening);
    assert_eq!(incident.states.last().map(|last| last.state), Some(incident.state));
    for pair in incident.states.windows(2) {
        assert!(may_follow(pair[0].state, pair[1].state), "{:?}", incident.states);
        assert!(of(&pair[0].time) <= of(&pair[1].time), "{:?}", incident.states);
    }
    for pair in incident.verdicts.windows(2) {
        assert!(
            pair[0].verdict != pair[1].verdict && of(&pair[0].time) <= of(&pair[1].time),
            "{:?}",
            incident.verdicts
        );
    }
    assert!(of(&incident.onset) <= of(&incident.detected) && of(&incident.detected) <= of(&incident.states[0].time));
    for at in incident.judged.iter().chain(&incident.closed).chain(incident.states.last().map(|last| &last.time)) {
        assert!(of(&incident.detected) <= of(at) && of(at) <= of(&incident.last_seen), "{incident:?}");
    }
    assert_eq!(incident.closed.is_some(), incident.state == State::Closed);
    assert!(incident.course.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
    assert!(incident.affected.iter().all(|name| !incident.unaffected.contains(name)));
    assert!(incident.peak.ratio <= 1.0 && incident.objective.minutes_beyond >= 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn states_go_along_their_edges_and_times_never_back(chances in vec(chances(), 1..60)) {
        let thresholds = Thresholds { eases_after_ms: 5_000, closes_after_ms: 60_000, ..Thresholds::default() };
        let mut host = Host::new(thresholds);
        let mut before: BTreeMap<String, Vec<State>> = BTreeMap::new();
        for chance in chances {
            match chance {
                Chance::Loss(seconds, losses, verdict) => host.seconds(seconds, &losses, verdict),
                Chance::Blind(seconds) => host.blind(seconds),
                Chance::Restart(seconds) => host.restart(seconds),
                Chance::ClockSet(seconds) => host.wall += SignedDuration::from_secs(seconds),
            }
            let parties: std::collections::BTreeSet<_> = host.incidents.open().map(|open| open.party).collect();
            prop_assert_eq!(parties.len(), host.incidents.open().count(), "one of each party");
            let ids: std::collections::BTreeSet<_> = host.incidents.iter().map(|one| &one.id).collect();
            prop_assert_eq!(ids.len(), host.incidents.iter().count());
            for incident in host.incidents.iter() {
                is_sound(incident);
                let known = before.insert(incident.id.clone(), states(incident)).unwrap_or_default();
                let is_thinned_out = incident.changes_left_out > 0;
                prop_assert!(is_thinned_out || states(incident).starts_with(&known), "what was said stays");
            }
        }
    }
}
