//! The story, from a first model to a quiet pager.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mloop_testkit::camera::Camera;
use mloop_testkit::program::resident_peak_kib;
use mloop_testkit::traffic::Counted;
use serde_json::{Value, json};

use crate::page;
use crate::stage::{clear, prepare};
use crate::tell::{Cost, Teller, percent};
use crate::world::{Sent, World, number, text};

/// How the demo runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) full_data: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) quick: bool,
}

impl Options {
    /// How the traffic is shared out, so that no picture comes twice: what the last window shows was
    /// never trained on.
    fn shares(&self, pool: usize) -> Shares {
        let (window, more) = if self.quick { (600, 600) } else { (1500, 3000) };
        Shares { window: window.min(pool / 5), more: more.min(pool * 2 / 5) }
    }

    pub(crate) fn epochs(&self) -> usize {
        if self.quick { 2 } else { 4 }
    }
}

/// Requests of the three windows that are judged, and between the second of these and the decision.
#[derive(Debug, Clone, Copy)]
struct Shares {
    window: usize,
    more: usize,
}

impl Shares {
    fn honest(self) -> Range<usize> {
        0..self.window
    }

    fn changed(self) -> Range<usize> {
        self.window..2 * self.window
    }

    fn later(self) -> Range<usize> {
        2 * self.window..2 * self.window + self.more
    }

    fn after(self) -> Range<usize> {
        2 * self.window + self.more..3 * self.window + self.more
    }
}

/// Longest time that the demo waits for the training job.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Turns the loop once.
pub(crate) fn tell(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    clear(&options.folder)?;
    let mut teller = Teller::default();
    let world = prepare(options, &mut teller)?;
    let shares = options.shares(world.pool_size());

    first_version(&world, &mut teller)?;
    let honest = honest_traffic(shares, &world, &mut teller)?;
    let changed = cameras_change(shares, &world, &mut teller)?;
    let job = decision(&world, &mut teller)?;
    teller.chapter("A new version is trained on what the new cameras see");
    let closed = follow(&world, &mut teller, &job)?;
    tell_evaluation(&world, &mut teller, &job, &closed)?;
    let through = switch(&world, &mut teller)?;
    let after = quiet_again(shares, &world, &mut teller)?;
    tell_accuracies(&mut teller, [&honest, &changed, &after])?;

    finish(options, &mut teller, &world, &through, began)?;
    if options.keep {
        keep(world)?;
    }
    Ok(())
}

fn honest_traffic(shares: Shares, world: &World, teller: &mut Teller) -> Result<Sent, String> {
    teller.chapter("Honest traffic: nobody is woken");
    let sent = world.traffic(Camera::Good, "honest", shares.honest())?;
    tell_traffic(teller, &sent.counted);
    let result = monitor(world, teller, "monitoring, honest traffic", &sent)?;
    expect(&result, "outcome", "ok")?;
    let decision = retrain(world, teller, &[99])?;
    let (outcome, reason) = (word(&decision["outcome"]), word(&decision["reason"]));
    teller.say(format!("retraining_main: {outcome} ({reason})"));
    Ok(sent)
}

fn cameras_change(shares: Shares, world: &World, teller: &mut Teller) -> Result<Sent, String> {
    teller.chapter("The cameras are replaced by cheap ones");
    teller.figure(page::pictures(&world.images(0..8), Camera::Cheap));
    let sent = world.traffic(Camera::Cheap, "changed", shares.changed())?;
    tell_traffic(teller, &sent.counted);
    let result = monitor(world, teller, "monitoring, changed camera", &sent)?;
    expect(&result, "outcome", "alert")?;
    for monitor in ["drift", "performance"] {
        let is_found = |f: &Value| f["monitor"] == monitor && f["status"] == "drifted";
        if !findings(&result).any(is_found) {
            return Err(format!("the {monitor} monitor did not notice the cameras"));
        }
    }
    let later = world.traffic(Camera::Cheap, "later", shares.later())?;
    teller.say(format!("{} more pictures come in and are labelled meanwhile", later.counted.sent));
    Ok(sent)
}

/// Gives the job.
fn decision(world: &World, teller: &mut Teller) -> Result<String, String> {
    teller.chapter("Retraining is decided, once");
    let decision = retrain(world, teller, &[0])?;
    expect(&decision, "outcome", "submitted")?;
    for verdict in decision["verdicts"].as_array().into_iter().flatten() {
        let (trigger, answer) = (word(&verdict["trigger"]), word(&verdict["answer"]));
        teller.say(format!("{trigger}: {answer}: {}", word(&verdict["reason"])));
    }
    let job = word(&decision["job_id"]);
    teller.say(format!("submitted: {job}"));
    let again = retrain(world, teller, &[0])?;
    expect(&again, "outcome", "adopted")?;
    expect(&again, "job_id", &job)?;
    teller.say(format!("asked again, it starts nothing: {}", word(&again["outcome"])));
    Ok(job)
}

