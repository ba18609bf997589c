//! Stateful reconnect through a proxy that cuts connections.

use std::time::Duration;

use signalr_client::{CallError, Closed, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{World, connect, soon, unique};
use crate::{Case, websockets};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        websockets("stateful: granted when it is asked for", granted),
        websockets("stateful: cut while idle, it goes on", cut_idle),
        websockets(
            "stateful: cut in the middle of a call, the answer comes",
            cut_in_call,
        ),
        websockets(
            "stateful: 40 cuts amid traffic both ways, all once and in order",
            cut_amid_traffic,
        ),
        websockets(
            "stateful: more than the replay buffer goes up",
            more_than_the_buffer,
        ),
        websockets("stateful: where nothing can take over, it is told", told),
    ]
}

/// What the proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Line {
    /// Goes up by one to cut all there are.
    Up(u32),
    Down,
}

/// Carries bytes to the server until it is told to cut.
struct Cutter {
    world: World,
    line: watch::Sender<Line>,
}

impl Cutter {
    async fn start(world: &World) -> Self {
        let server = world.root.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = watch::Sender::new(Line::Up(0));
        let watched = line.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), watched.clone()));
            }
        });
        let world = world.through(address);
        Self { world, line }
    }

    fn cut(&self) {
        self.line.send_modify(|line| {
            if let Line::Up(cuts) = line {
                *cuts += 1;
            }
        });
    }

    fn options(&self) -> Options {
        let options = self.world.options();
        options.with(|options| options.stateful_reconnect = true)
    }
}

async fn carry(client: TcpStream, server: String, mut line: watch::Receiver<Line>) {
    let begun = *line.borrow_and_update();
    if begun == Line::Down {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server) => {}
        () = pump(from_server, to_client) => {}
        _ = line.wait_for(|line| *line != begun) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // An odd size, so that cuts fall anywhere within messages.
    let mut buffer = [0; 97];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn resumed(connection: &signalr_client::Connection, times: u32) {
    soon(async {
        while connection.resumptions().unwrap() < times {
            assert_eq!(connection.why_ended(), None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn granted(world: World) {
    let asked = world
        .options()
        .with(|options| options.stateful_reconnect = true);
    assert_eq!(connect(asked).await.connection.resumptions(), Some(0));
    assert_eq!(world.connect().await.connection.resumptions(), None);
}

async fn cut_idle(world: World) {
    let cutter = Cutter::start(&world).await;
    let mut peer = connect(cutter.options()).await;
    let id = peer.id();
    for n in 1..=3 {
        cutter.cut();
        resumed(&peer.connection, n).await;
        let got: String = soon(peer.connection.invoke("GetConnectionId", ()))
            .await
            .unwrap();
        assert_eq!(got, id);
        soon(peer.connection.invoke::<()>("CallMe", ("hear", [n])))
            .await
            .unwrap();
        assert_eq!(peer.hears_value::<u32>("hear").await, n);
    }
}

async fn cut_in_call(world: World) {
    let cutter = Cutter::start(&world).await;
    let peer = connect(cutter.options()).await;
    let (got, ()) = tokio::join!(
        soon(peer.connection.invoke::<i32>("Slow", (1500, 42))),
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cutter.cut();
        }
    );
    assert_eq!(got, Ok(42));
    assert_eq!(peer.connection.resumptions(), Some(1));
}

async fn cut_amid_traffic(world: World) {
    const COUNT: i32 = 4000;
    let cutter = Cutter::start(&world).await;
    let mut peer = connect(cutter.options()).await;
    let list = unique("cuts");
    let connection = peer.connection.clone();
    soon(connection.send("CallMany", ("hear", COUNT, 1)))
        .await
        .unwrap();
    let sending = async {
        for n in 0..COUNT {
            connection.send("Note", (&list, n)).await.unwrap();
            if n % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let hearing = async {
        for n in 0..COUNT {
            assert_eq!(peer.hears_value::<i32>("hear").await, n);
        }
    };
    let cutting = async {
        for n in 0..40_u64 {
            tokio::time::sleep(Duration::from_millis(60 + n * 7 % 40)).await;
            cutter.cut();
        }
    };
    tokio::join!(sending, hearing, cutting);
    let noted = async {
        loop {
            let got: Vec<i32> = connection.invoke("Notes", (&list,)).await.unwrap();
            if got.len() >= COUNT as usize {
                return got;
            }
        }
    };
    assert_eq!(soon(noted).await, (0..COUNT).collect::<Vec<_>>());
    let times = connection.resumptions().unwrap();
    assert!(times >= 20, "resumed {times} times");
}

async fn more_than_the_buffer(world: World) {
    let cutter = Cutter::start(&world).await;
    let peer = connect(cutter.options()).await;
    let text = "x".repeat(3_000);
    for n in 0..100 {
        soon(peer.connection.send("Length", (&text,)))
            .await
            .unwrap();
        if n == 50 {
            cutter.cut();
        }
    }
    assert_eq!(
        soon(peer.connection.invoke::<i32>("Echo", (1,))).await,
        Ok(1)
    );
}

async fn told(world: World) {
    let cutter = Cutter::start(&world).await;
    let options = cutter.options();
    let options = options.with(|options| options.resume_timeout = Duration::from_secs(1));
    let peer = connect(options).await;
    let waiting = peer.connection.invoke::<i32>("Slow", (30_000, 1));
    let (got, ()) = tokio::join!(soon(waiting), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cutter.line.send_replace(Line::Down);
    });
    assert!(
        matches!(got, Err(CallError::Closed(Closed::Lost { .. }))),
        "{got:?}"
    );
}
