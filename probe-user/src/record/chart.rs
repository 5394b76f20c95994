//! A line graph as SVG that stands inside a page. Its colours are the page's custom properties, so that one graph serves light
//! and dark paper; plotters (0.3) writes colours into every element, and would need two.
//!
//! ```text
//! --line-1 … --line-3 lines   --grid grid   --quiet figures and marks   --text title
//! ```

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// Lines that have a colour of their own.
pub const MOST_LINES: usize = 3;
/// Marks that are drawn; the first ones.
const MOST_MARKS: usize = 12;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 30.0;
/// Seconds between figures of the time axis: the first that needs no more than [`MOST_TIMES`].
const TIME_STEPS: [u32; 17] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200];
const MOST_TIMES: f64 = 9.0;
const MOST_VALUES: f64 = 5.0;

/// A graph over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows, with the unit of its values.
    pub title: String,
    /// Behind each value: `%`, or nothing.
    pub unit: &'static str,
    /// What is at 0 s, if it is known; else times are shown in seconds.
    pub begin: Option<Timestamp>,
    /// At most [`MOST_LINES`].
    pub lines: Vec<Line>,
    /// Instants to be seen in it.
    pub marks: Vec<Mark>,
}

/// One line of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// What it is; shown where there is more than one.
    pub name: String,
    /// Seconds, ascending, and values of 0 or more. Where the value is not known (no number), the line has a gap.
    pub points: Vec<(f64, f64)>,
}

/// An instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// When.
    pub seconds: f64,
    /// What, in a word.
    pub name: String,
}

impl Chart {
    /// Whether there is anything to draw: two points that are numbers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points().nth(1).is_none()
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.lines.iter().take(MOST_LINES).flat_map(|line| line.points.iter().copied());
        all.filter(|(seconds, value)| seconds.is_finite() && value.is_finite())
    }

    /// The graph as an element of a page.
    #[must_use]
    pub fn svg(&self) -> String {
        let ends = |ends: (f64, f64), seconds: f64| (ends.0.min(seconds), ends.1.max(seconds));
        let (from, to) = self.points().map(|(seconds, _)| seconds).fold((f64::INFINITY, f64::NEG_INFINITY), ends);
        let highest = self.points().map(|(_, value)| value).fold(0.0, f64::max);
        let plan = Plan::new((from, to), highest);
        let title = escape(&self.title);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\"><title>{title}</title>\
             <text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>\n"
        );
        self.grid(&mut svg, &plan);
        self.marks(&mut svg, &plan);
        for (line, number) in self.lines.iter().zip(1..MOST_LINES + 1) {
            for run in line.points.split(|(seconds, value)| !seconds.is_finite() || !value.is_finite()) {
                // One point alone is a line to itself: a dot.
                let run = run.iter().chain(run.first().filter(|_| run.len() == 1));
                let points: Vec<String> =
                    run.map(|(seconds, value)| format!("{:.1},{:.1}", plan.x(*seconds), plan.y(*value))).collect();
                if !points.is_empty() {
                    let points = points.join(" ");
                    let _infallible = writeln!(svg, "<polyline class=\"line l{number}\" points=\"{points}\"/>");
                }
            }
        }
        if self.lines.len() > 1 {
            self.legend(&mut svg);
        }
        svg + "</svg>\n"
    }

    fn grid(&self, svg: &mut String, plan: &Plan) {
        let right = WIDTH - RIGHT;
        for value in plan.values() {
            let y = plan.y(value);
            let _infallible = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"figure\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}{}</text>",
                LEFT - 6.0,
                y + 4.0,
                figure(value, plan.value_step),
                self.unit
            );
        }
        for seconds in plan.times(self.begin) {
            let _infallible = writeln!(
                svg,
                "<text class=\"figure\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                plan.x(seconds),
                HEIGHT - 10.0,
                self.time(seconds, plan.time_step)
            );
        }
    }

    fn marks(&self, svg: &mut String, plan: &Plan) {
        let inside = self.marks.iter().filter(|mark| (plan.from..=plan.to).contains(&mark.seconds));
        let bottom = HEIGHT - BOTTOM;
        let mut free_from = [f64::NEG_INFINITY; 2];
        for mark in inside.take(MOST_MARKS) {
            let x = plan.x(mark.seconds);
            let _infallible = writeln!(svg, "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            // What would stand on another word is left out: the table below the graph has it.
            let width = 7.0 * mark.name.chars().count() as f64;
            let (begin, anchor) = if x + width > WIDTH - RIGHT { (x - width, "end") } else { (x, "start") };
            if let Some(row) = free_from.iter().position(|free| begin >= *free) {
                free_from[row] = begin + width + 6.0;
                let y = TOP - 14.0 + 11.0 * row as f64;
                let name = escape(&mark.name);
                let _infallible = writeln!(
                    svg,
                    "<text class=\"figure\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{name}</text>"
                );
            }
        }
    }

    fn legend(&self, svg: &mut String) {
        let mut x = WIDTH - RIGHT;
        for (line, number) in self.lines.iter().zip(1..MOST_LINES + 1).rev() {
            x -= 7.0 * line.name.chars().count() as f64;
            let name = escape(&line.name);
            let _infallible = writeln!(
                svg,
                "<path class=\"line l{number}\" d=\"M{:.1} 12h14\"/><text class=\"figure\" x=\"{x:.1}\" y=\"16\">{name}</text>",
                x - 20.0
            );
            x -= 36.0;
        }
    }

    /// A time of the axis: UTC, with seconds where the axis needs them.
    fn time(&self, seconds: f64, step: f64) -> String {
        match self.begin.and_then(|begin| begin.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()) {
            Some(time) => time.strftime(if step < 60.0 { "%H:%M:%S" } else { "%H:%M" }).to_string(),
            None => format!("{seconds} s"),
        }
    }
}

