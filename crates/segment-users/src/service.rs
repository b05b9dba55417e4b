//! The service: every partition's tasks, started, asked and stopped together.

use std::sync::Arc;

use ports::config_store::MembershipStore;
use ports::log::{Log, LogError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::definitions;
use crate::lane::{self, Lane, until_stopped};
use crate::partition::{Ports, WorkerError};
use crate::settings::Settings;

/// The running service. Dropping it aborts its tasks; [`Service::stop`] lets them finish.
pub struct Service {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) ports: Ports,
    pub(crate) lanes: Vec<Lane>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Service {
    /// Opens every partition and starts its tasks. Returns when all are exactly where they were committed.
    pub async fn start(
        ports: Ports,
        settings: Settings,
        memberships: Arc<dyn MembershipStore>,
    ) -> Result<Self, WorkerError> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut lanes = Vec::new();
        for id in 0..ports.log.partitions() {
            let memberships = memberships.clone();
            lanes.push(lane::start(id, ports.clone(), settings, memberships, stopped.clone(), &mut tasks).await?);
        }
        let log = ports.log.clone();
        tasks.spawn(until_stopped(stopped, "definitions relay", 0, move || definitions::run(log.clone())));
        Ok(Self { log: ports.log.clone(), ports, lanes, stop, tasks })
    }

    /// Stops the tasks: each worker finishes its turn and writes a checkpoint.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Copies new definitions into the partitions now, rather than soon.
    pub async fn relay_definitions(&self) -> Result<(), LogError> {
        definitions::relay(&self.log).await.map(drop)
    }
}
