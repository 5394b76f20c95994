//! Tables of what was made and what was found, filled by trials that run at the same time and printed when all is over.

use std::sync::{Mutex, PoisonError};

use comfy_table::{CellAlignment, LineStyle, Table, presets};

/// A table of `N` columns.
pub(super) struct Ledger<const N: usize> {
    header: [&'static str; N],
    /// Columns of numbers.
    numbers: &'static [usize],
    lines: Mutex<Vec<[String; N]>>,
}

impl<const N: usize> Ledger<N> {
    pub(super) const fn new(header: [&'static str; N], numbers: &'static [usize]) -> Self {
        Self { header, numbers, lines: Mutex::new(Vec::new()) }
    }

    /// Adds lines, together: other trials run at the same time.
    pub(super) fn note(&self, lines: impl IntoIterator<Item = [String; N]>) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
    }

    /// All lines so far; empty when there is none.
    pub(super) fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
        table.set_header(self.header);
        for number in self.numbers {
            if let Some(column) = table.column_mut(*number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.add_rows(lines.iter());
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }
}
