//! What is done, and to whom.

use std::fmt;
use std::time::Duration;

/// A signal to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It is gone for a while, then started again.
    Kill,
    /// It sleeps for 20 s and goes on where it was.
    Stop,
    /// It ends by itself and is started again at once.
    Term,
}

/// What a process is at the moment of the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The broker that leads partition 0 of the log.
    Leader,
    /// The broker that leads the controllers.
    Controller,
    /// The broker that coordinates the workers' group.
    Coordinator,
    Gateway,
    Worker,
    Sink,
    /// A master of the Redis Cluster.
    Redis,
    Cassandra,
}

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// All phones and the balancer.
    Phones,
    /// The balancer and one of the gateways, as if its host went away.
    Gateway,
    /// Both gateways and the API.
    Api,
    /// Both sinks and Cassandra.
    History,
}

/// What happens to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Every byte takes longer, and few of them pass in a second.
    Slow,
    /// Nothing passes, and nobody is told.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Signal(Signal, Role),
    /// The log directory of a broker has no room left.
    DiskFull,
    Link(Harm, Link),
}

/// A killed process is away for so long, and a full disk stays full.
pub const AWAY: Duration = Duration::from_secs(15);
/// A stopped process sleeps, and a link is slow or cut, for so long.
pub const ASLEEP: Duration = Duration::from_secs(20);

impl Fault {
    /// The whole matrix, in the order in which it is played.
    pub fn all() -> Vec<Self> {
        use {Harm as H, Link as L, Role as R, Signal as S};
        let roles = [R::Leader, R::Controller, R::Coordinator, R::Gateway, R::Worker, R::Sink, R::Redis, R::Cassandra];
        let signals = [S::Kill, S::Stop, S::Term];
        // First, while the brokers lead as many partitions each.
        let mut all = vec![Self::DiskFull];
        all.extend(roles.iter().flat_map(|&role| signals.map(|signal| Self::Signal(signal, role))));
        for link in [L::Phones, L::Gateway, L::Api, L::History] {
            all.extend([H::Slow, H::Cut].map(|harm| Self::Link(harm, link)));
        }
        all
    }

    /// What `cargo test` plays.
    pub fn few() -> Vec<Self> {
        use {Role as R, Signal as S};
        vec![Self::Signal(S::Kill, R::Leader), Self::Signal(S::Kill, R::Gateway), Self::Signal(S::Stop, R::Sink)]
    }

    /// What is done.
    pub fn what(self) -> &'static str {
        match self {
            Self::Signal(Signal::Kill, _) => "sigkill",
            Self::Signal(Signal::Stop, _) => "sigstop",
            Self::Signal(Signal::Term, _) => "sigterm",
            Self::DiskFull => "disk-full",
            Self::Link(Harm::Slow, _) => "slow-link",
            Self::Link(Harm::Cut, _) => "cut-link",
        }
    }

    /// To whom.
    pub fn whom(self) -> &'static str {
        match self {
            Self::Signal(_, Role::Leader) => "leader",
            Self::DiskFull => "broker",
            Self::Signal(_, Role::Controller) => "controller",
            Self::Signal(_, Role::Coordinator) => "coordinator",
            Self::Signal(_, Role::Gateway) => "gateway",
            Self::Signal(_, Role::Worker) => "worker",
            Self::Signal(_, Role::Sink) => "sink",
            Self::Signal(_, Role::Redis) => "redis",
            Self::Signal(_, Role::Cassandra) => "cassandra",
            Self::Link(_, Link::Phones) => "phones-balancer",
            Self::Link(_, Link::Gateway) => "balancer-gateway",
            Self::Link(_, Link::Api) => "gateways-api",
            Self::Link(_, Link::History) => "sinks-cassandra",
        }
    }

    /// A view that is wrong for longer was not settled: what a takeover takes, and where phones can hear nothing while the
    /// fault lasts, that long too.
    pub fn slack(self) -> Duration {
        let beyond = match self {
            Self::Link(_, Link::Phones | Link::Gateway) => ASLEEP,
            _ => Duration::ZERO,
        };
        Duration::from_secs(15) + beyond
    }
}

/// As it is named on the command line: `sigkill-leader`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.what(), self.whom())
    }
}
