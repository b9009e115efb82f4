//! Subscription, failover, deadlines and removal of frameworks.

use super::check;

#[test]
fn a_framework_hears_nothing_until_it_is_committed() {
    check(
        "> manual
         > 0ms f1 subscribes
           propose put f1
         > 1ms tick
         > 2ms commit
           answer accepted
           f1 <- subscribed as m1-F0001",
    );
}

#[test]
fn a_scheduler_that_ends_before_it_is_committed_is_away_from_the_start() {
    check(
        "> manual
         > 0ms f1 subscribes timeout=10
           propose put f1
         > 1ms f1 disconnects
         > 2ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
           propose away f1 until 10002ms
         > 3ms commit
         > 10002ms tick
           propose remove f1
         > 10003ms commit",
    );
}

#[test]
fn a_second_scheduler_takes_over() {
    check(
        "> 0ms f1 subscribes timeout=10
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
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms f1 subscribes timeout=10
           f1 <- error: Framework failed over
           close f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- update t1 RUNNING on a1 #1
           f1 <- offers o3 a1 cpus:3;mem:992
         > 4ms f1 subscribes timeout=20
           propose put f1
           f1 <- error: Framework failed over
           close f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- update t1 RUNNING on a1 #1
           f1 <- offers o4 a1 cpus:3;mem:992",
    );
}

#[test]
fn a_scheduler_that_comes_back_in_time_finds_its_tasks() {
    check(
        "> wakes
         > 0ms f1 subscribes timeout=10
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           f1 <- offers o2 a1 cpus:3;mem:992
         > 2ms f1 disconnects
           propose away f1 until 10002ms
           wake 10002ms
         > 3ms a1 updates f1/t1 RUNNING #1
         > 10001ms f1 subscribes timeout=10
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- update t1 RUNNING on a1 #1
           f1 <- offers o3 a1 cpus:3;mem:992
         > 10002ms tick
           wake 15000ms
         > 10003ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn a_framework_that_does_not_come_back_is_removed_with_its_tasks() {
    check(
        "> 0ms f1 subscribes timeout=10
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
         > 2ms f1 disconnects
           propose away f1 until 10002ms
         > 3ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o3 a1 cpus:3;mem:992
         > 10001ms tick
         > 10002ms tick
           propose remove f1
           a1 <- shut down f1
         > 10003ms f1 subscribes
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 10004ms a1 updates f1/t1 KILLED #1
           f2 <- offers o4 a1 cpus:1;mem:32",
    );
}

#[test]
fn a_framework_without_failover_timeout_is_removed_with_its_stream() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f1 disconnects
           propose remove f1
         > 2ms f1 subscribes
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one",
    );
}

#[test]
fn teardown_kills_everything_and_the_id_never_comes_back() {
    check(
        "> 0ms f1 subscribes timeout=10
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
         > 2ms f1 tears-down
           f1 <- rescind o2
           propose remove f1
           answer accepted
           close f1
           a1 <- shut down f1
         > 3ms f1 subscribes
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 4ms f1 tears-down
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 5ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           close a1
           a1 <- registered as m1-A0001
           a1 <- shut down f1",
    );
}

#[test]
fn what_waits_behind_a_teardown_hears_of_it() {
    check(
        "> manual
         > 0ms f1 subscribes timeout=10
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f1 tears-down
           propose remove f1
         > 2ms f1 updates timeout=20
         > 3ms operator teardown f1
         > 4ms f1 subscribes timeout=10
         > 5ms commit
           answer accepted
           close f1
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
           answer accepted
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one",
    );
}

