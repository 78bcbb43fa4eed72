//! Latencies of the captured traffic itself.

use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::latency::LatencySpan;
use mloop_platform::{
    BuildError, LatencyRequest, LatencySource, PlatformDeps, PlatformError, Spec,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of kind `window`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowLatencySettings {}

impl Spec<Arc<dyn LatencySource>, PlatformDeps> for WindowLatencySettings {
    const KIND: &'static str = "window";

    fn build(
        self,
        _name: String,
        _deps: &PlatformDeps,
    ) -> Result<Arc<dyn LatencySource>, BuildError> {
        Ok(Arc::new(WindowLatency))
    }
}

/// Takes the latencies that the server wrote beside each captured request, as far as they were counted:
/// what lies within a window cannot be told apart, and what nobody counted is left out.
pub struct WindowLatency;

#[async_trait]
impl LatencySource for WindowLatency {
    async fn latency(&self, request: &LatencyRequest) -> Result<LatencySpan, PlatformError> {
        Ok(request.counted.clone())
    }
}

#[cfg(test)]
mod tests {
    use mloop_platform::conformance::{check_latency_source, latency_request};

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        check_latency_source(&WindowLatency, &latency_request(3), &latency_request(0)).await;
    }
}
