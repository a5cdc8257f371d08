//! A process of agents whose leases are in PostgreSQL, for `npm run bench:postgres`: says that it is ready, begins when it
//! reads a line, and says what it has measured. Each operation's success is checked.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftlock::attestation::store::Prepared;
use driftlock::attestation::{AttestationStore as _, PostgresAttestations, PromptSpec};
use driftlock::clock::{Clock, SystemClock};
use driftlock::durability::Durability;
use driftlock::lease::{
    Acquisition, Hold, HoldRequest, HoldTerms, LeaseManager, LeaseOptions, OwnedKey, PostgresLeaseStore,
    Renewal,
};
use driftlock::ledger::{LedgerStore as _, PostgresLedger, Transition};
use driftlock::patience::Patience;
use driftlock::text::Text;
use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Deserialize)]
struct Order {
    url: String,
    /// Where the processes of this machine find each other.
    folder: String,
    operation: Operation,
    /// Sets this process's agents and tasks apart from those of others.
    name: String,
    agents: usize,
    seconds: f64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    AcquireAndRelease,
    Renew,
    Attest,
    Append,
    Wait,
    Hold,
}

/// What was measured.
#[derive(Serialize, Default)]
struct Answer {
    /// Each operation's duration, in microseconds.
    durations: Vec<u64>,
    /// Of those who waited: when each got the lease and when it began to give it up, in nanoseconds since the boot.
    turns: Vec<(u64, u64)>,
}

/// A call that has no answer by then has failed.
fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(30))
}

fn main() {
    let Some(order) = std::env::args().find(|argument| argument.starts_with('{')) else { return };
    driftlock::postgres::driver::is_linked(driftlock_postgres::driver::table());
    let order: Order = serde_json::from_str(&order).expect("an order");
    let answer = match order.operation {
        Operation::Wait => wait(&order),
        Operation::Hold => hold(&order),
        _ => repeat(&order),
    };
    say(&serde_json::to_string(&answer).expect("an answer"));
}

fn open(order: &Order, agent: usize) -> LeaseManager {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let beside = Path::new(&order.folder).join("leases");
    let store = PostgresLeaseStore::open(&order.url, &beside, &clock).expect("a store");
    let name = format!("{} {agent}", order.name);
    let options = LeaseOptions { max_renewals: u64::MAX, ..LeaseOptions::of(Text::from(name.as_str())) };
    LeaseManager::with_store(Arc::new(store), clock, options).expect("a manager")
}

/// What one agent repeats; with the number of the repetition.
type Step = Box<dyn FnMut(u64) + Send>;

/// Makes an agent ready.
fn step(order: &Order, agent: usize) -> Step {
    let name = format!("{} {agent}", order.name);
    let phase = Text::from("IMPLEMENT");
    match order.operation {
        Operation::Renew => {
            let manager = open(order, agent);
            let task = Text::from(name.as_str());
            acquire(&manager, &task, &phase);
            Box::new(move |_| {
                let renewed = manager.renew(&task, &phase, patience());
                assert!(matches!(renewed, Ok(Renewal::Renewed { .. })), "{renewed:?}");
            })
        }
        Operation::Attest => {
            let store = PostgresAttestations::new(&order.url).expect("a store");
            let prompt = prompt(&name);
            attest(&store, &prompt, true);
            Box::new(move |_| attest(&store, &prompt, false))
        }
        Operation::Append => {
            let ledger = PostgresLedger::new(&order.url).expect("a ledger");
            let transition = transition(&name);
            Box::new(move |_| {
                let lines = ledger.append(&[&transition], Durability::Process, patience());
                assert!(matches!(&lines, Ok(lines) if lines.len() == 1), "{lines:?}");
            })
        }
        _ => {
            let manager = open(order, agent);
            Box::new(move |round| {
                let task = Text::from(format!("{name} {round}").as_str());
                acquire(&manager, &task, &phase);
                release(&manager, &task, &phase);
            })
        }
    }
}

/// Repeats an operation by each agent until the time is over.
fn repeat(order: &Order) -> Answer {
    let mut steps: Vec<Step> = (0..order.agents).map(|agent| step(order, agent)).collect();
    // Makes what is missing: the connections too, which are all in use at the same time here.
    std::thread::scope(|scope| {
        for step in &mut steps {
            scope.spawn(move || step(0));
        }
    });
    ready();
    let end = Instant::now() + Duration::from_secs_f64(order.seconds);
    let durations = std::thread::scope(|scope| {
        let working: Vec<_> = steps
            .iter_mut()
            .map(|step| {
                scope.spawn(move || {
                    let mut durations = Vec::new();
                    for round in 1.. {
                        let begin = Instant::now();
                        if begin >= end {
                            break;
                        }
                        step(round);
                        durations.push(microseconds(begin.elapsed()));
                    }
                    durations
                })
            })
            .collect();
        working.into_iter().flat_map(|thread| thread.join().expect("an agent")).collect()
    });
    Answer { durations, ..Answer::default() }
}

