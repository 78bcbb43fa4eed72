//! Groups side by side, against what they may differ by.

use mloop_core::Finding;
use mloop_core::counts::OutcomeCounts;
use mloop_core::schema::{GroupSchema, MISSING_GROUP, OTHER_GROUP};
use mloop_reporter::Judged;
use mloop_stats::interval::wilson;

use super::draw::{Scale, WIDTH, chip, cut, dot, escape, figure, line, rect, text};
use super::section_of;
use crate::rank::{measured, ranked};
use crate::words::{count, percent};

/// Groups that are drawn; of more, those with the highest and lowest rates.
const SHOWN: usize = 14;

/// Confidence of each group's interval, by itself.
const CONFIDENCE: f64 = 0.95;

/// A rate: events and trials.
type Rate = fn(&OutcomeCounts, Option<usize>) -> (u64, u64);

struct Group {
    name: String,
    rate: f64,
    interval: [f64; 2],
    trials: u64,
}

/// The section, empty where no groups were compared.
pub(crate) fn section(judged: &Judged) -> String {
    let compared =
        ranked(judged.report.findings.iter().filter(|one| one.check == "group_difference"));
    let (mut shown, mut folded) = (String::new(), String::new());
    let (mut open, mut rest) = (0, 0);
    for finding in compared {
        let card = card(judged, finding);
        if finding.is_alerting() || open < 2 {
            shown.push_str(&card);
            open += 1;
        } else {
            folded.push_str(&card);
            rest += 1;
        }
    }
    if open == 0 {
        return String::new();
    }
    let more = match rest {
        0 => String::new(),
        n => format!(
            "<details><summary>{n} more comparisons</summary><div class=\"grid\">{folded}</div></details>"
        ),
    };
    let body = format!(
        "<p class=\"small soft\">Each group with its 95 % interval. <span class=\"key f\"></span>Where all groups \
         lie if they differ by no more than is tolerated.</p><div class=\"grid\">{shown}</div>{more}"
    );
    section_of("Groups", &body)
}

fn card(judged: &Judged, finding: &Finding) -> String {
    let about = finding.group.as_deref().unwrap_or_default();
    let name = about.split(": ").next().unwrap_or(about);
    let schemas = judged.evidence.schema.groups.iter().enumerate();
    let found = schemas.into_iter().find(|(_, schema)| schema.name() == name);
    let figures: String = found.map_or(String::new(), |(place, schema)| {
        let rates = rates_of(&finding.method);
        let sides: Vec<Vec<Group>> =
            rates.iter().map(|(_, rate)| groups(judged, finding, (place, schema), *rate)).collect();
        // The settings may name other positive classes than the schema: then these are other rates.
        if !sides.iter().any(|groups| agrees(finding, groups)) {
            return String::new();
        }
        let drawn = |((words, _), groups): (&(&str, Rate), Vec<Group>)| {
            drawing(finding, schema, words, groups)
        };
        rates.iter().zip(sides).map(drawn).collect()
    });
    let hot = if finding.is_alerting() { " hot" } else { "" };
    format!(
        "<article class=\"card{hot}\"><div class=\"head\"><h3>{}</h3>{}</div><p class=\"small\">{}</p>{figures}</article>",
        escape(about),
        chip(finding.status),
        escape(&measured(finding))
    )
}

/// What a comparison is about: its rates, with their names.
fn rates_of(method: &str) -> &'static [(&'static str, Rate)] {
    const TRUE: (&str, Rate) = ("positive rows predicted so", true_positive);
    const FALSE: (&str, Rate) = ("negative rows predicted positive", false_positive);
    let stem = method.trim_end_matches("_difference").trim_end_matches("_ratio");
    match stem {
        "demographic_parity" => &[("rows predicted positive", selection)],
        "accuracy" => &[("rows predicted right", accuracy)],
        "equal_opportunity" => &[TRUE],
        "equalized_odds" => &[TRUE, FALSE],
        "false_positive_rate" => &[FALSE],
        "false_negative_rate" => &[("positive rows predicted negative", false_negative)],
        "predictive_parity" => &[("rows predicted positive that are", precision)],
        _ => &[],
    }
}

fn needs_labels(method: &str) -> bool {
    !method.starts_with("demographic_parity")
}

