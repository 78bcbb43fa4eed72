//! Whether the answers were right: measured where labels are in, else estimated.

use mloop_core::counts::{ErrorSums, LOSS_STEP, SCORE_BINS, SCORE_STEP, ScoreBin};
use mloop_core::{Evidence, Profile, ProfileSchema};
use mloop_reporter::Judged;
use mloop_stats::Estimate;
use mloop_stats::classification::{accuracy, balanced_accuracy, by_class, f1_macro};
use mloop_stats::interval::wilson;
use mloop_stats::losses::Sums;
use mloop_stats::ranking::auc;

use super::draw::{Scale, WIDTH, dot, escape, figure, line, path, text};
use super::{lines_of, section_of};
use crate::words::{count, number, percent, span};

/// Confidence of the intervals that are computed here; those of checks have their own.
const CONFIDENCE: f64 = 0.95;

/// Bins of scores in the reliability diagram, and the fewest rows of one that is drawn.
const BINS: usize = 10;
const LEAST_ROWS: u64 = 10;

/// The section.
pub(crate) fn section(judged: &Judged) -> String {
    let evidence = &judged.evidence;
    let labelled = evidence.labelled();
    let rows = labelled.overall.labelled_rows();
    let of_window = judged.report.label_window.as_ref();
    let of_window = of_window.map_or(String::new(), |w| format!(" of the window {}", span(w)));
    let measured = lines_of(judged, |one| one.check.starts_with("performance"));
    let estimated = lines_of(judged, |one| one.check.starts_with("estimated"));
    let estimated = if estimated.is_empty() {
        estimated
    } else {
        format!(
            "<h3>Estimated, not measured</h3><p class=\"small soft\">What scores make one expect of rows without \
             labels. It holds for as long as scores mean what they meant on the reference.</p>{estimated}"
        )
    };
    let body = if rows == 0 {
        format!("<p class=\"soft\">No labels{of_window} have arrived.</p>{measured}{estimated}")
    } else {
        let told = format!("{} rows{of_window} have labels.", count(rows));
        format!(
            "<p class=\"small soft\">{}</p>{}{measured}{}{estimated}",
            escape(&told),
            table(evidence),
            figures(evidence)
        )
    };
    section_of("Were the answers right?", &body)
}

/// The usual metrics of both sides.
fn table(evidence: &Evidence) -> String {
    let before = measures(&evidence.schema, &evidence.reference);
    let row = |(name, now): &(&str, Estimate)| {
        let before = before.iter().find(|(known, _)| known == name);
        let before = before.map_or("–".to_owned(), |(_, found)| number(found.value));
        let [low, high] = now.interval.ends().map(number);
        format!(
            "<tr><td>{name}<td class=\"n\">{}<br><small class=\"soft\">{low} to {high}</small><td class=\"n\">{before}",
            number(now.value)
        )
    };
    let rows: String = measures(&evidence.schema, evidence.labelled()).iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table><tr><th>measured<th class=\"n\">this window, 95 % interval\
         <th class=\"n\">reference</tr>{rows}</table></div>"
    )
}

/// What can be measured of a profile's labelled rows.
fn measures(schema: &ProfileSchema, profile: &Profile) -> Vec<(&'static str, Estimate)> {
    let confusion = &profile.overall.confusion.labelled;
    let positive = schema.outcomes().positive;
    let of_positive =
        positive.and_then(|class| by_class(confusion, CONFIDENCE).into_iter().nth(class));
    let bins = joined(profile);
    let of = |count: fn(&ScoreBin) -> u64| -> Vec<u64> { bins.iter().map(count).collect() };
    let ranked =
        positive.and_then(|_| auc(&of(|bin| bin.negative), &of(|bin| bin.positive), CONFIDENCE));
    let (losses, errors) = (&profile.losses, &profile.overall.errors);
    let loss = |sum: f64, squares: f64| {
        Sums { rows: losses.rows, sum: sum * LOSS_STEP, squares: squares * LOSS_STEP }
            .mean(CONFIDENCE)
    };
    let step = schema.predicted_numbers().map_or(0.0, |numbers| numbers.step);
    let squares = errors.squares.times(step * step);
    let absolute = Sums { rows: errors.rows, sum: errors.absolute.times(step), squares };
    let coarse = (step * ErrorSums::COARSE_STEPS as f64).powi(4);
    let fourth = errors.fourth_powers.times(coarse);
    let fourth = fourth.max(squares * squares / errors.rows.max(1) as f64);
    let squared = Sums { rows: errors.rows, sum: squares, squares: fourth };
    let macro_f1 = if positive.is_none() { f1_macro(confusion, CONFIDENCE) } else { None };
    let found = [
        ("accuracy", accuracy(confusion, CONFIDENCE)),
        ("balanced accuracy", balanced_accuracy(confusion, CONFIDENCE)),
        ("macro F1", macro_f1),
        ("precision", of_positive.and_then(|class| class.precision)),
        ("recall", of_positive.and_then(|class| class.recall)),
        ("F1", of_positive.and_then(|class| class.f1)),
        ("area under the ROC curve", ranked),
        (
            "log loss (less is better)",
            loss(losses.log_loss.times(1.0), losses.log_loss_squares.times(1.0)),
        ),
        (
            "Brier score (less is better)",
            loss(losses.brier.times(1.0), losses.brier_squares.times(1.0)),
        ),
        ("mean absolute error", absolute.mean(CONFIDENCE)),
        ("root mean squared error", squared.root_mean(CONFIDENCE)),
    ];
    found.into_iter().filter_map(|(name, found)| Some((name, found?))).collect()
}

