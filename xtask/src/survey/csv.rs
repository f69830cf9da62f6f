//! A survey as a table for other programs (RFC 4180).

use super::record::Record;
use super::tally::Survey;

/// One line for each file, and one with the names of the columns.
pub fn text(survey: &Survey) -> String {
    let mut text = "file,outcome,code,functions,seconds,guest seconds,with,objects,tool\r\n".to_owned();
    for record in &survey.records {
        let line: Vec<String> = columns(record).iter().map(|column| quoted(column)).collect();
        text.push_str(&line.join(","));
        text.push_str("\r\n");
    }
    text
}

fn columns(record: &Record) -> [String; 9] {
    [
        record.file.clone(),
        record.outcome.name().to_owned(),
        record.codes.join(" "),
        record.functions.join(" "),
        format!("{:.1}", record.seconds),
        format!("{:.1}", record.guest_seconds),
        record.with.join(" "),
        record.units.to_string(),
        record.tool.clone(),
    ]
}

fn quoted(column: &str) -> String {
    if column.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", column.replace('"', "\"\""))
    } else {
        column.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::tests::survey;
    use super::*;

    #[test]
    fn one_line_a_file_with_all_columns() {
        let text = text(&survey());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), survey().records.len() + 1);
        assert_eq!(
            lines[2],
            "fs/b.c,refused,select.init-code select.data-changed,vmlinux:f,2.0,0.5,,1,abc"
        );
    }

    #[test]
    fn what_would_break_a_line_is_quoted() {
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"x\"\n"), "\"say \"\"x\"\"\n\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
