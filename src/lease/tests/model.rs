//! Random operations, compared with a model that fits on a page.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::lease::Renewal;

const AGENTS: usize = 3;
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
}

fn operation() -> impl Strategy<Value = Operation> {
    let (agent, task) = (0..AGENTS, 0..TASKS);
    prop_oneof![
        6 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Acquire(a, t)),
        4 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Renew(a, t)),
        3 => (agent.clone(), task.clone()).prop_map(|(a, t)| Operation::Release(a, t)),
        1 => agent.clone().prop_map(Operation::ReleaseAll),
        4 => (agent.clone(), task).prop_map(|(a, t)| Operation::Holds(a, t)),
        4 => (0..7 * SECOND).prop_map(Operation::Advance),
        2 => (-HOUR..HOUR).prop_map(Operation::StepWall),
        1 => Just(Operation::Reboot),
        1 => agent.prop_map(Operation::Reopen),
    ]
}

#[derive(Debug)]
struct Held {
    agent: usize,
    remaining_ms: i64,
    renewals: u64,
}

#[derive(Debug, Default)]
struct Model {
    leases: HashMap<usize, Held>,
    last_token: HashMap<usize, i64>,
    refusals: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_manager_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..60)) {
        let fixture = Fixture::new();
        let names = ["a", "b", "c"];
        let mut managers: Vec<_> = names.iter().map(|name| fixture.manager(name)).collect();
        let mut model = Model::default();
        for operation in operations {
            match operation {
                Operation::Acquire(agent, task) => {
                    let answer = acquire(&managers[agent], &task.to_string());
                    let live = model.leases.get(&task).filter(|held| held.remaining_ms > 0);
                    match (answer, live) {
                        (Acquisition::Held { holder, remaining_ms }, Some(held)) => {
                            prop_assert_eq!(holder, t(names[held.agent]));
                            prop_assert_eq!(remaining_ms, held.remaining_ms);
                            model.refusals += 1;
                        }
                        (Acquisition::Acquired(lease), None) => {
                            let last = model.last_token.insert(task, lease.fencing_token).unwrap_or(0);
                            prop_assert!(lease.fencing_token > last);
                            let held = Held {
                                agent,
                                remaining_ms: 10 * SECOND,
                                renewals: 0,
                            };
                            model.leases.insert(task, held);
                        }
                        (answer, live) => prop_assert!(false, "{answer:?} where the model has {live:?}"),
                    }
                }
                Operation::Renew(agent, task) => {
                    let answer = managers[agent].renew(&t(&task.to_string()), &t("PLAN"), soon()).unwrap();
                    let expected = match model.leases.get_mut(&task) {
                        Some(held) if held.agent == agent && held.renewals < 3 => {
                            held.renewals += 1;
                            held.remaining_ms = 10 * SECOND;
                            Renewal::Renewed { expires_at_ms: fixture.clock.wall_ms() + 10 * SECOND }
                        }
                        Some(held) if held.agent == agent => Renewal::MaxRenewalsExceeded,
                        _ => Renewal::NotHeld,
                    };
                    prop_assert_eq!(answer, expected);
                }
                Operation::Release(agent, task) => {
                    let is_holder = model.leases.get(&task).is_some_and(|held| held.agent == agent);
                    if is_holder {
                        model.leases.remove(&task);
                    }
                    prop_assert_eq!(release(&managers[agent], &task.to_string()), is_holder);
                }
                Operation::ReleaseAll(agent) => {
                    let before = model.leases.len();
                    model.leases.retain(|_, held| held.agent != agent);
                    let released = u64::try_from(before - model.leases.len()).unwrap();
                    prop_assert_eq!(managers[agent].release_all(soon()).unwrap(), released);
                }
                Operation::Holds(agent, task) => {
                    let expected = model
                        .leases
                        .get(&task)
                        .is_some_and(|held| held.agent == agent && held.remaining_ms > 0);
                    prop_assert_eq!(holds(&managers[agent], &task.to_string()), expected);
                }
                Operation::Advance(ms) => {
                    fixture.clock.advance(ms);
                    for held in model.leases.values_mut() {
                        held.remaining_ms -= ms;
                    }
                }
                Operation::StepWall(ms) => fixture.clock.step_wall(ms),
                Operation::Reboot => {
                    fixture.clock.reboot();
                    for held in model.leases.values_mut() {
                        held.remaining_ms = 0;
                    }
                }
                Operation::Reopen(agent) => managers[agent] = fixture.manager(names[agent]),
            }
            let stats = managers[0].stats(soon()).unwrap();
            let live = model.leases.values().filter(|held| held.remaining_ms > 0).count();
            prop_assert_eq!(stats.total_leases, u64::try_from(model.leases.len()).unwrap());
            prop_assert_eq!(stats.active_leases, u64::try_from(live).unwrap());
            prop_assert_eq!(stats.contention_events, model.refusals);
            let renewals = model.leases.values().map(|held| held.renewals).max().unwrap_or(0);
            prop_assert_eq!(stats.max_renewals, renewals);
        }
    }
}
