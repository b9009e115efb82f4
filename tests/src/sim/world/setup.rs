//! How a world begins: who is there, and what is on the disks.

use std::time::Duration;

use proffer_master_core::{Config, LEVEL, Master};
use proffer_proto::registry;
use proffer_replication::bootstrap;
use prost::Message as _;

use super::*;
use crate::sim::checkers::Configuration;
use crate::sim::masters::disk::Disk;
use crate::sim::operator::Policy;
use crate::sim::options::Planted;

/// Watchers of the frameworks' state; not more than the masters of the smallest group.
const WATCHERS: usize = 1;
/// Machines that stand idle at first, where the group is changed.
const SPARES: usize = 2;

impl World {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let size = options.masters.unwrap_or(if rng.one_in(3) { 5 } else { 3 });
        let policy = match rng.range(0, 3) {
            0 => Policy::Idle,
            1 => Policy::Repairs,
            _ => Policy::Restless,
        };
        // In every second run not all that frameworks would keep has room.
        let state_bytes_max = rng.one_in(2).then(|| rng.range(300, 700));
        let config = config(&mut rng, state_bytes_max);
        let frameworks = (0..options.frameworks)
            // One framework in four is removed when it stays away for long.
            .map(|index| ModelFramework::new(index, options.tasks, if rng.one_in(4) { 3.0 } else { 3600.0 }))
            .collect();
        let spares = if policy == Policy::Idle { 0 } else { SPARES };
        let lies = options.planted == Some(Planted::LyingDisk);
        let machine = |_| Machine::new(if lies { Disk::liar() } else { Disk::default() });
        let mut world = World {
            now: START,
            trace: Trace::new(options.print),
            queue: Queue::new(),
            report: Report::default(),
            state_bytes_max,
            healed: false,
            snapshot_entries: rng.range(4, 60),
            tail_entries_max: rng.range(0, 12) as usize,
            machines: (0..size + spares).map(machine).collect(),
            seats: BTreeMap::new(),
            network: Network::default(),
            operator: Operator::new(policy, size),
            lost: Vec::new(),
            outputs: Vec::new(),
            agents: (0..options.agents)
                .map(|index| ModelAgent::new(index, options.planted == Some(Planted::LostAcknowledgement)))
                .collect(),
            frameworks,
            clients: (0..options.state_clients)
                .map(|index| StateClient::new(index, options.state_calls))
                .collect(),
            watchers: (0..WATCHERS).map(Watcher::new).collect(),
            links: BTreeMap::new(),
            next_link: 0,
            next_request: 0,
            subscribing: BTreeMap::new(),
            watching: BTreeMap::new(),
            open_streams: BTreeSet::new(),
            call_free_at: vec![0; options.frameworks],
            asking: BTreeMap::new(),
            operations: Vec::new(),
            next_moment: 0,
            log: Vec::new(),
            replay: Master::new(config.clone()),
            config,
            committed: CommittedNeverLost::default(),
            configurations: ConfigurationsEqual::default(),
            leaders: OneLeaderATerm::default(),
            states: StatesEqual::default(),
            durable: DurableBeforeVisible::default(),
            kept: FrameworksKept::default(),
            no_removed_leader: NoRemovedLeader::default(),
            no_task_lost: NoTaskLost::default(),
            no_task_twice: NoTaskTwice::default(),
            offers: OffersExclusive::default(),
            updates: UpdatesNotLost::default(),
            volumes: VolumesKept::default(),
            options,
            rng,
        };
        let machines = world.machines.len();
        let targets = world.agents.iter_mut().map(|agent| &mut agent.target);
        let targets = targets.chain(world.frameworks.iter_mut().map(|framework| &mut framework.target));
        for target in targets.chain(world.clients.iter_mut().map(|client| &mut client.target)) {
            *target %= machines;
        }
        world.found(size);
        world
    }

    /// The group is founded: every initial member has the first snapshot on its disk.
    fn found(&mut self, size: usize) {
        let members: Vec<registry::Member> = (0..size).map(|machine| self.new_member(machine)).collect();
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        let registry = registry::Registry {
            members,
            level: Some(LEVEL),
            ..registry::Registry::default()
        };
        let snapshot = bootstrap(&ids, registry.encode_to_vec());
        for machine in &mut self.machines[..size] {
            machine.disk.found(snapshot.clone());
            machine.in_service = true;
        }
        self.replay.restore(registry);
        let configuration = Configuration {
            voters: ids,
            ..Configuration::default()
        };
        self.configurations.begin(1, configuration);
    }

    /// A work directory is made on the machine, and with it the id of a member that never was before.
    pub(super) fn new_member(&mut self, machine: usize) -> registry::Member {
        let mut id = (machine as u64 + 1) * 100;
        while self.seats.contains_key(&id) {
            id += 1;
        }
        self.seats.insert(id, machine);
        self.machines[machine].member = Some(id);
        registry::Member {
            id,
            address: format!("machine-{machine}:5050"),
            level: LEVEL,
            version: "0.1.0".to_owned(),
        }
    }

    /// Everything that happens by itself begins.
    pub(super) fn begin(&mut self) {
        for machine in 0..self.machines.len() {
            let delay = self.rng.range(0, 100);
            self.after(delay, Event::MasterStart { machine });
        }
        for agent in 0..self.agents.len() {
            let delay = self.rng.range(0, 500);
            self.after(delay, Event::AgentConnect { agent });
            self.after(1_000, Event::AgentRetry { agent });
        }
        for framework in 0..self.frameworks.len() {
            let delay = self.rng.range(0, 500);
            self.after(delay, Event::FrameworkConnect { framework });
            self.after(1_000, Event::FrameworkTimer { framework });
        }
        for client in 0..self.clients.len() {
            let delay = self.rng.range(0, 1_000);
            self.after(delay, Event::StateNext { client });
        }
        for watcher in 0..self.watchers.len() {
            let delay = self.rng.range(0, 1_000);
            self.after(delay, Event::WatchConnect { watcher });
        }
        self.after(1_500, Event::Operator);
        if self.rng.one_in(2) {
            self.after(2_000, Event::Order);
        }
        self.after(1_000, Event::Fault);
        self.after(self.options.faults_ms, Event::Heal);
    }
}

fn config(rng: &mut Rng, state_bytes_max: Option<u64>) -> Config {
    let usual = Config::default();
    Config {
        state_bytes_max: state_bytes_max.unwrap_or(usual.state_bytes_max),
        ping_interval: Duration::from_secs(1),
        ping_misses: 3,
        agent_timeout: Duration::from_secs(4),
        agent_reregister_timeout: Duration::from_secs(6),
        framework_resubscribe_timeout: Duration::from_secs(5),
        heartbeat_interval: Duration::from_secs(5),
        offer_timeout: rng.one_in(2).then(|| Duration::from_secs(2)),
        told_at_once: 2,
        idle_after: Duration::from_millis(rng.range(0, 1_000)),
        revocable_grace: Duration::from_millis(rng.range(100, 2_000)),
        ..usual
    }
}
