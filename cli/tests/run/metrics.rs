//! What `/metrics` says.

/// The values of a metric on the lines that have this label; an empty one is on all.
pub fn values<'a>(text: &'a str, name: &'a str, label: &'a str) -> impl Iterator<Item = f64> + 'a {
    let of_name =
        text.lines().filter(move |line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let labelled = of_name.filter(move |line| line.contains(label));
    labelled.filter_map(|line| line.rsplit(' ').next()).map(|value| value.parse().expect("a number"))
}

/// Their sum.
pub fn sum(text: &str, name: &str, label: &str) -> f64 {
    values(text, name, label).sum()
}
