//! Doing it, and undoing it.

use tokio::time::sleep;

use crate::brokers::Brokers;
use crate::cluster::Cluster;
use crate::disk::{self, Disk};
use crate::fault::{ASLEEP, AWAY, Fault, Link, Role, Signal};
use crate::part::Part;
use crate::proxy::Proxy;
use crate::whole::redis_master;

/// Proxies listen from here on.
const PROXIES: u16 = 700;

/// What a row is played on.
pub struct Stage<'a> {
    pub cluster: &'a Cluster,
    pub brokers: Brokers,
    /// Of one broker; why not, where there is none.
    pub disk: &'a Result<Disk, String>,
}

/// A fault that is ready to be done.
pub struct Harming<'a> {
    stage: &'a Stage<'a>,
    fault: Fault,
    /// Whom it meets, once that is known.
    part: Option<Part>,
    proxies: Vec<Proxy>,
}

impl<'a> Harming<'a> {
    /// Puts proxies where links are to be harmed.
    pub async fn prepare(stage: &'a Stage<'a>, fault: Fault) -> Result<Self, String> {
        let cluster = stage.cluster;
        let mut harming = Self { stage, fault, part: None, proxies: Vec::new() };
        let Fault::Link(_, link) = fault else { return Ok(harming) };
        let behind: &[u16] = match link {
            Link::Phones => &[443],
            Link::Gateway => &[501, 521],
            Link::Api => &[480],
            Link::History => &[42],
        };
        for (port, &number) in (PROXIES..).zip(behind) {
            harming.proxies.push(Proxy::start(cluster.port(port), cluster.port(number)).await);
        }
        let port = harming.proxies[0].port;
        match link {
            Link::Phones => {}
            Link::Gateway => {
                let (address, health) = (format!("127.0.0.1:{port}"), harming.proxies[1].port.to_string());
                cluster.run("balancer.sh", &["remove", "gateway", "1"]).await;
                cluster.run("balancer.sh", &["add", "gateway", "1", &address, &health]).await;
            }
            Link::Api | Link::History => {
                let setting = if link == Link::Api {
                    format!("gateway.api_url=http://127.0.0.1:{port}")
                } else {
                    format!("cassandra.nodes=127.0.0.1:{port}")
                };
                for part in near(link) {
                    part.stop(cluster).await?;
                    part.start_with(cluster, &setting).await?;
                }
            }
        }
        Ok(harming)
    }

    /// Where phones connect.
    pub fn edge(&self) -> String {
        match self.fault {
            Fault::Link(_, Link::Phones) => format!("localhost:{}", self.proxies[0].port),
            _ => self.stage.cluster.edge(),
        }
    }

    /// Finds out whom it meets.
    pub async fn aim(&mut self) -> Result<(), String> {
        let Stage { cluster, brokers, .. } = self.stage;
        self.part = match self.fault {
            Fault::Signal(_, role) => Some(match role {
                Role::Leader => Part::of("kafka", brokers.leader().await?),
                Role::Controller => Part::of("kafka", Brokers::controller(&cluster.directory)?),
                Role::Coordinator => Part::of("kafka", brokers.coordinator().await?),
                Role::Gateway => Part::of("gateway", 1),
                Role::Worker => Part::of("fanout", 1),
                Role::Sink => Part::of("history-sink", 1),
                Role::Redis => Part::of("redis", redis_master(cluster)?),
                Role::Cassandra => Part::cassandra(),
            }),
            Fault::DiskFull => Some(Part::of("kafka", disk::BROKER)),
            Fault::Link(..) => None,
        };
        Ok(())
    }

    /// Does it, and lets it last.
    pub async fn harm(&self) -> Result<(), String> {
        match (self.fault, &self.part) {
            (Fault::Signal(Signal::Kill, _), Some(part)) => {
                part.signal(self.stage.cluster, "-KILL").await?;
                sleep(AWAY).await;
            }
            (Fault::Signal(Signal::Stop, _), Some(part)) => {
                part.signal(self.stage.cluster, "-STOP").await?;
                sleep(ASLEEP).await;
            }
            (Fault::Signal(Signal::Term, _), Some(part)) => part.stop(self.stage.cluster).await?,
            (Fault::DiskFull, _) => {
                self.stage.disk.as_ref()?.fill()?;
                sleep(AWAY).await;
            }
            (Fault::Link(harm, _), _) => {
                self.proxies.iter().for_each(|proxy| proxy.set(Some(harm)));
                sleep(ASLEEP).await;
            }
            (Fault::Signal(..), None) => return Err("nobody was aimed at".to_owned()),
        }
        Ok(())
    }

    /// Ends it, and waits until whoever it met answers.
    pub async fn heal(&self) -> Result<(), String> {
        self.proxies.iter().for_each(|proxy| proxy.set(None));
        if let (Fault::DiskFull, Ok(disk)) = (self.fault, self.stage.disk) {
            disk.free()?;
        }
        let Some(part) = &self.part else { return Ok(()) };
        if let Fault::Signal(Signal::Stop, _) = self.fault
            && part.runs(self.stage.cluster).await
        {
            part.signal(self.stage.cluster, "-CONT").await?;
        }
        // A process that ended over it is started again, as a supervisor does.
        part.start(self.stage.cluster).await
    }

    /// Takes the proxies away.
    pub async fn undo(&self) -> Result<(), String> {
        let Fault::Link(_, link) = self.fault else { return Ok(()) };
        let cluster = self.stage.cluster;
        if link == Link::Gateway {
            cluster.run("balancer.sh", &["remove", "gateway", "1"]).await;
            cluster.run("balancer.sh", &["add", "gateway", "1"]).await;
        }
        for part in near(link) {
            part.stop(cluster).await?;
            part.start(cluster).await?;
        }
        Ok(())
    }

    /// Whom it met, for people.
    pub fn target(&self) -> String {
        match &self.part {
            Some(part) => format!("{} ({part})", self.fault.whom()),
            None => self.fault.whom().to_owned(),
        }
    }

    /// Whom it met.
    pub fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }
}

/// Who is told another address while there is a proxy.
fn near(link: Link) -> Vec<Part> {
    match link {
        Link::Phones | Link::Gateway => Vec::new(),
        Link::Api => vec![Part::of("gateway", 1), Part::of("gateway", 2)],
        Link::History => vec![Part::of("history-sink", 1), Part::of("history-sink", 2)],
    }
}
