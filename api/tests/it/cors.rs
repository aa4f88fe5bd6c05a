//! Calls from web pages of other origins.

use std::sync::Arc;

use nearcast_api::{Config, MemoryStore};
use nearcast_ingest::MemoryCache;
use reqwest::{Method, Response};

use crate::world::{World, config, deployment};

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://other.example.com";

async fn world(origins: &[&str]) -> World {
    let cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    let config = Config { cors_origins, ..config() };
    World::with(config, Arc::new(MemoryStore::default()), Arc::new(MemoryCache::new(&deployment()))).await
}

/// What a browser asks before it sends a call with a token.
async fn preflight(world: &World, origin: &str, path: &str) -> Response {
    let request = world.http.request(Method::OPTIONS, format!("{}{path}", world.url)).header("origin", origin);
    let request = request.header("access-control-request-method", "PUT");
    request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
}

async fn get(world: &World, origin: &str, path: &str) -> Response {
    world.http.get(format!("{}{path}", world.url)).header("origin", origin).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

fn allowed(response: &Response) -> Option<&str> {
    header(response, "access-control-allow-origin")
}

/// The words of a list in a header, in lower case.
fn words(response: &Response, name: &str) -> Vec<String> {
    let mut words: Vec<_> = header(response, name).unwrap().split(',').map(|w| w.trim().to_lowercase()).collect();
    words.sort();
    words
}

#[tokio::test]
async fn pages_of_a_configured_origin_may_call() {
    let world = world(&[APP, "http://localhost:5173"]).await;
    for origin in [APP, "http://localhost:5173"] {
        let response = preflight(&world, origin, "/v1/me").await;
        assert_eq!((response.status().as_u16(), allowed(&response)), (200, Some(origin)));
        assert_eq!(words(&response, "access-control-allow-methods"), ["delete", "get", "post", "put"]);
        assert_eq!(words(&response, "access-control-allow-headers"), ["authorization", "content-type"]);
        assert_eq!(header(&response, "access-control-max-age"), Some("7200"));
        assert_eq!(header(&response, "access-control-allow-credentials"), None, "there are no cookies");
        assert!(words(&response, "vary").contains(&"origin".to_owned()));
    }
    // Refusals can be read too, and when to come again.
    for (path, status) in [("/v1/me", 401), ("/v1/nowhere", 404), ("/openapi.json", 200)] {
        let response = get(&world, APP, path).await;
        assert_eq!((response.status().as_u16(), allowed(&response)), (status, Some(APP)), "{path}");
        assert_eq!(words(&response, "access-control-expose-headers"), ["retry-after", "www-authenticate"]);
    }
    world.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_may_not() {
    let world = world(&[APP]).await;
    for origin in
        [OTHER, "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil", "null"]
    {
        assert_eq!(allowed(&preflight(&world, origin, "/v1/me").await), None, "{origin}");
        assert_eq!(allowed(&get(&world, origin, "/v1/me").await), None, "{origin}");
    }
    world.stop().await;
}

#[tokio::test]
async fn every_origin_may_call_what_is_public_and_nothing_else() {
    let world = world(&["*"]).await;
    assert_eq!(allowed(&preflight(&world, OTHER, "/v1/friends/bob").await), Some(OTHER));
    assert_eq!(allowed(&get(&world, OTHER, "/v1/me").await), Some(OTHER));
    for path in ["/internal/v1/hello", "/metrics", "/readyz"] {
        assert_eq!(allowed(&preflight(&world, OTHER, path).await), None, "{path}");
        assert_eq!(allowed(&get(&world, OTHER, path).await), None, "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn nobody_is_let_in_by_default() {
    let world = world(&[]).await;
    let response = preflight(&world, APP, "/v1/me").await;
    assert_eq!((response.status().as_u16(), allowed(&response)), (405, None));
    let response = get(&world, APP, "/v1/me").await;
    assert_eq!((allowed(&response), header(&response, "vary")), (None, None));
    world.stop().await;
}
