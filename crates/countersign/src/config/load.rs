//! Reading a configuration: file first, then the environment over it.

use super::{Config, values};
use crate::exit::{Exit, Failure};
use crate::files;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Prefix of the variables that override keys.
const PREFIX: &str = "COUNTERSIGN_";

/// Variables of this prefix that are no keys.
const NOT_KEYS: [&str; 5] = ["CONFIG", "URL", "TOKEN", "CONTEXT", "BIN"];

/// Reads the configuration at `path`; relative paths in it start at its directory.
///
/// # Errors
/// The file cannot be read, is not TOML, or has an unknown key or a value of the wrong kind.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    if !path.exists() {
        return Err(Failure::new(
            Exit::ConfigInvalid,
            "E-CONFIG-MISSING",
            format!("there is no configuration at {}", path.display()),
            "the file does not exist",
            "countersign config init",
        ));
    }
    let text = files::read(path)?;
    let variables = std::env::vars().filter(|(name, _)| is_key(name));
    let mut config = parse(&text, path, variables)?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    resolve_paths(&mut config, &base);
    values::check(&config)?;
    Ok(config)
}

fn parse(
    text: &str,
    path: &Path,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, Failure> {
    let config: Config = toml::from_str(text).map_err(|error| invalid(text, path, &error))?;
    let variables: Vec<_> = variables.collect();
    if variables.is_empty() {
        return Ok(config);
    }
    let mut table: Table = toml::from_str(text).map_err(|error| invalid(text, path, &error))?;
    for (name, value) in &variables {
        overlay(&mut table, name, value);
    }
    table.try_into().map_err(|error: toml::de::Error| {
        let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        Failure::new(
            Exit::ConfigInvalid,
            "E-CONFIG-ENVIRONMENT",
            format!(
                "the configuration is not valid once {} is applied",
                names.join(", ")
            ),
            first_line(error.message()),
            "correct or unset the variable",
        )
    })
}

fn is_key(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|key| !NOT_KEYS.contains(&key))
}

/// Sets `section.key` for `COUNTERSIGN_SECTION__KEY`.
fn overlay(table: &mut Table, name: &str, value: &str) {
    let lower = name.trim_start_matches(PREFIX).to_lowercase();
    let mut parts: Vec<&str> = lower.split("__").collect();
    let Some(key) = parts.pop() else { return };
    let mut at = table;
    for part in parts {
        let section = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = section else { return };
        at = inner;
    }
    // A number, a truth value or a list where it reads as one, else a text.
    let value_text = value.to_owned();
    let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok();
    let value = parsed.and_then(|mut table| table.remove("v"));
    at.insert(key.to_owned(), value.unwrap_or(Value::String(value_text)));
}

fn invalid(text: &str, path: &Path, error: &toml::de::Error) -> Failure {
    let place = match error.span() {
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            format!("{}:{line}:{column}", path.display())
        }
        None => path.display().to_string(),
    };
    let message = first_line(error.message());
    let todo = match did_you_mean(&message) {
        Some(nearest) => {
            format!("did you mean `{nearest}`? Correct it, then: countersign config check")
        }
        None => "correct it, then: countersign config check".to_owned(),
    };
    let what = format!("the configuration is not valid at {place}");
    Failure::new(Exit::ConfigInvalid, "E-CONFIG-INVALID", what, message, todo)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// The known key nearest to the unknown one, out of the parser's own sentence.
fn did_you_mean(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (wrong, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    known
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3)
        .min()
        .map(|(_, known)| known.to_owned())
}

fn resolve_paths(config: &mut Config, base: &Path) {
    let resolve = |path: &mut PathBuf| {
        if path.is_relative() {
            *path = base.join(&*path);
        }
    };
    resolve(&mut config.store.data_dir);
    resolve(&mut config.keys.signing);
    resolve(&mut config.keys.jwks);
    config.acks.pull_token_file.iter_mut().for_each(resolve);
    if let Some(agent) = &mut config.agent {
        resolve(&mut agent.data_dir);
        agent.client_secret_file.iter_mut().for_each(resolve);
        agent.hub_ca_file.iter_mut().for_each(resolve);
        agent.token_file.iter_mut().for_each(resolve);
        agent.sink.path.iter_mut().for_each(resolve);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        parse(text, Path::new("countersign.toml"), std::iter::empty())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
        let told = failure("[hub]\nlisten = \"127.0.0.1:1\"\n\n[store]\ndata_dri = \"x\"\n");
        assert!(told.contains("countersign.toml:5:1"), "{told}");
        assert!(told.contains("did you mean `data_dir`?"), "{told}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_how_to_write_it() {
        let told = failure("[hub]\ndrain = \"5 bananas\"\n");
        assert!(
            told.contains("countersign.toml:2") && told.contains("90s"),
            "{told}"
        );
    }

    #[test]
    fn the_environment_overrides_the_file_and_an_unknown_variable_is_refused() {
        let set = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into_iter();
        let path = Path::new("c.toml");
        let config = parse("", path, set("COUNTERSIGN_DELIVERY__WINDOW_MESSAGES", "7")).unwrap();
        assert_eq!(config.delivery.window_messages, 7);
        let told = parse("", path, set("COUNTERSIGN_HUB__LISTN", "7"))
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("COUNTERSIGN_HUB__LISTN") && told.contains("listn"),
            "{told}"
        );
    }
}
