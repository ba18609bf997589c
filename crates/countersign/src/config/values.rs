//! Values that read well and cannot work: refused before anything starts, with the limit named.

use super::Config;
use crate::exit::{Exit, Failure};
use countersign_role_hub::BODY_BYTES_MAX;
use countersign_rules::TypeName;

/// Refuses the first value that cannot work.
///
/// # Errors
/// The key, its value and what it may be.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    let body_max = config.delivery.body_max.0;
    if body_max > BODY_BYTES_MAX as u64 {
        let why = format!(
            "it is {body_max} bytes; hub and agents carry bodies of at most {BODY_BYTES_MAX} bytes (16MiB less the envelope)"
        );
        return Err(refused("delivery.body_max", why));
    }
    let mut counts = vec![
        ("delivery.body_max", body_max),
        ("delivery.window_bytes", config.delivery.window_bytes.0),
        (
            "delivery.window_messages",
            u64::from(config.delivery.window_messages),
        ),
        ("hub.connections_max", u64::from(config.hub.connections_max)),
    ];
    let attempts = config.delivery.types.values();
    let attempts = attempts.filter_map(|kind| kind.max_attempts);
    counts.extend(attempts.map(|count| ("delivery.types: max_attempts", u64::from(count))));
    let agents_types = config.agent.iter().flat_map(|agent| agent.types.keys());
    for kind in config.delivery.types.keys().chain(agents_types) {
        if let Err(error) = TypeName::parse(kind) {
            return Err(refused("types", format!("{kind:?} is no type: {error}")));
        }
    }
    if let Some(agent) = &config.agent {
        counts.push(("agent.workers", u64::from(agent.workers)));
        counts.push(("agent.attempts_max", u64::from(agent.attempts_max)));
        let attempts = agent.types.values().filter_map(|retry| retry.attempts_max);
        counts.extend(attempts.map(|count| ("agent.types: attempts_max", u64::from(count))));
    }
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((key, _)) => Err(refused(key, "it is 0, and nothing would ever be delivered")),
        None => Ok(()),
    }
}

fn refused(key: &str, why: impl Into<String>) -> Failure {
    Failure::new(
        Exit::ConfigInvalid,
        "E-CONFIG-VALUE",
        format!("{key} cannot be what the configuration says"),
        why,
        "correct it, then: countersign config check",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durations::SizeText;

    #[test]
    fn a_body_larger_than_hub_and_agent_carry_is_refused_with_the_limit() {
        let mut config = Config::default();
        config.delivery.body_max = SizeText(BODY_BYTES_MAX as u64);
        assert!(check(&config).is_ok());
        config.delivery.body_max = SizeText(16 << 20);
        let told = check(&config).unwrap_err().to_string();
        assert!(
            told.contains("delivery.body_max") && told.contains(&BODY_BYTES_MAX.to_string()),
            "{told}"
        );
    }

    #[test]
    fn what_would_deliver_nothing_is_refused() {
        let mut config = Config::default();
        assert!(check(&config).is_ok());
        config.delivery.window_messages = 0;
        let told = check(&config).unwrap_err().to_string();
        assert!(told.contains("delivery.window_messages"), "{told}");
    }
}
