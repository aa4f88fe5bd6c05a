//! How a process begins and ends: one shutdown signal, and tasks that are all accounted for.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The one signal to stop. Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A shutdown that nobody has begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins at SIGTERM or SIGINT. A second signal ends the process at once with status 130, for whoever cannot wait
    /// for the drain. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses the signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::new();
        let begin = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutdown begins");
            begin.begin();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("second signal, not waiting for the drain");
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Begins the shutdown. Again is the same.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Returns once the shutdown has begun. Safe to drop and call again.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Whether it has begun.
    pub fn is_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A shutdown that begins with this one, or earlier by itself: for a part that is stopped alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// The token behind it, for libraries that take one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

/// The first task that failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailed {
    /// It returned although nobody had asked it to stop.
    #[error("task {name} ended although no shutdown had begun")]
    Ended {
        /// The name given at its start.
        name: String,
    },
    /// It returned an error.
    #[error("task {name} failed: {error:#}")]
    Error {
        /// The name given at its start.
        name: String,
        /// What it returned.
        error: anyhow::Error,
    },
    /// It panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The name given at its start.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// Tasks did not end within the grace time; asynchronous ones were aborted, threads go on until the process ends.
    #[error("not ended within the grace time: {}", names.join(", "))]
    Unfinished {
        /// The names of those tasks.
        names: Vec<String>,
    },
}

/// The tasks and threads of one service. A task that ends, fails or panics outside shutdown begins the shutdown, and is
/// the error of [`Tasks::join`]; an error or a panic during the shutdown is, too.
///
/// Dropping it aborts the asynchronous tasks.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    set: JoinSet<()>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<(u64, String)>,
    started: u64,
    first_failure: Option<TaskFailed>,
}

/// One running task's entry; strikes itself out.
struct Entry {
    id: u64,
    name: String,
    state: Arc<Mutex<State>>,
    shutdown: Shutdown,
}

impl Entry {
    fn ended(self, result: Result<Result<(), anyhow::Error>, Box<dyn Any + Send>>) {
        let Self { id, name, state, shutdown } = self;
        let failure = match result {
            Ok(Ok(())) if shutdown.is_begun() => None,
            Ok(Ok(())) => Some(TaskFailed::Ended { name }),
            Ok(Err(error)) => Some(TaskFailed::Error { name, error }),
            Err(panic) => Some(TaskFailed::Panicked { name, message: panic_message(panic.as_ref()) }),
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.retain(|(running, _)| *running != id);
        if let Some(failure) = failure {
            tracing::error!(error = %failure, "task failed");
            state.first_failure.get_or_insert(failure);
            drop(state);
            shutdown.begin();
        }
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, set: JoinSet::new(), state: Arc::default() }
    }

