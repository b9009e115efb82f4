//! ACCEPT with a gang: launched whole or not at all, what is held meanwhile, and what is lent.

use proffer_proto::v1;
use proffer_proto::v1::scheduler::call::{Accept, accept};

use super::{Words, World, check, command, nanoseconds, resources};

impl World {
    /// The gang `g1 t1:cpus,1;mem,32 t2:cpus,2@a1`: a member without agent goes anywhere, `ports,2` are any two.
    pub(super) fn gang(&self, words: &Words<'_>) -> Accept {
        let (id, members) = words.words.split_first().expect("an id and members");
        let option = |key: &str| words.options.get(key).copied();
        let gang = accept::Gang {
            id: (*id).to_owned(),
            members: members.iter().map(|text| self.member(text)).collect(),
            minimum: option("min").map(|minimum| minimum.parse().expect("a number")),
            max_wait: option("wait").map(nanoseconds),
            role: option("role").map(str::to_owned),
            together: option("together").map(|together| together == "yes"),
        };
        Accept {
            offer_ids: words.list("offers").iter().map(|name| self.offer_id(name)).collect(),
            filters: words.filters(),
            gang: Some(gang),
            ..Accept::default()
        }
    }

    fn member(&self, text: &str) -> v1::TaskInfo {
        let (text, agent) = text.split_once('@').map_or((text, ""), |(text, agent)| (text, agent));
        let (task, wanted) = text.split_once(':').expect("t1:resources");
        let number = |part: &str| {
            let (name, count) = part.split_once(',')?;
            let count = count.parse().ok().filter(|_| name == "ports")?;
            Some(v1::Resource {
                name: "ports".to_owned(),
                r#type: v1::value::Type::Scalar as i32,
                scalar: Some(v1::value::Scalar { value: count }),
                ..v1::Resource::default()
            })
        };
        let parts = wanted.split(';');
        let of = |part: &str| number(part).map_or_else(|| resources(&part.replacen(',', ":", 1)), |one| vec![one]);
        v1::TaskInfo {
            name: task.to_owned(),
            task_id: task.into(),
            agent_id: if agent.is_empty() {
                "".into()
            } else {
                self.id(agent).into()
            },
            resources: parts.flat_map(of).collect(),
            command: Some(command()),
            ..v1::TaskInfo::default()
        }
    }
}

#[test]
fn a_gang_is_launched_in_one_step_over_the_offers_of_several_agents() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o1,o2 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
           f1 <- offers o3 a1 cpus:1;mem:992, o4 a2 cpus:1;mem:992
         > 2ms operator gets GET_STATE
           answer GET_STATE; a1 active=true total [cpus:4;mem:1024] allocated [cpus:3;mem:32] offered [cpus:1;mem:992]; a2 active=true total [cpus:4;mem:1024] allocated [cpus:3;mem:32] offered [cpus:1;mem:992]; f1 active=true connected=true recovered=false offers [o3 o4]; t1 TASK_STAGING on a1; t2 TASK_STAGING on a2",
    );
}

#[test]
fn without_room_for_all_none_is_launched() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 t3:cpus,3;mem,32 offers=o1,o2 refuse=0
           answer accepted
           f1 <- update t1 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 0 s there was room for 2 of its 3 members at most, and it needs 3
           f1 <- update t2 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 0 s there was room for 2 of its 3 members at most, and it needs 3
           f1 <- update t3 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 0 s there was room for 2 of its 3 members at most, and it needs 3
         > 2ms operator gets GET_STATE
           answer GET_STATE; a1 active=true total [cpus:4;mem:1024] allocated [] offered []; a2 active=true total [cpus:4;mem:1024] allocated [] offered []; f1 active=true connected=true recovered=false offers []
         > 1500ms tick
           f1 <- offers o3 a1 cpus:4;mem:1024, o4 a2 cpus:4;mem:1024
         > 1501ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o3,o4
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32",
    );
}