fn prompt(task: &str) -> Prepared {
    let texts = |texts: &[&str]| texts.iter().map(|text| Text::from(*text)).collect();
    Prepared::new(PromptSpec {
        phase: "IMPLEMENT".into(),
        task_id: task.into(),
        requirements: texts(&["parse dates", "keep time zones", "reject nonsense"]),
        quality_gates: texts(&["tests", "lint"]),
        artifacts: texts(&["src/dates.ts", "src/zones.ts"]),
        ..PromptSpec::default()
    })
}

fn attest(store: &PostgresAttestations, prompt: &Prepared, may_be_first: bool) {
    let answers = store.attest(&[prompt], Durability::Process, patience()).expect("an attestation");
    assert!(
        answers[0].error.is_none() && (may_be_first || answers[0].baseline_hash.is_some()),
        "{answers:?}"
    );
}

fn transition(task: &str) -> Transition {
    Transition {
        task_id: task.into(),
        from_phase: Some("PLAN".into()),
        to_phase: "IMPLEMENT".into(),
        evidence_artifacts: vec!["src/dates.ts".into()],
        evidence_validated: true,
        ..Transition::default()
    }
}

fn acquire(manager: &LeaseManager, task: &Text, phase: &Text) {
    let acquired = manager.acquire(task, phase, patience());
    assert!(matches!(acquired, Ok(Acquisition::Acquired(_))), "{acquired:?}");
}

fn release(manager: &LeaseManager, task: &Text, phase: &Text) {
    let released = manager.release(task, phase, patience());
    assert!(matches!(released, Ok(true)), "{released:?}");
}

/// Has all agents wait for one lease. Each that gets it gives it up at once, until the time is over.
fn wait(order: &Order) -> Answer {
    let turns: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let manager = open(order, 0);
    for _ in 0..order.agents {
        let turns = Arc::clone(&turns);
        let take_turn = move |held: driftlock::Result<Vec<Arc<Hold>>>| {
            let granted = boot_nanoseconds();
            let Ok(held) = held else { return };
            // Not on the thread that sees to those who wait.
            std::thread::spawn(move || {
                let begin = boot_nanoseconds();
                if matches!(held[0].release(patience()), Ok(true)) {
                    turns.lock().expect("turns").push((granted, begin));
                }
            });
        };
        manager.hold(request("the one", 3_600_000), patience(), &Arc::default(), Box::new(take_turn));
    }
    ready();
    std::thread::sleep(Duration::from_secs_f64(order.seconds));
    manager.close();
    let turns = std::mem::take(&mut *turns.lock().expect("turns"));
    Answer { turns, ..Answer::default() }
}

/// Holds a lease for each agent, or the one that is waited for, until it is over.
fn hold(order: &Order) -> Answer {
    let manager = open(order, 0);
    let tasks =
        (0..order.agents).map(|n| if n == 0 { "the one".to_owned() } else { format!("{} {n}", order.name) });
    let holds: Vec<Arc<Hold>> = tasks
        .map(|task| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let answer = Box::new(move |held| drop(sender.send(held)));
            manager.hold(request(&task, 0), patience(), &Arc::default(), answer);
            receiver.recv().expect("an answer").expect("a lease").remove(0)
        })
        .collect();
    ready();
    std::thread::sleep(Duration::from_secs_f64(order.seconds));
    assert!(holds.iter().all(|hold| hold.remaining_ms() > 0), "a lease was lost");
    for hold in holds {
        assert!(matches!(hold.release(patience()), Ok(true)));
    }
    Answer::default()
}

fn request(task: &str, wait_ms: i64) -> HoldRequest {
    HoldRequest {
        keys: vec![OwnedKey { task: Text::from(task), phase: Text::from("IMPLEMENT") }],
        wait_ms,
        terms: HoldTerms { duration_ms: 300_000, max_hold_ms: 3_600_000, progress_ms: None },
        instead_of: None,
        on_lost: Arc::new(|_, error| panic!("{error}")),
    }
}

/// Says so, and waits to be told to begin.
fn ready() {
    say("ready");
    std::io::stdin().read_line(&mut String::new()).expect("a line");
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).expect("somebody who reads");
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The same for all processes of the machine.
fn boot_nanoseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
