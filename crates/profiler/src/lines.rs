//! Lines of a file, one at a time, none longer than a limit.

use std::io::{self, BufRead, Read};

/// What stands between two line feeds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line, without its line feed and a carriage return before it.
    Whole(&'a [u8]),
    /// What follows the last line feed: a line still being written, or cut in half.
    Unfinished(&'a [u8]),
    /// A line over the limit, skipped.
    TooLong,
}

impl<'a> Line<'a> {
    /// Its bytes, unless it is too long.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Whole(bytes) | Self::Unfinished(bytes) => Some(bytes),
            Self::TooLong => None,
        }
    }
}

/// Reads lines into one buffer that never grows over the limit.
pub(crate) struct Lines<R> {
    reader: R,
    limit: usize,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, buffer: Vec::new(), number: 0 }
    }

    /// The next line that is not blank, with its number from 1; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        loop {
            self.fill()?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let finished = self.buffer.last() == Some(&b'\n');
        if !finished && self.buffer.len() > self.limit + 1 {
            self.skip_line()?;
            return Ok(Some((self.number, Line::TooLong)));
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let line = match (text.len() > self.limit, finished) {
            (true, _) => Line::TooLong,
            (false, true) => Line::Whole(text),
            (false, false) => Line::Unfinished(text),
        };
        Ok(Some((self.number, line)))
    }

    /// Reads up to a line feed, or one carriage return and line feed more than the limit.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        let most = self.limit as u64 + 2;
        self.reader.by_ref().take(most).read_until(b'\n', &mut self.buffer).map(drop)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() && self.buffer.last() != Some(&b'\n') {
            self.fill()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limit: usize) -> Vec<(u64, String)> {
        // A tiny buffer below, so that lines cross its border.
        let mut lines = Lines::new(io::BufReader::with_capacity(3, text), limit);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().expect("memory does not fail") {
            let text = match line {
                Line::Whole(text) => String::from_utf8_lossy(text).into_owned(),
                Line::Unfinished(text) => format!("unfinished {}", String::from_utf8_lossy(text)),
                Line::TooLong => "too long".to_owned(),
            };
            found.push((number, text));
        }
        found
    }

    #[test]
    fn lines_end_with_a_line_feed_with_or_without_a_carriage_return() {
        let found = read(b"ab\r\n\n  \ncd\nef", 10);
        let expected = [(1, "ab"), (4, "cd"), (5, "unfinished ef")];
        assert_eq!(found, expected.map(|(number, text)| (number, text.to_owned())));
        assert_eq!(read(b"", 10), []);
    }

    #[test]
    fn the_limit_is_on_the_text_and_long_lines_hide_none_after_them() {
        type Case<'a> = (&'a [u8], &'a [(u64, &'a str)]);
        let cases: [Case<'_>; 5] = [
            (b"abcd\nxy\n", &[(1, "abcd"), (2, "xy")]),
            (b"abcd\r\nxy\n", &[(1, "abcd"), (2, "xy")]),
            (b"abcde\nxy\n", &[(1, "too long"), (2, "xy")]),
            (b"abcdefghijklmnop\nxy\n", &[(1, "too long"), (2, "xy")]),
            (b"xy\nabcdefghijklmnop", &[(1, "xy"), (2, "too long")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, t)| (*n, (*t).to_owned())).collect();
            assert_eq!(read(text, 4), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_giant_line_is_never_held() {
        let giant = io::repeat(b'x').take(50_000_000);
        let mut lines = Lines::new(io::BufReader::new(giant), 1000);
        assert_eq!(lines.next().expect("memory does not fail"), Some((1, Line::TooLong)));
        assert!(lines.buffer.capacity() < 10_000, "{}", lines.buffer.capacity());
    }
}
