//! `xds.*`

use super::{StreamScene, int, message};
use crate::cel::Value;
use crate::stream::Role;
use host_sim_bootstrap::{Listener, VirtualHost};

impl StreamScene<'_> {
    pub(super) fn xds(&self, name: &str) -> Option<Value> {
        let info = &self.stream.info;
        let cluster = info.cluster.as_ref();
        match name {
            "cluster_name" => cluster.map(|cluster| Value::text(cluster.name())),
            "cluster_metadata" => cluster.map(|c| message::metadata(&c.config().metadata)),
            "route_name" => {
                let (host, at) = self.route()?;
                Some(Value::text(host.routes.get(at).map_or("", |route| &route.name)))
            }
            "route_metadata" => {
                let (host, at) = self.route()?;
                Some(message::metadata(&host.routes.get(at)?.metadata))
            }
            "virtual_host_name" => self.route().map(|(host, _)| Value::text(&host.name)),
            "virtual_host_metadata" => self.route().map(|(h, _)| message::metadata(&h.metadata)),
            "upstream_host_metadata" => {
                info.endpoint?;
                let own = self.configured_endpoint().map(|endpoint| &endpoint.metadata);
                let own = own.filter(|metadata| !metadata.is_empty());
                // Null where an endpoint has none, and null has no encoding.
                Some(own.map_or(Value::Null, message::metadata))
            }
            // A message that is not there, which has no encoding.
            "upstream_host_locality_metadata" => info.endpoint.map(|_| Value::Null),
            "filter_chain_name" => self.listener().map(|l| Value::text(&l.chain_name)),
            "listener_metadata" => self.listener().map(|l| message::metadata(&l.metadata)),
            "listener_direction" => self.listener().map(|l| int(l.direction.into())),
            _ => None,
        }
    }

    fn listener(&self) -> Option<&Listener> {
        let at = match self.exchange.map(|exchange| &exchange.role) {
            Some(Role::Exchange(own)) => own.listener,
            _ => match &self.stream.role {
                Role::Connection(connection) => connection.listener,
                _ => return None,
            },
        };
        self.engine.bootstrap().listeners.get(at)
    }

    fn route(&self) -> Option<(&VirtualHost, usize)> {
        let at = self.exchange?.info.route?;
        let table = &self.listener()?.http()?.route_config;
        Some((table.virtual_hosts.get(at.host)?, at.route))
    }
}
