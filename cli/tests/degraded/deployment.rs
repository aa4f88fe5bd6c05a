//! The deployment, and what it says about itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::phone::Phone;
use crate::run::phones::Phones;
use crate::run::whole::Whole;
use crate::run::{PATIENCE, Stack, good, metrics, strs};

/// A friend's move is seen within this, whatever is away: one core of a busy machine takes a part of it.
const LIVE: Duration = Duration::from_secs(2);

/// Every service in one process.
pub struct Deployment {
    pub whole: Whole,
    http: reqwest::Client,
}

/// What a call of the REST API was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{self:?}");
        assert!(self.body["message"].is_string(), "{self:?}");
    }
}

impl Deployment {
    /// On these servers, with these settings besides. The gateway does not spare anybody a rush at its end.
    pub async fn start(stack: Stack, further: &[&str]) -> Self {
        let further = [&["gateway.drain_spread_ms=0"], further].concat();
        Self { whole: Whole::on(stack, &further).await, http: reqwest::Client::new() }
    }

    pub fn token(&self, user: &str) -> String {
        good(&strs(&self.whole.stack.args(&["token", "--sub", user]))).trim().to_owned()
    }

    pub async fn call(&self, method: &str, user: &str, path: &str, body: Option<Value>) -> Answer {
        let url = format!("http://{}{path}", self.whole.api);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(self.token(user));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        Answer { status, body: serde_json::from_str(&text).unwrap_or_default() }
    }

    pub async fn befriend(&self, one: &str, others: &[&str]) {
        self.call("GET", one, "/v1/me", None).await.good();
        for other in others {
            self.call("GET", other, "/v1/me", None).await.good();
            self.call("POST", one, &format!("/v1/friends/{other}/request"), None).await.good();
            self.call("POST", other, &format!("/v1/friends/{one}/accept"), None).await.good();
        }
    }

    /// A phone that has its list and is the `place`th of a row of people who are 11 m apart.
    pub async fn phone(&self, user: &str, device: &'static str, place: u32) -> Phone {
        Phone::reporting(&self.whole.ws, &self.token(user), device, at(place)).await
    }

    /// Audited phones beside all else, for so long, once they have all come.
    pub async fn phones(&self, ledger: &tempfile::NamedTempFile, seconds: u32, further: &[&str]) -> Phones {
        let mut options = vec![
            format!("--ws=ws://{}/v1/ws", self.whole.ws),
            format!("--api=http://{}", self.whole.api),
            format!("--ledger={}", ledger.path().display()),
            format!("--duration={seconds}s"),
            "--friends=6".to_owned(),
            "--report-every=1s".to_owned(),
        ];
        options.extend(further.iter().map(|option| (*option).to_owned()));
        let before = self.sessions().await;
        let phones = Phones::start(20, &options);
        let begun = Instant::now();
        while self.sessions().await < before + 20.0 {
            assert!(begun.elapsed() < PATIENCE, "not all phones have come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        phones
    }

    async fn sessions(&self) -> f64 {
        self.metric(&self.whole.admin, "nearcast_gateway_sessions", "role=\"reporting\"").await
    }

    /// Waits until a part of the service at this address is so, as `/readyz` and the metric say; returns whether the
    /// service counts as ready.
    pub async fn until(&self, address: &str, component: &str, state: &str) -> bool {
        let begun = Instant::now();
        loop {
            let answer = self.http.get(format!("http://{address}/readyz")).send().await.unwrap();
            let status = answer.status().as_u16();
            let said: Value = answer.json().await.unwrap();
            if said["components"][component]["state"] == state {
                let worse = ["ready", "degraded", "not_ready"].iter().position(|known| *known == state).unwrap();
                let labels = format!("{{component=\"{component}\"}}");
                let metric = self.metric(address, "nearcast_component_condition", &labels).await;
                assert_eq!(metric, worse as f64, "{component} is {state}");
                assert_eq!(status == 200, said["ready"] == true, "{said}");
                return status == 200;
            }
            assert!(begun.elapsed() < PATIENCE, "{component} of {address} is not {state}: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The sum of a metric over the lines that have these labels.
    pub async fn metric(&self, address: &str, name: &str, labels: &str) -> f64 {
        let text = self.http.get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
        metrics::sum(&text, name, labels)
    }
}

/// The latitude of a place in the row.
pub fn at(place: u32) -> f64 {
    52.5 + f64::from(place) * 1e-4
}

/// Moves, which is accepted and seen as soon as always.
pub async fn moves(mover: &mut Phone, name: &str, place: u32, friend: &mut Phone) {
    let begun = Instant::now();
    mover.moves_to(at(place)).await;
    friend.sees(name, at(place)).await;
    let took = begun.elapsed();
    println!("{name} was seen at {place} after {took:?}");
    assert!(took < LIVE, "a move was seen after {took:?}");
}

/// What audited phones found, which is that nothing was wrong.
pub fn clean(phones: Phones) {
    let (code, report) = phones.ended();
    assert_eq!(code, 0, "{report}");
    for field in ["missing", "wrong", "stale", "digest_mismatches"] {
        assert_eq!(report[field], 0, "{report}");
    }
    assert!(report["updates_received"].as_u64().unwrap() > 0, "{report}");
}
