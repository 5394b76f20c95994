//! Explanations and lists for people.

use std::fmt::Write as _;

use super::{Advice, Elsewhere, Explanation, List};

/// Columns of a line where there is no terminal, and the most on a wide one: longer lines are hard to read.
pub(super) const WIDTH: usize = 100;
/// Fewest columns that text is folded to.
const NARROWEST: usize = 40;

pub(super) struct Page {
    pub(super) width: usize,
    pub(super) colour: bool,
}

impl Page {
    pub(super) fn explanations(&self, found: &[Explanation]) -> String {
        found.iter().map(|explanation| self.explanation(explanation)).collect::<Vec<_>>().join("\n")
    }

    fn explanation(&self, explanation: &Explanation) -> String {
        let mut text = String::new();
        match explanation {
            Explanation::DropReason { name, class, in_this_kernel, new, explained_by, advice } => {
                self.title(&mut text, name, &format!("a drop reason of class {class}"));
                if *new {
                    self.fold(&mut text, "  ", "This kernel has it, and this version of lossprobe does not know it.");
                } else if *in_this_kernel == Some(false) {
                    self.fold(&mut text, "  ", "The running kernel does not have it.");
                }
                if *explained_by == "class" {
                    self.fold(&mut text, "  ", &format!("What holds for the whole class {class}:"));
                }
                self.advice(&mut text, advice);
            }
            Explanation::MalformedReason { name, severity, layer, scope, standard, advice, exceptions, elsewhere } => {
                self.title(&mut text, name, &format!("a malformed reason ({layer}, {severity}, {scope})"));
                self.meaning(&mut text, advice);
                self.items(&mut text, "Legitimate exceptions", exceptions);
                self.next_steps(&mut text, advice);
                self.elsewhere(&mut text, elsewhere);
                self.heading(&mut text, "Reference");
                self.fold(&mut text, "  ", standard);
            }
            Explanation::RetransmitType { name, advice } => {
                self.title(&mut text, name, "a type of TCP's retransmits");
                self.advice(&mut text, advice);
            }
            Explanation::WireEvent { name, advice } => {
                self.title(&mut text, name, "an event of followed TCP connections");
                self.advice(&mut text, advice);
            }
            Explanation::LossCause { name, place, class, advice } => {
                let class = if class.is_empty() { String::new() } else { format!(", class {class}") };
                self.title(&mut text, name, &format!("a cause of losses (place {place}{class})"));
                self.advice(&mut text, advice);
            }
            Explanation::DropClass { name, reasons, advice } => {
                self.title(&mut text, name, "a class of drop reasons");
                self.advice(&mut text, advice);
                self.heading(&mut text, "Reasons");
                self.fold(&mut text, "  ", &reasons.join(" "));
            }
            Explanation::Verdict { name, advice } => {
                self.title(&mut text, name, "a verdict");
                self.advice(&mut text, advice);
            }
        }
        text
    }

    fn advice(&self, to: &mut String, advice: &Advice) {
        self.meaning(to, advice);
        self.next_steps(to, advice);
    }

    fn meaning(&self, to: &mut String, advice: &Advice) {
        self.fold(to, "  ", &advice.meaning);
        self.items(to, "Usual causes", &advice.causes);
    }

    /// A section, or nothing where there is nothing to say.
    fn items(&self, to: &mut String, heading: &str, items: &[&str]) {
        if !items.is_empty() {
            self.heading(to, heading);
        }
        for item in items {
            let mut folded = String::new();
            self.fold(&mut folded, "    ", item);
            to.push_str("  - ");
            to.push_str(folded.trim_start());
        }
    }

    fn elsewhere(&self, to: &mut String, elsewhere: &Elsewhere) {
        let lists = [
            ("Wireshark", elsewhere.wireshark, " or "),
            ("Suricata", elsewhere.suricata, ", "),
            ("Kernel", elsewhere.kernel, ", "),
        ];
        self.heading(to, "Elsewhere");
        for (who, names, separator) in lists {
            let names = if names.is_empty() { "no name for it".to_owned() } else { names.join(separator) };
            self.fold(to, "  ", &format!("{who}: {names}"));
        }
    }

    fn next_steps(&self, to: &mut String, advice: &Advice) {
        self.heading(to, "Next steps");
        for step in &advice.next_steps {
            // A command is typed as it stands: never folded.
            let _infallible = writeln!(to, "  {}", self.bold(&step.command));
            self.fold(to, "      ", &step.purpose);
        }
    }

    fn title(&self, to: &mut String, name: &str, what: &str) {
        let _infallible = writeln!(to, "{}: {what}\n", self.bold(name));
    }

    fn heading(&self, to: &mut String, heading: &str) {
        let _infallible = writeln!(to, "\n{}:", self.bold(heading));
    }

    fn bold(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Words of `text`, as many on a line as there is room for.
    fn fold(&self, to: &mut String, indent: &str, text: &str) {
        let width = self.width.clamp(NARROWEST, WIDTH);
        let mut column = 0;
        for word in text.split_whitespace() {
            let word_columns = word.chars().count();
            if column > 0 && column + 1 + word_columns > width {
                to.push('\n');
                column = 0;
            }
            let gap = if column == 0 { indent } else { " " };
            to.push_str(gap);
            to.push_str(word);
            column += gap.len() + word_columns;
        }
        to.push('\n');
    }

    pub(super) fn list(&self, list: &List) -> String {
        let mut sections = Vec::new();
        if let Some(drops) = &list.drops {
            let mut text = self.bold("Drop reasons") + "\n";
            let width = drops.iter().map(|drop| drop.name.len()).max().unwrap_or(0);
            for drop in drops {
                let elsewhere = if drop.in_this_kernel == Some(false) { "  (not in this kernel)" } else { "" };
                let _infallible = writeln!(text, "  {:width$}  {}{elsewhere}", drop.name, drop.class);
            }
            sections.push(text);
        }
        if let Some(reasons) = &list.reasons {
            let mut text = self.bold("Malformed reasons") + "\n";
            let width = reasons.iter().map(|reason| reason.name.len()).max().unwrap_or(0);
            for reason in reasons {
                let (layer, severity, scope) = (reason.layer, reason.severity, reason.scope);
                let _infallible = writeln!(text, "  {:width$}  {layer:8}  {severity:7}  {scope}", reason.name);
            }
            sections.push(text);
        }
        if let Some(causes) = &list.causes {
            let mut text = self.bold("Other causes in `stats --losses`") + "\n";
            let width = causes.iter().map(|cause| cause.name.len()).max().unwrap_or(0);
            for cause in causes {
                let _infallible = writeln!(text, "  {:width$}  {}", cause.name, cause.place);
            }
            sections.push(text);
        }
        let named = [
            ("Types of TCP's retransmits", &list.retransmits),
            ("Events of followed TCP connections", &list.events),
            ("Classes of drop reasons", &list.classes),
            ("Verdicts", &list.verdicts),
        ];
        for (title, lines) in named.into_iter().filter_map(|(title, lines)| Some((title, lines.as_ref()?))) {
            let mut text = self.bold(title) + "\n";
            let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
            for line in lines {
                let mut folded = String::new();
                self.fold(&mut folded, &" ".repeat(width + 4), line.meaning);
                let _infallible = write!(text, "  {:width$}  {}", line.name, folded.trim_start());
            }
            sections.push(text);
        }
        sections.join("\n")
    }
}
