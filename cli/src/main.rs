//! The one binary of Nearcast: every service, and the commands of an operator.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod audit;
mod dead_letters;
mod demo;
mod failure;
mod migrate;
mod output;
mod parts;
mod reference;
mod services;
mod settings;
mod simulate;
mod token;
mod topics;
mod waiting;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::{self, Metrics, TelemetryConfig};

use crate::args::{Args, Command, ConfigCommand, TopicsCommand};
use crate::failure::Failure;
use crate::output::line;
use crate::services::Service;
use crate::settings::Settings;

/// The system's allocator keeps what a storm of connections took: a gateway's connections cost twice the memory with it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, not errors. Where the output has gone, nobody is to be told.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    // Two libraries bring a provider each; this is the one in use. A second call would fail, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "logging may not have started, and a person or a script is waiting for the reason"
)]
fn complain(failure: &Failure) {
    eprintln!("nearcast: {failure}");
}

fn run(args: Args) -> Result<(), Failure> {
    if let Command::Config { command: ConfigCommand::Default } = args.command {
        line(format_args!("{}", settings::DEFAULTS.trim_end()));
        return Ok(());
    }
    if let Command::Config { command: ConfigCommand::Env } = args.command {
        line(format_args!("{}", reference::environment(settings::DEFAULTS).trim_end()));
        return Ok(());
    }
    let settings = Settings::load(args.config.as_deref(), &args.set)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command(args.command, settings))
}

async fn command(command: Command, settings: Settings) -> Result<(), Failure> {
    match command {
        Command::Gateway => serve(settings, &[Service::Gateway], false).await,
        Command::Fanout => serve(settings, &[Service::Fanout], false).await,
        Command::HistorySink => serve(settings, &[Service::HistorySink], false).await,
        Command::Api => serve(settings, &[Service::Api], false).await,
        Command::All { embedded } => serve(settings, &Service::ALL, embedded).await,
        Command::Demo(args) => {
            let metrics = sparingly(&settings)?;
            demo::run(args, settings, metrics, Shutdown::on_signals()?).await
        }
        Command::Simulate(args) => {
            let metrics = sparingly(&settings)?;
            simulate::run(*args, settings, metrics, Shutdown::on_signals()?).await
        }
        Command::Audit(args) => {
            quietly(&settings)?;
            audit::run(*args, &settings).await
        }
        Command::DeadLetters { command } => {
            quietly(&settings)?;
            dead_letters::run(command, &settings).await
        }
        Command::Topics { command } => {
            quietly(&settings)?;
            match command {
                TopicsCommand::Create => topics::create(&settings).await,
                TopicsCommand::List => topics::list(&settings).await,
                TopicsCommand::Gc { keep, delete } => topics::gc(&settings, &keep, delete).await,
            }
        }
        Command::Migrate => {
            quietly(&settings)?;
            migrate::run(&settings).await
        }
        Command::Config { command: ConfigCommand::Show } => {
            line(format_args!("{}", settings.effective()?.trim_end()));
            Ok(())
        }
        Command::Config { .. } => {
            line(format_args!("the configuration is good"));
            Ok(())
        }
        Command::Token { sub, ttl, scope } => {
            line(format_args!("{}", token::sign(&settings, &sub, ttl, &scope)?));
            Ok(())
        }
    }
}

/// Telemetry, configuration, build, run, drain.
async fn serve(settings: Settings, services: &[Service], embedded: bool) -> Result<(), Failure> {
    let metrics = telemetry::init(&settings.telemetry)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = %serde_json::to_string(&settings)?, "starting");
    settings.warn_of_development_secrets(&services::listens(&settings, services));
    let shutdown = Shutdown::on_signals()?;
    let running = if embedded {
        let (running, addresses) = services::start_embedded(Arc::new(settings), metrics, shutdown).await?;
        tracing::info!(gateway = %addresses.gateway, api = %addresses.api, "runs without any server");
        running
    } else {
        // Whoever runs everything in one process has no other step in which topics and tables are made.
        let prepare = services.len() > 1;
        services::start(Arc::new(settings), metrics, services, prepare, shutdown).await?
    };
    running.ended().await
}

/// Logs of a command that answers on standard output: warnings alone.
fn quietly(settings: &Settings) -> Result<(), Failure> {
    telemetry::init(&TelemetryConfig { filter: "error".to_owned(), ..settings.telemetry.clone() })?;
    Ok(())
}

/// Logs of a command that shows what services in its process do: warnings, where all else would be information.
fn sparingly(settings: &Settings) -> Result<Metrics, Failure> {
    let mut telemetry = settings.telemetry.clone();
    if let Some(rest) = telemetry.filter.strip_prefix("info") {
        telemetry.filter = format!("warn{rest}");
    }
    Ok(telemetry::init(&telemetry)?)
}
