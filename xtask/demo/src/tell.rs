//! Telling the story on a terminal, and remembering it for the page.

use std::io::IsTerminal as _;
use std::time::Duration;

use mloop_testkit::program::Finished;

/// A step of the story with its lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chapter {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
    /// Ready-made HTML below the lines.
    pub(crate) figures: Vec<String>,
}

/// Time and memory of one call of a binary.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) work: String,
    pub(crate) wall: Duration,
    pub(crate) peak_mb: f64,
}

/// The story so far.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) costs: Vec<Cost>,
}

impl Teller {
    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        let number = self.chapters.len() + 1;
        if std::io::stdout().is_terminal() {
            println!("\n\x1b[1m{number}. {title}\x1b[0m");
        } else {
            println!("\n{number}. {title}");
        }
        self.chapters.push(Chapter { title: title.to_owned(), ..Chapter::default() });
    }

    /// Adds a line to the chapter.
    pub(crate) fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        println!("   {line}");
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.lines.push(line);
        }
    }

    /// Adds a figure to the chapter's place on the page.
    pub(crate) fn figure(&mut self, html: String) {
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.figures.push(html);
        }
    }

    /// Remembers what a call cost.
    pub(crate) fn cost(&mut self, work: &str, finished: &Finished) {
        self.job(work, finished.wall, finished.peak_kib);
    }

    /// Remembers what a piece of work cost.
    pub(crate) fn job(&mut self, work: &str, wall: Duration, peak_kib: u64) {
        let peak_mb = peak_kib as f64 / 1024.0;
        self.costs.push(Cost { work: work.to_owned(), wall, peak_mb });
    }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
