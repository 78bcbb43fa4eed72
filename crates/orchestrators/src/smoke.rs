//! Smoke tests: what a staging endpoint must answer before production is touched.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mloop_core::capture::InferenceAnswer;
use mloop_core::evaluation::GoldenCase;
use mloop_deployer::{Answer, Invocation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What smoke tests ask.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmokeConfig {
    /// Largest difference between a probability and the expected one.
    pub probability_tolerance: f64,
    /// The 99th percentile of the latency may be at most so many milliseconds.
    pub latency_p99_millis: f64,
    /// Requests before the measured ones, at most 100,000.
    pub warmup_requests: u32,
    /// Requests whose latency is measured, 1 to 100,000.
    pub latency_requests: u32,
    /// Share of the measured requests that may fail, 0 to 1.
    pub max_error_share: f64,
}

impl Default for SmokeConfig {
    fn default() -> Self {
        Self {
            probability_tolerance: 1e-3,
            latency_p99_millis: 500.0,
            warmup_requests: 10,
            latency_requests: 100,
            max_error_share: 0.0,
        }
    }
}

/// More tell no more of a latency, and staging is asked one after the other.
const MOST_REQUESTS: u32 = 100_000;

impl SmokeConfig {
    /// What is out of range, with its key; none when all is well.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !(self.probability_tolerance >= 0.0 && self.probability_tolerance < 1.0) {
            Some(("probability_tolerance", "must be at least 0 and below 1"))
        } else if self.latency_p99_millis.is_nan() || self.latency_p99_millis <= 0.0 {
            Some(("latency_p99_millis", "must be above 0"))
        } else if !(1..=MOST_REQUESTS).contains(&self.latency_requests) {
            Some(("latency_requests", "must be from 1 to 100000"))
        } else if self.warmup_requests > MOST_REQUESTS {
            Some(("warmup_requests", "must be at most 100000"))
        } else if !(0.0..1.0).contains(&self.max_error_share) {
            Some(("max_error_share", "must be at least 0 and below 1"))
        } else {
            None
        }
    }
}

/// An answer, or why there was none.
pub type Asked = Result<Answer, String>;

/// Everything that was asked and answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observations {
    /// Each golden case with its answer.
    pub golden: Vec<(GoldenCase, Asked)>,
    /// Each bad input by name with its answer.
    pub bad: Vec<(String, Asked)>,
    /// Answers to the measured requests, in order, warm-up excluded.
    pub measured: Vec<Asked>,
}

/// What the smoke tests came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SmokeReport {
    /// Whether every check passed.
    pub passed: bool,
    /// Each check.
    pub checks: Vec<SmokeCheck>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SmokeCheck {
    /// What was checked.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was found, with numbers.
    pub detail: String,
}

impl SmokeReport {
    /// The checks that failed, in one line.
    #[must_use]
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        failed
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect::<Vec<_>>()
            .join("; ")
    }

    pub(crate) fn of(checks: Vec<SmokeCheck>) -> Self {
        Self { passed: checks.iter().all(|check| check.passed), checks }
    }
}

/// Judges the answers: golden cases must be reproduced, bad inputs refused with a status from 400
/// to 499, and the latency and error budgets kept. What was not asked at all fails too.
#[must_use]
pub fn judge(observations: &Observations, config: &SmokeConfig) -> SmokeReport {
    let mut checks: Vec<SmokeCheck> = observations
        .golden
        .iter()
        .map(|(case, asked)| check(format!("golden {}", case.name), golden(case, asked, config)))
        .collect();
    if checks.is_empty() {
        let problem = "the version carries no golden case; register it with some".to_owned();
        checks.push(check("golden".to_owned(), Err(problem)));
    }
    if observations.bad.is_empty() {
        checks.push(check("bad input".to_owned(), Err("none was sent".to_owned())));
    }
    let bad = observations.bad.iter();
    checks.extend(bad.map(|(name, asked)| check(format!("bad input: {name}"), refused(asked))));
    checks.push(check("errors".to_owned(), errors(&observations.measured, config)));
    checks.push(check("latency p99".to_owned(), latency(&observations.measured, config)));
    SmokeReport::of(checks)
}

pub(crate) fn check(name: String, result: Result<String, String>) -> SmokeCheck {
    let passed = result.is_ok();
    SmokeCheck { name, passed, detail: result.unwrap_or_else(|problem| problem) }
}

