//! What is counted, in the text format of OpenMetrics, which Prometheus reads.
//!
//! By `prometheus-client`, the project's own library: five small crates, and no server or exporter thread of its own. Labels
//! come from fixed tables alone, so that nobody outside can make the counters grow.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The type of the format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    problem: &'static str,
}

/// The counters of one node.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    refused: Family<Refused, Counter>,
    store_errors: Counter,
    blob_received: Counter,
    blob_sent: Counter,
    lease_valid: Gauge,
    lease_age: Gauge<f64, AtomicU64>,
    connections: Gauge,
    tasks: Gauge,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("unibus");
        let (answered, refused) = (Family::default(), Family::default());
        let (store_errors, lease_valid, connections) = (Counter::default(), Gauge::default(), Gauge::default());
        let (lease_age, tasks) = (Gauge::<f64, AtomicU64>::default(), Gauge::default());
        registry.register("api_requests", "Requests of the API by route, method and status", answered.clone());
        registry.register("api_refusals", "Refused requests of the API by type of problem", refused.clone());
        registry.register("store_errors", "Requests that failed because of the store", store_errors.clone());
        let (blob_received, blob_sent) = (Counter::default(), Counter::default());
        let (taken, given) = ("Bytes of attachments that were uploaded", "Bytes of attachments that were handed out");
        registry.register_with_unit("blob_received", taken, Unit::Bytes, blob_received.clone());
        registry.register_with_unit("blob_sent", given, Unit::Bytes, blob_sent.clone());
        registry.register("lease_valid", "Whether this node can prove that its view is current", lease_valid.clone());
        let age = "Age of the last proof that the view is current; -1: there was none";
        registry.register_with_unit("lease_age", age, Unit::Seconds, lease_age.clone());
        registry.register("bus_connections", "Connections of clients admitted to the bus", connections.clone());
        registry.register("tasks", "Tasks of the daemon that are not over", tasks.clone());
        Self {
            registry,
            answered,
            refused,
            store_errors,
            blob_received,
            blob_sent,
            lease_valid,
            lease_age,
            connections,
            tasks,
        }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, route: &'static str, method: &'static str, status: u16) {
        self.answered.get_or_create(&Answered { route, method, status }).inc();
    }

    /// Counts a refusal; `store`: the store is the reason.
    pub(super) fn refused(&self, problem: &'static str, store: bool) {
        self.refused.get_or_create(&Refused { problem }).inc();
        if store {
            self.store_errors.inc();
        }
    }

    /// Counts a piece of an upload.
    pub(super) fn blob_received(&self, bytes: usize) {
        self.blob_received.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts a piece of a download.
    pub(super) fn blob_sent(&self, bytes: usize) {
        self.blob_sent.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// All as text, with what is true of the node right now.
    pub(super) fn text(
        &self,
        lease_valid: bool,
        lease_age: Option<Duration>,
        connections: usize,
        tasks: usize,
    ) -> String {
        self.lease_valid.set(i64::from(lease_valid));
        self.lease_age.set(lease_age.map_or(-1.0, |age| age.as_secs_f64()));
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a String never fails.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_by_their_labels() {
        let metrics = Metrics::new();
        metrics.answered("/v1/users/{handle}", "GET", 404);
        metrics.answered("/v1/users/{handle}", "GET", 404);
        metrics.refused("nonce-unknown", true);
        let text = metrics.text(true, Some(Duration::from_millis(1_500)), 3, 40);
        for line in [
            "unibus_api_requests_total{route=\"/v1/users/{handle}\",method=\"GET\",status=\"404\"} 2",
            "unibus_api_refusals_total{problem=\"nonce-unknown\"} 1",
            "unibus_store_errors_total 1",
            "unibus_lease_valid 1",
            "unibus_lease_age_seconds 1.5",
            "unibus_bus_connections 3",
            "unibus_tasks 40",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(metrics.text(false, None, 0, 0).contains("unibus_lease_age_seconds -1.0"));
    }
}