fn quiet_again(shares: Shares, world: &World, teller: &mut Teller) -> Result<Sent, String> {
    teller.chapter("The same cameras, the new version: quiet again");
    let sent = world.traffic(Camera::Cheap, "after", shares.after())?;
    tell_traffic(teller, &sent.counted);
    let result = monitor(world, teller, "monitoring, after the switch", &sent)?;
    expect(&result, "outcome", "ok")?;
    let blind = findings(&result).filter(|f| f["status"] == "insufficient_data").count();
    if blind > 0 {
        return Err(format!("{blind} checks could not be judged after the switch"));
    }
    Ok(sent)
}

fn tell_accuracies(teller: &mut Teller, windows: [&Sent; 3]) -> Result<(), String> {
    let [good, changed, now] = windows.map(|sent| sent.counted.accuracy());
    teller.say(format!(
        "accuracy: {} with the good cameras, {} when they changed, {} now",
        percent(good),
        percent(changed),
        percent(now)
    ));
    teller.figure(page::accuracies([good, changed, now]));
    let came_back = (now - changed) / (good - changed);
    if came_back < 0.5 {
        return Err(format!("only {} of the lost accuracy came back", percent(came_back)));
    }
    Ok(())
}

/// Leaves the server running, and says how to ask it and how to end it.
fn keep(world: World) -> Result<(), String> {
    let picture = world.folder.join("picture.png");
    let shot =
        world.images(0..1).first().map(|image| Camera::Cheap.take(&image.pixels, 1).to_png());
    std::fs::write(&picture, shot.unwrap_or_default()).map_err(|error| error.to_string())?;
    let (url, admin) = (world.server.url(), world.server.admin_url());
    let pid = world.server.leave();
    println!("\nThe server keeps running (process {pid}); end it with: kill {pid}");
    println!("  curl -s {admin}/admin/endpoints");
    println!(
        "  curl -s {url}/endpoints/production/invocations -H 'content-type: image/png' --data-binary @{}",
        picture.display()
    );
    Ok(())
}

fn first_version(world: &World, teller: &mut Teller) -> Result<(), String> {
    teller.chapter("A first version goes to production");
    let show = |line: &str| show_progress(line);
    let arguments = ["--config", "training_config.yaml"];
    let trained =
        world.call_showing(teller, "training of v1", "training_main", &arguments, show)?;
    let set = &trained.last["evaluation"]["sets"][0];
    teller.say(format!(
        "training_main: {}, version {}, accuracy {} on {} test images",
        word(&trained.last["outcome"]),
        trained.last["version"]["number"],
        percent(number(&set["challenger_accuracy"])),
        set["n"]
    ));
    let arguments = ["run", "--config", "deployment_config.yaml"];
    let deployed = world.call(teller, "deployment of v1", "deployment_main", &arguments, &[0])?;
    teller.say(format!(
        "deployment_main: {} ({})",
        word(&deployed.last["outcome"]),
        word(&deployed.last["reason"])
    ));
    Ok(())
}

/// A line of a training's log that tells how far it is, without the time of day.
fn show_progress(line: &str) {
    if let Some((_, progress)) =
        line.split_once(" INFO ").filter(|(_, text)| text.contains("epoch"))
    {
        println!("   | {}", progress.trim());
    }
}

fn tell_traffic(teller: &mut Teller, counted: &Counted) {
    teller.say(format!(
        "{} pictures sent, {} failed, {} recognised",
        counted.sent,
        counted.failed,
        percent(counted.accuracy())
    ));
}