    /// The shutdown that these tasks begin and wait for.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs a future that ends only after the shutdown has begun.
    pub fn spawn<F, E>(&mut self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + 'static,
    {
        let entry = self.entry(name.into());
        let future = async move { future.await.map_err(Into::into) };
        self.set.spawn(async move {
            let result = AssertUnwindSafe(future).catch_unwind().await;
            entry.ended(result);
        });
    }

    /// Runs a function on a thread of its own, for work that blocks, such as polling a Kafka consumer. It must watch the
    /// shutdown itself: a thread cannot be aborted.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub fn spawn_thread<F, E>(&mut self, name: impl Into<String>, body: F) -> std::io::Result<()>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Into<anyhow::Error> + 'static,
    {
        let name = name.into();
        let (done, ended) = oneshot::channel::<()>();
        let entry = self.entry(name.clone());
        let id = entry.id;
        let started = std::thread::Builder::new().name(name).spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| body().map_err(Into::into)));
            entry.ended(result);
            // Nobody waits any more when the tasks were dropped.
            let _ = done.send(());
        });
        if let Err(error) = started {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).running.retain(|(running, _)| *running != id);
            return Err(error);
        }
        self.set.spawn(async move {
            let _ = ended.await;
        });
        Ok(())
    }

    /// Waits until the shutdown begins, by whatever cause, then at most `grace` for every task to end.
    ///
    /// # Errors
    /// The first task that failed; else the tasks that did not end in time.
    pub async fn join(mut self, grace: Duration) -> Result<(), TaskFailed> {
        self.shutdown.begun().await;
        let all = async { while self.set.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(grace, all).await.is_ok();
        self.set.abort_all();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = state.first_failure.take() {
            return Err(failure);
        }
        if in_time {
            return Ok(());
        }
        Err(TaskFailed::Unfinished { names: state.running.iter().map(|(_, name)| name.clone()).collect() })
    }

    fn entry(&self, name: String) -> Entry {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.started;
        state.started += 1;
        state.running.push((id, name.clone()));
        Entry { id, name, state: Arc::clone(&self.state), shutdown: self.shutdown.clone() }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    async fn until_begun(shutdown: Shutdown) -> Result<(), anyhow::Error> {
        shutdown.begun().await;
        Ok(())
    }

    /// Starts `task` beside one that behaves, and returns what the join says.
    async fn check<F>(task: F) -> Result<(), TaskFailed>
    where
        F: Future<Output = Result<(), anyhow::Error>> + Send + 'static,
    {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("good", until_begun(shutdown));
        tasks.spawn("bad", task);
        tasks.join(GRACE).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_is_the_error() {
        let failed = check(async { Ok(()) }).await.unwrap_err();
        assert_eq!(failed.to_string(), "task bad ended although no shutdown had begun");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_the_error() {
        let failed = check(async { Err(anyhow::anyhow!("cause").context("what")) }).await.unwrap_err();
        assert_eq!(failed.to_string(), "task bad failed: what: cause");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_the_error() {
        let failed = check(async { panic!("oh {}", 7) }).await.unwrap_err();
        assert_eq!(failed.to_string(), "task bad panicked: oh 7");
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_begins_before_anybody_joins() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("bad", async { Err::<(), _>(anyhow::anyhow!("cause")) });
        shutdown.begun().await;
        assert!(tasks.join(GRACE).await.is_err());
    }

    // Paused time would run ahead of the thread.
    #[tokio::test]
    async fn a_clean_end_is_no_error() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("good", until_begun(shutdown.clone()));
        let stop = shutdown.clone();
        tasks
            .spawn_thread("thread", move || {
                while !stop.is_begun() {
                    std::thread::yield_now();
                }
                Ok::<_, std::io::Error>(())
            })
            .unwrap();
        shutdown.begin();
        tasks.join(GRACE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_while_draining_is_an_error() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        let begun = shutdown.clone();
        tasks.spawn("flush", async move {
            begun.begun().await;
            Err::<(), _>(anyhow::anyhow!("3 reports not written"))
        });
        shutdown.begin();
        let failed = tasks.join(GRACE).await.unwrap_err();
        assert_eq!(failed.to_string(), "task flush failed: 3 reports not written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named_after_the_grace_time() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("good", until_begun(shutdown.clone()));
        tasks.spawn("stuck", std::future::pending::<Result<(), std::io::Error>>());
        shutdown.begin();
        let before = tokio::time::Instant::now();
        let failed = tasks.join(GRACE).await.unwrap_err();
        assert_eq!(failed.to_string(), "not ended within the grace time: stuck");
        assert_eq!(before.elapsed(), GRACE);
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_the_error() {
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.spawn_thread("poll", || -> Result<(), std::io::Error> { panic!("gone") }).unwrap();
        assert_eq!(tasks.join(GRACE).await.unwrap_err().to_string(), "task poll panicked: gone");
    }

    #[tokio::test]
    async fn a_child_begins_with_its_parent_and_not_the_other_way_round() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.begin();
        assert!(one.is_begun() && !parent.is_begun() && !two.is_begun());
        parent.begin();
        two.begun().await;
    }
}
