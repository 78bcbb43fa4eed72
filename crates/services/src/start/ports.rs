//! Ports that stay free between their choice and their use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use super::random;
use crate::BenchError;

/// Tries before it is given up; nearly every port is free.
const TRIES: usize = 1000;

/// Below, ports are well known.
const LOWEST: u32 = 10_240;

/// Chooses a free loopback port for each name.
///
/// A slow service binds its port half a minute after this. Until then the system must not give it
/// to a connection or to a test that binds port 0, so it comes from below the range that the system
/// takes those from.
pub(super) fn choose<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<&'a str, u16>, BenchError> {
    let above = lowest_ephemeral().max(LOWEST + 1);
    let mut taken = BTreeSet::new();
    let mut chosen = BTreeMap::new();
    for name in names {
        let port = free(above, &taken)?;
        taken.insert(port);
        chosen.insert(name, port);
    }
    Ok(chosen)
}

fn free(above: u32, taken: &BTreeSet<u16>) -> Result<u16, BenchError> {
    for _ in 0..TRIES {
        let number = u32::from_str_radix(&random(4)?, 16).unwrap_or_default();
        let port = u16::try_from(LOWEST + number % (above - LOWEST)).unwrap_or_default();
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(BenchError::Failed(format!("no free port between {LOWEST} and {above}")))
}

/// The lowest port that the system gives out by itself.
fn lowest_ephemeral() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = text.unwrap_or_default();
    range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_can_be_bound_and_are_not_given_out_by_the_system() {
        let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let chosen = choose(names.iter().map(String::as_str)).expect("ports");
        let ports: BTreeSet<u16> = chosen.values().copied().collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| u32::from(*port) < lowest_ephemeral()), "{ports:?}");
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).expect("free");
        }
    }
}
