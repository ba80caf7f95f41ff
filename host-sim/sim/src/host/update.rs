//! Configuration updates while requests are in flight.

use super::Host;
use host_sim_bootstrap::{Configuration, ConfigurationKind, PluginConfig};
use host_sim_engine::{StartError, Worker};

impl Host {
    /// Gives every filter and service whose plugin has that name a new configuration, as a
    /// `StringValue`, as Envoy does when it discovers one: the canary first, then every thread.
    /// Requests in flight go on with the plugin as it was when they began.
    ///
    /// # Errors
    /// When there is no such plugin, or it refuses the configuration. Nothing has changed then.
    pub fn update_plugin(&mut self, name: &str, configuration: &str) -> Result<(), StartError> {
        let bytes = configuration.as_bytes().to_vec();
        self.change_plugin(name, |config| {
            config.configuration =
                Configuration { bytes: bytes.clone(), kind: ConfigurationKind::String };
        })
    }

    /// As [`Host::update_plugin`], of anything: module, `vm_id`, failure policy.
    ///
    /// # Errors
    /// As [`Host::update_plugin`]; also when a new module cannot be loaded.
    pub fn change_plugin(
        &mut self,
        name: &str,
        change: impl Fn(&mut PluginConfig),
    ) -> Result<(), StartError> {
        self.engine.update_plugin(name, change)?;
        self.take_posts();
        Ok(())
    }

    /// Notices files of discovered configurations that were replaced (`config_discovery` with a
    /// `path_config_source`); nothing does so by itself here. What came of it is in the counters
    /// `extension_config_discovery.http_filter.<name>.*` and in the log.
    pub fn poll_config_files(&mut self) {
        self.engine.poll_discovery();
        self.take_posts();
    }

    /// Every thread's turn: the main thread first, which also waits for the others.
    fn take_posts(&mut self) {
        let main = self.workers.len() - 1;
        for worker in [main].into_iter().chain(0..=main) {
            Worker::on_deadline(&mut self.workers[worker]);
            self.drain(worker);
        }
    }
}
