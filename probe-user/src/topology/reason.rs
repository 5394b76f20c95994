//! Why a device has its role, in words.

use super::{Found, Graph, Point, Role, is_bundle, is_switch};
use crate::collect::{links::Link, routes::Carried};

impl Graph<'_> {
    pub(super) fn reason(&self, link: &Link, role: Role, point: Option<&Point>, uplinks_are_named: bool) -> String {
        match (role, point) {
            (_, Some(point)) => self.reason_of_point(link, point),
            (Role::Tunnel, None) => format!("a tunnel ({})", link.kind),
            (Role::Port, None) => format!("port of {}", self.name(link.master)),
            (Role::Uplink | Role::Internal, None) => self.reason_of_internal(link, uplinks_are_named),
        }
    }

    fn reason_of_point(&self, link: &Link, point: &Point) -> String {
        let carries = |what: &str| match point.via.as_slice() {
            [] => format!("carries {what}"),
            via => {
                let names: Vec<_> = via.iter().map(|ifindex| self.name(Some(*ifindex))).collect();
                format!("carries {what} through {}", names.join(" -> "))
            }
        };
        match point.found {
            Found::Named => "named by --uplink".to_owned(),
            Found::Carries(Carried::DefaultRoute) => carries("the default route"),
            Found::Carries(Carried::Route) => carries("a route"),
            Found::CarriesVirtually => carries("the default route") + "; there is no physical device here",
            Found::PhysicalPort if is_bundle(link) => "bundles physical devices".to_owned(),
            Found::PhysicalPort => format!("physical port of {}", self.name(link.master)),
        }
    }

    fn reason_of_internal(&self, link: &Link, uplinks_are_named: bool) -> String {
        if let Some(bundle) = self.master(link).filter(|master| is_bundle(master)) {
            format!("slave of {}", bundle.name)
        } else if link.is_loopback() {
            "the loopback".to_owned()
        } else if link.lower.is_some() {
            format!("above {}", self.name(link.lower))
        } else if link.is_physical() && uplinks_are_named {
            "physical, not named by --uplink".to_owned()
        } else if link.is_physical() && !link.up {
            "physical, but down".to_owned()
        } else if link.is_physical() {
            "physical, but it carries no route and is no port".to_owned()
        } else if is_switch(link) {
            "switches between its ports".to_owned()
        } else {
            "virtual, and no port of a bridge".to_owned()
        }
    }

    fn name(&self, ifindex: Option<u32>) -> &str {
        ifindex.and_then(|ifindex| self.links.get(&ifindex)).map_or("?", |link| &link.name)
    }
}
