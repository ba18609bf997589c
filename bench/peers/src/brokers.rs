//! The message brokers and databases, behind the feature `brokers`: their clients take minutes to build.
use crate::{Args, Stat};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::{atomic::*, Arc};
use tokio::sync::mpsc;

pub enum Broker {
    Nats(async_nats::jetstream::Context), Rabbit(Vec<lapin::Channel>, AtomicU64), Redis(redis::aio::MultiplexedConnection),
    Pg(Vec<(tokio_postgres::Client, tokio_postgres::Statement)>, AtomicU64),
}
impl Broker {
    pub fn ordered_issue(&self) -> bool { matches!(self, Broker::Nats(_) | Broker::Rabbit(..)) }
    pub async fn issue(&self, k: u64, b: Bytes, at: u64, st: Arc<Stat>) { match self {
        Broker::Nats(js) => { let f = js.publish(format!("j.{}", k), b).await.unwrap(); tokio::spawn(async move { f.await.unwrap(); st.on_confirm(at); }); }
        Broker::Rabbit(ch, n) => { let c = &ch[(n.fetch_add(1, Ordering::Relaxed) as usize) % ch.len()]; let f = c.basic_publish("", &format!("q{}", k), Default::default(), &b, lapin::BasicProperties::default().with_delivery_mode(2)).await.unwrap(); tokio::spawn(async move { f.await.unwrap(); st.on_confirm(at); }); }
        _ => unreachable!() } }
    pub async fn publish(&self, k: u64, b: Bytes) { match self {
        Broker::Redis(c) => { let mut c = c.clone(); let _: String = redis::cmd("XADD").arg(format!("s{}", k)).arg("*").arg("b").arg(&b[..]).query_async(&mut c).await.unwrap(); }
        Broker::Pg(v, n) => { let (c, s) = &v[(n.fetch_add(1, Ordering::Relaxed) as usize) % v.len()]; c.execute(s, &[&(k as i32), &&b[..], &format!("c{}", k)]).await.unwrap(); }
        _ => unreachable!() } }
}
pub async fn connect(peer: &str, a: &Args, n: u64, st: Arc<Stat>) -> Broker {
    match peer {
        "nats" => {
            use async_nats::jetstream::{self, consumer::pull, stream::*};
            let cl = async_nats::connect(a.get("addr", "127.0.0.1:4222")).await.unwrap(); let js = jetstream::new(cl); let _ = js.delete_stream("J").await;
            let s = js.create_stream(Config { name: "J".into(), subjects: vec!["j.*".into()], retention: RetentionPolicy::WorkQueue, storage: StorageType::File, ..Default::default() }).await.unwrap();
            let conns = n.min(4); let mut ctxs = vec![]; for _ in 0..conns { ctxs.push(jetstream::new(async_nats::connect(a.get("addr", "127.0.0.1:4222")).await.unwrap())); }
            for k in 0..n { let _ = &s; let s2 = ctxs[(k % conns) as usize].get_stream("J").await.unwrap();
                let c = s2.create_consumer(pull::Config { durable_name: Some(format!("c{}", k)), filter_subject: format!("j.{}", k), max_ack_pending: 20000, ..Default::default() }).await.unwrap(); let st = st.clone();
                tokio::spawn(async move { let mut m = c.stream().max_messages_per_batch(500).messages().await.unwrap(); while let Some(Ok(msg)) = m.next().await { let s = st.on_recv(&msg.payload); let st = st.clone(); tokio::spawn(async move { if msg.double_ack().await.is_ok() { st.on_acked(s); } }); } }); }
            Broker::Nats(js)
        }
        "rabbit" => {
            use lapin::{options::*, types::*, *};
            let addr = a.get("addr", "amqp://guest:guest@127.0.0.1:5672/%2f"); let typ = a.get("queue", "quorum"); let mut chs = vec![];
            let pc = Connection::connect(&addr, ConnectionProperties::default()).await.unwrap(); for _ in 0..2 { let ch = pc.create_channel().await.unwrap(); ch.confirm_select(Default::default()).await.unwrap(); chs.push(ch); }
            let cc = Connection::connect(&addr, ConnectionProperties::default()).await.unwrap();
            for k in 0..n { let ch = cc.create_channel().await.unwrap(); let q = format!("q{}", k); let mut t = FieldTable::default(); t.insert("x-queue-type".into(), AMQPValue::LongString(typ.as_str().into()));
                let ch = match ch.queue_delete(&q, Default::default()).await { Ok(_) => ch, Err(_) => cc.create_channel().await.unwrap() };
                ch.queue_declare(&q, QueueDeclareOptions { durable: true, ..Default::default() }, t).await.unwrap(); ch.basic_qos(500, Default::default()).await.unwrap();
                let mut co = ch.basic_consume(&q, "", BasicConsumeOptions::default(), Default::default()).await.unwrap(); let st = st.clone();
                tokio::spawn(async move { let _keep = ch; while let Some(Ok(d)) = co.next().await { let s = st.on_recv(&d.data); d.ack(BasicAckOptions::default()).await.unwrap(); st.on_acked(s); } }); }
            std::mem::forget(pc); std::mem::forget(cc); Broker::Rabbit(chs, 0.into())
        }
        "redis" => {
            let c = redis::Client::open(a.get("addr", "redis://127.0.0.1:6379")).unwrap(); let mut m = c.get_multiplexed_async_connection().await.unwrap(); let _: () = redis::cmd("FLUSHALL").query_async(&mut m).await.unwrap();
            for k in 0..n { let key = format!("s{}", k); let _: () = redis::cmd("XGROUP").arg("CREATE").arg(&key).arg("g").arg("0").arg("MKSTREAM").query_async(&mut m).await.unwrap(); let mut rd = c.get_multiplexed_async_connection_with_timeouts(std::time::Duration::from_secs(100), std::time::Duration::from_secs(5)).await.unwrap(); let ack = m.clone(); let st = st.clone();
                tokio::spawn(async move { loop {
                    let r: redis::streams::StreamReadReply = match redis::cmd("XREADGROUP").arg("GROUP").arg("g").arg("c").arg("COUNT").arg(200).arg("BLOCK").arg(5000).arg("STREAMS").arg(&key).arg(">").query_async(&mut rd).await { Ok(r) => r, Err(_) => continue };
                    for s in r.keys { for e in s.ids { let b: Vec<u8> = e.get("b").unwrap(); let t = st.on_recv(&b); let mut ack = ack.clone(); let (key, st) = (key.clone(), st.clone());
                        tokio::spawn(async move { let _: () = redis::pipe().cmd("XACK").arg(&key).arg("g").arg(&e.id).ignore().cmd("XDEL").arg(&key).arg(&e.id).ignore().query_async(&mut ack).await.unwrap(); st.on_acked(t); }); } } } }); }
            Broker::Redis(m)
        }
        "pg" => {
            use tokio_postgres::{connect, AsyncMessage, NoTls}; let addr = a.get("addr", &std::env::var("PG_ADDR").unwrap_or("host=127.0.0.1 port=5433 user=postgres dbname=postgres".into())); let conns = a.num("conns", 32);
            let (c, d) = connect(&addr, NoTls).await.unwrap(); tokio::spawn(d); c.batch_execute("drop table if exists m; create table m(id bigint generated always as identity primary key, k int not null, body bytea not null); create index on m(k,id); alter table m set (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=2000);").await.unwrap();
            for k in 0..n { let (c, mut d) = connect(&addr, NoTls).await.unwrap(); let (tx, mut rx) = mpsc::unbounded_channel(); let tx2 = tx.clone(); let st = st.clone();
                tokio::spawn(async move { let mut s = futures::stream::poll_fn(move |cx| d.poll_message(cx)); while let Some(Ok(m)) = s.next().await { if let AsyncMessage::Notification(_) = m { let _ = tx.send(()); } } });
                c.batch_execute(&format!("listen c{}", k)).await.unwrap(); let sel = c.prepare("select id, body from m where k=$1 order by id limit 100 for update skip locked").await.unwrap(); let del = c.prepare("delete from m where id = any($1)").await.unwrap();
                let poll = std::time::Duration::from_millis(a.num("poll_ms", 0)); let tick = tx2;
                if !poll.is_zero() { tokio::spawn(async move { loop { tokio::time::sleep(poll).await; if tick.send(()).is_err() { break } } }); }
                tokio::spawn(async move { while rx.recv().await.is_some() { while rx.try_recv().is_ok() {} loop {
                    c.batch_execute("begin").await.unwrap(); let rows = c.query(&sel, &[&(k as i32)]).await.unwrap(); if rows.is_empty() { c.batch_execute("commit").await.unwrap(); break }
                    let ts: Vec<u64> = rows.iter().map(|r| st.on_recv(r.get::<_, &[u8]>(1))).collect(); let ids: Vec<i64> = rows.iter().map(|r| r.get(0)).collect(); c.execute(&del, &[&ids]).await.unwrap(); c.batch_execute("commit").await.unwrap(); for t in ts { st.on_acked(t); } } } }); }
            let mut v = vec![]; for _ in 0..conns { let (c, d) = connect(&addr, NoTls).await.unwrap(); tokio::spawn(d); let q = if a.num("poll_ms", 0) == 0 { "with i as (insert into m(k,body) values($1,$2)) select pg_notify($3::text,'')" } else { "with i as (insert into m(k,body) values($1,$2)) select $3::text" }; let s = c.prepare(q).await.unwrap(); v.push((c, s)); }
            std::mem::forget(c); Broker::Pg(v, 0.into())
        }
        _ => panic!("unknown peer {peer}"),
    }
}