/// Bins of all predicted classes together.
fn joined(profile: &Profile) -> Vec<ScoreBin> {
    let mut all = vec![ScoreBin::default(); SCORE_BINS];
    for side in &profile.overall.scores.bins {
        all.iter_mut().zip(side).for_each(|(bin, more)| bin.merge(more));
    }
    all
}

/// Reliability and, with a positive class, the ROC curve; nothing without scores of labelled rows.
fn figures(evidence: &Evidence) -> String {
    let (before, now) = (joined(&evidence.reference), joined(evidence.labelled()));
    if now.iter().all(|bin| bin.labelled() == 0) {
        return String::new();
    }
    let positive = evidence.schema.positive.as_deref();
    let roc = if positive.is_some() { roc(&before, &now) } else { String::new() };
    format!("<div class=\"grid\">{}{roc}</div>", reliability(&before, &now, positive))
}

const TOP: f64 = 22.0;
const FLOOR: f64 = 234.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = WIDTH - 60.0;

/// A square from 0 to 1, with its diagonal.
fn square(across: &str, up: &str) -> String {
    let (x, y) = (Scale::new([0.0, 1.0], [LEFT, RIGHT]), Scale::new([0.0, 1.0], [FLOOR, TOP]));
    let mut body = line("axis", [LEFT, FLOOR], [RIGHT, TOP]);
    for share in [0.0, 0.5, 1.0] {
        body.push_str(&line("axis", [LEFT, y.at(share)], [RIGHT, y.at(share)]));
        body.push_str(&text(LEFT - 5.0, y.at(share) + 4.0, "end", &percent(share)));
        body.push_str(&text(x.at(share), FLOOR + 15.0, "middle", &percent(share)));
    }
    body.push_str(&text(f64::midpoint(LEFT, RIGHT), FLOOR + 31.0, "middle", &escape(across)));
    body + &text(LEFT, TOP - 10.0, "start", &escape(up))
}

fn card(title: &str, drawn: &str, words: &str) -> String {
    format!(
        "<article class=\"card\"><h3>{title}</h3><figure>{drawn}<figcaption>{}</figcaption></figure></article>",
        escape(words)
    )
}

/// One bin of scores: the mean score, the share that is one, its interval.
fn reliable(bins: &[ScoreBin]) -> Vec<(f64, f64, [f64; 2])> {
    let of = |bins: &[ScoreBin]| {
        let mut all = ScoreBin::default();
        bins.iter().for_each(|bin| all.merge(bin));
        let (rows, ones) = (all.labelled(), all.positive);
        let interval = wilson(ones, rows, CONFIDENCE).filter(|_| rows >= LEAST_ROWS)?.ends();
        let mean = all.labelled_sum.times(SCORE_STEP) / rows as f64;
        Some((mean, ones as f64 / rows as f64, interval))
    };
    bins.chunks(SCORE_BINS / BINS).filter_map(of).collect()
}

