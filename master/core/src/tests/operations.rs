//! Reservations, volumes, and what frameworks hear of their operations.

use super::check;

#[test]
fn what_is_reserved_is_offered_to_its_role_alone() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:cpus(web!),3 refuse=30
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:3]
           a1 <- layout #1 [cpus(web){reserved}:3]
         > 2ms f2 subscribes roles=other
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o2 a1 cpus{allocated to other}:1;mem{allocated to other}:1024
         > 3ms f1 revives
           answer accepted
           f1 <- offers o3 a1 cpus(web){reserved, allocated to web}:3
         > 4ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:1;cpus(web){reserved}:3;mem:1024] allocated [] offered [cpus{allocated to other}:1;cpus(web){reserved, allocated to web}:3;mem{allocated to other}:1024]",
    );
}

#[test]
fn operations_of_one_accept_find_what_the_one_before_made() {
    check(
        "> manual
         > 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=launch:t1:cpus,1+reserve@op1:disk(web!),60+create@op2:disk(web!)#v1,50+launch:t2:cpus,1;disk(web!)#v1,50+unreserve:disk(web!),10 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to web}:1
           propose lay out a1 #1 [disk(web){reserved}:10;disk(web){reserved, volume v1}:50] by op1 op2
         > 2ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;disk:100;mem:1024] allocated [cpus{allocated to web}:1] offered [cpus{allocated to web}:3;disk{allocated to web}:100;mem{allocated to web}:1024]
         > 3ms commit
           a1 <- layout #1 [disk(web){reserved}:10;disk(web){reserved, volume v1}:50]
           a1 <- launch f1/t2 cpus{allocated to web}:1;disk(web){reserved, volume v1, allocated to web}:50
           propose lay out a1 #2 [disk(web){reserved, volume v1}:50] by op1 op2
         > 4ms commit
           a1 <- layout #2 [disk(web){reserved, volume v1}:50]
           f1 <- offers o2 a1 cpus{allocated to web}:2;disk{allocated to web}:50;mem{allocated to web}:1024
         > 5ms a1 applies
           f1 <- operation op1 FINISHED on a1 !
           f1 <- operation op2 FINISHED on a1 !
         > 6ms f1 acknowledges-operation op2
           answer accepted
           propose lay out a1 #2 [disk(web){reserved, volume v1}:50] by op1
         > 6ms f1 acknowledges-operation op1
           answer accepted
         > 7ms commit
           propose lay out a1 #2 [disk(web){reserved, volume v1}:50]
         > 7ms commit
         > 8ms operator gets GET_OPERATIONS
           answer GET_OPERATIONS",
    );
}

