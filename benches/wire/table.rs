//! Figures side by side: one line for each of them, one column for each who is measured.

use std::fmt;

use serde::Serialize;

/// A table, whose first column is what the others are compared with.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    /// By column, and then by round.
    rounds: Vec<Vec<f64>>,
    cells: Vec<Cell>,
}

/// One figure of one column.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cell {
    value: Spread,
    /// To the first column, round by round.
    ratio: Option<Spread>,
}

/// The median of the rounds, and between what they lie.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    greatest: f64,
}

impl Table {
    pub(crate) fn new(
        title: impl Into<String>,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            title: title.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            lines: Vec::new(),
        }
    }

    /// Notes what a round was like.
    pub(crate) fn note(&mut self, what: &'static str, column: usize, value: f64) {
        let columns = self.columns.len();
        let at = self.lines.iter().position(|line| line.what == what);
        let at = at.unwrap_or_else(|| {
            self.lines.push(Line {
                what,
                rounds: vec![Vec::new(); columns],
                cells: Vec::new(),
            });
            self.lines.len() - 1
        });
        self.lines[at].rounds[column].push(value);
    }

    /// The middle of what was noted of this, by column.
    pub(crate) fn medians(&self, what: &str) -> Vec<f64> {
        let line = self.lines.iter().find(|line| line.what == what);
        let rounds = line.map_or(&[][..], |line| &line.rounds);
        rounds
            .iter()
            .map(|rounds| Spread::of(rounds).median)
            .collect()
    }

    /// Compares the columns, when all is noted.
    pub(crate) fn compare(&mut self) {
        for line in &mut self.lines {
            let (first, others) = line.rounds.split_first().expect("there are columns");
            let cell = |rounds: &Vec<f64>, is_compared: bool| Cell {
                value: Spread::of(rounds),
                ratio: is_compared.then(|| Spread::of_ratios(rounds, first)),
            };
            line.cells = vec![cell(first, false)];
            line.cells
                .extend(others.iter().map(|rounds| cell(rounds, true)));
        }
    }
}

impl Spread {
    pub(crate) fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
        Self {
            median: f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2)),
            least: at(0),
            greatest: at(sorted.len().saturating_sub(1)),
        }
    }

    fn of_ratios(rounds: &[f64], to: &[f64]) -> Self {
        let ratios: Vec<_> = rounds.iter().zip(to).map(|(one, to)| one / to).collect();
        Self::of(&ratios)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.columns.first().map_or("", String::as_str);
        writeln!(f, "\n{}", self.title)?;
        writeln!(f, "{:70}to {first}", "")?;
        for line in &self.lines {
            let mut what = line.what;
            for (column, cell) in self.columns.iter().zip(&line.cells) {
                let value = cell.value.to_string();
                write!(f, "  {what:19}{column:23}{value:26}")?;
                if let Some(ratio) = cell.ratio {
                    write!(f, "{ratio}")?;
                }
                writeln!(f)?;
                what = "";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median {
            large if large >= 1000.0 => 0,
            medium if medium >= 10.0 => 1,
            _ => 3,
        };
        write!(
            f,
            "{:.digits$} ({:.digits$}..{:.digits$})",
            self.median, self.least, self.greatest
        )
    }
}
