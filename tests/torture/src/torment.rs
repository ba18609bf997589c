//! What is done to the processes, in an order that the seed decides.

use crate::Args;
use crate::disks::{Fill, STORES};
use crate::faults::{Fault, Injected, REFUSED_FOR_SPACE};
use crate::process::{Kind, World};
use crate::proxy::Way;
use crate::site::Site;
use crate::twins::{self, Twin};
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// One thing to do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Kill(Kind),
    /// Only this process is down, while the others go on.
    Outage(Kind),
    Inject(Fault),
}

/// Does it.
pub(crate) struct Torment<'a> {
    pub(crate) args: &'a Args,
    pub(crate) world: &'a World,
    pub(crate) site: &'a Site,
    pub(crate) injected: &'a Injected,
    random: StdRng,
    decks: Decks,
    /// The older copy of the agent's store, once there is one.
    copy: Option<PathBuf>,
    lost: u64,
}

/// What a fault of a kind may be: each comes up before one comes up again.
#[derive(Debug, Default)]
struct Decks {
    disk: Vec<(Kind, Fill)>,
    pause: Vec<Kind>,
    proxy: Vec<(Hop, Harm, Way)>,
    clock: Vec<(Kind, i64)>,
    store: Vec<StoreLoss>,
    twins: Vec<Twins>,
}

/// A connection of the agent.
#[derive(Clone, Copy, Debug)]
enum Hop {
    Hub,
    Acks,
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Cut,
    Stall,
}

#[derive(Clone, Copy, Debug)]
enum StoreLoss {
    All,
    /// All since a moment ago.
    Recent,
    /// All since the copy before.
    SinceLastCopy,
}

#[derive(Clone, Copy, Debug)]
enum Twins {
    /// The agent loses its connection, and the hub does not notice.
    HalfOpen,
    Second(Twin),
}

/// The next of a deck, which is shuffled anew when it has been used up.
fn draw<T: Clone>(deck: &mut Vec<T>, all: impl FnOnce() -> Vec<T>, random: &mut StdRng) -> T {
    if deck.is_empty() {
        *deck = all();
        deck.shuffle(random);
    }
    deck.pop().expect("no deck is empty")
}

fn pairs<A: Copy, B: Copy>(first: &[A], second: &[B]) -> Vec<(A, B)> {
    let pairs = |one: &A| second.iter().map(|two| (*one, *two)).collect::<Vec<_>>();
    first.iter().flat_map(pairs).collect()
}

impl<'a> Torment<'a> {
    pub(crate) fn new(
        args: &'a Args,
        world: &'a World,
        site: &'a Site,
        injected: &'a Injected,
        seed: u64,
    ) -> Self {
        Self {
            args,
            world,
            site,
            injected,
            random: StdRng::seed_from_u64(seed),
            decks: Decks::default(),
            copy: None,
            lost: 0,
        }
    }

    /// A fixed number of faults, or as many as fit into the time.
    pub(crate) async fn run(mut self) -> Result<()> {
        match self.args.duration {
            None => {
                let steps = self.steps(self.args.kills, self.args.rounds);
                self.do_all(steps).await?;
            }
            Some(duration) => {
                let until = Instant::now() + duration;
                let mut with_outages = true;
                while Instant::now() < until {
                    let mut steps = self.steps(KILLS_A_BATCH, 1);
                    steps.retain(|step| with_outages || !matches!(step, Step::Outage(_)));
                    with_outages = false;
                    for step in steps {
                        if Instant::now() < until {
                            self.do_one(step).await?;
                        }
                    }
                }
            }
        }
        self.world.heal().await;
        Ok(())
    }