fn monitor(world: &World, teller: &mut Teller, work: &str, sent: &Sent) -> Result<Value, String> {
    let (start, end) = (text(sent.start), text(sent.end));
    let arguments =
        ["--config", "monitoring_config.yaml", "--window-start", &start, "--window-end", &end];
    let finished = world.call(teller, work, "monitoring_main", &arguments, &[0])?;
    let result = finished.last;
    for failure in result["failures"].as_array().into_iter().flatten() {
        teller.say(format!("{} failed: {}", word(&failure["monitor"]), word(&failure["error"])));
    }
    teller.say(format!(
        "monitoring_main: {} on {} rows, {} checks",
        word(&result["outcome"]),
        result["window"]["rows"],
        findings(&result).count()
    ));
    let mut alerting: Vec<&Value> =
        findings(&result).filter(|f| f["status"] == "drifted" || f["status"] == "broken").collect();
    alerting.sort_by(|a, b| number(&b["value"]).total_cmp(&number(&a["value"])));
    // Of each monitor what lies farthest out: a fallen accuracy is a smaller number than a distance.
    let mut told: Vec<String> = vec![];
    for finding in &alerting {
        let of = word(&finding["monitor"]);
        if !told.contains(&of) {
            teller.say(format!("  {of}: {}", sentence(finding)));
            told.push(of);
        }
    }
    if alerting.len() > told.len() {
        teller.say(format!("  and {} more", alerting.len() - told.len()));
    }
    // Of the comparisons between sites the largest, also when all is well: that nobody is treated worse is
    // worth a line.
    let between_sites =
        findings(&result).filter(|f| f["monitor"] == "fairness" && f["status"] == "ok");
    let largest = between_sites.max_by(|a, b| number(&a["value"]).total_cmp(&number(&b["value"])));
    if let Some(largest) = largest {
        teller.say(format!("  fairness, within bounds: {}", sentence(largest)));
    }
    for finding in findings(&result).filter(|f| f["status"] == "insufficient_data") {
        teller.say(format!("  could not be judged: {}", sentence(finding)));
    }
    if let Some(report) = result["report"].as_str() {
        teller.figure(page::link(report, "the report of this window"));
    }
    teller.figure(page::findings(findings(&result)));
    Ok(result)
}

fn findings(result: &Value) -> impl Iterator<Item = &Value> {
    result["findings"].as_array().into_iter().flatten()
}

fn sentence(finding: &Value) -> String {
    let of = [&finding["column"], &finding["group"]];
    let of: Vec<&str> = of.iter().filter_map(|value| value.as_str()).collect();
    let interval = match finding["interval"].as_array().map(Vec::as_slice) {
        Some([low, high]) => format!(" [{:.3}, {:.3}]", number(low), number(high)),
        _ => String::new(),
    };
    format!(
        "{}{}{}: {} {:.3}{interval}, bound {}",
        word(&finding["check"]),
        if of.is_empty() { "" } else { " of " },
        of.join(" / "),
        word(&finding["method"]),
        number(&finding["value"]),
        finding["threshold"]
    )
}

fn retrain(world: &World, teller: &mut Teller, codes: &[i32]) -> Result<Value, String> {
    let arguments = ["--config", "retrain_config.yaml"];
    Ok(world.call(teller, "retraining decision", "retraining_main", &arguments, codes)?.last)
}

