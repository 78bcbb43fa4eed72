//! Takes the cost of a work.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

use crate::Outcome;
use crate::relay::Relay;
use crate::services::{Addresses, Bench};
use crate::works::Work;

/// The medians of some repetitions; the peak is the highest of all.
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Highest resident size of this process while it worked.
    pub(crate) peak_mb: f64,
    /// HTTP requests of one repetition.
    pub(crate) requests: u64,
}

/// Does a work some times at the services themselves, and once more with a relay in between that counts.
pub(crate) async fn measure(work: &Work, bench: &Bench, runs: usize) -> Outcome<Cost> {
    // The first one has the services warm up.
    work.call(&bench.addresses).await?;
    // The kernel's mark of the highest resident size starts anew (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5")?;
    let (mut cpu, mut wall) = (vec![], vec![]);
    for _ in 0..runs {
        let (began, used) = (Instant::now(), ProcessTime::try_now()?);
        work.call(&bench.addresses).await?;
        wall.push(began.elapsed());
        cpu.push(used.try_elapsed()?);
    }
    let peak_mb = peak_mb()?;
    Ok(Cost { cpu: median(cpu), wall: median(wall), peak_mb, requests: count(work, bench).await? })
}

async fn count(work: &Work, bench: &Bench) -> Outcome<u64> {
    let direct = &bench.addresses;
    let mut relays = vec![];
    for address in direct.all() {
        relays.push(Relay::start(address).await?);
    }
    let [mlflow, gateway, airflow, simulator, s3] = &relays[..] else {
        return Err("one relay for each service".into());
    };
    let counted = Addresses {
        mlflow: mlflow.url(),
        gateway: gateway.url(),
        airflow: airflow.url(),
        simulator: simulator.url(),
        s3: s3.url(),
    };
    work.call(&counted).await?;
    Ok(relays.iter().map(Relay::requests).sum())
}

fn peak_mb() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no VmHWM in /proc/self/status")?.parse::<f64>()? * 1024.0 / 1e6)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
