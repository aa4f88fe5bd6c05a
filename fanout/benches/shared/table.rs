//! Rows as a file and as tables.

use std::path::Path;

use serde_json::{Value, json};

/// Writes `{"rows": […]}`.
pub fn write(path: &Path, rows: &[Value]) {
    std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the target folder can be written");
    let text = serde_json::to_string_pretty(&json!({ "rows": rows })).expect("figures are JSON");
    std::fs::write(path, text + "\n").expect("the target folder can be written");
}

/// A column: what stands above it, the row's figure, what it is divided by, and digits after the point.
pub type Column = (&'static str, &'static str, f64, usize);

/// Prints rows as a plain table.
pub fn table(title: &str, columns: &[Column], rows: &[&Value]) {
    println!("\n{title}\n");
    let name = |row: &Value| row["case"].as_str().unwrap_or_default().to_owned() + tls(row);
    let width = rows.iter().map(|row| name(row).len() + 1).max().unwrap_or(0).max(13);
    let mut line = format!("{:<width$}", "case");
    for (head, ..) in columns {
        line += &format!("{head:>12}");
    }
    println!("{line}");
    for row in rows {
        let mut line = format!("{:<width$}", name(row));
        for &(_, field, unit, digits) in columns {
            let figure = number(row, field) / unit;
            line += &if figure.is_nan() { format!("{:>12}", "") } else { format!("{figure:>12.digits$}") };
        }
        println!("{line}");
    }
}

fn tls(row: &Value) -> &'static str {
    if row["tls"] == true { " tls" } else { "" }
}

/// A figure of a row.
pub fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or(f64::NAN)
}