fn drawing(finding: &Finding, schema: &GroupSchema, words: &str, mut groups: Vec<Group>) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let band = band(finding, &groups);
    groups.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    if groups.len() > SHOWN {
        groups.drain(SHOWN / 2..groups.len() - SHOWN / 2);
    }
    const ROW: f64 = 22.0;
    let (from, to) = (126.0, 300.0);
    let ends = groups.iter().flat_map(|group| group.interval).chain(band);
    let (low, high) = ends.fold((1.0f64, 0.0f64), |(low, high), end| (low.min(end), high.max(end)));
    let (low, high) = ((low - 0.02).max(0.0), (high + 0.02).min(1.0));
    let scale = Scale::new([low, high], [from, to]);
    let floor = groups.len() as f64 * ROW + 4.0;
    let [least, most] = band.map(|end| scale.at(end));
    let mut body = rect("fine", [least, 0.0], [most - least, floor]);
    body.push_str(&line("axis", [from, floor], [to, floor]));
    for (index, group) in groups.iter().enumerate() {
        let y = index as f64 * ROW + 13.0;
        let [start, end] = group.interval.map(|end| scale.at(end));
        let is_beyond = group.rate < band[0] - 1e-9 || group.rate > band[1] + 1e-9;
        body.push_str(
            &format_args!(
                "<g><title>{}: {} of {} rows</title>",
                escape(&group.name),
                percent(group.rate),
                count(group.trials)
            )
            .to_string(),
        );
        body.push_str(&text(0.0, y + 4.0, "start", &cut(&group.name, 20)));
        body.push_str(&rect("span", [start, y - 3.0], [(end - start).max(2.0), 6.0]));
        body.push_str(&dot(is_beyond && finding.is_alerting(), scale.at(group.rate), y));
        body.push_str(&text(WIDTH, y + 4.0, "end", &percent(group.rate)));
        body.push_str("</g>");
    }
    body.push_str(&text(from, floor + 14.0, "start", &percent(low)));
    body.push_str(&text(to, floor + 14.0, "end", &percent(high)));
    let told: Vec<String> =
        groups.iter().map(|one| format!("{} {}", one.name, percent(one.rate))).collect();
    let label = format!("Share of {words} by {}: {}", schema.name(), told.join(", "));
    format!(
        "<figure>{}<figcaption>Share of {words}</figcaption></figure>",
        figure(floor + 18.0, &label, &body)
    )
}

/// Rates of the groups that have rows.
fn groups(
    judged: &Judged,
    finding: &Finding,
    (place, schema): (usize, &GroupSchema),
    rate: Rate,
) -> Vec<Group> {
    let evidence = &judged.evidence;
    let profile =
        if needs_labels(&finding.method) { evidence.labelled() } else { &evidence.current };
    let positive = evidence.schema.outcomes().positive;
    let Some(counts) = profile.groups.get(place) else { return vec![] };
    let known = counts.values.iter().map(|(index, counts)| (schema.value(*index), counts));
    let others = [(OTHER_GROUP, &counts.other), (MISSING_GROUP, &counts.missing)];
    let others =
        others.into_iter().filter_map(|(name, counts)| Some((name.to_owned(), counts.as_ref()?)));
    let of = |(name, counts): (String, &OutcomeCounts)| {
        let (events, trials) = rate(counts, positive);
        let interval = wilson(events, trials, CONFIDENCE)?.ends();
        Some(Group { name, rate: events as f64 / trials as f64, interval, trials })
    };
    known.chain(others).filter_map(of).collect()
}

/// Rates of the two groups that the finding names; of all, where it names none.
fn ends(finding: &Finding, groups: &[Group]) -> [f64; 2] {
    let names = finding.group.as_deref().unwrap_or_default();
    let pair = names.split_once(": ").map(|(_, pair)| pair.split(" / "));
    let named: Vec<&str> = pair.into_iter().flatten().collect();
    let is_named = |group: &&Group| named.contains(&group.name.as_str());
    let has_any = groups.iter().any(|group| is_named(&group));
    let rates = groups.iter().filter(|group| !has_any || is_named(group)).map(|group| group.rate);
    let [low, high] = rates.fold([1.0f64, 0.0f64], |[l, h], rate| [l.min(rate), h.max(rate)]);
    [low, high]
}

/// Whether the rates are those that the finding is of.
fn agrees(finding: &Finding, groups: &[Group]) -> bool {
    let Some(value) = finding.value else { return true };
    let [low, high] = ends(finding, groups);
    let gap = if finding.method.ends_with("_ratio") { low / high } else { high - low };
    (gap - value).abs() < 1e-6
}

