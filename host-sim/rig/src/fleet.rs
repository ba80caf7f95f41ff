//! Several endpoints that differ in little.

use std::net::SocketAddr;
use std::time::Duration;

use crate::endpoint::{Counters, Endpoint, EndpointOptions};

/// The endpoints of one cluster, in order.
///
/// ```
/// use host_sim_rig::endpoint::EndpointOptions;
/// use host_sim_rig::fleet::Fleet;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// // e1, e2, e3; the last is half as fast.
/// let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
/// fleet.endpoints()[2].set_slow_factor(2.0);
/// assert_eq!(fleet.addresses().len(), 3);
/// # anyhow::Ok(())
/// # })?;
/// # anyhow::Ok(())
/// ```
#[derive(Debug)]
pub struct Fleet {
    endpoints: Vec<Endpoint>,
}

impl Fleet {
    /// Starts `count` endpoints. Each is `options` with its number, from 1, added to the name,
    /// and to the port unless the kernel picks it.
    pub async fn start(options: &EndpointOptions, count: usize) -> anyhow::Result<Self> {
        let mut endpoints = Vec::with_capacity(count);
        for index in 0..count {
            let mut options = options.clone();
            options.name = format!("{}{}", options.name, index + 1);
            if options.address.port() != 0 {
                let port = usize::from(options.address.port()) + index;
                options.address.set_port(u16::try_from(port)?);
            }
            endpoints.push(Endpoint::start(options).await?);
        }
        Ok(Self { endpoints })
    }

    /// The endpoints, in order.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where they listen, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(Endpoint::address).collect()
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name() == name)
    }

    /// Their counters, in order.
    pub fn counters(&self) -> Vec<Counters> {
        self.endpoints.iter().map(Endpoint::counters).collect()
    }

    /// All health polls as (name, time since that endpoint started).
    pub fn health_polls(&self) -> Vec<(&str, Duration)> {
        self.endpoints
            .iter()
            .flat_map(|e| e.health_polls().into_iter().map(|poll| (e.name(), poll.at)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[tokio::test]
    async fn every_endpoint_answers_under_its_own_name() {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await.unwrap();
        for (endpoint, name) in fleet.endpoints().iter().zip(["e1", "e2", "e3"]) {
            let response = Client::new().get(&endpoint.url("/")).await.unwrap();
            assert_eq!(response.header("x-endpoint"), Some(name));
            assert_eq!(fleet.named(name).unwrap().address(), endpoint.address());
        }
        assert!(fleet.counters().iter().all(|counters| counters.served == 1));
    }
}
