//! The tour of the README, to the letter but for ports and the length of the training.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use mloop_testkit::program;
use mloop_tests::root;

/// The block of shell in the README, after the lines that build.
fn block() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the page");
    let (_, block) = readme.split_once("```sh\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let (built, block) = block.split_once("mkdir -p").expect("folders");
    assert!(built.contains("cargo build --workspace --bins"), "{built}");
    format!("mkdir -p{block}")
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no `{from}` in\n{text}");
    text.replace(from, to)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

#[test]
fn the_tour_goes_as_the_readme_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let configs = folder.path().join("configs");
    copy(&root().join("configs"), &configs);
    let data = "tests/data/fashion-mnist";
    copy(&root().join(data), &folder.path().join(data));
    let port =
        || TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("bound").port();
    let (listen, admin) = (port(), port());
    let change = |file: &str, changes: &[(&str, String)]| {
        let path = configs.join(file);
        let mut text = std::fs::read_to_string(&path).expect("read");
        for (from, to) in changes {
            text = replaced(&text, from, to);
        }
        std::fs::write(&path, text).expect("written");
    };
    let urls = [("127.0.0.1:8080", listen), ("127.0.0.1:8081", admin)];
    change("deployment_config.yaml", &urls.map(|(from, to)| (from, format!("127.0.0.1:{to}"))));
    change("training_config.yaml", &[("epochs: 8", "epochs: 3".to_owned())]);

    let server = format!("--admin 127.0.0.1:{admin} --listen 127.0.0.1:8080");
    let block = replaced(&block(), "--listen 127.0.0.1:8080", &server);
    let block = replaced(&block, "127.0.0.1:8080", &format!("127.0.0.1:{listen}"));
    // A shell goes on after a command that failed; here each must end as it is told.
    let call = "retraining_main --config configs/retrain_config.yaml";
    let block = replaced(&block, call, &format!("code=0; {call} || code=$?; test $code = 99"));
    let (_, again) = block.split_once("# 4.").expect("traffic");
    let (again, _) = again.split_once("# 6.").expect("a decision");
    let script = format!(
        "set -euo pipefail\nexport PATH='{}':$PATH\ntrap 'kill %1; wait' EXIT\n{block}\n# 4.{again}\n{call} --dry-run\n\
         deployment_main status --config configs/deployment_config.yaml\n",
        program::folder().expect("built").display()
    );
    let ended = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .expect("bash");
    let (told, log) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}\n{told}\n{log}", ended.status);
    let outcomes: Vec<String> = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|line| line["outcome"].as_str().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "blessed",
        "switched",
        "alert",
        "cannot_tell",
        "alert",
        "dry_run",
        "consistent",
        "drained",
    ];
    assert_eq!(outcomes, expected, "{told}");
    assert!(told.contains(r#""would":{"submit_attempt":1}"#), "a job, the next time: {told}");
    let pages = std::fs::read_dir(folder.path().join("var/reports")).expect("pages").count();
    assert_eq!(pages, 2);
}