#[test]
fn an_operation_that_cannot_be_done_changes_nothing_and_those_that_need_it_fail() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve@op1:cpus(web!),5+reserve@op2:cpus(other!),1+create@op3:disk(web!)#v1,5+unreserve:cpus(web!),1+launch:t1:cpus(web!),1+launch:t2:cpus,1 refuse=0
           answer accepted
           f1 <- operation op1 ERROR on a1: `accept.operations[0]` needs cpus:5, which is more than what is left of the offers; accepted: at most cpus:4;disk:100;mem:1024
           f1 <- operation op2 ERROR on a1: `accept.operations[1].reserve.resources[0].reservations` reserves for \"other\"; accepted: \"web\", the role that the resources are offered to
           f1 <- operation op3 ERROR on a1: `accept.operations[2]` needs disk(web){reserved}:5, which is more than what is left of the offers; accepted: at most cpus:4;disk:100;mem:1024
           f1 <- update t1 ERROR on a1 (task_invalid): `accept.operations[4].launch.task_infos[0].resources` are cpus(web){reserved}:1, which is more than what is left of the offers; accepted: at most cpus:4;disk:100;mem:1024
           a1 <- launch f1/t2 cpus{allocated to web}:1
           f1 <- offers o2 a1 cpus{allocated to web}:3;disk{allocated to web}:100;mem{allocated to web}:1024
         > 2ms f1 accepts o1 do=reserve@op4:cpus(web!),1+launch:t3:cpus,1
           answer accepted
           f1 <- update t3 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
           f1 <- operation op4 DROPPED: `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
         > 3ms f1 accepts o2 do=reserve@op5:cpus(web!),1+reserve@op5:cpus(web!),1 refuse=0
           answer accepted
           f1 <- operation op5 ERROR on a1: `accept.operations[1].id` is \"op5\", the id of an operation that is not acknowledged; accepted: an id that is new within the framework
           propose lay out a1 #1 [cpus(web){reserved}:1] by op5
           a1 <- layout #1 [cpus(web){reserved}:1]
           f1 <- offers o3 a1 cpus{allocated to web}:2;cpus(web){reserved, allocated to web}:1;disk{allocated to web}:100;mem{allocated to web}:1024
         > 4ms f1 accepts o3 do=reserve@op5:cpus(web!),1 refuse=0
           answer accepted
           f1 <- operation op5 ERROR on a1: `accept.operations[0].id` is \"op5\", the id of an operation that is not acknowledged; accepted: an id that is new within the framework",
    );
}

#[test]
fn a_dropped_change_of_an_operation_changes_nothing() {
    check(
        "> manual
         > 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve@op1:cpus(web!),1+launch:t1:cpus(web!),1
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:1] by op1
         > 2ms f1 reconciles-operations op1
           answer accepted
           f1 <- operation op1 PENDING on a1
         > 3ms drop
           f1 <- operation op1 DROPPED on a1: the masters could not agree on the operation
           f1 <- update t1 LOST on a1 (agent_disconnected): the masters could not agree on the operation
           f1 <- offers o2 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 4ms f1 reconciles-operations op1 op1@a1
           answer accepted
           f1 <- operation op1 UNKNOWN
           f1 <- operation op1 UNKNOWN on a1
         > 5ms operator has a1 reserve:cpus(web!),1
           f1 <- rescind o2
           propose lay out a1 #1 [cpus(web){reserved}:1]
           f1 <- offers o3 a1 cpus{allocated to web}:3;mem{allocated to web}:1024
         > 6ms drop
           answer not leader
           f1 <- offers o4 a1 cpus{allocated to web}:1",
    );
}

#[test]
fn the_agent_says_when_an_operation_is_done_or_has_failed() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:disk(web!),50+create@op1:disk(web!)#v1,20+create@op2:disk(web!)#v2,20 refuse=0
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:10;disk(web){reserved, volume v1}:20;disk(web){reserved, volume v2}:20] by op1 op2
           a1 <- layout #1 [disk(web){reserved}:10;disk(web){reserved, volume v1}:20;disk(web){reserved, volume v2}:20]
           f1 <- offers o2 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:10;disk(web){reserved, volume v1, allocated to web}:20;disk(web){reserved, volume v2, allocated to web}:20;mem{allocated to web}:1024
         > 2ms f1 reconciles-operations
           answer accepted
           f1 <- operation op1 PENDING on a1
           f1 <- operation op2 PENDING on a1
         > 3ms a1 applies fail=web/v2
           f1 <- operation op1 FINISHED on a1 !
           f1 <- operation op2 FAILED on a1 !: the disk is broken
         > 4ms f1 disconnects
           propose away f1 until 100004ms
         > 5ms f1 subscribes roles=web timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- operation op1 FINISHED on a1 !
           f1 <- operation op2 FAILED on a1 !: the disk is broken
           f1 <- offers o3 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:10;disk(web){reserved, volume v1, allocated to web}:20;disk(web){reserved, volume v2, allocated to web}:20;mem{allocated to web}:1024
         > 6ms f1 acknowledges-operation op2
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:10;disk(web){reserved, volume v1}:20;disk(web){reserved, volume v2}:20] by op1
         > 7ms f1 acknowledges-operation op2
           answer accepted
         > 8ms f1 reconciles-operations op1 op2 op2@a1
           answer accepted
           f1 <- operation op1 FINISHED on a1 !
           f1 <- operation op2 UNKNOWN
           f1 <- operation op2 UNKNOWN on a1",
    );
}

#[test]
fn volumes_grow_and_shrink_and_are_destroyed() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:disk(web!),50+create:disk(web!)#v1,20+grow@op1:disk(web!)#v1,20:disk(web!),10 refuse=0
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:20;disk(web){reserved, volume v1}:30] by op1
           a1 <- layout #1 [disk(web){reserved}:20;disk(web){reserved, volume v1}:30]
           f1 <- offers o2 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:20;disk(web){reserved, volume v1, allocated to web}:30;mem{allocated to web}:1024
         > 2ms a1 applies
           f1 <- operation op1 FINISHED on a1 !
         > 3ms f1 accepts o2 do=shrink@op2:disk(web!)#v1,30:25+shrink@op3:disk(web!)#v1,5:5 refuse=0
           answer accepted
           f1 <- operation op3 ERROR on a1: `accept.operations[1].shrink_volume.subtract.value` is 5; accepted: more than 0 and less than 5, the size of the volume
           propose lay out a1 #2 [disk(web){reserved}:45;disk(web){reserved, volume v1}:5] by op1 op2
           a1 <- layout #2 [disk(web){reserved}:45;disk(web){reserved, volume v1}:5]
           f1 <- offers o3 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:45;disk(web){reserved, volume v1, allocated to web}:5;mem{allocated to web}:1024
         > 4ms a1 applies
           f1 <- operation op2 FINISHED on a1 !
         > 5ms f1 accepts o3 do=destroy:disk(web!)#v1,5+unreserve:disk(web!),50 refuse=0
           answer accepted
           propose lay out a1 #3 [] without [disk(web){reserved, volume v1}:5] by op1 op2
           a1 <- layout #3 [] without [disk(web){reserved, volume v1}:5]
           f1 <- offers o4 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 6ms f1 accepts o4 do=reserve:disk(web!),1 refuse=0
           answer accepted
           propose lay out a1 #4 [disk(web){reserved}:1] without [disk(web){reserved, volume v1}:5] by op1 op2
           a1 <- layout #4 [disk(web){reserved}:1] without [disk(web){reserved, volume v1}:5]
           f1 <- offers o5 a1 cpus{allocated to web}:4;disk{allocated to web}:99;disk(web){reserved, allocated to web}:1;mem{allocated to web}:1024
         > 7ms a1 applies
         > 8ms f1 accepts o5 do=unreserve:disk(web!),1 refuse=0
           answer accepted
           propose lay out a1 #5 [] by op1 op2
           a1 <- layout #5 []
           f1 <- offers o6 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024",
    );
}

#[test]
fn a_volume_in_use_is_not_destroyed() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:disk(web!),50+create:disk(web!)#v1,20+launch:t1:cpus,1;disk(web!)#v1,20+destroy@op1:disk(web!)#v1,20 refuse=0
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
           a1 <- layout #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
           a1 <- launch f1/t1 cpus{allocated to web}:1;disk(web){reserved, volume v1, allocated to web}:20
           f1 <- operation op1 ERROR on a1: `accept.operations[3]` needs disk(web){reserved, volume v1}:20, which is more than what is left of the offers; accepted: at most cpus:3;disk:50;disk(web){reserved}:30;mem:1024
           f1 <- offers o2 a1 cpus{allocated to web}:3;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;mem{allocated to web}:1024
         > 2ms operator has a1 destroy:disk(web!)#v1,20
           answer rejected: `destroy_volumes` needs disk(web){reserved, volume v1}:20, and not all of it is free; accepted: what no task uses, which is nothing at the time
         > 3ms f1 accepts o2 do=create@op2:disk(web!)#v1,10 refuse=0
           answer accepted
           f1 <- operation op2 ERROR on a1: `accept.operations[0].create.volumes[0].disk.persistence.id` is \"v1\", a volume that the role \"web\" has on the agent; accepted: an id that is new there
         > 4ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o3 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;disk(web){reserved, volume v1, allocated to web}:20;mem{allocated to web}:1024
         > 5ms operator has a1 destroy:disk(web!)#v1,20
           f1 <- rescind o3
           propose lay out a1 #2 [disk(web){reserved}:50] without [disk(web){reserved, volume v1}:20]
           f1 <- offers o4 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;mem{allocated to web}:1024
           a1 <- layout #2 [disk(web){reserved}:50] without [disk(web){reserved, volume v1}:20]
           answer accepted",
    );
}

#[test]
fn reservations_are_refined_and_moved() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=a,a/b suppressed=a/b
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus(a):2;cpus:2;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:2;cpus(a){allocated to a}:2;mem{allocated to a}:1024
         > 1ms f1 accepts o1 do=reserve:cpus(a!),2 refuse=30
           answer accepted
           propose lay out a1 #1 [cpus(a){reserved}:2]
           a1 <- layout #1 [cpus(a){reserved}:2]
         > 2ms operator has a1 reserve:cpus(a|a/b!),1
           propose lay out a1 #2 [cpus(a/b){reserved}:1;cpus(a){reserved}:2]
           a1 <- layout #2 [cpus(a/b){reserved}:1;cpus(a){reserved}:2]
           answer accepted
         > 3ms operator has a1 move:cpus(a!a/b!),1:cpus(a!),1
           propose lay out a1 #3 [cpus(a/b){reserved}:1;cpus(a){reserved}:1;cpus(a/b){reserved}:1]
           a1 <- layout #3 [cpus(a/b){reserved}:1;cpus(a){reserved}:1;cpus(a/b){reserved}:1]
           answer accepted
         > 4ms operator has a1 move:cpus(a/b!),1:cpus(a!),1
           propose lay out a1 #4 [cpus(a/b){reserved}:1;cpus(a/b){reserved}:1;cpus(a/b){reserved}:1]
           a1 <- layout #4 [cpus(a/b){reserved}:1;cpus(a/b){reserved}:1;cpus(a/b){reserved}:1]
           answer accepted
         > 5ms operator has a1 move:cpus(a/b!),1:cpus(a|),1
           answer rejected: `reserve.source` is cpus(a|):1, other resources than those to be reserved; accepted: what cpus(a/b){reserved}:1 is made of, in its present reservation
         > 6ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus(a):1;cpus(a/b){reserved}:1;cpus(a/b){reserved}:1;cpus(a/b){reserved}:1;mem:1024] allocated [] offered []
         > 7ms operator has a1 unreserve:cpus(a),1
           answer rejected: `unreserve.resources[0].reservations` is not reserved dynamically; accepted: what RESERVE reserved; a static reservation is the agent's own
         > 8ms operator has a1 unreserve:cpus(a!a/b!),1
           propose lay out a1 #5 [cpus(a/b){reserved}:1;cpus(a){reserved}:1;cpus(a/b){reserved}:1]
           a1 <- layout #5 [cpus(a/b){reserved}:1;cpus(a){reserved}:1;cpus(a/b){reserved}:1]
           answer accepted",
    );
}

#[test]
fn an_operators_reservation_takes_back_the_offers_that_hold_it() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms operator has a1 reserve:cpus(other!),3
           f1 <- rescind o1
           propose lay out a1 #1 [cpus(other){reserved}:3]
           f1 <- offers o2 a1 cpus{allocated to web}:1;mem{allocated to web}:1024
           a1 <- layout #1 [cpus(other){reserved}:3]
           answer accepted
         > 2ms f1 accepts o2 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to web}:1;mem{allocated to web}:32
         > 3ms operator has a1 reserve:cpus(other!),1
           answer rejected: `reserve_resources` needs cpus:1, and not all of it is free; accepted: what no task uses: at most cpus(other){reserved}:3;mem:992
         > 4ms operator has a9 reserve:cpus(other!),1
           answer rejected: `reserve_resources.agent_id` is \"a9\", which names no agent; accepted: the id of an admitted agent
         > 5ms a1 disconnects
         > 6ms operator has a1 reserve:mem(other!),1
           answer refused: agent m1-A0001 is away",
    );
}

#[test]
fn a_new_leader_has_the_reservations_and_asks_the_agent_again() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:disk(web!),50+create@op1:disk(web!)#v1,20 refuse=0
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20] by op1
           a1 <- layout #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
           f1 <- offers o2 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;disk(web){reserved, volume v1, allocated to web}:20;mem{allocated to web}:1024
         > 2ms restarts as m2
           propose away f1 until 100002ms
         > 3ms f1 subscribes roles=web timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 4ms f1 reconciles-operations op1
           answer accepted
           f1 <- operation op1 RECOVERING on a1
         > 5ms a1 registers cpus:4;mem:1024;disk:100
           a1 <- registered as m1-A0001
           a1 <- layout #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;disk(web){reserved, volume v1, allocated to web}:20;mem{allocated to web}:1024
         > 6ms a1 applies
           f1 <- operation op1 FINISHED on a1 !
         > 7ms f1 acknowledges-operation op1
           answer accepted
           propose lay out a1 #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
         > 8ms restarts as m3
           propose away f1 until 100008ms
         > 9ms f1 subscribes roles=web timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 10ms a1 registers cpus:4;mem:1024;disk:100 tasks=f1/t1:RUNNING:cpus,1;disk(web!)#v1,20
           a1 <- registered as m1-A0001
           a1 <- layout #1 [disk(web){reserved}:30;disk(web){reserved, volume v1}:20]
           f1 <- offers o1 a1 cpus{allocated to web}:3;disk{allocated to web}:50;disk(web){reserved, allocated to web}:30;mem{allocated to web}:1024
         > 11ms a1 applies",
    );
}

#[test]
fn an_agent_that_has_less_than_is_reserved_has_less_until_it_has_it_again() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;disk:100
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;disk{allocated to web}:100;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:disk(web!),50;cpus(web!),3+create:disk(web!)#v1,30 refuse=0
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:3;disk(web){reserved}:20;disk(web){reserved, volume v1}:30]
           a1 <- layout #1 [cpus(web){reserved}:3;disk(web){reserved}:20;disk(web){reserved, volume v1}:30]
           f1 <- offers o2 a1 cpus{allocated to web}:1;cpus(web){reserved, allocated to web}:3;disk{allocated to web}:50;disk(web){reserved, allocated to web}:20;disk(web){reserved, volume v1, allocated to web}:30;mem{allocated to web}:1024
         > 2ms a1 disconnects
           f1 <- rescind o2
         > 3ms a1 registers cpus:2;mem:1024;disk:40
           propose update a1 cpus:2;disk:40;mem:1024
           a1 <- registered as m1-A0001
           a1 <- layout #1 [cpus(web){reserved}:3;disk(web){reserved}:20;disk(web){reserved, volume v1}:30]
           f1 <- offers o3 a1 cpus(web){reserved, allocated to web}:2;disk(web){reserved, allocated to web}:10;disk(web){reserved, volume v1, allocated to web}:30;mem{allocated to web}:1024
         > 4ms a1 resizes cpus:2;mem:1024;disk:20
           propose update a1 cpus:2;disk:20;mem:1024
           f1 <- rescind o3
           f1 <- offers o4 a1 cpus(web){reserved, allocated to web}:2;disk(web){reserved, allocated to web}:20;mem{allocated to web}:1024
         > 5ms a1 resizes cpus:4;mem:1024;disk:100
           propose update a1 cpus:4;disk:100;mem:1024
           f1 <- offers o5 a1 cpus{allocated to web}:1;cpus(web){reserved, allocated to web}:1;disk{allocated to web}:50;disk(web){reserved, volume v1, allocated to web}:30",
    );
}

#[test]
fn an_agent_that_goes_takes_its_operations_with_it() {
    check(
        "> manual
         > 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve@op1:cpus(web!),1+launch:t1:cpus(web!),1 refuse=0
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:1] by op1
         > 2ms a1 disconnects
         > 3ms commit
           f1 <- update t1 LOST on a1 (agent_disconnected): the agent has gone away meanwhile
         > 4ms operator gone a1
           propose gone a1
         > 5ms commit
           answer accepted
           f1 <- operation op1 GONE_BY_OPERATOR on a1
           f1 <- failure a1
         > 6ms f1 reconciles-operations op1 op1@a1
           answer accepted
           f1 <- operation op1 UNKNOWN
           f1 <- operation op1 GONE_BY_OPERATOR on a1",
    );
}

#[test]
fn a_framework_that_is_removed_leaves_its_reservations() {
    check(
        "> manual
         > 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve@op1:cpus(web!),1+launch:t1:cpus(web!),1 refuse=0
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:1] by op1
         > 2ms f1 tears-down
           propose remove f1
         > 3ms operator has a1 unreserve:cpus(web!),1
         > 4ms commit
           a1 <- layout #1 [cpus(web){reserved}:1]
           a1 <- launch f1/t1 cpus(web){reserved, allocated to web}:1
           answer rejected: `unreserve_resources` needs cpus(web){reserved}:1, and not all of it is free; accepted: what no task uses: at most cpus:3;mem:1024
         > 5ms commit
           answer accepted
           close f1
           a1 <- shut down f1
         > 6ms a1 updates f1/t1 KILLED #1
         > 7ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:3;cpus(web){reserved}:1;mem:1024] allocated [] offered []
         > 8ms operator has a1 unreserve:cpus(web!),1
           propose lay out a1 #2 []
         > 9ms commit
           a1 <- layout #2 []
           answer accepted",
    );
}

#[test]
fn old_agents_and_old_registries_have_no_reservations() {
    check(
        "> 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve@op1:cpus(web!),1 refuse=0
           answer accepted
           f1 <- operation op1 ERROR on a1: `accept.operations[0].type` cannot be done: resources are reserved, and volumes made, from level 3 on, and the group is at level 1, until all of its masters understand more; accepted: LAUNCH or LAUNCH_GROUP for the time being
         > 2ms operator has a1 reserve:cpus(web!),1
           answer refused: resources are reserved, and volumes made, from level 3 on, and the group is at level 1, until all of its masters understand more
         > 3ms level 3
         > 4ms a2 registers cpus:4;mem:1024 old=yes
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 5ms operator has a2 reserve:cpus(web!),1
           answer refused: agent m1-A0002 is of a version that reserves nothing and makes no volumes: it lacks the capability AGENT_OPERATION_FEEDBACK
         > 6ms a3 registers cpus(web!):4;mem:1024
           a3 <- rejected: `register.agent.resources` hold cpus(web){reserved}:4, which only operations make; accepted: resources without dynamic reservations and persistent volumes: the masters know these
           close a3",
    );
}

#[test]
fn what_is_reserved_counts_for_quota_whether_it_is_used_or_not() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms operator quotas web=/cpus,3
           propose quotas web [] to [cpus:3]
           answer accepted
         > 0ms a1 registers cpus:8;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:3;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:cpus(web!),2+launch:t1:cpus(web!),1 refuse=0
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:2]
           a1 <- layout #1 [cpus(web){reserved}:2]
           a1 <- launch f1/t1 cpus(web){reserved, allocated to web}:1
           f1 <- offers o2 a1 cpus{allocated to web}:1;cpus(web){reserved, allocated to web}:1;mem{allocated to web}:1024
         > 2ms operator gets GET_QUOTA
           answer GET_QUOTA; web [] to [cpus:3] allocated [] offered [cpus:1;mem:1024] reserved [cpus:2]
         > 3ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o3 a1 cpus(web){reserved, allocated to web}:1
         > 4ms operator gets GET_QUOTA
           answer GET_QUOTA; web [] to [cpus:3] allocated [] offered [cpus:1;mem:1024] reserved [cpus:2]
         > 5ms operator has a1 reserve:cpus(web!),3
           propose lay out a1 #2 [cpus(web){reserved}:5]
           f1 <- rescind o2
           a1 <- layout #2 [cpus(web){reserved}:5]
           answer accepted
           f1 <- offers o4 a1 cpus(web){reserved, allocated to web}:4;mem{allocated to web}:1024
         > 6ms operator gets GET_QUOTA
           answer GET_QUOTA; web [] to [cpus:3] allocated [] offered [mem:1024] reserved [cpus:5]
         > 7ms operator quotas web=cpus,6/ force=yes
           propose quotas web [cpus:6] to []
           answer accepted
           f1 <- offers o5 a1 cpus{allocated to web}:3
         > 8ms f2 subscribes roles=other
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 9ms operator has a1 unreserve:cpus(web!),5
           f1 <- rescind o3
           f1 <- rescind o4
           propose lay out a1 #3 []
           f2 <- offers o6 a1 mem{allocated to other}:1024
           a1 <- layout #3 []
           answer accepted
           f1 <- offers o7 a1 cpus{allocated to web}:5
         > 10ms operator gets GET_QUOTA
           answer GET_QUOTA; web [cpus:6] to [] allocated [] offered [cpus:8] reserved []",
    );
}

#[test]
fn a_task_that_waits_for_an_operation_is_staging_and_can_be_killed() {
    check(
        "> manual
         > 0ms level 3
         > 0ms f1 subscribes roles=web
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to web}:4;mem{allocated to web}:1024
         > 1ms f1 accepts o1 do=reserve:cpus(web!),2+launch:t1:cpus(web!),1+launch:t2:cpus(web!),1 refuse=0
           answer accepted
           propose lay out a1 #1 [cpus(web){reserved}:2]
         > 2ms f1 reconciles t1@a1
           answer accepted
           f1 <- update t1 STAGING on a1 (reconciliation): the latest state of the task
         > 3ms f1 kills t1
           answer accepted
           f1 <- update t1 KILLED on a1 (task_killed_during_launch): the task was killed before it was launched
         > 4ms f1 reconciles
           answer accepted
           f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task
         > 5ms f1 kills t1
           answer accepted
           f1 <- update t1 LOST (reconciliation): the task is not known
         > 6ms commit
           a1 <- layout #1 [cpus(web){reserved}:2]
           a1 <- launch f1/t2 cpus(web){reserved, allocated to web}:1
           f1 <- offers o2 a1 cpus{allocated to web}:2;cpus(web){reserved, allocated to web}:1;mem{allocated to web}:1024
         > 7ms f1 reconciles
           answer accepted
           f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task",
    );
}
