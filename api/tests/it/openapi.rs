//! The OpenAPI document, as it is served.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::{World, deployment};

const ROUTES: &[(&str, &str)] = &[
    ("get", "/v1/me"),
    ("put", "/v1/me"),
    ("get", "/v1/me/sharing"),
    ("put", "/v1/me/sharing"),
    ("post", "/v1/me/sign-out"),
    ("get", "/v1/users/{id}"),
    ("get", "/v1/friends"),
    ("delete", "/v1/friends/{id}"),
    ("post", "/v1/friends/{id}/request"),
    ("post", "/v1/friends/{id}/accept"),
    ("put", "/v1/friends/{id}/sharing"),
    ("get", "/v1/links"),
    ("post", "/v1/links"),
    ("delete", "/v1/links/{id}"),
    ("post", "/v1/links/open"),
    ("get", "/v1/nearby"),
    ("post", "/v1/me/locations"),
    ("get", "/v1/me/history"),
];

/// Takes the key of a share link, and no token.
const OPEN: &str = "/v1/links/open";

#[tokio::test]
async fn the_document_names_every_route_and_holds_together() {
    let world = World::start().await;
    let answer = world.send(world.http.get(format!("{}/openapi.json", world.url))).await;
    let document = answer.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(document["info"]["title"], "Nearcast");
    let token = &document["components"]["securitySchemes"]["token"];
    assert_eq!(token["scheme"], "bearer");
    assert!(token["description"].as_str().unwrap().contains("No call needs a scope"));
    for (schema, radius) in [("NewProfile", "radius_m"), ("ShareBody", "within_m")] {
        let radius = &document["components"]["schemas"][schema]["properties"][radius];
        assert_eq!(
            (&radius["minimum"], &radius["maximum"]),
            (&json!(1), &json!(deployment().max_radius_m)),
            "{schema}"
        );
    }

    let mut found = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.insert((method.as_str(), path.as_str()));
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{operation} twice");
            assert!(operation["summary"].is_string(), "{path}");
            let token = if *path == OPEN { json!([{}]) } else { json!([{"token": []}]) };
            assert_eq!(operation["security"], token, "{path}");
            let responses = operation["responses"].as_object().unwrap();
            assert_eq!(
                responses["default"]["content"]["application/json"]["schema"]["$ref"],
                "#/components/schemas/Problem"
            );
            assert!(responses.keys().any(|status| status.starts_with('2')), "{path}");
            let in_path = path.matches('{').count();
            let declared = operation["parameters"].as_array().map_or(0, |parameters| {
                parameters.iter().filter(|parameter| parameter["in"] == "path" && parameter["required"] == true).count()
            });
            assert_eq!(in_path, declared, "{path}");
        }
    }
    assert_eq!(found, ROUTES.iter().copied().collect());
    check_references(&document, &document);
    // Every route of the document is there: without a token it asks for one, or for what takes its place.
    for (method, path) in ROUTES {
        let url = format!("{}{}", world.url, path.replace("{id}", "bob"));
        let refused = if *path == OPEN { "malformed" } else { "token_missing" };
        world.send(world.http.request(method.to_uppercase().parse().unwrap(), url)).await.refused(refused);
    }
    world.stop().await;
}

fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}
