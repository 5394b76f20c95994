//! The incident that this product exists for, played again for people: what happens, what the agent says meanwhile, and how long
//! it took beside how long it took that day. Ends by itself; exit status 0 if all was as it should be.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use comfy_table::{LineStyle, Table, presets};
use tests::{
    child,
    replay::{self, JUDGED_AFTER, NOTICED_AFTER, Outcome},
};

fn main() -> ExitCode {
    child::init();
    let started = Instant::now();
    let say = |text: &str| eprintln!("[{:5.1} s] {text}", started.elapsed().as_secs_f32());
    match replay::run(&replay::WHOLE, &say) {
        Ok(outcome) => {
            print!("{}", account(&outcome, started.elapsed()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("incident: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn account(outcome: &Outcome, took: Duration) -> String {
    let incident = &outcome.incident;
    let mut times = Table::new();
    times.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-'))).set_header([
        "",
        "lossprobe",
        "that day",
        "promised",
    ]);
    let minutes = |seconds: f64| format!("{:.0} min", seconds / 60.0);
    times.add_row([
        "noticed after".to_owned(),
        format!("{:.1} s", outcome.noticed),
        minutes(NOTICED_AFTER),
        "10 s".into(),
    ]);
    times.add_row([
        "whose fault, after".to_owned(),
        format!("{:.1} s", outcome.judged),
        minutes(JUDGED_AFTER),
        "30 s".into(),
    ]);
    let states: Vec<String> =
        incident.states.iter().map(|change| format!("{:?}", change.state).to_lowercase()).collect();
    format!(
        "\n{times}\n\nincidents     1 ({})\nverdict       {}\n              {}\nstates        {}\npeak          {:.1} % of segments lost\naffected      {}\nnot affected  {}\nits folder    {}\nall of it in  {:.0} s\n",
        incident.id,
        incident.verdict.id(),
        incident.statement.sentence,
        states.join(", "),
        100.0 * incident.peak.ratio,
        incident.affected.join(", "),
        incident.unaffected.join(", "),
        outcome.files.join(", "),
        took.as_secs_f32(),
    )
}
