//! What a new leader does: it serves the registry at once, and learns the rest from whoever comes back.

use super::check;

#[test]
fn what_comes_back_needs_no_write_and_is_offered_at_once() {
    check(
        "> 0ms f1 subscribes timeout=100
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
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 100ms restarts as m2
           propose away f1 until 100100ms
         > 101ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 recovered; a2 recovered
         > 102ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
         > 103ms f1 subscribes timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:3;mem:992
         > 104ms a2 registers
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024",
    );
}

#[test]
fn an_agent_that_is_missing_at_the_election_has_longer_than_one_that_leaves() {
    check(
        "> 0ms a1 registers cpus:4
           propose admit a1
           a1 <- registered as m1-A0001
         > 0ms a2 registers cpus:4
           propose admit a2
           a2 <- registered as m1-A0002
         > 1ms a2 disconnects
         > 100ms restarts as m2
         > 101ms a1 registers
           a1 <- registered as m1-A0001
         > 102ms a1 disconnects
         > 75102ms tick
           propose unreachable a1
         > 600099ms tick
         > 600100ms tick
           propose unreachable a2",
    );
}

#[test]
fn an_agent_that_was_unreachable_before_the_election_still_is() {
    check(
        "> 0ms f1 subscribes timeout=100 can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:64
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:64
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms a1 disconnects
         > 75002ms tick
           f1 <- heartbeat
           propose unreachable a1
           f1 <- update t1 UNREACHABLE on a1 (agent_removed) since 75002ms: the agent is unreachable
           f1 <- failure a1
         > 80000ms restarts as m2
           propose away f1 until 180000ms
         > 80001ms f1 subscribes timeout=100 can=PARTITION_AWARE
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 80002ms f1 reconciles t1@a1
           answer accepted
           f1 <- update t1 UNREACHABLE on a1 (reconciliation) since 75002ms: the agent is unreachable
         > 80003ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           propose reachable a1
           a1 <- registered as m1-A0001
           f1 <- update t1 RUNNING on a1 (agent_reregistered): the agent is back
           f1 <- offers o1 a1 cpus:3;mem:32",
    );
}

#[test]
fn calls_that_the_old_leader_took_are_the_frameworks_to_repeat() {
    check(
        "> 0ms f1 subscribes timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms a1 disconnects
         > 3ms f1 kills t1
           answer accepted
         > 100ms restarts as m2
           propose away f1 until 100100ms
         > 101ms f1 subscribes timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 102ms f1 kills t1 a1
           answer accepted
         > 103ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:3;mem:992
         > 104ms f1 kills t1
           answer accepted
           a1 <- kill f1/t1
         > 105ms f1 reconciles t1 t2@a1
           answer accepted
           f1 <- update t1 RUNNING on a1 (reconciliation): the latest state of the task
           f1 <- update t2 LOST on a1 (reconciliation): the agent does not know the task",
    );
}

#[test]
fn offers_of_the_old_leader_launch_nothing() {
    check(
        "> manual
         > 0ms f1 subscribes timeout=100
           propose put f1
         > 0ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 100ms leads m2
           close a1
           close f1
           propose away f1 until 100100ms
         > 100ms commit
         > 101ms f1 subscribes timeout=100
           propose back f1
         > 101ms commit
           answer accepted
           f1 <- subscribed as m1-F0001
         > 102ms a1 registers
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 103ms f1 accepts m1-O1 launch=t1:cpus,1;mem,32
           answer accepted
           f1 <- update t1 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
         > 104ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32",
    );
}

#[test]
fn an_update_that_was_not_acknowledged_is_told_by_the_new_leader() {
    check(
        "> 0ms f1 subscribes timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 100ms restarts as m2
           propose away f1 until 100100ms
         > 101ms a1 registers tasks=f1/t1:FINISHED:cpus,1;mem,32:#1
           a1 <- registered as m1-A0001
         > 102ms a1 updates f1/t1 FINISHED #1
         > 103ms f1 subscribes timeout=100
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 104ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn an_agent_that_was_unreachable_is_back_even_if_its_first_stream_breaks() {
    check(
        "> 0ms f1 subscribes timeout=100 can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:64
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:64
         > 2ms a1 disconnects
           f1 <- rescind o1
         > 75002ms tick
           f1 <- heartbeat
           propose unreachable a1
           f1 <- failure a1
         > 80000ms restarts as m2
           propose away f1 until 180000ms
         > 80001ms f1 subscribes timeout=100 can=PARTITION_AWARE
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > manual
         > 80003ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           propose reachable a1
         > 80004ms a1 disconnects
         > 80005ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
         > 80006ms commit
           a1 <- registered as m1-A0001
           f1 <- update t1 RUNNING on a1 (agent_reregistered): the agent is back
           f1 <- offers o1 a1 cpus:3;mem:32",
    );
}
