//! Tables and histograms as plain text: the same on a terminal and in a file.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{format, visible};

/// A table with a header; columns of numbers are right-aligned. Cells are never wrapped or cut, and each is one line ([`visible`]).
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if header.iter().any(|h| !h.is_empty()) {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)));
    }
    let numeric = |s: &str| s.starts_with(|c: char| c.is_ascii_digit()) || s.is_empty();
    for column in 1..header.len() {
        let numbers = rows
            .iter()
            .all(|r| r.get(column).is_none_or(|cell| numeric(cell)));
        if let Some(column) = table.column_mut(column).filter(|_| numbers) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// A bar chart of counts by length, in at most `bins` bars of equal width.
#[must_use]
pub fn histogram(counts: &BTreeMap<u16, u64>, bins: usize) -> String {
    const WIDTH: usize = 42;
    let (Some((&low, _)), Some((&high, _))) = (counts.first_key_value(), counts.last_key_value())
    else {
        return "  (no rows)\n".into();
    };
    let span = usize::from(high) - usize::from(low) + 1;
    let width = span.div_ceil(bins.max(1));
    let mut bars = vec![0u64; span.div_ceil(width)];
    for (&length, &count) in counts {
        bars[(usize::from(length) - usize::from(low)) / width] += count;
    }
    let most = bars.iter().copied().max().unwrap_or(1).max(1);
    let total: u64 = bars.iter().sum();
    let mut out = String::new();
    for (i, &count) in bars.iter().enumerate() {
        let first = usize::from(low) + i * width;
        let last = (first + width - 1).min(usize::from(high));
        let label = if first == last {
            format!("{first}")
        } else {
            format!("{first}–{last}")
        };
        let share = format::percent(count as f64 / total.max(1) as f64);
        out.push_str(&format!(
            "  {label:>11} │{:<WIDTH$} {:>13} {share:>7}\n",
            bar(count, most, WIDTH),
            format::count(count)
        ));
    }
    out
}

/// A bar of eighths of a character.
fn bar(count: u64, most: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count as f64 / most as f64 * (width * 8) as f64).round() as usize;
    // What is there is seen.
    let eighths = if count > 0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_are_right_aligned() {
        let rows = [
            vec!["rows".to_owned(), "1,234".into()],
            vec!["tokens".into(), "7".into()],
        ];
        assert_eq!(
            table(&["", "train"], &rows),
            "         train\n rows    1,234\n tokens      7\n"
        );
        let rows = [vec!["a\u{202e}\nb".to_owned(), "x".into()]];
        assert_eq!(table(&["", ""], &rows), " a\\u{202e}\\nb  x\n");
    }

    #[test]
    fn bars_are_in_proportion() {
        let counts = BTreeMap::from([(10, 400), (11, 0), (19, 100), (29, 1)]);
        let text = histogram(&counts, 2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("10–19")
                && lines[0].contains(&"█".repeat(42))
                && lines[0].contains("500"),
            "{text}"
        );
        assert!(
            lines[1].contains("20–29") && lines[1].contains('▏') && lines[1].contains("0.2 %"),
            "{text}"
        );
        assert_eq!(histogram(&BTreeMap::new(), 5), "  (no rows)\n");
    }
}
