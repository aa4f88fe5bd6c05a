//! Configuration in layers: compiled-in defaults, a file, the environment, flags. Each overrides the ones before.

use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

/// Variables that begin with this and have `__` between section and field are configuration.
pub const ENV_PREFIX: &str = "NEARCAST_";

/// Why a configuration cannot be used. No message contains a value that was configured as text, because it may be a
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// A value is unknown, missing, or not of its type.
    #[error("{0}")]
    Invalid(String),
}

/// One value from the environment or a flag.
struct Given {
    source: String,
    path: Vec<String>,
    value: Value,
}

/// A TOML text and where it came from.
struct Text {
    source: String,
    toml: String,
}

impl Provider for Text {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(&self.toml).data()
    }
}

impl Provider for Given {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut value = self.value.clone();
        for key in self.path.iter().rev() {
            value = Value::from(Dict::from([(key.clone(), value)]));
        }
        match value {
            Value::Dict(_, dict) => Ok(Profile::Default.collect(dict)),
            _ => Err(Kind::Message("a setting is written section.field".to_owned()).into()),
        }
    }
}

/// Reads a configuration: `defaults` (TOML), then the file, then `NEARCAST_SECTION__FIELD` of `env`, then `flags` as
/// (`section.field`, value). Text from environment and flags becomes a number or a truth value where the field wants
/// one, and a list by its commas where the default is a list; an empty text is the empty list. Variables without `__`
/// are not looked at.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong, where it was said, and what may stand there.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<T, ConfigError> {
    let mut layers = Figment::from(Text { source: "the compiled-in defaults".to_owned(), toml: defaults.to_owned() });
    if let Some(path) = file {
        let toml = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        layers = layers.merge(Text { source: path.display().to_string(), toml });
    }
    // Sorted, so that of two mistakes always the same one is named.
    let mut variables: Vec<_> = env.filter_map(|(name, text)| Some((env_path(&name)?, name, text))).collect();
    variables.sort();
    let mut given = Vec::new();
    for (path, name, text) in variables {
        given.push(Given {
            source: format!("the environment variable {name}"),
            value: value(&layers, &path, text),
            path,
        });
    }
    for (key, text) in flags {
        let path: Vec<_> = key.split('.').map(str::to_owned).collect();
        given.push(Given { source: format!("the flag for {key}"), value: value(&layers, &path, text.clone()), path });
    }
    for one in given {
        layers = layers.merge(one);
    }
    layers.extract_lossy().map_err(|error| ConfigError::Invalid(sentence(&layers, &error)))
}

/// `NEARCAST_GATEWAY__ADMIN_LISTEN` is `gateway.admin_listen`.
fn env_path(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix(ENV_PREFIX)?.to_lowercase();
    let path: Vec<_> = path.split("__").map(str::to_owned).collect();
    (path.len() > 1 && path.iter().all(|part| !part.is_empty())).then_some(path)
}

/// Text stays text, and the field's type decides later; only a list has to be known as one here.
fn value(layers: &Figment, path: &[String], text: String) -> Value {
    match layers.find_value(&path.join(".")) {
        Ok(Value::Array(..)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::from(parts.map(Value::from).collect::<Vec<_>>())
        }
        _ => Value::from(text),
    }
}

fn sentence(layers: &Figment, error: &figment::Error) -> String {
    let mut path = error.path.clone();
    if let Kind::UnknownField(field, _) = &error.kind {
        // Depending on the depth figment has put it there already.
        if path.last() != Some(field) {
            path.push(field.clone());
        }
    }
    let key = path.join(".");
    let origin = layers
        .find_metadata(&key)
        .or(error.metadata.as_ref())
        .map_or_else(String::new, |metadata| format!(" (in {})", metadata.name));
    match &error.kind {
        Kind::UnknownField(field, known) => {
            let known_here = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            match nearest(field, known) {
                Some(near) => format!("`{key}` is no setting{origin}; did you mean `{near}`? Known here: {known_here}"),
                None => format!("`{key}` is no setting{origin}; known here: {known_here}"),
            }
        }
        Kind::MissingField(field) => {
            let key = if key.is_empty() { field.to_string() } else { format!("{key}.{field}") };
            format!("`{key}` is missing")
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("`{key}` must be {expected}, not {}{origin}", kind_of(actual))
        }
        Kind::InvalidLength(length, expected) => format!("`{key}` has {length} items, expected {expected}{origin}"),
        Kind::UnknownVariant(variant, known) => {
            format!("`{key}` must be one of {}, not {variant:?}{origin}", known.join(", "))
        }
        Kind::Message(message) => {
            // A parser of TOML shows the line, in which a secret may stand.
            let message: Vec<_> =
                message.lines().filter(|line| !line.contains('|') && !line.trim().is_empty()).collect();
            let key = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
            format!("{key}{}{origin}", message.join(": "))
        }
        _ => format!("`{key}` does not fit its type{origin}"),
    }
}

fn kind_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a truth value",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "this number",
        Actual::Str(_) | Actual::Char(_) => "this text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "that",
    }
}