fn reliability(before: &[ScoreBin], now: &[ScoreBin], positive: Option<&str>) -> String {
    let (x, y) = (Scale::new([0.0, 1.0], [LEFT, RIGHT]), Scale::new([0.0, 1.0], [FLOOR, TOP]));
    let (across, up) = match positive {
        Some(class) => {
            (format!("score: said probability of {class}"), format!("share that is {class}"))
        }
        None => (
            "said probability of the predicted class".to_owned(),
            "share predicted right".to_owned(),
        ),
    };
    let mut body = square(&across, &up);
    let curve =
        |bins: &[ScoreBin]| reliable(bins).into_iter().map(|(p, share, _)| [x.at(p), y.at(share)]);
    body.push_str(&path("thin", curve(before)));
    body.push_str(&path("curve", curve(now)));
    let mut told = vec![];
    for (said, share, [low, high]) in reliable(now) {
        body.push_str(&line("bound", [x.at(said), y.at(low)], [x.at(said), y.at(high)]));
        body.push_str(&dot(false, x.at(said), y.at(share)));
        told.push(format!("said {}, is {}", percent(said), percent(share)));
    }
    let label = format!("Reliability: {}", told.join("; "));
    let words = "On the diagonal, scores say what is. Solid: this window with 95 % intervals; dashed: the \
                 reference. Scores with fewer than 10 labelled rows are left out.";
    card("Do scores say what is?", &figure(FLOOR + 36.0, &label, &body), words)
}

/// Shares of negative and of positive rows above each score, from the highest score down.
fn above(bins: &[ScoreBin]) -> Option<Vec<[f64; 2]>> {
    let negatives: u64 = bins.iter().map(|bin| bin.negative).sum();
    let positives: u64 = bins.iter().map(|bin| bin.positive).sum();
    if negatives == 0 || positives == 0 {
        return None;
    }
    let (mut alarms, mut hits) = (0, 0);
    let mut places = vec![[0.0, 0.0]];
    for bin in bins.iter().rev().filter(|bin| bin.labelled() > 0) {
        alarms += bin.negative;
        hits += bin.positive;
        places.push([alarms as f64 / negatives as f64, hits as f64 / positives as f64]);
    }
    Some(places)
}

fn roc(before: &[ScoreBin], now: &[ScoreBin]) -> String {
    let Some(current) = above(now) else { return String::new() };
    let (x, y) = (Scale::new([0.0, 1.0], [LEFT, RIGHT]), Scale::new([0.0, 1.0], [FLOOR, TOP]));
    let mut body = square("negative rows scored above", "positive rows scored above");
    let place = |[alarms, hits]: [f64; 2]| [x.at(alarms), y.at(hits)];
    if let Some(reference) = above(before) {
        body.push_str(&path("thin", reference.into_iter().map(place)));
    }
    body.push_str(&path("curve", current.into_iter().map(place)));
    let words = "Further up and left is better. Solid: this window; dashed: the reference.";
    let label = "ROC curve of this window and of the reference";
    card("Do scores rank?", &figure(FLOOR + 36.0, label, &body), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::binary;

    #[test]
    fn what_is_measured_is_what_the_counts_say() {
        let judged = binary();
        let found = measures(&judged.evidence.schema, judged.evidence.labelled());
        let value = |name: &str| {
            let found = found.iter().find(|(known, _)| *known == name);
            found.map_or(f64::NAN, |(_, estimate)| estimate.value)
        };
        // Of 400 rows with a score of 0.2 or 0.8, as many are predicted by it as stand in `binary`.
        assert!((value("accuracy") - 0.75).abs() < 1e-9, "{found:?}");
        assert!((value("recall") - 0.75).abs() < 1e-9, "{found:?}");
        assert!((value("area under the ROC curve") - 0.75).abs() < 1e-9, "{found:?}");
        let html = section(&judged);
        for part in ["400 rows", "Do scores rank?", "<td>accuracy<td class=\"n\">0.75<br>"] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn the_curve_begins_at_the_highest_score_and_ends_at_one() {
        let judged = binary();
        let places = above(&joined(judged.evidence.labelled())).expect("both labels");
        assert_eq!(places, [[0.0, 0.0], [0.25, 0.75], [1.0, 1.0]]);
        assert_eq!(above(&[ScoreBin::default()]), None);
    }

    #[test]
    fn without_labels_estimates_are_marked_as_such() {
        let mut judged = binary();
        judged.evidence.current.overall =
            mloop_core::counts::OutcomeCounts::new(judged.evidence.schema.outcomes());
        judged.report.findings[0].check = "estimated_performance_drop".to_owned();
        let html = section(&judged);
        assert!(html.contains("No labels") && html.contains("Estimated, not measured"), "{html}");
    }
}
