//! A hub inside an axum application that has state and routes of its own.
//!
//! `cargo run -p signalr-server --example in_axum`, connect a SignalR client to
//! <http://127.0.0.1:5000/orders/live> and call `Watch` with a shop, then
//! `curl -d '{"shop":"lyon","article":"bread"}' -H 'content-type: application/json' http://127.0.0.1:5000/orders`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use signalr_server::{Caller, Hub, HubError, HubHandle, HubServer, Methods};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    #[serde(default)]
    id: u64,
    shop: String,
    article: String,
}

/// What the application knows; its hub and its routes share it.
#[derive(Default)]
struct Orders {
    last_id: AtomicU64,
    all: Mutex<Vec<Order>>,
}

impl Orders {
    fn of_shop(&self, shop: &str) -> Vec<Order> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|order| order.shop == shop)
            .cloned()
            .collect()
    }

    fn add(&self, mut order: Order) -> Order {
        order.id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(order.clone());
        order
    }
}

/// The hub holds what it needs of the application.
struct Live {
    orders: Arc<Orders>,
}

impl Hub for Live {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("Watch", watch)
    }
}

/// Subscribes to a shop. Joining comes before looking, so that no order falls between; one that
/// comes meanwhile is seen twice and told apart by its id.
async fn watch(hub: Arc<Live>, from: Caller<Live>, shop: String) -> Result<Vec<Order>, HubError> {
    from.join(&shop);
    Ok(hub.orders.of_shop(&shop))
}

/// The state of the routes: the hub's handle is one part of it among others.
#[derive(Clone)]
struct App {
    orders: Arc<Orders>,
    live: HubHandle,
}

async fn place(State(app): State<App>, Json(order): Json<Order>) -> Json<Order> {
    let order = app.orders.add(order);
    app.live.group(&*order.shop).push("ordered", &order);
    Json(order)
}

async fn watchers(State(app): State<App>) -> String {
    format!("{}\n", app.live.connections().len())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let orders = Arc::new(Orders::default());
    let hub = HubServer::new(Live {
        orders: Arc::clone(&orders),
    });
    let app = App {
        orders,
        live: hub.handle(),
    };
    let routes = Router::new()
        .route("/orders", axum::routing::post(place))
        .route("/watchers", get(watchers))
        .merge(hub.router("/orders/live"))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
    axum::serve(listener, routes).await
}