fn golden(case: &GoldenCase, asked: &Asked, config: &SmokeConfig) -> Result<String, String> {
    let answer = asked.as_ref()?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    let found: InferenceAnswer = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the body is not an inference answer: {error}"))?;
    if found.prediction != case.prediction {
        return Err(format!("`{}` instead of `{}`", found.prediction, case.prediction));
    }
    if found.probabilities.len() != case.probabilities.len() {
        let (found, expected) = (found.probabilities.len(), case.probabilities.len());
        return Err(format!("{found} probabilities instead of {expected}"));
    }
    let pairs = found.probabilities.iter().zip(&case.probabilities);
    let worst = pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, worse);
    let tolerance = config.probability_tolerance;
    let said = format!("`{}`, probabilities within {worst:.2e}", found.prediction);
    if worst <= tolerance { Ok(said) } else { Err(format!("{said}, tolerance {tolerance:.2e}")) }
}

/// The larger of two distances; one that is no number is the largest.
fn worse(left: f64, right: f64) -> f64 {
    if right.is_nan() { f64::INFINITY } else { left.max(right) }
}

fn refused(asked: &Asked) -> Result<String, String> {
    let status = asked.as_ref()?.status;
    let said = format!("status {status}");
    if (400..500).contains(&status) {
        Ok(said)
    } else {
        Err(format!("{said} instead of 400 to 499"))
    }
}

fn errors(measured: &[Asked], config: &SmokeConfig) -> Result<String, String> {
    let good = |asked: &&Asked| matches!(asked, Ok(answer) if answer.status == 200);
    let (n, failed) = (measured.len(), measured.len() - measured.iter().filter(good).count());
    let said = format!("{failed} of {n} requests failed");
    let within = failed as f64 <= config.max_error_share * n as f64;
    if n > 0 && within { Ok(said) } else { Err(said) }
}

fn latency(measured: &[Asked], config: &SmokeConfig) -> Result<String, String> {
    let mut latencies: Vec<Duration> =
        measured.iter().flatten().map(|answer| answer.latency).collect();
    latencies.sort_unstable();
    // Nearest rank: the smallest latency that 99 % of the requests are at or below.
    let rank = (latencies.len() as f64 * 0.99).ceil() as usize;
    let found = latencies.get(rank.saturating_sub(1)).ok_or("nothing was answered")?;
    let millis = found.as_secs_f64() * 1e3;
    let bound = config.latency_p99_millis;
    let said = format!("{millis:.1} ms of {} requests, budget {bound:.1} ms", latencies.len());
    if millis <= bound { Ok(said) } else { Err(said) }
}

/// The request that sends a golden case.
///
/// # Errors
/// When its body is not Base64: the version's files are damaged.
pub fn invocation(case: &GoldenCase) -> Result<Invocation, String> {
    let body = STANDARD
        .decode(&case.body_base64)
        .map_err(|error| format!("the body of the golden case `{}`: {error}", case.name))?;
    Ok(Invocation { content_type: case.content_type.clone(), body, ..Invocation::default() })
}

