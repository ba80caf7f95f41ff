//! `upstream.*`

use super::{StreamScene, duration, int, message, tls};
use crate::cel::Value;
use crate::stream::Role;
use host_sim_bootstrap::Endpoint;

impl StreamScene<'_> {
    pub(super) fn upstream(&self, name: &str) -> Option<Value> {
        let info = &self.stream.info;
        match name {
            "address" => Some(Value::text(info.endpoint?.to_string())),
            "port" => Some(int(info.endpoint?.port().into())),
            "local_address" => Some(Value::text(info.upstream_link.as_ref()?.local.to_string())),
            "locality" => {
                info.endpoint?;
                let place = self.configured_endpoint().map(|endpoint| &endpoint.locality);
                Some(message::locality(&place.cloned().unwrap_or_default()))
            }
            // Empty as long as nothing has failed.
            "transport_failure_reason" => match &info.transport_failure {
                Some(reason) => Some(Value::text(reason)),
                None => info.endpoint.map(|_| Value::text("")),
            },
            "cx_pool_ready_duration" => {
                Some(duration(info.upstream_ready?.since(info.upstream_first_tx?)))
            }
            "request_attempt_count" => Some(Value::Uint(self.attempts().into())),
            "num_endpoints" => {
                info.cluster.as_ref().map(|cluster| Value::Uint(cluster.endpoint_count() as u64))
            }
            name => tls::attribute(info.upstream_link.as_ref()?.tls.as_deref()?, name),
        }
    }

    /// The chosen endpoint as the file has it.
    pub(super) fn configured_endpoint(&self) -> Option<&Endpoint> {
        let info = &self.stream.info;
        let (cluster, chosen) = (info.cluster.as_ref()?, info.endpoint?);
        let endpoints = cluster.config().endpoints.iter();
        endpoints.into_iter().find(|endpoint| endpoint.address.to_socket_addr() == Some(chosen))
    }

    fn attempts(&self) -> u32 {
        match &self.stream.role {
            Role::Attempt(attempt) => attempt.number,
            _ => self.stream.info.attempts,
        }
    }
}
