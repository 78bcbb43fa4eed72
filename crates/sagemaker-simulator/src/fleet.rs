//! What answers behind an endpoint: the server's own crate, once for each variant.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mloop_http::{BaseUrl, Method, Request};
use mloop_serving::{Server, Settings};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::capture;
use crate::storage::unpack;
use crate::world::World;

/// Pause between two looks at `/ping`.
const PING_EVERY: Duration = Duration::from_millis(20);

/// The variants of one endpoint configuration, each with a server that has loaded its model.
pub(crate) struct Fleet {
    variants: Vec<Variant>,
    asked: AtomicUsize,
    /// None where the configuration captures nothing.
    pub(crate) capture: Option<capture::Plan>,
}

/// A server; told to drain when dropped. Requests in flight keep it until they are answered.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) url: BaseUrl,
    weight: usize,
    _stop: oneshot::Sender<()>,
    _folder: Arc<TempDir>,
}

impl Fleet {
    /// Starts a server for each variant of a configuration, and waits until all answer.
    ///
    /// # Errors
    /// A `FailureReason`.
    pub(crate) async fn start(world: &World, config: &str) -> Result<Self, String> {
        let wanted = containers(world, config)?;
        let mut variants = vec![];
        for (variant, weight, artifact) in wanted {
            variants.push(Variant::start(world, variant, weight, &artifact).await?);
        }
        let capture = {
            let resources = world.resources();
            resources.configs.get(config).and_then(|made| capture::Plan::of(&made.request))
        };
        Ok(Self { variants, asked: AtomicUsize::new(0), capture })
    }

    /// The variant that answers the next request, in turns by weight; or the named one.
    pub(crate) fn next(&self, target: Option<&str>) -> Option<&Variant> {
        if let Some(name) = target {
            return self.variants.iter().find(|variant| variant.name == name);
        }
        let all: usize = self.variants.iter().map(|variant| variant.weight).sum();
        let mut place = self.asked.fetch_add(1, Ordering::Relaxed) % all.max(1);
        self.variants.iter().find(|variant| {
            let here = place < variant.weight;
            place = place.saturating_sub(variant.weight);
            here
        })
    }
}

/// Name, weight in hundredths and artifact of each variant.
fn containers(world: &World, config: &str) -> Result<Vec<(String, usize, String)>, String> {
    let resources = world.resources();
    let gone = |what: &str| format!("{what} was deleted");
    let made = resources.configs.get(config).ok_or_else(|| gone(config))?;
    let variants = made.request["ProductionVariants"].as_array().cloned().unwrap_or_default();
    let container = |variant: &Value| {
        let model = variant["ModelName"].as_str().unwrap_or_default();
        let made = resources.models.get(model).ok_or_else(|| gone(model))?;
        let url = made.request["PrimaryContainer"]["ModelDataUrl"].as_str();
        let url = url.ok_or_else(|| format!("model {model} has no ModelDataUrl"))?;
        let name = variant["VariantName"].as_str().unwrap_or_default();
        let weight = variant["InitialVariantWeight"].as_f64().unwrap_or(1.0) * 100.0;
        Ok((name.to_owned(), weight as usize, url.to_owned()))
    };
    variants.iter().map(container).collect()
}

impl Variant {
    async fn start(
        world: &World,
        name: String,
        weight: usize,
        artifact: &str,
    ) -> Result<Self, String> {
        let folder = Arc::new(TempDir::new().map_err(|error| error.to_string())?);
        let archive = folder.path().join("model.tar.gz");
        world.storage.fetch(artifact, &archive).await?;
        let model = folder.path().join("model");
        let (from, to) = (archive.clone(), model.clone());
        let unpacked = tokio::task::spawn_blocking(move || unpack(&from, &to)).await;
        unpacked.map_err(|error| error.to_string())??;
        let (url, stop) = serve(world, &model, Arc::clone(&folder)).await?;
        let variant = Self { name, url, weight, _stop: stop, _folder: folder };
        variant.wait_until_healthy(world).await?;
        Ok(variant)
    }

    async fn wait_until_healthy(&self, world: &World) -> Result<(), String> {
        let end = Instant::now() + world.settings.health_timeout;
        let ping = Request::new(Method::Get, &self.url, &["ping"]);
        loop {
            let answer = world.http.send(&ping).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!(
                    "The primary container for production variant {} did not pass the ping health \
                     check. Please check CloudWatch logs for this endpoint.",
                    self.name
                ));
            }
            tokio::time::sleep(PING_EVERY).await;
        }
    }
}

/// Serves a folder as a container would; it drains when the sender is dropped. The folder is kept
/// until then.
async fn serve(
    world: &World,
    model: &Path,
    folder: Arc<TempDir>,
) -> Result<(BaseUrl, oneshot::Sender<()>), String> {
    let loopback = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let settings = Settings {
        listen: loopback,
        admin: loopback,
        model: Some(model.to_path_buf()),
        ..Settings::new()
    };
    let render = Arc::new(mloop_prometheus::encode);
    let server = Server::bind(settings, Arc::clone(&world.clock), render).await;
    let server = server.map_err(|error| mloop_core::error_chain(&error))?;
    let url = format!("http://{}", server.addresses().listen);
    let url = url.parse::<BaseUrl>().map_err(|error| error.to_string())?;
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        server.serve(async { drop(stopped.await) }).await;
        drop(folder);
    });
    Ok((url, stop))
}
