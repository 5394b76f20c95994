//! Which interfaces lead out of this node, as the agent would find them.

use std::collections::BTreeMap;

use super::{Check, Status};
use crate::{
    collect::{links::Link, routes::Routes},
    config::Config,
    topology::{self, Place, Role},
};

/// The part of every interface by index, and what is to be said of it all.
pub(super) fn of(links: &[Link], selected: &[&Link], config: &Config) -> (BTreeMap<u32, Place>, Vec<Check>) {
    let links: BTreeMap<u32, Link> = links.iter().map(|link| (link.ifindex, link.clone())).collect();
    let mut routes = Routes::default();
    let asked = routes.ask(&topology::asked_for_routes(&links, &config.roles));
    let places = topology::resolve(&links, routes.known(), &config.roles);
    let names = |is_meant: &dyn Fn(&Place) -> bool| -> Vec<&str> {
        let meant = selected.iter().filter(|link| places.get(&link.ifindex).is_some_and(is_meant));
        meant.map(|link| link.name.as_str()).collect()
    };
    let uplinks = names(&|place| place.role == Role::Uplink);
    let track_points = names(&|place| !place.track.is_empty());
    let checks = vec![
        match asked {
            Ok(()) if config.roles.names_uplinks() => Check::ok("routes", "not asked for: --uplink names the uplinks"),
            Ok(()) => Check::ok("routes", format!("{} interfaces carry routes", routes.known().len())),
            Err(error) => Check::new("routes", Status::Unknown, format!("{error:#}"))
                .without("uplinks may be missing", "name them by --uplink"),
        },
        listed("uplinks", &uplinks).unwrap_or_else(|| {
            Check::new("uplinks", Status::Warning, "none among the selected interfaces")
                .without("no node totals, and no zero series of malformed frames", "name them by --uplink")
        }),
        listed("track_points", &track_points).unwrap_or_else(|| Check::ok("track_points", "none")),
    ];
    (places, checks)
}

fn listed(name: &str, interfaces: &[&str]) -> Option<Check> {
    (!interfaces.is_empty()).then(|| Check::ok(name, interfaces.join(", ")))
}
