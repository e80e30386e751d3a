//! The answers to several questions, side by side.

use super::answer::{Answer, grouped};
use master::table::words::{duration_us, size};
use master::table::{Cell, Paint, Table};

/// One row for each answer: what was carried, how long it took, what each message costs.
#[must_use]
pub fn render(answers: &[Answer], paint: Paint) -> String {
    let mut table = Table::new(&[
        "what",
        ">carried",
        "bound",
        ">p50",
        ">p99",
        ">CPU each",
        ">memory",
        "gives out first",
    ]);
    for answer in answers {
        let best = answer.best();
        let cell = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".to_owned()));
        let least = if answer.is_least() { "≥ " } else { "" };
        table.row(vec![
            Cell::from(answer.question.unit()),
            Cell::from(format!("{least}{}", grouped(answer.carried.into()))),
            Cell::from(answer.bound.clone()),
            cell(best.map(|step| duration_us(step.latency.p50_us))),
            cell(best.map(|step| duration_us(step.latency.p99_us))),
            cell(best.and_then(|step| step.master_us_each).map(|us| format!("{us:.0}us"))),
            cell(best.and_then(|step| step.master_bytes).map(size)),
            cell(answer.constraint.as_ref().map(|constraint| match constraint.binds() {
                true => constraint.resource.to_string(),
                false => format!("nothing; most used: {}", constraint.resource),
            })),
        ]);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::answer;
    use super::*;

    #[test]
    fn each_answer_is_a_row() {
        let text = render(&[answer(), answer()], Paint { colour: false });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.lines().all(|line| line.contains("carried") || line.contains("12,500")),
            "{text}"
        );
    }
}
