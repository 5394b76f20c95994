//! Several incidents and one objective.

use super::*;

#[test]
fn a_second_is_used_once() {
    let mut host = Host::new(Thresholds::default());
    let both = [(Kind::NetworkIn, 0.05), (Kind::LocalTx, 0.05)];
    host.seconds(120, &both, Name::Mixed);
    let beyond: Vec<_> = host.incidents.open().map(|incident| incident.objective.minutes_beyond).collect();
    assert_eq!(beyond.len(), 2);
    assert!(beyond.iter().all(|minutes| (*minutes - 2.0).abs() < 0.1), "{beyond:?}");
    for incident in host.incidents.open() {
        assert!((incident.objective.minutes_used - 2.0).abs() < 0.1, "{:?}", incident.objective);
    }
    // A later one finds it used.
    host.seconds(3_600, &[], Name::None);
    host.seconds(60, &[(Kind::NetworkIn, 0.05)], Name::NetworkIn);
    let objective = host.incidents.open().next().unwrap().objective;
    assert!(
        (objective.minutes_beyond - 1.0).abs() < 0.1 && (objective.minutes_used - 3.0).abs() < 0.4,
        "{objective:?}"
    );
}
