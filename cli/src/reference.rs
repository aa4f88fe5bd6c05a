//! `nearcast config`: the reference of the configuration, from the commented default file.

use nearcast_runtime::config::ENV_PREFIX;

/// One setting of the default file.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// `section.field`.
    pub path: String,
    /// The default, as TOML; an example where there is none.
    pub value: &'a str,
    /// Whether the default file sets it.
    pub has_default: bool,
    /// What it is, in lines.
    pub comment: Vec<&'a str>,
}

/// The settings of the default file, in its order.
pub fn settings(file: &str) -> Vec<Setting<'_>> {
    let mut section = "";
    let mut comment = Vec::new();
    let mut found = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            comment.clear();
        } else if line.is_empty() {
            comment.clear();
        } else if let Some((key, value, has_default)) = assignment(line) {
            found.push(Setting {
                path: format!("{section}.{}", key.trim_matches('"')),
                value,
                has_default,
                comment: std::mem::take(&mut comment),
            });
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        }
    }
    found
}

/// `key = value`, or the same behind `# `. A key has no spaces, so that prose is none.
fn assignment(line: &str) -> Option<(&str, &str, bool)> {
    let (line, has_default) = match line.strip_prefix("# ") {
        Some(line) => (line, false),
        None => (line, true),
    };
    let (key, value) = line.split_once(" = ")?;
    let good = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '"'));
    good.then_some((key, value, has_default))
}

/// The name of the environment variable of a setting.
pub fn variable(path: &str) -> String {
    let (section, field) = match path.strip_prefix("kafka.options.") {
        Some(option) => ("kafka__options", option),
        None => path.rsplit_once('.').unwrap_or(("", path)),
    };
    format!("{ENV_PREFIX}{section}__{field}").replace('.', "_").to_uppercase()
}

/// The settings as environment variables, for a shell or an env file.
pub fn environment(file: &str) -> String {
    let mut text = String::new();
    for setting in settings(file) {
        for line in &setting.comment {
            text.push_str(&format!("# {line}\n"));
        }
        let mark = if setting.has_default { "" } else { "# " };
        text.push_str(&format!("{mark}{}={}\n", variable(&setting.path), plain(setting.value)));
    }
    text
}

/// A TOML value as the loader takes it from a variable, quoted for a shell where need be.
fn plain(value: &str) -> String {
    let text = match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => list.split(',').map(|item| item.trim().trim_matches('"')).collect::<Vec<_>>().join(","),
        None => value.trim_matches('"').to_owned(),
    };
    if text.chars().all(|c| c.is_ascii_alphanumeric() || ":/.,_-".contains(c)) { text } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DEFAULTS, Settings};

    #[test]
    fn reads_the_settings_with_their_comments() {
        let file =
            "# About.\n\n# A section.\n[a]\n# What.\n# More.\nx = \"1, 2\"\n# y = \"z\"\n[b.c]\n# \"q.r\" = \"s\"\n";
        let found = settings(file);
        let expect = [
            ("a.x", "\"1, 2\"", true, vec!["What.", "More."]),
            ("a.y", "\"z\"", false, vec![]),
            ("b.c.q.r", "\"s\"", false, vec![]),
        ];
        for (setting, (path, value, has_default, comment)) in found.iter().zip(&expect) {
            assert_eq!(
                (setting.path.as_str(), setting.value, setting.has_default, &setting.comment),
                (*path, *value, *has_default, comment)
            );
        }
        assert_eq!(found.len(), expect.len());
        let env = environment(file);
        assert_eq!(
            env,
            "# What.\n# More.\nNEARCAST_A__X='1, 2'\n# NEARCAST_A__Y=z\n# NEARCAST_B_C__Q_R=s\n"
                .replace("B_C__Q_R", &variable("b.c.q.r")["NEARCAST_".len()..])
        );
    }

    #[test]
    fn every_variable_is_taken() {
        let all = settings(DEFAULTS);
        assert!(all.len() > 60);
        let variables: Vec<_> = all
            .iter()
            // These are keys in PEM, which an example is not; the loader's own tests cover them.
            .filter(|setting| !(setting.path.starts_with("auth.") && setting.path.ends_with("_key")))
            .map(|setting| (variable(&setting.path), plain(setting.value).trim_matches('\'').to_owned()))
            .collect();
        Settings::from_variables(variables.into_iter()).unwrap();
    }

    #[test]
    fn every_setting_without_a_default_is_said_too() {
        let shown = serde_json::to_value(Settings::from_variables(std::iter::empty()).unwrap()).unwrap();
        let known: Vec<_> = settings(DEFAULTS).into_iter().map(|setting| setting.path).collect();
        for (section, fields) in shown.as_object().unwrap() {
            for field in fields.as_object().unwrap().keys() {
                // Embedded mode has its own switch, and options are the client library's.
                let path = format!("{section}.{field}");
                if !["kafka.embedded", "kafka.options"].contains(&path.as_str()) {
                    assert!(known.contains(&path), "{path} is not in nearcast.default.toml");
                }
            }
        }
    }
}
