//! ACCEPT: launching tasks, and what is left over.

use super::check;

#[test]
fn the_rest_of_an_offer_is_declined() {
    check(
        "> wakes
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms a1 registers cpus:4;mem:1024;ports:[31000-31005]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024;ports:[31000-31005]
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32;ports,[31002-31002]
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32;ports:[31002-31002]
           wake 5001ms
         > 5001ms tick
           f1 <- offers o2 a1 cpus:3;mem:992;ports:[31000-31001,31003-31005]
           wake 15000ms",
    );
}

#[test]
fn offers_of_one_agent_are_combined() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,2;mem,512 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:2;mem:512
           f1 <- offers o2 a1 cpus:2;mem:512
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o3 a1 cpus:2;mem:512
         > 3ms f1 accepts o2 o3 launch=t2:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t2 cpus:4;mem:1024
         > 4ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [cpus:4;mem:1024] offered []",
    );
}

#[test]
fn offers_of_two_agents_or_roles_are_not_combined() {
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
         > 1ms f1 accepts o1 o2 launch=t1:cpus,2
           answer rejected: `accept.offer_ids[1]` is an offer of another agent, or to another role, than the first; accepted: offers of one agent to one role
         > 2ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a}:1;mem{allocated to a}:32
           f1 <- offers o3 a1 cpus{allocated to b}:3;mem{allocated to b}:992
         > 3ms operator gets GET_STATE
           answer GET_STATE; a1 active=true total [cpus:4;mem:1024] allocated [cpus{allocated to a}:1;mem{allocated to a}:32] offered [cpus{allocated to b}:3;mem{allocated to b}:992]; a2 active=true total [cpus:4;mem:1024] allocated [] offered [cpus{allocated to b}:4;mem{allocated to b}:1024]; f1 active=true connected=true recovered=false offers [o2 o3]; t1 TASK_STAGING on a1",
    );
}

#[test]
fn an_offer_is_used_once() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=PARTITION_AWARE
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 o1 launch=t1:cpus,2
           answer rejected: `accept.offer_ids[1]` is \"m1-O1\" again; accepted: each offer once
         > 2ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 3ms f1 accepts o1 launch=t2:cpus,2
           answer accepted
           f1 <- update t2 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
         > 4ms f2 accepts o1 launch=t2:cpus,2
           answer accepted
           f2 <- update t2 DROPPED on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
         > 5ms f2 accepts o9 launch=t3:cpus,2
           answer accepted
           f2 <- update t3 DROPPED on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O9\", which is no open offer
         > 6ms f2 accepts o9
           answer rejected: `accept.offer_ids[0]` is \"m1-O9\", which names no offer to this framework; accepted: the id of an offer from an OFFERS event
         > 7ms f2 accepts m0-O3
           answer accepted
         > 8ms f2 declines o1
           answer accepted
         > 9ms f2 declines m1-O01
           answer rejected: `decline.offer_ids[0]` is \"m1-O01\", which names no offer to this framework; accepted: the id of an offer from an OFFERS event",
    );
}

#[test]
fn a_stale_offer_among_others_uses_them_up() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1
           answer accepted
         > 2ms f1 revives
           answer accepted
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 3ms f1 accepts o2 o1 launch=t1:cpus,2 refuse=5
           answer accepted
           f1 <- update t1 LOST on a1 (invalid_offers): `accept.offer_ids[1]` is \"m1-O1\", which is no open offer
         > 5003ms tick
           f1 <- offers o3 a1 cpus:4;mem:1024",
    );
}

#[test]
fn an_invalid_task_does_not_keep_the_others_from_running() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t1:cpus,1+a/b:cpus,1+t3:cpus,4+t4:disk,1+t5:cpus,1 refuse=0
           answer accepted
           f1 <- update t1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[1].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework
           f1 <- update a/b ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[2].task_id.value` holds '/'; accepted: 1 to 255 bytes without `/`, `\\` and control characters, and not `.` or `..`
           f1 <- update t3 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[3].resources` are cpus:4, which is more than what is left of the offers; accepted: at most cpus:3;mem:992
           f1 <- update t4 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[4].resources` hold neither `cpus` nor `mem`; accepted: more than 0 of one of them
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t5 cpus:1
           f1 <- offers o2 a1 cpus:2;mem:992
         > 2ms f1 accepts o2 launch=t1:cpus,1
           answer accepted
           f1 <- update t1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework
         > 3ms f1 revives
           answer accepted
           f1 <- offers o3 a1 cpus:2;mem:992",
    );
}

#[test]
fn a_task_id_is_not_used_again_after_its_task_ended() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           f1 <- offers o2 a1 cpus:3;mem:992
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o3 a1 cpus:1;mem:32
         > 3ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 4ms f1 accepts o2 launch=t1:cpus,1;mem,32
           answer accepted
           f1 <- update t1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].task_id` is \"t1\", which the framework has used before; accepted: an id that is new within the framework",
    );
}

#[test]
fn a_task_names_the_agent_of_its_offers() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 on=a2
           answer accepted
           f1 <- update t1 ERROR on a2 (task_invalid): `accept.operations[0].launch.task_infos[0].agent_id.value` is \"a2\"; accepted: \"m1-A0001\", the agent of the offers
         > 2ms f1 revives
           answer accepted
           f1 <- offers o2 a1 cpus:4;mem:1024",
    );
}
