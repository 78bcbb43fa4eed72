//! Licences and banned crates of everything that is linked.

use std::collections::BTreeSet;

use mloop_tests::{metadata, rules};

/// Whether one of the alternatives of an SPDX expression is allowed as a whole. Written for the
/// forms that occur: `A OR B`, `A AND B`, `(A OR B) AND C`, `A/B`.
fn acceptable(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    split(&expression, " AND ").iter().all(|part| {
        let part = part.trim();
        let inner = part.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
        match inner {
            Some(inner) => acceptable(inner, allowed),
            None => split(part, " OR ").iter().any(|licence| {
                let licence = licence.trim();
                allowed.contains(licence)
                    || (licence.starts_with('(') && acceptable(licence, allowed))
            }),
        }
    })
}

/// Splits at a separator outside parentheses.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (vec![], 0usize, 0usize);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && text[index..].starts_with(separator) && index >= start => {
                parts.push(&text[start..index]);
                start = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Zlib".to_owned()]);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Zlib"] {
        assert!(acceptable(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-3.0) AND MIT"] {
        assert!(!acceptable(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed_and_no_banned_crate_came_in() {
    let (metadata, rules) = (metadata(), rules());
    let mut wrong = vec![];
    for package in &metadata.packages {
        if let Some(reason) = rules.banned.get(package.name.as_str()) {
            wrong.push(format!("{} is banned: {reason}", package.name));
        }
        let fine = match (&package.license, &package.license_file) {
            (Some(expression), _) => acceptable(expression, &rules.licences.allowed),
            // No expression: the text itself was read.
            (None, _) => rules.licences.read.contains(package.name.as_str()),
        };
        if !fine {
            wrong.push(format!("{} {}: {:?}", package.name, package.version, package.license));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