/// Where times and values stand.
struct Plan {
    from: f64,
    to: f64,
    highest: f64,
    time_step: f64,
    value_step: f64,
}

impl Plan {
    fn new((from, to): (f64, f64), highest: f64) -> Self {
        let (from, to) = if from < to { (from, to) } else { (0.0, 1.0) };
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let span = to - from;
        let times = TIME_STEPS.map(f64::from).into_iter().find(|step| span / step <= MOST_TIMES);
        let value_step = round_step(highest / MOST_VALUES);
        Self {
            from,
            to,
            highest: (highest / value_step).ceil() * value_step,
            time_step: times.unwrap_or_else(|| (span / MOST_TIMES / 86_400.0).ceil() * 86_400.0),
            value_step,
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds - self.from) / (self.to - self.from) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value.clamp(0.0, self.highest) / self.highest * (HEIGHT - TOP - BOTTOM)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        (0..=(self.highest / self.value_step).round() as u32).map(|number| f64::from(number) * self.value_step)
    }

    /// Round times of day, so many that none is left out.
    fn times(&self, begin: Option<Timestamp>) -> impl Iterator<Item = f64> {
        let past_round = begin.map_or(0.0, |begin| begin.as_millisecond() as f64 / 1_000.0).rem_euclid(self.time_step);
        let first = ((self.from + past_round) / self.time_step).ceil() * self.time_step - past_round;
        let times = (0..=MOST_TIMES as u32 + 1).map(move |number| first + f64::from(number) * self.time_step);
        times.filter(|seconds| *seconds <= self.to)
    }
}

/// 1, 2 or 5 times a power of ten, not less than this.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= least).unwrap_or(power * 10.0)
}

/// A value of the axis, with as many decimals as steps need.
fn figure(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    if value >= 1e6 { format!("{}M", value / 1e6) } else { format!("{value:.decimals$}") }
}

/// Text for a place in a page, also inside quotes; control characters become a mark, since no page may have them.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "lost <segments>".to_owned(),
            unit: "%",
            begin: Some("2024-01-18T10:40:20Z".parse().unwrap()),
            lines: vec![Line { name: "a".to_owned(), points }],
            marks: Vec::new(),
        }
    }

    fn texts(svg: &str) -> Vec<&str> {
        let texts = svg.split("<text ").skip(1).filter_map(|text| text.split(['<', '>']).nth(1));
        texts.collect()
    }

    #[test]
    fn round_times_and_values() {
        let svg = chart(vec![(0.0, 0.0), (60.0, 7.3), (120.0, 3.0)]).svg();
        let times = ["10:40:30", "10:40:45", "10:41:00", "10:41:15", "10:41:30", "10:41:45", "10:42:00", "10:42:15"];
        let expected = [&["lost &lt;segments&gt;", "0%", "2%", "4%", "6%", "8%"][..], &times].concat();
        assert_eq!(texts(&svg), expected);
        // The plot is 780 by 186, from 64 and 230 on; 7.3 of 8.
        assert!(svg.contains("points=\"64.0,230.0 454.0,60.3 844.0,160.2\""), "{svg}");
        let svg = Chart { begin: None, unit: "", ..chart(vec![(-10.0, 0.001), (10.0, 0.0)]) }.svg();
        let values = ["0.0000", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010"];
        assert_eq!(texts(&svg)[1..7], values);
        assert_eq!(texts(&svg)[7..], ["-10 s", "-5 s", "0 s", "5 s", "10 s"]);
    }

    #[test]
    fn lengths_of_all_kinds() {
        for span in [0.5, 1.0, 59.0, 3_600.0, 82_200.0, 86_400.0 * 40.0] {
            let svg = chart(vec![(0.0, 1.0), (span, 2e9)]).svg();
            let texts = texts(&svg);
            let times = texts.iter().filter(|text| text.contains(':')).count();
            assert!(times <= 11 && (times >= 3 || span < 2.0), "{span}: {texts:?}");
            assert!(texts.contains(&"2000M%"), "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let odd = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, 0.5)];
        assert!(chart(odd.clone()).is_empty() && chart(Vec::new()).is_empty());
        for svg in [chart(odd).svg(), chart(Vec::new()).svg(), Chart::default().svg()] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let svg = chart(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 1.0)]).svg();
        assert_eq!(svg.matches("<polyline").count(), 2, "nothing is drawn through what is not known");
        assert!(svg.contains("points=\"64.0,44.0 64.0,44.0\""), "{svg}");
    }

    #[test]
    fn marks_do_not_stand_on_each_other() {
        let mark = |(seconds, name): (f64, &str)| Mark { seconds, name: name.to_owned() };
        let marks = [(0.0, "onset"), (0.5, "\"detected\""), (1.0, "judged"), (99.9, "closed"), (500.0, "far")];
        let chart = Chart { marks: marks.map(mark).to_vec(), ..chart(vec![(0.0, 1.0), (100.0, 2.0)]) };
        let svg = chart.svg();
        assert_eq!(svg.matches("class=\"mark\"").count(), 4, "one is outside");
        let shown = |name: &str| texts(&svg).contains(&name);
        assert!(shown("onset") && shown("&quot;detected&quot;") && shown("closed") && !shown("judged"), "{svg}");
    }

    #[test]
    fn several_lines_have_names() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let chart = Chart { lines: ["in", "out", "inside", "no more"].map(line).to_vec(), ..Chart::default() };
        let svg = chart.svg();
        assert_eq!(svg.matches("<polyline").count(), MOST_LINES);
        assert!(texts(&svg).ends_with(&["inside", "out", "in"]), "{:?}", texts(&svg));
    }
}