#[test]
fn a_gang_that_waits_has_what_becomes_free_before_anybody_else() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=x1:cpus,4;mem,32
           answer accepted
           a1 <- launch f1/x1 cpus:4;mem:32
           f2 <- offers o3 a1 mem:992
         > 1ms f2 accepts o2 launch=x2:cpus,4;mem,32 on=a2
           answer accepted
           a2 <- launch f2/x2 cpus:4;mem:32
           f1 <- offers o4 a2 mem:992
         > 2ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000
           answer accepted
         > 3ms f1 reconciles t1 t2
           answer accepted
           f1 <- update t1 STAGING (reconciliation): the task waits in the gang \"g1\": there is room for 0 of its 2 members, and it needs 2
           f1 <- update t2 STAGING (reconciliation): the task waits in the gang \"g1\": there is room for 0 of its 2 members, and it needs 2
         > 4ms a2 updates f2/x2 FINISHED #1
           f2 <- update x2 FINISHED on a2 #1
           f2 <- offers o5 a2 cpus:1
         > 5ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [cpus:4;mem:32] offered [mem:992]; a2 active=true total [cpus:4;mem:1024] allocated [] offered [cpus:4;mem:1024]
         > 6ms operator explains f2
           answer EXPLAIN; f2 *: OFFERED 2
         > 7ms a1 updates f1/x1 FINISHED #1
           f1 <- update x1 FINISHED on a1 #1
           a1 <- launch f1/t2 cpus:3;mem:32
           a2 <- launch f1/t1 cpus:3;mem:32
           f2 <- offers o6 a1 cpus:1
         > 8ms f1 reconciles
           answer accepted
           f1 <- update t1 STAGING on a2 (reconciliation): the latest state of the task
           f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task",
    );
}

#[test]
fn at_the_deadline_each_member_is_told_and_all_is_free_again() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1 refuse=100
           answer accepted
           f2 <- offers o2 a1 cpus:4;mem:1024
         > 1ms f2 declines o2 refuse=100
           answer accepted
         > 2ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=10000
           answer accepted
         > 3ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered [cpus:3;mem:32]
         > 10001ms tick
         > 10002ms tick
           f1 <- update t1 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 10 s there was room for 1 of its 2 members at most, and it needs 2
           f1 <- update t2 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 10 s there was room for 1 of its 2 members at most, and it needs 2
         > 10003ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered []
         > 10004ms f1 reconciles t1@a1 t2
           answer accepted
           f1 <- update t1 GONE on a1 (reconciliation): the agent does not know the task
           f1 <- update t2 UNKNOWN (reconciliation): the task is not known",
    );
}

#[test]
fn enough_members_are_launched_and_the_others_are_told() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,1;mem,32 t2:cpus,2;mem,32 t3:cpus,2;mem,32 min=2 wait=10000 offers=o1
           answer accepted
           a1 <- launch f1/t2 cpus:2;mem:32, f1/t3 cpus:2;mem:32
           f1 <- update t1 DROPPED (gang_surplus): the gang \"g1\" was launched without it",
    );
}

#[test]
fn of_two_gangs_the_older_gets_what_the_younger_brings() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms f2 subscribes can=PARTITION_AWARE
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o1 wait=60000
           answer accepted
           f2 <- offers o3 a1 cpus:1;mem:992
         > 2ms f2 gangs g2 u1:cpus,3;mem,32 u2:cpus,3;mem,32 offers=o2 wait=60000
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
           f1 <- offers o4 a2 mem:960
         > 3ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
         > 4ms a2 updates f1/t2 FINISHED #1
           f1 <- update t2 FINISHED on a2 #1
           a1 <- launch f2/u2 cpus:3;mem:32
           a2 <- launch f2/u1 cpus:3;mem:32
           f1 <- offers o5 a2 cpus:1;mem:32",
    );
}

#[test]
fn a_gang_that_fits_into_its_own_offers_waits_for_nobody() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o1 wait=60000
           answer accepted
           f2 <- offers o3 a1 cpus:1;mem:992
         > 2ms f2 gangs g2 u1:cpus,3;mem,32 offers=o2 wait=60000
           answer accepted
           a2 <- launch f2/u1 cpus:3;mem:32
           f1 <- offers o4 a2 mem:960",
    );
}

