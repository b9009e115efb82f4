//! The registry by itself: what is replicated, on leaders and followers alike.

use super::World;
use crate::{Config, Effects, Input, Master, Timestamp};

/// A follower that applied the same changes has the same registry, and so has one that was restored from a snapshot.
#[test]
fn followers_and_snapshots_agree_with_the_leader() {
    let mut world = World::new(Config {
        gone_agents_max: 1,
        completed_frameworks_max: 1,
        ..Config::default()
    });
    for line in [
        "0ms f1 subscribes timeout=10",
        "0ms f2 subscribes timeout=10",
        "0ms f3 subscribes timeout=10",
        "1ms a1 registers cpus:1",
        "1ms a2 registers cpus:1",
        "1ms a3 registers cpus:1",
        "1ms a4 registers cpus:1",
        "2ms operator gone a1",
        "3ms operator gone a2",
        "4ms a3 disconnects",
        "75004ms tick",
        "75005ms f1 tears-down",
        "75006ms f2 tears-down",
        "75007ms f3 disconnects",
        "75008ms a4 registers cpus:2",
    ] {
        world.line(line);
    }
    let leader = world.master.registry();
    assert_eq!(leader.agents.len(), 2);
    assert_eq!(
        leader
            .agents
            .iter()
            .filter(|agent| agent.unreachable_ms == Some(75_004))
            .count(),
        1
    );
    assert_eq!(leader.frameworks[0].failover_deadline_ms, Some(85_007));
    assert_eq!(leader.completed_frameworks.len(), 1);
    assert_eq!(leader.gone_agents.len(), 1);

    let mut follower = Master::new(Config::default());
    let mut effects = Effects::new();
    for (index, change) in world.committed.iter().enumerate() {
        let input = Input::Committed {
            index: index as u64 + 1,
            proposal: None,
            change: change.clone(),
        };
        follower.step(Timestamp(0), input.clone(), &mut effects);
        // A change that comes twice is applied once.
        follower.step(Timestamp(0), input, &mut effects);
    }
    assert!(effects.is_empty(), "a follower has no effects");
    assert_eq!(follower.registry(), leader);

    let mut restored = Master::new(Config::default());
    restored.restore(leader.clone());
    assert_eq!(restored.registry(), leader);
}
