//! An API that answers what a test tells it to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use nearcast_schemas::event::Mode;
use nearcast_schemas::internal::{FriendAnswer, FriendRequest, HelloAnswer, HelloRequest, Problem};
use nearcast_schemas::refusal::Refusal;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::world::PATIENCE;

pub const KEY: &str = "internal-key";

#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    answers: HashMap<String, HelloAnswer>,
    friends: HashMap<(String, String), FriendAnswer>,
    held: HashMap<String, Held>,
    down: bool,
    asked: Vec<HelloRequest>,
}

/// A question that waits for its answer.
#[derive(Clone, Default)]
pub struct Held {
    asked: Arc<Notify>,
    go: Arc<Notify>,
}

impl Held {
    /// Returns once it has been asked.
    pub async fn asked(&self) {
        timeout(PATIENCE, self.asked.notified()).await.expect("the API was not asked");
    }

    /// Lets it be answered.
    pub fn go(&self) {
        self.go.notify_one();
    }
}

pub fn answer() -> HelloAnswer {
    HelloAnswer {
        list_version: 1,
        mode: Mode::default(),
        last_report: None,
        radius_m: 8_000,
        nearby: Vec::new(),
        nearby_known: true,
    }
}

impl FakeApi {
    /// Serves on a port of its own; returns its address as a URL.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/internal/v1/hello", post(hello))
            .route("/internal/v1/friend", post(friend))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    pub fn answer(&self, user: &str, answer: HelloAnswer) {
        self.0.lock().unwrap().answers.insert(user.into(), answer);
    }

    /// The user's next hello gets no answer before the test says so.
    pub fn hold(&self, user: &str) -> Held {
        let held = Held::default();
        self.0.lock().unwrap().held.insert(user.into(), held.clone());
        held
    }

    pub fn befriend(&self, viewer: &str, friend: &str, answer: FriendAnswer) {
        self.0.lock().unwrap().friends.insert((viewer.into(), friend.into()), answer);
    }

    pub fn down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    /// What was asked at hellos so far.
    pub fn asked(&self) -> Vec<HelloRequest> {
        self.0.lock().unwrap().asked.clone()
    }
}

fn refused(refusal: Refusal) -> Response {
    let problem = Problem { code: refusal.code().into(), message: String::new() };
    (StatusCode::from_u16(refusal.row().status).unwrap(), Json(problem)).into_response()
}

fn refusal(headers: &HeaderMap, told: &Told) -> Option<Response> {
    let key = headers.get("authorization").and_then(|value| value.to_str().ok());
    if key != Some(&format!("Bearer {KEY}")) {
        return Some(refused(Refusal::TokenSignature));
    }
    told.down.then(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn hello(State(api): State<FakeApi>, headers: HeaderMap, Json(request): Json<HelloRequest>) -> Response {
    let held = api.0.lock().unwrap().held.remove(&request.user);
    if let Some(held) = held {
        held.asked.notify_one();
        held.go.notified().await;
    }
    let mut told = api.0.lock().unwrap();
    if let Some(response) = refusal(&headers, &told) {
        return response;
    }
    let answer = told.answers.get(&request.user).cloned().unwrap_or_else(answer);
    told.asked.push(request);
    Json(answer).into_response()
}

async fn friend(State(api): State<FakeApi>, headers: HeaderMap, Json(request): Json<FriendRequest>) -> Response {
    let told = api.0.lock().unwrap();
    if let Some(response) = refusal(&headers, &told) {
        return response;
    }
    match told.friends.get(&(request.viewer, request.friend)) {
        Some(answer) => Json(answer.clone()).into_response(),
        None => refused(Refusal::NotAFriend),
    }
}