#[test]
fn an_operator_tears_a_framework_down() {
    check(
        "> 0ms f1 subscribes timeout=10
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms operator teardown f1
           propose remove f1
           answer accepted
           f1 <- error: Framework has been removed
           close f1
         > 2ms operator teardown f1
           answer rejected: `teardown.framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 3ms operator teardown f9
           answer rejected: `teardown.framework_id` is \"f9\", which names no framework of this cluster; accepted: the id of a framework that is not removed; subscribing without an id gives a new one",
    );
}

#[test]
fn the_description_may_change_but_not_who_it_is() {
    check(
        "> 0ms f1 subscribes timeout=10 principal=p
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f1 updates timeout=10 principal=p user=other
           answer rejected: `update_framework.framework_info.user` changes from \"user\" to \"other\"; accepted: what the framework first subscribed with
         > 2ms f1 subscribes timeout=10 principal=q
           answer rejected: `subscribe.framework_info.principal` changes from \"p\" to \"q\"; accepted: what the framework first subscribed with
         > 3ms f1 subscribes timeout=10 principal=p user=other
           answer rejected: `subscribe.framework_info.user` changes from \"user\" to \"other\"; accepted: what the framework first subscribed with",
    );
}

#[test]
fn a_framework_changes_its_roles_and_loses_the_offers_of_those_it_left() {
    check(
        "> 0ms f1 subscribes roles=a timeout=10
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a}:1;mem{allocated to a}:32
           f1 <- offers o2 a1 cpus{allocated to a}:3;mem{allocated to a}:992
         > 2ms f1 updates roles=b timeout=10
           propose put f1
           answer accepted
           f1 <- rescind o2
           a1 <- update f1
           f1 <- offers o3 a1 cpus{allocated to b}:3;mem{allocated to b}:992
         > 3ms f1 updates roles=b timeout=10
           answer accepted
           a1 <- update f1
         > 4ms f1 updates roles=b timeout=10 suppressed=c
           answer rejected: `update_framework.suppressed_roles[0]` is \"c\", which is no role of the framework; accepted: a role that `framework_info` names
         > 5ms f1 updates roles=b,a timeout=10 suppressed=b
           propose put f1
           answer accepted
           a1 <- update f1",
    );
}

#[test]
fn schedulers_get_heartbeats() {
    check(
        "> wakes
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 15000ms tick
           f1 <- heartbeat
           wake 30000ms
         > 30001ms tick
           f1 <- heartbeat
           wake 45001ms",
    );
}

#[test]
fn a_deadline_survives_the_master() {
    check(
        "> config offer_timeout=0
         > 0ms f1 subscribes timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes timeout=1000
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms f3 subscribes
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 disconnects
           propose away f1 until 100001ms
           f2 <- offers o2 a1 cpus:4;mem:1024
         > 50000ms restarts as m2
           propose away f2 until 1050000ms
           propose away f3 until 110000ms
         > 50001ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
         > 50002ms operator gets GET_FRAMEWORKS
           answer GET_FRAMEWORKS; f1 active=false connected=false recovered=true offers []; f2 active=false connected=false recovered=true offers []; f3 active=false connected=false recovered=true offers []
         > 50003ms f3 subscribes
           propose back f3
           answer accepted
           f3 <- subscribed as m1-F0003
           f3 <- offers o1 a1 cpus:3;mem:992
         > 109999ms tick
           a1 <- ping 1
           f3 <- heartbeat
         > 110000ms tick
           propose remove f1
           a1 <- shut down f1
         > 1050000ms tick
           a1 <- ping 2
           f3 <- heartbeat
           propose remove f2",
    );
}

#[test]
fn a_dropped_proposal_is_answered_and_tried_again() {
    check(
        "> manual
         > 0ms f0 subscribes timeout=10
           propose put f0
         > 1ms drop
           answer not leader
         > 2ms f1 subscribes timeout=10
           propose put f1
         > 2ms commit
           answer accepted
           f1 <- subscribed as m1-F0002
         > 3ms f1 disconnects
           propose away f1 until 10003ms
         > 4ms drop
         > 1004ms tick
           propose away f1 until 11004ms
         > 1005ms commit
         > 1006ms f1 subscribes timeout=10
           propose back f1
         > 1007ms drop
           answer not leader
         > 1008ms f1 subscribes timeout=10
           propose back f1
         > 1009ms commit
           answer accepted
           f1 <- subscribed as m1-F0002
         > 1010ms f1 tears-down
           propose remove f1
         > 1011ms drop
           answer not leader
         > 1012ms f1 tears-down
           propose remove f1
         > 1013ms commit
           answer accepted
           close f1",
    );
}

#[test]
fn who_waits_when_the_leadership_is_lost_is_sent_away() {
    check(
        "> manual
         > 0ms f1 subscribes timeout=10
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms a1 registers cpus:1
           propose admit a1
         > 1ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:1
         > 2ms f1 tears-down
           f1 <- rescind o1
           propose remove f1
         > 3ms f2 subscribes
           propose put f2
         > 4ms f1 updates timeout=20
         > 5ms loses
           answer not leader
           answer not leader
           answer not leader
           close a1
           close f1
         > 6ms f1 revives
           answer not leader
         > 7ms f3 subscribes
           answer not leader
         > 8ms a2 registers cpus:1
           close a2
         > 9ms operator gets GET_STATE
           answer not leader",
    );
}

#[test]
fn completed_frameworks_are_remembered_up_to_a_bound() {
    check(
        "> config completed_frameworks_max=1
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 2ms f1 tears-down
           propose remove f1
           answer accepted
           close f1
         > 3ms f2 tears-down
           propose remove f2
           answer accepted
           close f2
           propose forget f1
         > 4ms f1 subscribes
           answer rejected: `framework_id` is \"m1-F0001\", which names no framework of this cluster; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 5ms f2 subscribes
           answer rejected: `framework_id` is \"m1-F0002\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 6ms operator gets GET_FRAMEWORKS
           answer GET_FRAMEWORKS; f2 completed",
    );
}

#[test]
fn a_change_that_the_leader_does_not_expect_makes_it_start_over() {
    check(
        "> manual
         > 0ms f1 subscribes timeout=10
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms a1 registers cpus:1
           propose admit a1
         > 2ms commit-dropped
           close a1
           close f1
           propose away f1 until 60002ms
         > 3ms commit
         > 4ms a1 registers cpus:1
           a1 <- registered as m1-A0001
         > 5ms f1 subscribes timeout=10
           propose back f1
         > 6ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:1
         > 7ms f2 subscribes
           propose put f2
         > 8ms commit
           answer accepted
           f2 <- subscribed as m1-F0002",
    );
}
