//! The command `lossprobe`.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use probe_user::{
    agent, analyze,
    cli::{Cli, Command, ControlArgs, INTERRUPTED, Internal, LogFormat, exit_code},
    config::{CaptureConfig, Config, StatsConfig, WatchConfig, control_socket},
    control::{self, Order},
    export::metrics,
    inspect::{capture, doctor, explain, flows, incidents, report, senders, verdict, watch},
    standalone,
};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Where nobody can read it the code still says it.
            let _ = writeln!(std::io::stderr(), "lossprobe: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Agent(args) => {
            let config = Config::from_args(&args)?;
            log_to_stderr(config.log_format, config.log_level);
            agent::run(config)?;
        }
        Command::Stats(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            let config = StatsConfig::from_args(&args)?;
            if config.senders { senders::run(&config)? } else { standalone::run(config)? }
        }
        Command::Doctor(args) => {
            let config = Config::from_args(&args.for_agent())?;
            // Its findings are its output.
            log_to_stderr(LogFormat::Text, LevelFilter::OFF);
            if !doctor::run(&config, args.output)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Pause(args) => order(Order::Pause, &args)?,
        Command::Resume(args) => order(Order::Resume, &args)?,
        Command::Detach(args) => order(Order::Detach, &args)?,
        Command::Watch(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            watch::run(&WatchConfig::from_args(&args)?)?;
        }
        Command::Capture(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            capture::run(&CaptureConfig::from_args(&args)?)?;
        }
        Command::Flows(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            flows::run(&control_socket(args.socket.as_deref())?, args.top as usize, args.output)?;
        }
        Command::Incidents(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            incidents::run(&args)?;
        }
        Command::Report(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            report::run(&args)?;
        }
        Command::Verdict(args) => {
            log_to_stderr(LogFormat::Text, LevelFilter::WARN);
            return Ok(ExitCode::from(verdict::run(&args)?));
        }
        Command::Explain(args) => explain::run(&args)?,
        Command::Analyze(args) => {
            if !analyze::run(&args)? {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        Command::Internal(Internal::MetricsTable) => {
            print!("{}", metrics::table());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn order(order: Order, args: &ControlArgs) -> anyhow::Result<()> {
    log_to_stderr(LogFormat::Text, LevelFilter::WARN);
    control::run(order, &control_socket(args.socket.as_deref())?)
}

fn log_to_stderr(format: LogFormat, level: LevelFilter) {
    use std::io::IsTerminal as _;
    // Where nobody can read it any more it is lost, and nothing else.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false);
    let log = log.with_max_level(level).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
