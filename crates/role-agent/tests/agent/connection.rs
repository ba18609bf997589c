//! Coming back: hubs that are not there, close, restart, or want another token.

use crate::support::{Hub, Site, Tokens, envelope, eventually, id, status};
use countersign_role_agent::{Agent, Connection, Error, Liveness, StdoutSink, TokenSource};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn an_agent_started_before_its_hub_connects_when_the_hub_is_there() {
    let site = Site::new().await;
    // A port that nobody listens on, until the hub does.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/hub");
    let agent = site.start_with(|options| options.hub_url = url).await;
    let offline = status(&agent, "some tries failed", |status| {
        matches!(&status.connection, Connection::Connecting { failures, .. } if *failures > 1)
    })
    .await;
    assert_eq!(offline.liveness, Liveness::Offline);

    let hub = Hub::start_at(address).await;
    hub.ready(1).await;
    hub.push(&envelope(1, "default", 1));
    site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(agent.status().await.liveness, Liveness::Processing);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_comes_back_whatever_the_hub_said_and_tells_where_it_stands() {
    let site = Site::new().await;
    let epoch = u64::MAX - 5;
    site.hub.welcomes_with(
        json!({"epoch": epoch.to_string(), "oldest_replayable": 1, "window": 8, "waiting": 2}),
    );
    let agent = site.start().await;
    let first = site.hub.ready(1).await;
    assert_eq!(
        (&first["centre_epoch"], &first["cursor"]),
        (&"0".into(), &0.into())
    );
    assert_eq!(first["client"]["name"], "countersign-agent");
    for number in 1..=3 {
        site.hub.push(&envelope(number, "default", 1));
    }
    site.acks.of(&id(3), "acknowledged").await;
    site.hub.close(true);
    let second = site.hub.ready(2).await;
    assert_eq!(second["centre_epoch"], epoch.to_string());
    assert_eq!(
        (&second["cursor"], &second["epoch"]),
        (&3.into(), &first["epoch"])
    );
    site.hub.close(false);
    site.hub.ready(3).await;
    site.hub.push(&envelope(4, "default", 1));
    site.acks.of(&id(4), "acknowledged").await;
    assert_eq!(site.hub.most_connections_at_a_time(), 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn messages_that_ended_while_the_site_was_away_are_told_as_a_gap() {
    let site = Site::new().await;
    site.hub.welcomes_with(json!({"epoch": 7, "oldest_replayable": "4", "gap": {"reason": "ended", "count": 3}, "window": 8, "waiting": 0}));
    let agent = site.start().await;
    let connected = status(&agent, "it is connected", |status| {
        matches!(status.connection, Connection::Connected { .. })
    })
    .await;
    assert_eq!(connected.gap, 3);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_first_and_the_agent_comes_back_with_the_new_one() {
    let site = Site::new().await;
    let tokens = Tokens::start(3).await;
    let agent = site
        .start_with(|options| options.token = credentials(&tokens))
        .await;
    for connection in 1..=3 {
        site.hub.ready(connection).await;
        site.hub.push(&envelope(connection as u64, "default", 1));
        site.acks.of(&id(connection as u64), "acknowledged").await;
    }
    let used = site.hub.tokens();
    assert_eq!(used[..3], ["token-1", "token-2", "token-3"]);
    assert_eq!(site.hub.most_connections_at_a_time(), 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_that_the_ack_api_refuses_is_replaced_by_a_fresh_one() {
    let site = Site::new().await;
    let tokens = Tokens::start(3600).await;
    site.acks.wants_token("token-2");
    let agent = site
        .start_with(|options| options.token = credentials(&tokens))
        .await;
    site.hub.ready(1).await;
    site.hub.push(&envelope(1, "default", 1));
    site.acks.of(&id(1), "acknowledged").await;
    assert_eq!(tokens.given(), 2);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_hub_that_refuses_the_token_is_asked_again_with_another() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "bad").unwrap();
    let source = TokenSource::File(file.clone());
    let agent = site.start_with(|options| options.token = source).await;
    eventually("the bad token was shown", || {
        site.hub.tokens().first().cloned()
    })
    .await;
    std::fs::write(&file, "good").unwrap();
    site.hub.ready(1).await;
    assert_eq!(site.hub.tokens(), ["bad", "good"]);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn options_that_make_no_sense_and_an_inbox_in_use_are_refused_by_name() {
    let site = Site::new().await;
    let start = |hub_url: &str| {
        let options = site
            .options()
            .with(|options| options.hub_url = hub_url.to_owned());
        Agent::start(options, Arc::new(StdoutSink))
    };
    let refused = start("ftp://hub").await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Option {
                option: "hub_url",
                ..
            }
        ),
        "{refused}"
    );
    let agent = site.start().await;
    let refused = start(&site.hub.url()).await.unwrap_err();
    assert!(matches!(refused, Error::Store(_)), "{refused}");
    agent.stop().await.unwrap();
    start(&site.hub.url()).await.unwrap().stop().await.unwrap();
}

fn credentials(tokens: &Tokens) -> TokenSource {
    TokenSource::ClientCredentials {
        token_url: tokens.url(),
        client_id: "lyon".to_owned(),
        client_secret: "s".to_owned(),
        scope: String::new(),
    }
}
