//! Random operations, compared with a model that fits on a page.

use std::collections::HashMap;

use proptest::prelude::*;

use super::legacy::OLD_SCHEMA;
use super::*;
use crate::clock::{Clock, iso_timestamp};
use crate::lease::Renewal;

/// The managers' agents: the last one is the first one again, by another manager.
const AGENTS: [&str; 4] = ["a", "b", "c", "a"];
const TASKS: usize = 3;

#[derive(Debug, Clone)]
enum Operation {
    Acquire(usize, usize),
    Renew(usize, usize),
    Release(usize, usize),
    ReleaseAll(usize),
    Holds(usize, usize),
    Advance(i64),
    StepWall(i64),
    Reboot,
    Reopen(usize),
    /// An old program, which uses an agent's name, acquires a lease for so long.
    OldInsert(usize, usize, i64),
    /// It renews one, whoever's it is.
    OldRenew(usize, i64),
    /// It deletes what is over by the wall clock.
    OldSweep,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (agent, task, ms) = (0..AGENTS.len(), 0..TASKS, 0..15 * SECOND);
    prop_oneof![
        6 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Acquire(a, t)),
        4 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Renew(a, t)),
        3 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Release(a, t)),
        1 => agent.clone().prop_map(Operation::ReleaseAll),
        4 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Holds(a, t)),
        4 => (0..7 * SECOND).prop_map(Operation::Advance),
        2 => (-HOUR..HOUR).prop_map(Operation::StepWall),
        1 => Just(Operation::Reboot),
        1 => agent.clone().prop_map(Operation::Reopen),
        2 => (agent, task.clone(), ms.clone()).prop_map(|(a, t, ms)| Operation::OldInsert(a, t, ms)),
        1 => (task, ms).prop_map(|(t, ms)| Operation::OldRenew(t, ms)),
        1 => Just(Operation::OldSweep),
    ]
}

#[derive(Debug)]
struct Held {
    agent: &'static str,
    end: End,
    /// What stands in the row.
    expires_wall_ms: i64,
    renewals: u64,
}

/// When a lease ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// After so many milliseconds: ours.
    After(i64),
    /// At the row's wall time: an old program's.
    AtWall,
}

impl Held {
    fn ours(agent: &'static str, wall_ms: i64, renewals: u64) -> Self {
        let end = End::After(10 * SECOND);
        Self { agent, end, expires_wall_ms: wall_ms + 10 * SECOND, renewals }
    }