/// The range that holds all groups when they differ by no more than the bound: around the middle of the
/// two groups that the finding names, for ratios below the higher one.
fn band(finding: &Finding, groups: &[Group]) -> [f64; 2] {
    let [low, high] = ends(finding, groups);
    let bound = finding.threshold.unwrap_or_default();
    if finding.method.ends_with("_ratio") {
        return [high * bound, high];
    }
    let middle = f64::midpoint(low, high);
    [(middle - bound / 2.0).max(0.0), (middle + bound / 2.0).min(1.0)]
}

fn selection(counts: &OutcomeCounts, positive: Option<usize>) -> (u64, u64) {
    let predicted = counts.confusion.predicted();
    let chosen = positive.and_then(|class| predicted.get(class)).copied().unwrap_or(0);
    (chosen, if positive.is_some() { predicted.iter().sum() } else { 0 })
}

fn accuracy(counts: &OutcomeCounts, _positive: Option<usize>) -> (u64, u64) {
    let labelled = counts.confusion.labelled.iter().enumerate();
    let hits = labelled.filter_map(|(class, row)| row.get(class)).sum();
    (hits, counts.confusion.labelled_rows())
}

/// Rows predicted as positive, of the labelled ones that are or are not positive.
fn among(counts: &OutcomeCounts, positive: Option<usize>, are_positive: bool) -> (u64, u64) {
    let Some(positive) = positive else { return (0, 0) };
    let rows = counts.confusion.labelled.iter().enumerate();
    let rows = rows.filter(|(truth, _)| (*truth == positive) == are_positive);
    rows.fold((0, 0), |(events, trials), (_, row)| {
        (events + row.get(positive).copied().unwrap_or(0), trials + row.iter().sum::<u64>())
    })
}

fn true_positive(counts: &OutcomeCounts, positive: Option<usize>) -> (u64, u64) {
    among(counts, positive, true)
}

fn false_positive(counts: &OutcomeCounts, positive: Option<usize>) -> (u64, u64) {
    among(counts, positive, false)
}

fn false_negative(counts: &OutcomeCounts, positive: Option<usize>) -> (u64, u64) {
    let (hits, rows) = among(counts, positive, true);
    (rows - hits, rows)
}

fn precision(counts: &OutcomeCounts, positive: Option<usize>) -> (u64, u64) {
    let (hits, alarms) = (among(counts, positive, true).0, among(counts, positive, false).0);
    (hits, hits + alarms)
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_reporter::conformance::sample_report;

    use super::*;

    fn group(name: &str, rate: f64) -> Group {
        Group { name: name.to_owned(), rate, interval: [rate, rate], trials: 10 }
    }

    #[test]
    fn all_groups_fit_the_band_when_their_difference_is_tolerated() {
        let sample = sample_report(MonitoringOutcome::Ok).findings.remove(0);
        let finding = |method: &str, bound| Finding {
            method: method.to_owned(),
            group: Some("sex: f / m".to_owned()),
            threshold: Some(bound),
            ..sample.clone()
        };
        // A group with few rows is not compared, and so not named.
        let groups = [group("f", 0.5), group("m", 0.3), group("rare", 0.0)];
        let band = |method, bound| super::band(&finding(method, bound), &groups);
        let fits = |[low, high]: [f64; 2]| low <= 0.3 + 1e-12 && high >= 0.5 - 1e-12;
        assert!(fits(band("accuracy_difference", 0.2)));
        assert!(!fits(band("accuracy_difference", 0.19)));
        assert!(fits(band("demographic_parity_ratio", 0.6)));
        assert!(!fits(band("demographic_parity_ratio", 0.61)));
        let of = |value| Finding { value: Some(value), ..finding("accuracy_difference", 0.1) };
        assert!(agrees(&of(0.2), &groups) && !agrees(&of(0.21), &groups));
    }

    #[test]
    fn rates_are_those_that_the_comparison_is_about() {
        let mut counts =
            OutcomeCounts::new(mloop_core::counts::OutcomeLayout { classes: 2, positive: Some(1) });
        counts.confusion.labelled = vec![vec![50, 10], vec![5, 15]];
        counts.confusion.unlabelled = vec![10, 10];
        let rates = |method: &str| -> Vec<(u64, u64)> {
            rates_of(method).iter().map(|(_, rate)| rate(&counts, Some(1))).collect()
        };
        assert_eq!(rates("demographic_parity_ratio"), [(35, 100)]);
        assert_eq!(rates("accuracy_difference"), [(65, 80)]);
        assert_eq!(rates("equalized_odds_difference"), [(15, 20), (10, 60)]);
        assert_eq!(rates("false_negative_rate_difference"), [(5, 20)]);
        assert_eq!(rates("predictive_parity_difference"), [(15, 25)]);
        assert_eq!(rates("calibration_difference"), []);
    }
}
