//! What a backlog costs the centre's rules: bytes of memory per waiting message, time per send with that backlog, size
//! of the image and the time to write and to read it.
//!
//! `cargo run --release -p countersign-rules --example backlog -- 1000000 [RECIPIENTS]`

use countersign_rules::delivery::{Centre, Input, Policy, Submission};
use countersign_rules::machine::{Machine, Out, Start};
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp, TypeName};
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        let given = arguments.next();
        given.map_or(default, |text| text.parse().expect("a number"))
    };
    let (messages, recipients) = (number(1_000_000), number(1000));
    let agents: Vec<AgentName> = (0..recipients)
        .map(|number| AgentName::parse(&format!("site-{number}")).expect("it is a name"))
        .collect();

    let mut centre = Centre::new(policy());
    let mut out = Out::<Centre>::new(1);
    centre.started(Start::undamaged(1), now(0), &mut out);
    let at_rest = resident_bytes();
    for number in 0..messages {
        submit(&mut centre, &mut out, number, &agents);
    }
    let per_message = (resident_bytes() - at_rest) as f64 / messages as f64;
    println!("waiting {messages}, recipients {recipients}, bytes of memory each {per_message:.1}");

    let timed = 100_000;
    let begun = Instant::now();
    for number in messages..messages + timed {
        submit(&mut centre, &mut out, number, &agents);
    }
    println!("a send takes {:.3} µs", micros(begun) / timed as f64);

    let begun = Instant::now();
    let mut image = Vec::new();
    centre.save(&mut image);
    let bytes = image.len() as f64 / (messages + timed) as f64;
    println!(
        "image: {bytes:.1} bytes each, written in {:.0} ms",
        micros(begun) / 1000.0
    );

    drop(centre);
    let begun = Instant::now();
    let mut centre = Centre::new(policy());
    centre.load(&image).expect("it is an image");
    println!("image read in {:.0} ms", micros(begun) / 1000.0);
    assert!(centre.state().conserved() && centre.state().accounted());
}

fn policy() -> Policy {
    Policy {
        strict_targets: false,
        ..Policy::default()
    }
}

/// A message with a key, as most are.
fn submit(centre: &mut Centre, out: &mut Out<Centre>, number: u64, agents: &[AgentName]) {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&scattered);
    let mut key = id;
    key.reverse();
    let message = Submission {
        id: MessageId(id),
        tenant: TenantName::parse("default").expect("it is a name"),
        to: agents[(number % agents.len() as u64) as usize].clone(),
        kind: TypeName::parse("document.insert").expect("it is a name"),
        lane: LaneName::default_lane(),
        rule: Default::default(),
        key: Some(key),
        fingerprint: id,
        body_sha256: [7; 32],
        body: None,
        expires_at: None,
        not_before: None,
        attempts_max: None,
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        tracestate: String::new(),
        sender: String::from("erp"),
        content_type: String::new(),
        data: vec![b'1'; 256].into(),
    };
    centre.step(Input::Submit(Box::new(message)), now(number), out);
    let _ = (out.take_reply(), out.take_effects(), out.take_records());
}

fn now(number: u64) -> Timestamp {
    Timestamp::from_millis(1_795_435_200_000) + Duration::from_micros(number)
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

/// As Linux counts it, in pages of 4 KiB.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    pages.expect("the second number") * 4096
}