    fn steps(&mut self, kills: u32, rounds: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        let chosen = &self.args.faults;
        if chosen.contains(&Fault::Kill) {
            let mut victims: Vec<Kind> = Kind::ALL
                .iter()
                .flat_map(|kind| {
                    std::iter::repeat_n(*kind, kills.div_ceil(Kind::ALL.len() as u32) as usize)
                })
                .collect();
            victims.shuffle(&mut self.random);
            victims.truncate(kills as usize);
            steps.extend(victims.into_iter().map(Step::Kill));
        }
        for fault in chosen {
            // Tokens are short from the start.
            if !matches!(fault, Fault::Kill | Fault::Tokens) {
                steps.extend(std::iter::repeat_n(Step::Inject(*fault), rounds as usize));
            }
        }
        steps.shuffle(&mut self.random);
        if chosen.contains(&Fault::Kill) && kills > 0 {
            let outages = [Kind::Acks, Kind::Centre].map(Step::Outage);
            let middle = steps.len() / 2;
            steps.splice(middle..middle, outages);
        }
        steps
    }

    async fn do_all(&mut self, steps: Vec<Step>) -> Result<()> {
        for step in steps {
            self.do_one(step).await?;
        }
        Ok(())
    }

    async fn do_one(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Kill(kind) => {
                self.wait(20..700).await;
                self.kill(kind).await;
                Ok(())
            }
            Step::Outage(kind) => {
                self.world.heal().await;
                self.outage(kind).await
            }
            Step::Inject(fault) => {
                self.world.heal().await;
                let done = match fault {
                    Fault::Disk => self.disk().await,
                    Fault::Pause => self.pause().await,
                    Fault::Proxy => self.proxy().await,
                    Fault::Clock => self.clock().await,
                    Fault::Store => self.store().await,
                    Fault::Twins => self.twins().await,
                    Fault::Kill | Fault::Tokens => Ok(()),
                };
                done.with_context(|| format!("injecting a fault of the kind `{fault}`"))
            }
        }
    }

    async fn kill(&mut self, kind: Kind) {
        let down = Duration::from_millis(self.random.random_range(0..400));
        self.world.kill(kind, down).await;
        self.injected.count(Fault::Kill, format!("{kind:?}"));
    }

    /// Lets time pass while a fault lasts; now and then somebody is killed meanwhile.
    async fn hold(&mut self, range_ms: std::ops::Range<u64>, may_kill: bool) {
        self.wait(range_ms.start / 2..range_ms.end / 2).await;
        let kills = self.args.faults.contains(&Fault::Kill) && self.args.kills > 0;
        if kills && may_kill && self.random.random_bool(KILL_DURING_A_FAULT) {
            let kind = *Kind::ALL.choose(&mut self.random).expect("there are some");
            self.kill(kind).await;
        }
        self.wait(range_ms.start / 2..range_ms.end / 2).await;
    }

    async fn wait(&mut self, range_ms: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.random.random_range(range_ms))).await;
    }

    async fn outage(&self, kind: Kind) -> Result<()> {
        let (site, outage_s) = (self.site, self.args.outage_s);
        if kind == Kind::Centre {
            // Without work in the agent's inbox no acks would arrive while nothing can be sent.
            site.slow_back_office(SLOW_S + outage_s).await?;
            sleep(Duration::from_secs(SLOW_S)).await;
        }
        let before = site.ack_records().await?;
        println!("{kind:?} alone is down for {outage_s} s");
        self.world.kill(kind, Duration::from_secs(outage_s)).await;
        self.injected
            .count(Fault::Kill, format!("{kind:?} for long"));
        sleep(Duration::from_secs(outage_s)).await;
        if kind == Kind::Centre {
            let after = site
                .ack_records()
                .await
                .context("the ack API must answer while the centre is down")?;
            println!("acks taken while the centre was down: {}", after - before);
            ensure!(
                after > before,
                "no ack arrived while the centre was down: this run shows nothing"
            );
        }
        self.world.heal().await;
        Ok(())
    }

    async fn disk(&mut self) -> Result<()> {
        let all = || pairs(&STORES, &[Fill::BelowReserve, Fill::Brim]);
        let (kind, fill) = draw(&mut self.decks.disk, all, &mut self.random);
        let refused = self.site.refused_for_space.load(Ordering::Relaxed);
        self.site.disks.fill(kind, fill)?;
        self.hold(1_000..6_000, true).await;
        self.site.disks.free(kind)?;
        let refused = self.site.refused_for_space.load(Ordering::Relaxed) - refused;
        self.injected
            .count(Fault::Disk, format!("{kind:?} {fill:?}"));
        self.injected.saw(REFUSED_FOR_SPACE, refused);
        Ok(())
    }

    async fn pause(&mut self) -> Result<()> {
        let kind = draw(
            &mut self.decks.pause,
            || Kind::ALL.to_vec(),
            &mut self.random,
        );
        if self.world.pause(kind).await {
            self.injected.count(Fault::Pause, format!("{kind:?}"));
        }
        self.hold(200..8_000, true).await;
        self.world.resume(kind).await;
        Ok(())
    }

    async fn proxy(&mut self) -> Result<()> {
        let all = || {
            let hops = pairs(&[Hop::Hub, Hop::Acks], &[Harm::Cut, Harm::Stall]);
            let ways = pairs(&hops, &[Way::Out, Way::In]);
            ways.into_iter()
                .map(|((hop, harm), way)| (hop, harm, way))
                .collect()
        };
        let (hop, harm, way) = draw(&mut self.decks.proxy, all, &mut self.random);
        let (name, proxy) = match hop {
            Hop::Hub => ("hub", &self.site.to_hub),
            Hop::Acks => ("acks", &self.site.to_acks),
        };
        let before = proxy.cuts();
        match harm {
            Harm::Cut => {
                proxy.cut(way, self.random.random_range(0..CUT_AFTER_MAX));
                self.hold(2_200..2_600, false).await;
            }
            Harm::Stall => {
                proxy.stall(way);
                self.hold(500..9_000, true).await;
            }
        }
        proxy.heal();
        let after = proxy.cuts();
        let counted = [
            ("cut at a byte", after.mid_stream - before.mid_stream),
            ("cut in silence", after.silent - before.silent),
            ("stalled one way", after.stalled - before.stalled),
        ];
        for (what, times) in counted.into_iter().filter(|(_, times)| *times > 0) {
            self.injected
                .add(Fault::Proxy, format!("{name} {what}"), times);
        }
        Ok(())
    }

    async fn clock(&mut self) -> Result<()> {
        let clocks = self.site.clocks.as_ref().context("clocks are set up")?;
        let all = || {
            let jumps: Vec<i64> = JUMPS_S.iter().flat_map(|jump| [*jump, -jump]).collect();
            pairs(&STORES, &jumps)
        };
        let (kind, seconds) = draw(&mut self.decks.clock, all, &mut self.random);
        clocks.set(kind, seconds)?;
        self.hold(2_500..6_000, true).await;
        // Looked at before it is set back: a preload that does nothing would prove nothing.
        if self.is_seen(kind, seconds).await {
            let which = if seconds > 0 { "ahead" } else { "back" };
            self.injected
                .count(Fault::Clock, format!("{kind:?} {which}"));
        }
        clocks.set(kind, 0)?;
        self.wait(1_100..2_000).await;
        Ok(())
    }

    /// Whether a process tells the time that was set; the agent tells nobody.
    async fn is_seen(&self, kind: Kind, seconds: i64) -> bool {
        let url = match kind {
            Kind::Centre => &self.site.api,
            Kind::Acks => &self.site.acks,
            _ => return true,
        };
        let Some(told) = self.site.time_of(url).await else {
            return false;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs()).cast_signed();
        (told - now - seconds).abs() <= CLOCK_TOLERANCE_S
    }

    async fn store(&mut self) -> Result<()> {
        let all = || vec![StoreLoss::All, StoreLoss::Recent, StoreLoss::SinceLastCopy];
        let loss = draw(&mut self.decks.store, all, &mut self.random);
        let copy = match loss {
            StoreLoss::All => None,
            StoreLoss::Recent => Some(self.copy_store().await?),
            StoreLoss::SinceLastCopy => match self.copy.clone() {
                Some(copy) => Some(copy),
                None => Some(self.copy_store().await?),
            },
        };
        if matches!(loss, StoreLoss::Recent) {
            self.hold(500..4_000, true).await;
            self.world.heal().await;
        }
        self.put_in_place(Kind::Agent, "inbox", copy.as_deref())
            .await?;
        let what = match (copy, loss) {
            (None, _) => "lost",
            (Some(_), StoreLoss::SinceLastCopy) => "a far older copy came back",
            (Some(_), _) => "an older copy came back",
        };
        self.injected.count(Fault::Store, what);
        self.wait(500..3_000).await;
        Ok(())
    }

    /// Copies the agent's store as an image of a machine does: as it is at one moment, while it works.
    async fn copy_store(&mut self) -> Result<PathBuf> {
        let copy = self.site.home.join(format!("copy-{:04}", self.lost));
        self.world.pause(Kind::Agent).await;
        let copied = copy_all(&self.site.disks.of(Kind::Agent), &copy);
        self.world.resume(Kind::Agent).await;
        copied?;
        self.copy = Some(copy.clone());
        Ok(copy)
    }

    /// Ends a process, puts what it had aside, and starts it with what is given instead. What is
    /// put aside stays evidence.
    async fn put_in_place(
        &mut self,
        kind: Kind,
        journal: &str,
        instead: Option<&Path>,
    ) -> Result<()> {
        let place = self.site.disks.of(kind);
        self.world.stop(kind).await;
        if place.join(journal).is_dir() {
            copy_all(&place, &self.site.place_of_lost(self.lost))?;
            self.lost += 1;
        }
        empty(&place)?;
        if let Some(instead) = instead {
            copy_all(instead, &place)?;
        }
        self.world.start_again(kind).await
    }

    async fn twins(&mut self) -> Result<()> {
        let all = || {
            let second = [Twin::Silent, Twin::Ready].map(Twins::Second);
            let mut all = second.to_vec();
            all.push(Twins::HalfOpen);
            all
        };
        match draw(&mut self.decks.twins, all, &mut self.random) {
            Twins::HalfOpen => {
                let before = self.site.to_hub.cuts().half_open;
                let stays = Duration::from_millis(self.random.random_range(4_000..20_000));
                self.site.to_hub.half_open(stays);
                self.hold(1_500..4_000, true).await;
                let times = self.site.to_hub.cuts().half_open - before;
                if times > 0 {
                    let what = "an old connection that noticed nothing";
                    self.injected.add(Fault::Twins, what, times);
                }
            }
            Twins::Second(twin) => {
                let stays = Duration::from_millis(self.random.random_range(500..4_000));
                // The hub may be out of reach just now; what was not done is not counted.
                if let Ok(came) = twins::connect(self.site, twin, stays).await {
                    let what = format!("a second one, {twin:?}");
                    self.injected.count(Fault::Twins, what);
                    self.injected
                        .saw("messages swallowed by a second connection", came);
                }
            }
        }
        Ok(())
    }
}