/// The known name that differs least, if by no more than a third of its letters.
fn nearest<'a>(name: &str, known: &'a [&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Secret;

    const DEFAULTS: &str = r#"
        [gateway]
        listen = "127.0.0.1:1"
        idle = "10s"
        limit = 20
        open = false
        nodes = ["a", "b"]
        [auth]
        secret = "a default"
    "#;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        gateway: Gateway,
        auth: Auth,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Gateway {
        listen: std::net::SocketAddr,
        #[serde(with = "humantime_serde")]
        idle: Duration,
        limit: u16,
        open: bool,
        nodes: Vec<String>,
        name: Option<String>,
        spare: Option<u32>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Auth {
        secret: Secret,
        #[serde(default)]
        options: BTreeMap<String, Secret>,
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    fn load_all(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Example, ConfigError> {
        let mut toml = tempfile::NamedTempFile::new().unwrap();
        toml.write_all(file.as_bytes()).unwrap();
        load(DEFAULTS, Some(toml.path()), pairs(env).into_iter(), &pairs(flags))
    }

    #[track_caller]
    fn refuses(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)], expect: &[&str]) {
        let error = load_all(file, env, flags).unwrap_err().to_string();
        for part in expect {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn each_layer_overrides_the_one_before() {
        let file = "[gateway]\nlisten = \"127.0.0.1:2\"\nlimit = 2\nidle = \"2s\"\n";
        let env = [("NEARCAST_GATEWAY__LISTEN", "127.0.0.1:3"), ("NEARCAST_GATEWAY__LIMIT", "3")];
        let read = load_all(file, &env, &[("gateway.listen", "127.0.0.1:4")]).unwrap();
        assert_eq!(read.gateway.listen.port(), 4, "the flag");
        assert_eq!(read.gateway.limit, 3, "the environment");
        assert_eq!(read.gateway.idle, Duration::from_secs(2), "the file");
        assert_eq!(read.gateway.nodes, ["a", "b"], "the default");
    }

    #[test]
    fn text_becomes_what_the_field_wants() {
        let env = [
            ("NEARCAST_GATEWAY__OPEN", "true"),
            ("NEARCAST_GATEWAY__NODES", "x:1, y:2"),
            ("NEARCAST_GATEWAY__NAME", "007"),
            ("NEARCAST_GATEWAY__SPARE", "7"),
            ("NEARCAST_AUTH__SECRET", "0123"),
            ("NEARCAST_AUTH__OPTIONS__SASL_PASSWORD", "12"),
        ];
        let read = load_all("", &env, &[]).unwrap();
        assert!(read.gateway.open);
        assert_eq!(read.gateway.nodes, ["x:1", "y:2"]);
        assert_eq!(read.gateway.name.as_deref(), Some("007"));
        assert_eq!(read.gateway.spare, Some(7));
        assert_eq!(read.auth.secret.expose(), "0123");
        assert_eq!(read.auth.options["sasl_password"].expose(), "12");
        let none = load_all("", &[("NEARCAST_GATEWAY__NODES", "")], &[]).unwrap();
        assert_eq!(none.gateway.nodes, Vec::<String>::new());
    }

    #[test]
    fn other_variables_are_not_looked_at() {
        load_all("", &[("NEARCAST_TEST_KAFKA", "x"), ("PATH", "y"), ("OTHER__A", "z")], &[]).unwrap();
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_place() {
        refuses(
            "[gateway]\nlitsen = 1\n",
            &[],
            &[],
            &["`gateway.litsen` is no setting (in /", "did you mean `listen`?"],
        );
        refuses("[gatway]\nlisten = 1\n", &[], &[], &["`gatway` is no setting", "did you mean `gateway`?"]);
        refuses(
            "",
            &[("NEARCAST_GATEWAY__ZZZ", "1")],
            &[],
            &["`gateway.zzz` is no setting (in the environment variable NEARCAST_GATEWAY__ZZZ)", "listen, idle, limit"],
        );
        refuses("", &[], &[("gateway.limti", "1")], &["`gateway.limti`", "the flag for gateway.limti", "`limit`"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_and_not_shown() {
        let env = [("NEARCAST_GATEWAY__LIMIT", "hunter2")];
        refuses("", &env, &[], &["`gateway.limit` must be u16, not this text", "NEARCAST_GATEWAY__LIMIT"]);
        refuses("[gateway]\nlimit = 70000\n", &[], &[], &["`gateway.limit`", "(in /"]);
        refuses("", &[("NEARCAST_GATEWAY__LISTEN", "nowhere")], &[], &["`gateway.listen`: invalid socket address"]);
        refuses("", &[("NEARCAST_GATEWAY__IDLE", "soon")], &[], &["`gateway.idle`", "NEARCAST_GATEWAY__IDLE"]);
        for file in ["[auth]\nsecret = 4711\n", "[auth]\nsecret = \"hunter4711\n", "[gateway]\nopen = \"hunter4711\"\n"]
        {
            let error = load_all(file, &[], &[]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("4711"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load::<Example>(DEFAULTS, Some(Path::new("/nowhere/x.toml")), std::iter::empty(), &[]).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the configuration file /nowhere/x.toml: "), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let env = [("NEARCAST_AUTH__SECRET", "hunter2"), ("NEARCAST_AUTH__OPTIONS__KEY", "hunter3")];
        let read = load_all("", &env, &[]).unwrap();
        let shown = format!("{read:?}{}", serde_json::to_string(&read).unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
        assert_eq!(shown.matches("***").count(), 4);
    }
}