#[test]
fn a_place_on_an_agent_that_is_lost_is_sought_elsewhere() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 t3:cpus,3;mem,32 wait=60000 offers=o1,o2
           answer accepted
         > 2ms a1 disconnects
         > 3ms a3 registers cpus:4;mem:1024
           propose admit a3
           a3 <- registered as m1-A0003
           f1 <- offers o3 a3 cpus:1;mem:992
         > 4ms a1 registers
           a1 <- registered as m1-A0001
           a1 <- launch f1/t3 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
           a3 <- launch f1/t1 cpus:3;mem:32",
    );
}

#[test]
fn what_an_agent_that_is_drained_or_deactivated_has_is_no_place() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000 offers=o1
           answer accepted
         > 1ms level 3
         > 2ms operator deactivates a1
           propose stand a1 off
           answer accepted
         > 3ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:1;mem:992
         > 4ms operator reactivates a1
           propose stand a1 on
           answer accepted
           a1 <- launch f1/t2 cpus:3;mem:32
           a2 <- launch f1/t1 cpus:3;mem:32",
    );
}

#[test]
fn a_gang_ends_with_its_scheduler() {
    check(
        "> 0ms f1 subscribes timeout=10 can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000 offers=o1
           answer accepted
         > 2ms f1 disconnects
           propose away f1 until 10002ms
         > 3ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered []
         > 4ms f1 subscribes timeout=10 can=PARTITION_AWARE
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 5ms f1 reconciles t1 t2
           answer accepted
           f1 <- update t1 UNKNOWN (reconciliation): the task is not known
           f1 <- update t2 UNKNOWN (reconciliation): the task is not known
         > 6ms f1 gangs g1 t1:cpus,2;mem,32 t2:cpus,2;mem,32 offers=o2
           answer accepted
           a1 <- launch f1/t1 cpus:2;mem:32, f1/t2 cpus:2;mem:32
         > 7ms f1 gangs g2 t3:cpus,2;mem,32 wait=60000
           answer accepted
         > 8ms f1 tears-down
           f1 <- update t3 DROPPED (gang_cancelled): the framework's subscription ended before the gang was launched
           propose remove f1
           answer accepted
           close f1
           a1 <- shut down f1",
    );
}

#[test]
fn a_new_leader_knows_no_gangs() {
    check(
        "> 0ms f1 subscribes timeout=10 can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000 offers=o1
           answer accepted
         > 2ms leads m2
           close a1
           close f1
           propose away f1 until 60002ms
         > 3ms f1 subscribes timeout=10 can=PARTITION_AWARE
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 4ms f1 reconciles t1
           answer accepted
         > 5ms a1 registers
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 6ms f1 reconciles t1 t2
           answer accepted
           f1 <- update t1 UNKNOWN (reconciliation): the task is not known
           f1 <- update t2 UNKNOWN (reconciliation): the task is not known",
    );
}

#[test]
fn a_member_that_is_killed_is_not_launched() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 t3:cpus,3;mem,32 min=2 wait=60000 offers=o1
           answer accepted
         > 2ms f1 kills t1
           answer accepted
           f1 <- update t1 KILLED (gang_cancelled): the task was killed while its gang waited
         > 3ms f1 kills t1
           answer accepted
           f1 <- update t1 UNKNOWN (reconciliation): the task is not known
         > 4ms f1 kills t2
           answer accepted
           f1 <- update t2 DROPPED (gang_cancelled): t2 was killed, and without it the gang \"g1\" is too small
           f1 <- update t3 DROPPED (gang_cancelled): t2 was killed, and without it the gang \"g1\" is too small",
    );
}

