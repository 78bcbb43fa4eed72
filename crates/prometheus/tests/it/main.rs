//! Metrics and latencies against the service bench's Pushgateway and Prometheus.

mod bench;
mod latency;
mod pushgateway;