    fn remaining_ms(&self, wall_ms: i64) -> i64 {
        match self.end {
            End::After(ms) => ms,
            End::AtWall => self.expires_wall_ms - wall_ms,
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    leases: HashMap<usize, Held>,
    last_token: HashMap<usize, i64>,
    refusals: u64,
}

/// An old program, on the same file.
struct Old(Connection);

impl Old {
    fn insert(&self, agent: &str, task: usize, wall_ms: i64, expires_ms: i64) -> bool {
        let sql = "INSERT INTO phase_leases
            (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count)
            VALUES (hex(randomblob(16)), ?, 'PLAN', ?, ?, ?, 0)";
        let times = (iso_timestamp(wall_ms), iso_timestamp(expires_ms));
        self.0.execute(sql, (task.to_string(), agent, times.0, times.1)).is_ok()
    }

    fn renew(&self, task: usize, expires_ms: i64) -> bool {
        let sql =
            "UPDATE phase_leases SET expires_at = ?, renewed_count = renewed_count + 1 WHERE task_id = ?";
        self.0.execute(sql, (iso_timestamp(expires_ms), task.to_string())).unwrap() > 0
    }

    fn sweep(&self, wall_ms: i64) {
        self.0.execute("DELETE FROM phase_leases WHERE expires_at < ?", [iso_timestamp(wall_ms)]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_manager_does_what_the_model_does(
        old_shape in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let fixture = Fixture::new();
        let old = Old(fixture.connection());
        if old_shape {
            old.0.execute_batch(OLD_SCHEMA).unwrap();
        }
        let mut managers: Vec<_> = AGENTS.iter().map(|name| fixture.manager(name)).collect();
        let mut model = Model::default();
        for operation in operations {
            let wall_ms = fixture.clock.wall_ms();
            match operation {
                Operation::Acquire(agent, task) => {
                    let answer = acquire(&managers[agent], &task.to_string());
                    let live = model.leases.get(&task).filter(|held| held.remaining_ms(wall_ms) > 0);
                    match (answer, live) {
                        (Acquisition::Held { holder, remaining_ms }, Some(held)) => {
                            prop_assert_eq!(holder, t(held.agent));
                            prop_assert_eq!(remaining_ms, held.remaining_ms(wall_ms));
                            model.refusals += 1;
                        }
                        (Acquisition::Acquired(lease), None) => {
                            let last = model.last_token.insert(task, lease.fencing_token).unwrap_or(0);
                            prop_assert!(lease.fencing_token > last);
                            model.leases.insert(task, Held::ours(AGENTS[agent], wall_ms, 0));
                        }
                        (answer, live) => prop_assert!(false, "{answer:?} where the model has {live:?}"),
                    }
                }
                Operation::Renew(agent, task) => {
                    let answer = managers[agent].renew(&t(&task.to_string()), &t("PLAN"), soon()).unwrap();
                    let expected = match model.leases.get_mut(&task) {
                        Some(held) if held.agent == AGENTS[agent] && held.renewals < 3 => {
                            *held = Held::ours(held.agent, wall_ms, held.renewals + 1);
                            Renewal::Renewed { expires_at_ms: wall_ms + 10 * SECOND }
                        }
                        Some(held) if held.agent == AGENTS[agent] => Renewal::MaxRenewalsExceeded,
                        _ => Renewal::NotHeld,
                    };
                    prop_assert_eq!(answer, expected);
                }
                Operation::Release(agent, task) => {
                    let is_holder = model.leases.get(&task).is_some_and(|held| held.agent == AGENTS[agent]);
                    if is_holder {
                        model.leases.remove(&task);
                    }
                    prop_assert_eq!(release(&managers[agent], &task.to_string()), is_holder);
                }
                Operation::ReleaseAll(agent) => {
                    let before = model.leases.len();
                    model.leases.retain(|_, held| held.agent != AGENTS[agent]);
                    let released = u64::try_from(before - model.leases.len()).unwrap();
                    prop_assert_eq!(managers[agent].release_all(soon()).unwrap(), released);
                }
                Operation::Holds(agent, task) => {
                    let expected = model
                        .leases
                        .get(&task)
                        .is_some_and(|held| held.agent == AGENTS[agent] && held.remaining_ms(wall_ms) > 0);
                    prop_assert_eq!(holds(&managers[agent], &task.to_string()), expected);
                }
                Operation::Advance(ms) => {
                    fixture.clock.advance(ms);
                    for held in model.leases.values_mut() {
                        if let End::After(left) = &mut held.end {
                            *left -= ms;
                        }
                    }
                }
                Operation::StepWall(ms) => fixture.clock.step_wall(ms),
                Operation::Reboot => {
                    fixture.clock.reboot();
                    for held in model.leases.values_mut() {
                        if let End::After(left) = &mut held.end {
                            *left = 0;
                        }
                    }
                }
                Operation::Reopen(agent) => managers[agent] = fixture.manager(AGENTS[agent]),
                Operation::OldInsert(agent, task, ms) => {
                    let is_free = !model.leases.contains_key(&task);
                    prop_assert_eq!(old.insert(AGENTS[agent], task, wall_ms, wall_ms + ms), is_free);
                    let held = Held {
                        agent: AGENTS[agent],
                        end: End::AtWall,
                        expires_wall_ms: wall_ms + ms,
                        renewals: 0,
                    };
                    model.leases.entry(task).or_insert(held);
                }
                Operation::OldRenew(task, ms) => {
                    let held = model.leases.get_mut(&task);
                    prop_assert_eq!(old.renew(task, wall_ms + ms), held.is_some());
                    if let Some(held) = held {
                        // The one renewal that can't be told from ours is one to the same millisecond.
                        if held.expires_wall_ms != wall_ms + ms {
                            held.end = End::AtWall;
                        }
                        held.expires_wall_ms = wall_ms + ms;
                        held.renewals += 1;
                    }
                }
                Operation::OldSweep => {
                    old.sweep(wall_ms);
                    model.leases.retain(|_, held| held.expires_wall_ms >= wall_ms);
                }
            }
            let wall_ms = fixture.clock.wall_ms();
            let stats = managers[0].stats(soon()).unwrap();
            let live = model.leases.values().filter(|held| held.remaining_ms(wall_ms) > 0).count();
            prop_assert_eq!(stats.total_leases, u64::try_from(model.leases.len()).unwrap());
            prop_assert_eq!(stats.active_leases, u64::try_from(live).unwrap());
            prop_assert_eq!(stats.contention_events, model.refusals);
            let renewals = model.leases.values().map(|held| held.renewals).max().unwrap_or(0);
            prop_assert_eq!(stats.max_renewals, renewals);
        }
    }
}
