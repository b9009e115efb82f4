//! Tables for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON array.
    Json,
}

/// A row of a table.
pub(crate) trait Row: Serialize {
    /// The column titles.
    const TITLES: &'static [&'static str];
    /// The cells, as many as titles.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows; a closed pipe is no error.
pub(crate) fn print<R: Row>(format: Format, rows: &[R]) -> io::Result<()> {
    let mut text = Vec::new();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut text, rows)?;
            text.push(b'\n');
        }
        Format::Table => write_table(&mut text, rows)?,
    }
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn write_table<R: Row>(out: &mut Vec<u8>, rows: &[R]) -> io::Result<()> {
    let mut lines = vec![R::TITLES.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(Row::cells));
    let columns = R::TITLES.len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair(&'static str, u32);

    impl Row for Pair {
        const TITLES: &'static [&'static str] = &["NAME", "N"];
        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_string()]
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        write_table(&mut out, &[Pair("a", 1), Pair("münster", 22)]).expect("writing to memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "NAME     N\na        1\nmünster  22\n"
        );
    }
}