#[test]
fn an_id_that_waits_in_a_gang_is_used() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000 offers=o1
           answer accepted
         > 2ms f1 accepts o2 launch=t1:cpus,1 on=a2
           answer accepted
           f1 <- update t1 ERROR on a2 (task_invalid): `accept.operations[0].launch.task_infos[0].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
         > 3ms f1 gangs g1 t5:cpus,1 wait=1
           answer accepted
           a1 <- launch f1/t5 cpus:1
         > 4ms f1 gangs g2 t2:cpus,1 wait=1
           answer rejected: `accept.gang.members[0].task_id` is \"t2\", which the framework has used before; accepted: an id that is new within the framework",
    );
}

#[test]
fn what_a_gang_holds_in_vain_is_not_held_again_for_as_long() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=5000 offers=o1 refuse=100
           answer accepted
         > 5001ms tick
           f1 <- update t1 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 5 s there was room for 1 of its 2 members at most, and it needs 2
           f1 <- update t2 DROPPED (gang_deadline): none of the gang \"g1\" was launched: in 5 s there was room for 1 of its 2 members at most, and it needs 2
         > 5002ms f1 gangs g2 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=20000
           answer accepted
         > 5003ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered []
         > 6003ms tick
         > 6004ms f1 gangs g3 t3:cpus,3;mem,32 wait=20000
           answer accepted
           a1 <- launch f1/t3 cpus:3;mem:32
         > 6005ms a1 updates f1/t3 FINISHED #1
           f1 <- update t3 FINISHED on a1 #1
         > 10001ms tick
         > 10500ms tick
         > 11500ms tick
         > 11501ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered [cpus:3;mem:32]",
    );
}

#[test]
fn a_gang_has_no_more_than_the_limit_of_its_role() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms level 3
         > 0ms operator quotas a=/cpus,4
           propose quotas a [] to [cpus:4]
           answer accepted
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 mem{allocated to a}:1024
         > 1ms f1 declines o2 refuse=100
           answer accepted
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 wait=60000 offers=o1 refuse=100
           answer accepted
           f1 <- offers o3 a2 cpus{allocated to a}:1;mem{allocated to a}:1024
         > 2ms operator explains f1
           answer EXPLAIN; f1 a: FILTERED 1 a1 [cpus:1;mem:992] until 100001ms, LIMIT 1 a2 [cpus:3] of a for cpus
         > 2ms f1 declines o3 refuse=100
           answer accepted
         > 3ms operator quotas a=/cpus,6
           propose quotas a [] to [cpus:6]
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a}:3;mem{allocated to a}:32
           a2 <- launch f1/t2 cpus{allocated to a}:3;mem{allocated to a}:32",
    );
}

#[test]
fn a_gang_takes_nothing_that_is_kept_free_for_a_guarantee() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms level 3
         > 0ms operator quotas b=cpus,2;mem,512/ force=yes
           propose quotas b [cpus:2;mem:512] to []
           answer accepted
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:2;mem{allocated to a}:512
         > 1ms f1 gangs g1 t1:cpus,2;mem,32 t2:cpus,2;mem,32 wait=60000 offers=o1
           answer accepted
         > 2ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered [cpus{allocated to a}:2;mem{allocated to a}:32]
         > 3ms f2 subscribes roles=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o2 a1 cpus{allocated to b}:2;mem{allocated to b}:992",
    );
}

#[test]
fn ports_that_are_left_open_are_chosen() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;ports:[100-103]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024;ports:[100-103]
         > 0ms a2 registers cpus:4;mem:1024;ports:[200-200]
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024;ports:[200-200]
         > 1ms f1 gangs g1 t1:cpus,1;ports,2 t2:cpus,1;ports,2 t3:cpus,1;ports,1;ports,[200-200] wait=10 offers=o1,o2 min=2
           answer accepted
           a1 <- launch f1/t1 cpus:1;ports:[100-101], f1/t2 cpus:1;ports:[102-103]
           f1 <- update t3 LOST (gang_surplus): the gang \"g1\" was launched without it
         > 2ms f1 gangs g2 t4:cpus,1;ports,[200-200] offers=o1,o2
           answer accepted
           a2 <- launch f1/t4 cpus:1;ports:[200-200]",
    );
}

#[test]
fn a_member_may_name_its_agent() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,1;mem,32@a2 t2:cpus,2;mem,32@a2 t3:cpus,2;mem,32 offers=o1,o2
           answer accepted
           a1 <- launch f1/t3 cpus:2;mem:32
           a2 <- launch f1/t2 cpus:2;mem:32, f1/t1 cpus:1;mem:32",
    );
}

#[test]
fn what_a_gang_holds_is_lent_and_rescinded_when_it_is_whole() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,4;mem,32 t2:cpus,4;mem,32 wait=60000 offers=o1 refuse=100
           answer accepted
         > 2ms f2 subscribes can=BACKFILL
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o2 a1 mem:992
         > 1002ms tick
           f2 <- offers o3 a1 cpus:4;mem:32 lent until 55001ms
         > 1003ms f2 accepts o3 launch=b1:cpus,1;mem,16 refuse=0
           answer accepted
           f2 <- update b1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].max_completion_time` is missing, but the offer is lent; accepted: at most 53998000000 nanoseconds, which is how long the offer is still lent
         > 1004ms tick
         > 2500ms tick
           f2 <- offers o4 a1 cpus:4;mem:32 lent until 55001ms
         > 2501ms f2 accepts o4 launch=b1:cpus,1;mem,16 max=54000 refuse=0
           answer accepted
           f2 <- update b1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].max_completion_time.nanoseconds` is 54000000000; accepted: at most 52500000000 nanoseconds, which is how long the offer is still lent
         > 4500ms tick
           f2 <- offers o5 a1 cpus:4;mem:32 lent until 55001ms
         > 4501ms f2 accepts o5 launch=b1:cpus,1;mem,16 max=10000 refuse=0
           answer accepted
           a1 <- launch f2/b1 cpus:1;mem:16
           f2 <- offers o6 a1 cpus:3;mem:16 lent until 55001ms
         > 4502ms operator explains f1
           answer EXPLAIN; f1 *: HELD 1 a1 [cpus:3;mem:1008] by f2 * 2 [cpus:3;mem:1008] since 2ms until 300002ms
         > 4503ms a1 updates f2/b1 FINISHED #1
           f2 <- update b1 FINISHED on a1 #1
           f2 <- offers o7 a1 cpus:1;mem:16 lent until 55001ms
         > 4504ms operator explains f2
           answer EXPLAIN; f2 *: OFFERED 1
         > 5600ms tick
         > 6600ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- rescind o6
           f2 <- rescind o7
           a1 <- launch f1/t1 cpus:4;mem:32
           a2 <- launch f1/t2 cpus:4;mem:32
           f2 <- offers o8 a2 mem:992",
    );
}

#[test]
fn a_task_on_what_is_lent_is_killed_when_the_gang_is_whole() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,4;mem,32 t2:cpus,4;mem,32 wait=60000 offers=o1 refuse=100
           answer accepted
         > 2ms f2 subscribes can=BACKFILL
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o2 a1 mem:992
         > 1002ms tick
           f2 <- offers o3 a1 cpus:4;mem:32 lent until 55001ms
         > 1003ms f2 accepts o3 launch=b1:cpus,1;mem,16 max=10000 refuse=100
           answer accepted
           a1 <- launch f2/b1 cpus:1;mem:16
         > 1004ms a1 updates f2/b1 RUNNING #1
           f2 <- update b1 RUNNING on a1 #1
         > 1005ms f2 acknowledges a1 b1 #1
           answer accepted
           a1 <- acknowledge f2/b1 #1
         > 2600ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           a1 <- kill f2/b1
           f2 <- offers o4 a2 mem:992
         > 2601ms tick
         > 2602ms a1 updates f2/b1 KILLED #2
           f2 <- update b1 KILLED on a1 #2 (container_preempted)
           a1 <- launch f1/t1 cpus:4;mem:32
           a2 <- launch f1/t2 cpus:4;mem:32",
    );
}

#[test]
fn nothing_is_lent_shortly_before_the_deadline() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=BACKFILL
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,4;mem,32 t2:cpus,4;mem,32 wait=9000 offers=o1 refuse=100
           answer accepted
           f2 <- offers o2 a1 mem:992
         > 1002ms tick
         > 9001ms tick
           f1 <- update t1 LOST (gang_deadline): none of the gang \"g1\" was launched: in 9 s there was room for 1 of its 2 members at most, and it needs 2
           f1 <- update t2 LOST (gang_deadline): none of the gang \"g1\" was launched: in 9 s there was room for 1 of its 2 members at most, and it needs 2
           f2 <- offers o3 a1 cpus:4;mem:32",
    );
}

#[test]
fn the_members_of_a_gang_start_together_or_end() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o1,o2 together=yes
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a2 updates f1/t2 FAILED #1
           f1 <- update t2 FAILED on a2 #1
           a1 <- kill f1/t1
           f1 <- offers o3 a2 cpus:4;mem:1024
         > 4ms a1 updates f1/t1 KILLED #2
           f1 <- update t1 KILLED on a1 #2
           f1 <- offers o4 a1 cpus:4;mem:1024
         > 5ms f1 gangs g1 t3:cpus,3;mem,32 t4:cpus,3;mem,32 together=yes offers=o3,o4
           answer accepted
           a1 <- launch f1/t4 cpus:3;mem:32
           a2 <- launch f1/t3 cpus:3;mem:32
         > 6ms a1 updates f1/t3 RUNNING #3
           f1 <- update t3 RUNNING on a1 #3
         > 7ms a2 updates f1/t4 RUNNING #3
           f1 <- update t4 RUNNING on a2 #3
         > 8ms a2 updates f1/t4 FAILED #4
           f1 <- update t4 FAILED on a2 #4",
    );
}

#[test]
fn the_loss_of_an_agent_ends_a_gang_that_is_to_start_together() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 t2:cpus,3;mem,32 offers=o1,o2 together=yes
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32
           a2 <- launch f1/t2 cpus:3;mem:32
         > 2ms a2 disconnects
         > 3ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 75002ms tick
           a1 <- ping 1
           f1 <- heartbeat
           propose unreachable a2
           f1 <- offers o3 a1 cpus:1;mem:992
           f1 <- update t2 UNREACHABLE on a2 (agent_removed) since 75002ms: the agent is unreachable
           a1 <- kill f1/t1
           f1 <- failure a2",
    );
}

#[test]
fn offers_that_nobody_answers_are_taken_back_for_a_gang() {
    check(
        "> 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus:4;mem:1024
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0002
         > 1ms f1 gangs g1 t1:cpus,3;mem,32 wait=60000
           answer accepted
         > 900ms tick
         > 1001ms tick
           f2 <- rescind o1
           a1 <- launch f1/t1 cpus:3;mem:32
           f2 <- rescind o2
           f1 <- offers o3 a1 cpus:1;mem:992, o4 a2 cpus:4;mem:1024",
    );
}

#[test]
fn offers_are_taken_back_for_a_gang_that_has_gathered_the_rest() {
    check(
        "> 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f2 accepts o1 launch=b1:cpus,4;mem,100 refuse=0
           answer accepted
           a1 <- launch f2/b1 cpus:4;mem:100
           f2 <- offers o2 a1 mem:924
         > 2ms a1 updates f2/b1 RUNNING #1
           f2 <- update b1 RUNNING on a1 #1
         > 3ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0002
         > 4ms f1 gangs g1 t1:cpus,3;mem,600 wait=60000
           answer accepted
         > 5ms a1 updates f2/b1 FINISHED #2
           f2 <- update b1 FINISHED on a1 #2
           f1 <- offers o3 a1 cpus:1
         > 600ms tick
         > 1600ms tick
           f2 <- rescind o2
           f1 <- rescind o3
           a1 <- launch f1/t1 cpus:3;mem:600
           f2 <- offers o4 a1 cpus:1;mem:424
         > 2600ms tick
           f2 <- rescind o4
           f1 <- offers o5 a1 cpus:1;mem:424",
    );
}

#[test]
fn what_is_wrong_with_a_gang_is_said() {
    check(
        "> 0ms f1 subscribes roles=a,b
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 1ms f1 gangs g1 t1:cpus,1
           answer rejected: `accept.gang.role` is missing; accepted: one of the roles, as the framework has several and no offer is open that tells it
         > 2ms f1 gangs g1 t1:cpus,1 role=c
           answer rejected: `accept.gang.role` is \"c\", which is no role of the framework; accepted: a role of the framework
         > 3ms f1 gangs g1 t1:cpus,1 offers=o1 role=b
           answer rejected: `accept.gang.role` is \"b\", but the offers are to \"a\"; accepted: the role of the offers, or none
         > 4ms f1 gangs g1 t1:cpus,1 offers=o1,o1
           answer rejected: `accept.offer_ids[1]` is \"m1-O1\" again; accepted: each offer once
         > 5ms f1 gangs g1 t1:cpus,1 offers=o1,o2
           answer rejected: `accept.offer_ids[1]` is an offer to another role than the first; accepted: offers to one role
         > 6ms f1 gangs g1 t1:cpus,1 offers=o9
           answer rejected: `accept.offer_ids[0]` is \"m1-O9\", which names no offer to this framework; accepted: the id of an offer from an OFFERS event
         > 7ms f1 gangs g1 offers=o1
           answer rejected: `accept.gang.members` holds 0 tasks; accepted: 1 to 10000 tasks
         > 8ms f1 gangs g1 t1:cpus,1 offers=o1 min=2
           answer rejected: `accept.gang.minimum` is 2; accepted: 1 to 1, as many as there are members
         > 9ms f1 gangs g1 t1:cpus,1 offers=o1 min=0
           answer rejected: `accept.gang.minimum` is 0; accepted: 1 to 1, as many as there are members
         > 10ms f1 gangs g1 t1:cpus,1 offers=o1 wait=-1
           answer rejected: `accept.gang.max_wait.nanoseconds` is -1000000; accepted: nanoseconds, from 0 to 3600000000000 (the masters' --gang-wait-max)
         > 11ms f1 gangs g1 t1:cpus,1 offers=o1 wait=3600001
           answer rejected: `accept.gang.max_wait.nanoseconds` is 3600001000000; accepted: nanoseconds, from 0 to 3600000000000 (the masters' --gang-wait-max)
         > 12ms f1 gangs g/1 t1:cpus,1 offers=o1
           answer rejected: `accept.gang.id` holds '/'; accepted: 1 to 255 bytes without `/`, `\\` and control characters, and not `.` or `..`
         > 13ms f1 gangs g1 t1:cpus,1 t1:cpus,1 offers=o1
           answer rejected: `accept.gang.members[1].task_id` is \"t1\", like that of `members[0]`; accepted: an id that is new within the gang
         > 14ms f1 gangs g1 t1:cpus,1@a9 offers=o1
           answer rejected: `accept.gang.members[0].agent_id.value` is \"a9\", which names no agent; accepted: the id of an agent, or \"\" for any
         > 15ms f1 gangs g1 t1:disk,1 offers=o1
           answer rejected: `accept.gang.members[0].resources` hold neither `cpus` nor `mem`; accepted: more than 0 of one of them
         > 16ms f1 gangs g1 t1:cpus,1;ports,0.5 offers=o1
           answer rejected: `accept.gang.members[0].resources[1].scalar` is no number of ports; accepted: a whole number, 1 or more, or ranges of ports
         > 17ms f1 gangs g1 t1:cpus,1 offers=o1 refuse=NaN
           answer rejected: `accept.filters.refuse_seconds` is NaN; accepted: seconds",
    );
}

#[test]
fn a_framework_with_other_roles_has_no_gang_in_the_former() {
    check(
        "> 0ms f1 subscribes roles=a can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 1ms f1 gangs g1 t1:cpus,4;mem,32 t2:cpus,4;mem,32 wait=60000 offers=o1
           answer accepted
         > 2ms f1 updates roles=b can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- update t1 DROPPED (gang_cancelled): the framework left the role of the gang before it was launched
           f1 <- update t2 DROPPED (gang_cancelled): the framework left the role of the gang before it was launched
           f1 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024",
    );
}
