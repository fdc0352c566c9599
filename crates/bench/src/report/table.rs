/// A table in Markdown. The first column is text, the others are figures.
pub(crate) struct Table {
    text: String,
}

impl Table {
    pub(crate) fn new<S: AsRef<str>>(head: &[S]) -> Self {
        let mut table = Self { text: String::new() };
        table.row(head);
        table.text += "|---|";
        table.text += &"---:|".repeat(head.len().saturating_sub(1));
        table.text += "\n";
        table
    }

    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        self.text += &format!("| {} |\n", cells.join(" | "));
    }

    /// The table and an empty line.
    pub(crate) fn finish(self) -> String {
        self.text + "\n"
    }
}

/// A figure, or a dash if it is not finite.
pub(crate) fn figure(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "–".into() }
}

/// A value in thousands, with one decimal if it is small.
pub(crate) fn thousands(value: f64) -> String {
    let value = value / 1000.0;
    figure(value, if value < 10.0 { 1 } else { 0 })
}
