//! What a person at a terminal sees, and what a log gets.

use std::process::{Command, Stdio};

use mloop_testkit::program;
use mloop_testkit::small::SmallWorld;
use serde_json::Value;

use crate::world::ended_with;

#[test]
fn training_shows_a_bar_on_a_terminal_and_lines_elsewhere() {
    let world = SmallWorld::new().expect("a world");
    let lines = world.fork().expect("a copy").train_first().expect("runs");
    ended_with(&lines, 0);
    let told = lines.stderr.lines().filter(|line| line.contains("training") && line.contains('/'));
    assert!(told.count() > 1, "{}", lines.stderr);
    assert!(!lines.stderr.contains('█'), "{}", lines.stderr);

    // `script` gives its command a terminal.
    let training = program::path("training_main").expect("built");
    let command = format!("{} --config training_config.yaml", training.display());
    let shown = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(world.folder().join("configs"))
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("`script` of util-linux");
    let shown_text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{}: {shown_text}", shown.status);
    assert!(shown_text.contains("training") && shown_text.contains('█'), "{shown_text}");
    let last = shown_text.lines().last().unwrap_or_default();
    // Before it stands what clears the bar.
    let last = &last[last.find('{').expect("JSON")..];
    let last: Value = serde_json::from_str(last.trim()).expect("the last line");
    assert_eq!(last["outcome"], "blessed");
}
