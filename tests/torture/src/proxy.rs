//! A TCP proxy of our own: cuts connections at a byte, stalls one direction, or loses one end while the
//! other one notices nothing.

use anyhow::Result;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// A direction, as the agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// What is done to the connections of a proxy from now on.
#[derive(Clone, Copy, Debug, Default)]
enum Order {
    /// Bytes pass.
    #[default]
    Pass,
    /// After so many more bytes this way, or after a while, both ends are closed.
    Cut { way: Way, after: u64 },
    /// No byte passes this way until the next order.
    Stall(Way),
    /// The agent's end is closed; the other one stays open so long, and is heard but not answered.
    HalfOpen(Duration),
}

/// Listens, and passes on to the address behind it.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    orders: watch::Sender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cuts: Mutex<Cuts>,
}

/// What has come of the orders.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cuts {
    /// Connections cut at the byte that was asked for, with the rest of what was under way thrown away.
    pub(crate) mid_stream: u64,
    /// Connections cut while they were silent.
    pub(crate) silent: u64,
    pub(crate) stalled: u64,
    pub(crate) half_open: u64,
}

impl Proxy {
    pub(crate) async fn start(behind: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (orders, _) = watch::channel(Order::default());
        let shared = Arc::<Shared>::default();
        let proxy = Self {
            address,
            orders: orders.clone(),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (orders, shared) = (orders.subscribe(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A process that is down refuses: then the near end is closed too.
                    if let Ok(far) = TcpStream::connect(behind).await {
                        pass(near, far, orders, shared).await;
                    }
                });
            }
        });
        Ok(proxy)
    }

    pub(crate) fn cut(&self, way: Way, after: u64) {
        self.order(Order::Cut { way, after });
    }

    pub(crate) fn stall(&self, way: Way) {
        self.order(Order::Stall(way));
    }

    pub(crate) fn half_open(&self, stays: Duration) {
        self.order(Order::HalfOpen(stays));
    }

    pub(crate) fn heal(&self) {
        self.order(Order::Pass);
    }

    pub(crate) fn cuts(&self) -> Cuts {
        *self.shared.lock()
    }

    fn order(&self, order: Order) {
        // Those who have seen it before it was repeated see it again.
        self.orders.send_replace(order);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Cuts> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one direction ended.
enum End {
    /// Its reader was closed, or its writer.
    Closed,
    Cut {
        mid_stream: bool,
    },
    HalfOpen(Duration),
}

async fn pass(
    near: TcpStream,
    far: TcpStream,
    orders: watch::Receiver<Order>,
    shared: Arc<Shared>,
) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let mut out = Pump::new(Way::Out, near_read, far_write, orders.clone(), &shared);
    let mut back = Pump::new(Way::In, far_read, near_write, orders, &shared);
    // Either way's end is the end of both: no party here half-closes.
    let end = tokio::select! {
        end = out.run() => end,
        end = back.run() => end,
    };
    match end {
        End::Closed => {}
        End::Cut { mid_stream: true } => shared.lock().mid_stream += 1,
        End::Cut { mid_stream: false } => shared.lock().silent += 1,
        End::HalfOpen(stays) => {
            shared.lock().half_open += 1;
            let (mut heard, held) = (back.from, out.to);
            drop((out.from, back.to));
            listen_only(&mut heard, stays).await;
            drop(held);
        }
    }
}

/// Takes what comes, and answers nothing.
async fn listen_only(heard: &mut OwnedReadHalf, stays: Duration) {
    let until = Instant::now() + stays;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(Ok(1..)) = timeout_at(until, heard.read(&mut buffer)).await {}
}

struct Pump {
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    orders: watch::Receiver<Order>,
    shared: Arc<Shared>,
    /// Bytes before the cut, and when it comes in any case.
    cut: Option<(u64, Instant)>,
}

impl Pump {
    fn new(
        way: Way,
        from: OwnedReadHalf,
        to: OwnedWriteHalf,
        mut orders: watch::Receiver<Order>,
        shared: &Arc<Shared>,
    ) -> Self {
        // A connection made later than an order is no part of it, but for a stall.
        if !matches!(*orders.borrow(), Order::Stall(_)) {
            orders.mark_unchanged();
        } else {
            orders.mark_changed();
        }
        let shared = Arc::clone(shared);
        Self {
            way,
            from,
            to,
            orders,
            shared,
            cut: None,
        }
    }

    async fn run(&mut self) -> End {
        let mut buffer = vec![0; 16 << 10];
        let mut stalled = false;
        loop {
            let cut_at = self.cut.map_or_else(Instant::now, |(_, at)| at);
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return End::Closed;
                    }
                    let order = *self.orders.borrow_and_update();
                    stalled = false;
                    match order {
                        Order::Pass => {}
                        Order::Cut { way, after } if way == self.way => {
                            self.cut = Some((after, Instant::now() + CUT_WITHIN));
                        }
                        Order::Cut { .. } => {}
                        Order::Stall(way) if way == self.way => {
                            stalled = true;
                            self.shared.lock().stalled += 1;
                        }
                        Order::Stall(_) => {}
                        Order::HalfOpen(stays) => return End::HalfOpen(stays),
                    }
                }
                () = sleep_until(cut_at), if self.cut.is_some() => {
                    return End::Cut { mid_stream: false };
                }
                read = self.from.read(&mut buffer), if !stalled => match read {
                    Ok(0) | Err(_) => return End::Closed,
                    Ok(bytes) => match self.pass_on(&buffer[..bytes]).await {
                        None => {}
                        Some(end) => return end,
                    },
                },
            }
        }
    }

    async fn pass_on(&mut self, bytes: &[u8]) -> Option<End> {
        let Some((left, _)) = &mut self.cut else {
            return self.to.write_all(bytes).await.err().map(|_| End::Closed);
        };
        let passed = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        *left -= passed as u64;
        if self.to.write_all(&bytes[..passed]).await.is_err() {
            return Some(End::Closed);
        }
        (passed < bytes.len()).then_some(End::Cut { mid_stream: true })
    }
}

/// A silent connection is cut all the same.
const CUT_WITHIN: Duration = Duration::from_secs(2);