/// Inputs that no server may take, derived from one that it must take.
#[must_use]
pub fn bad_inputs(sound: &Invocation) -> Vec<(String, Invocation)> {
    let bad = |name: &str, content_type: &str, body: &[u8]| {
        let (content_type, body) = (content_type.to_owned(), body.to_vec());
        (name.to_owned(), Invocation { content_type, body, ..sound.clone() })
    };
    let mut inputs = vec![
        bad("empty body", &sound.content_type, b""),
        bad("unknown content type", "application/x-mloop-unknown", &sound.body),
    ];
    // An image cut in half; one of a byte or two cannot be cut.
    if sound.body.len() > 2 {
        inputs.push(bad(
            "truncated body",
            &sound.content_type,
            &sound.body[..sound.body.len() / 2],
        ));
    }
    inputs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mloop_core::Sha256Digest;

    use super::*;

    fn answer(status: u16, prediction: &str, probabilities: &[f64], millis: u64) -> Asked {
        let said = InferenceAnswer {
            prediction: prediction.to_owned(),
            confidence: 0.9,
            probabilities: probabilities.to_vec(),
            features: BTreeMap::new(),
            attributes: BTreeMap::new(),
            embedding: vec![],
            model_digest: Sha256Digest::of(b"v"),
            latency_micros: 1,
        };
        let body = serde_json::to_vec(&said).expect("json");
        Ok(Answer { status, body, digest: None, latency: Duration::from_millis(millis) })
    }

    fn case() -> GoldenCase {
        GoldenCase {
            name: "one".to_owned(),
            content_type: "image/png".to_owned(),
            body_base64: "AQIDBA==".to_owned(),
            prediction: "a".to_owned(),
            probabilities: vec![0.9, 0.1],
        }
    }

    fn good() -> Observations {
        let sound = || answer(200, "a", &[0.9, 0.1], 5);
        Observations {
            golden: vec![(case(), sound())],
            bad: vec![("empty body".to_owned(), answer(400, "", &[], 1))],
            measured: (0..100).map(|_| sound()).collect(),
        }
    }

    #[test]
    fn good_answers_pass() {
        let report = judge(&good(), &SmokeConfig::default());
        assert!(report.passed, "{}", report.failures());
        assert_eq!(report.checks.len(), 4);
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        let golden = |asked| Observations { golden: vec![(case(), asked)], ..good() };
        let bad = |asked| Observations { bad: vec![("empty".to_owned(), asked)], ..good() };
        let measured = |index: usize, asked: Asked| {
            let mut seen = good();
            seen.measured[index] = asked;
            seen
        };
        let mut slow = good();
        slow.measured[0] = answer(200, "a", &[0.9, 0.1], 900);
        slow.measured[1] = answer(200, "a", &[0.9, 0.1], 900);
        let no_body =
            Ok(Answer { status: 200, body: b"{}".to_vec(), digest: None, latency: Duration::ZERO });
        let table = [
            (golden(answer(200, "b", &[0.9, 0.1], 1)), "`b` instead of `a`"),
            (golden(answer(200, "a", &[0.9, 0.102], 1)), "tolerance"),
            (golden(answer(200, "a", &[0.9], 1)), "1 probabilities instead of 2"),
            (golden(answer(500, "a", &[0.9, 0.1], 1)), "status 500"),
            (golden(no_body), "not an inference answer"),
            (Observations { golden: vec![], ..good() }, "no golden case"),
            (Observations { bad: vec![], ..good() }, "bad input: none was sent"),
            (bad(answer(200, "a", &[], 1)), "status 200 instead of 400"),
            (bad(answer(500, "a", &[], 1)), "status 500 instead of 400"),
            (bad(Err("cut off".to_owned())), "cut off"),
            (measured(0, answer(503, "a", &[], 1)), "1 of 100 requests failed"),
            (measured(0, Err("cut off".to_owned())), "1 of 100 requests failed"),
            (Observations { measured: vec![], ..good() }, "0 of 0 requests failed"),
            (slow, "900.0 ms"),
        ];
        for (seen, expected) in table {
            let report = judge(&seen, &SmokeConfig::default());
            assert!(
                !report.passed && report.failures().contains(expected),
                "{expected}: {report:?}"
            );
        }
    }

    #[test]
    fn budgets_leave_room_for_what_they_allow() {
        let mut seen = good();
        // One slow request of a hundred is beyond the 99th percentile.
        seen.measured[7] = answer(200, "a", &[0.9, 0.1], 900);
        seen.measured[8] = Err("cut off".to_owned());
        let config = SmokeConfig { max_error_share: 0.01, ..SmokeConfig::default() };
        let report = judge(&seen, &config);
        assert_eq!(report.failures(), "latency p99: 900.0 ms of 99 requests, budget 500.0 ms");
        seen.measured[8] = answer(200, "a", &[0.9, 0.1], 5);
        assert!(judge(&seen, &config).passed);
    }

    #[test]
    fn bad_inputs_are_derived_from_a_sound_one() {
        let sound = invocation(&case()).expect("a request");
        assert_eq!(sound.body, [1, 2, 3, 4]);
        let bad = bad_inputs(&sound);
        assert_eq!(bad.len(), 3);
        assert!(bad.iter().all(|(_, input)| *input != sound));
        let damaged = GoldenCase { body_base64: "?".to_owned(), ..case() };
        assert!(invocation(&damaged).expect_err("not Base64").contains("golden case `one`"));
    }
}