/// Copies a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes what is in a directory, which stays: it may be a disk.
fn empty(place: &Path) -> Result<()> {
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// How long the steps of a run without a duration take, about.
pub(crate) fn seconds(args: &Args) -> u64 {
    let kills = match args.faults.contains(&Fault::Kill) {
        true if args.kills > 0 => {
            u64::from(args.kills) * KILL_EVERY_MS / 1000 + 2 * args.outage_s + SLOW_S
        }
        _ => 0,
    };
    let others = args.faults.iter();
    let others = others.filter(|fault| !matches!(fault, Fault::Kill | Fault::Tokens));
    kills + others.count() as u64 * u64::from(args.rounds) * FAULT_S
}

/// About how long a kill takes, with the pause before it and half of the time down.
const KILL_EVERY_MS: u64 = 480;
/// About how long another fault takes.
const FAULT_S: u64 = 4;
/// How long the back office is slow before the centre goes down.
const SLOW_S: u64 = 5;
/// Kills among one fault of every other kind, in a run that has a duration.
const KILLS_A_BATCH: u32 = 15;
const KILL_DURING_A_FAULT: f64 = 0.4;
/// A few pushes, so that cuts fall inside of frames and heads.
const CUT_AFTER_MAX: u64 = 6_000;
const JUMPS_S: [i64; 7] = [
    2,
    61,
    3_600,
    86_400,
    40 * 86_400,
    366 * 86_400,
    3_660 * 86_400,
];
/// Between two looks at clocks, one of which looks at its own once a second.
const CLOCK_TOLERANCE_S: i64 = 3;
