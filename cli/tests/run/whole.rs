//! Every service in one process on the real servers.

use super::{Running, Stack, free, strs, until_body};

pub struct Whole {
    pub stack: Stack,
    /// `host:port` of the gateway, and of its health and metrics.
    pub ws: String,
    pub admin: String,
    /// The same of the others, where health and metrics are too.
    pub api: String,
    pub fanout: String,
    pub sink: String,
    service: Running,
}

impl Whole {
    /// Starts it with these settings besides, such as `fanout.digest_every=3s`, and waits until it is ready.
    pub async fn start(further: &[&str]) -> Self {
        Self::on(Stack::new(), further).await
    }

    /// The same on other servers.
    pub async fn on(stack: Stack, further: &[&str]) -> Self {
        let (ws, admin, api, fanout, sink) = (free(), free(), free(), free(), free());
        let mut args = stack.args(&["all"]);
        let own = [
            format!("gateway.listen={ws}"),
            format!("gateway.admin_listen={admin}"),
            format!("gateway.api_url=http://{api}"),
            format!("api.listen={api}"),
            format!("fanout.admin_listen={fanout}"),
            format!("history_sink.admin_listen={sink}"),
        ];
        for set in own.iter().map(String::as_str).chain(further.iter().copied()) {
            args.extend(["--set".to_owned(), set.to_owned()]);
        }
        let service = Running::start(&strs(&args));
        for address in [&admin, &api, &fanout, &sink] {
            until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
        }
        Self { stack, ws, admin, api, fanout, sink, service }
    }

    /// Ends it, which must go well, and deletes what it made. Returns what it logged.
    pub async fn stop(self) -> String {
        let (code, log) = self.service.stop();
        assert_eq!(code, 0, "{log}");
        self.stack.clean().await;
        log
    }
}
