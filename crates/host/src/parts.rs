//! What a node's swarm is made of, and the events of it that the node acts on.

use std::convert::Infallible;

use libp2p::{
    autonat, dcutr, identify, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::limits::Limiter;
use libp2p_smart_record::behaviour::{Behaviour, Event};
use smart_record_services::Dialer;

#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "HostEvent")]
pub(super) struct HostBehaviour {
    /// First, so that what it denies costs the others nothing.
    pub(super) limits: Limiter,
    pub(super) records: Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) dialer: Toggle<Dialer>,
    pub(super) autonat: Toggle<autonat::Behaviour>,
    pub(super) relay: Toggle<relay::Behaviour>,
    pub(super) relayed: relay::client::Behaviour,
    pub(super) hole_punching: dcutr::Behaviour,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for a moment")]
pub(super) enum HostEvent {
    Records(Event),
    Identify(identify::Event),
    Autonat(autonat::Event),
    HolePunching(dcutr::Event),
    /// Nothing is done about it.
    Ignored,
}

impl From<Event> for HostEvent {
    fn from(event: Event) -> Self {
        Self::Records(event)
    }
}

impl From<identify::Event> for HostEvent {
    fn from(event: identify::Event) -> Self {
        Self::Identify(event)
    }
}

impl From<autonat::Event> for HostEvent {
    fn from(event: autonat::Event) -> Self {
        Self::Autonat(event)
    }
}

impl From<ping::Event> for HostEvent {
    fn from(_: ping::Event) -> Self {
        Self::Ignored
    }
}

impl From<relay::Event> for HostEvent {
    fn from(event: relay::Event) -> Self {
        tracing::debug!(?event, "as a relay");
        Self::Ignored
    }
}

impl From<relay::client::Event> for HostEvent {
    fn from(event: relay::client::Event) -> Self {
        tracing::debug!(?event, "through a relay");
        Self::Ignored
    }
}

impl From<dcutr::Event> for HostEvent {
    fn from(event: dcutr::Event) -> Self {
        tracing::debug!(?event, "hole punching");
        Self::HolePunching(event)
    }
}

impl From<Infallible> for HostEvent {
    fn from(event: Infallible) -> Self {
        match event {}
    }
}
