//! Puts the server together from its arguments, and runs it until it is told to stop.

use std::sync::Arc;

use mloop_cli::{Exit, Failure, Outcome, Stop};
use mloop_serving::{Drained, ServeError, Server, Settings};
use serde_json::json;

use crate::args::{Command, ServerArgs};

/// Listens and answers until `stop` is raised; with `--check`, only looks whether it could.
pub(crate) async fn serve(args: ServerArgs, stop: Stop) -> Result<Outcome, Failure> {
    let common = args.common;
    if common.config.is_some() || common.dry_run || common.as_of.is_some() {
        let message = "model_server has arguments only, and goes by the machine's clock: leave \
                       --config, --dry-run and --as-of out, and see model_server serve --help";
        return Err(Failure::new(Exit::Config, message));
    }
    let Command::Serve(args) = args.command;
    let settings = Settings::from(args);
    if common.check {
        let digest = mloop_serving::check(&settings).map_err(failure)?;
        return Ok(Outcome::new(Exit::Done, json!({"outcome": "checked", "digest": digest})));
    }
    let render = Arc::new(mloop_prometheus::encode);
    let server = Server::bind(settings, common.clock(), render).await.map_err(failure)?;
    let (exit, outcome, cut_off) = match server.serve(stop.raised()).await {
        Drained::Clean => (Exit::Done, "drained", 0),
        Drained::CutOff(connections) => (Exit::Stopped, "cut_off", connections),
    };
    Ok(Outcome::new(exit, json!({"outcome": outcome, "cut_off": cut_off})))
}

fn failure(error: ServeError) -> Failure {
    let exit = if error.is_transient() { Exit::Transient } else { Exit::Config };
    Failure::new(exit, error)
}
