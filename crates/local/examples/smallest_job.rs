//! The smallest program that [`mloop_local::ProcessSubmitter`] can start: it detaches itself, says
//! so in its log, and ends with the last line that `--line` gives; without one it sleeps.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;

use mloop_platform::files::{Readers, replace};

fn main() -> Result<(), Box<dyn Error>> {
    let result_file = argument("--result-file").ok_or("--result-file FILE is missing")?;
    let pid_file = argument("--pid-file").ok_or("--pid-file FILE is missing")?;
    if let Err(error) = mloop_local::session::detach(pid_file.as_ref()) {
        let result = br#"{"outcome": "error", "error": {"exit_code": 30}}"#;
        replace(result_file.as_ref(), result, Readers::Anybody)?;
        return Err(error.into());
    }
    writeln!(std::io::stdout(), "process {} began", std::process::id())?;
    match argument("--line") {
        // As a whole: whoever asks for the job's state may read at any moment.
        Some(line) => {
            replace(result_file.as_ref(), line.as_encoded_bytes(), Readers::Anybody)?;
        }
        None => std::thread::sleep(std::time::Duration::from_secs(60)),
    }
    Ok(())
}

fn argument(name: &str) -> Option<OsString> {
    std::env::args_os().skip_while(|argument| argument != OsStr::new(name)).nth(1)
}