/// Calls retraining_main, as its schedule would, until it has closed the job.
fn follow(world: &World, teller: &mut Teller, job: &str) -> Result<Value, String> {
    let folder = world.folder.join("var/jobs").join(job);
    let (began, mut shown, mut peak) = (Instant::now(), 0, 0);
    while began.elapsed() < PATIENCE {
        for _ in 0..20 {
            peak = peak.max(resident_peak(&folder));
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(shown).for_each(|line| show_progress(line));
        shown = lines.len();
        let decision = retrain(world, teller, &[0, 99])?;
        if let Some(closed) = decision["closed"].as_array().and_then(|closed| closed.first()) {
            teller.say(format!("the job ended: {}", word(&closed["outcome"])));
            teller.job("training of v2, in its own session", began.elapsed(), peak);
            return Ok(closed.clone());
        }
    }
    Err(format!("the job did not end; see {}", folder.join("log").display()))
}

/// Memory of the job's process, as its pid file names it; 0 once it has ended.
fn resident_peak(folder: &Path) -> u64 {
    let told = std::fs::read(folder.join("process.pid")).unwrap_or_default();
    let told: Value = serde_json::from_slice(&told).unwrap_or_default();
    let pid = told["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    pid.map_or(0, resident_peak_kib)
}

fn tell_evaluation(
    world: &World,
    teller: &mut Teller,
    job: &str,
    closed: &Value,
) -> Result<(), String> {
    let path = world.folder.join("var/jobs").join(job).join("result.json");
    let result = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let result: Value = serde_json::from_slice(&result).map_err(|error| error.to_string())?;
    let traffic = &result["traffic"];
    teller.say(format!(
        "trained on the old images and {} labelled pictures of production; {} others were held out",
        traffic["training"], traffic["fresh"]
    ));
    let confidence = page::confidence(&result["evaluation"]);
    for set in result["evaluation"]["sets"].as_array().into_iter().flatten() {
        let ends = set["interval"].as_array().map(Vec::as_slice);
        let interval = match ends {
            Some([low, high]) => {
                format!("[{:+.1}, {:+.1}]", 100.0 * number(low), 100.0 * number(high))
            }
            _ => String::new(),
        };
        teller.say(format!(
            "{} set, {} images: {} new, {} in production; difference {:+.1} points, {confidence} interval {interval}: {}",
            word(&set["set"]),
            set["n"],
            percent(number(&set["challenger_accuracy"])),
            percent(number(&set["champion_accuracy"])),
            100.0 * number(&set["difference"]),
            word(&set["verdict"])
        ));
    }
    teller.figure(page::comparison(&result["evaluation"]));
    if closed["outcome"] != "blessed" {
        return Err(format!("the gate did not bless the new version: {}", word(&closed["detail"])));
    }
    Ok(())
}

/// Deploys while requests keep coming; gives what became of those.
fn switch(world: &World, teller: &mut Teller) -> Result<Counted, String> {
    teller.chapter("Staging, smoke tests, switch, under traffic");
    let (sender, images) = (world.sender(Camera::Cheap, "through")?, world.images(0..500));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let traffic = world.runtime.spawn(async move { sender.send_until(&images, &stopped).await });
    let arguments = ["run", "--config", "deployment_config.yaml"];
    let deployed = world.call(teller, "deployment of v2", "deployment_main", &arguments, &[0]);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::SeqCst);
    let counted = world.runtime.block_on(traffic).map_err(|error| error.to_string())?;
    let result = deployed?.last;
    expect(&result, "outcome", "switched")?;
    for check in result["smoke"]["checks"].as_array().into_iter().flatten() {
        let name = word(&check["name"]);
        if !name.starts_with("golden") {
            teller.say(format!("smoke test {name}: {}", word(&check["detail"])));
        }
    }
    teller.say(format!(
        "deployment_main: {} ({})",
        word(&result["outcome"]),
        word(&result["reason"])
    ));
    let versions: Vec<String> = counted
        .by_version
        .iter()
        .map(|(digest, count)| format!("{} by {}", count, digest.short(8)))
        .collect();
    teller.say(format!(
        "{} requests were sent throughout, {} failed; answered: {}",
        counted.sent,
        counted.failed,
        versions.join(", ")
    ));
    if counted.failed > 0 || counted.by_version.len() != 2 {
        let versions = counted.by_version.len();
        return Err(format!(
            "{} requests failed during the switch, and {versions} versions answered",
            counted.failed
        ));
    }
    Ok(counted)
}

fn finish(
    options: &Options,
    teller: &mut Teller,
    world: &World,
    through: &Counted,
    began: Instant,
) -> Result<(), String> {
    let alerts =
        std::fs::read_to_string(options.folder.join("var/alerts.jsonl")).unwrap_or_default();
    teller.chapter("The loop has turned");
    teller.say(format!(
        "{} messages to people; {} requests through the switch, {} failed; {:.0} s in all",
        alerts.lines().count(),
        through.sent,
        through.failed,
        began.elapsed().as_secs_f64()
    ));
    println!("\n   {:<36}{:>10}{:>12}", "step", "seconds", "peak MB");
    let costs = page::largest(&teller.costs);
    for cost in &costs {
        println!("   {:<36}{:>10.2}{:>12.0}", cost.work, cost.wall.as_secs_f64(), cost.peak_mb);
    }
    let row = |cost: &Cost| {
        let ours = json!({"wall_s": cost.wall.as_secs_f64(), "peak_mb": cost.peak_mb});
        json!({"work": cost.work, "ours": ours, "peer": null, "ratio": null, "target": null, "met": null})
    };
    let rows: Vec<Value> = costs.iter().map(row).collect();
    std::fs::write(options.folder.join("costs.json"), json!(rows).to_string())
        .map_err(|error| error.to_string())?;
    let path = options.folder.join("demo.html");
    std::fs::write(&path, page::render(teller)).map_err(|error| error.to_string())?;
    println!("\n   The story as a page: {}", path.display());
    println!("   Everything it left: {}", world.folder.display());
    Ok(())
}

fn expect(result: &Value, key: &str, wanted: &str) -> Result<(), String> {
    if result[key] == wanted {
        return Ok(());
    }
    Err(format!("{key} is {}, {wanted} was expected: {result}", result[key]))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
