//! `deny.toml` says what the tests over `cargo metadata` hold.

use std::collections::{BTreeMap, BTreeSet};

use mloop_tests::{root, rules};
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[test]
fn deny_toml_has_the_licences_and_bans_of_the_tests() {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let deny: Deny = toml::from_str(&text).expect("it is TOML");
    let rules = rules();
    assert_eq!(deny.licenses.allow, rules.licences.allowed);
    let banned: BTreeMap<String, String> =
        deny.bans.deny.into_iter().map(|ban| (ban.name, ban.reason)).collect();
    assert_eq!(banned, rules.banned);
}
