//! Agents that are drained, deactivated and reactivated.

use super::check;

#[test]
fn a_draining_agent_is_not_offered_and_its_tasks_are_killed_until_it_is_drained() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32
           f1 <- offers o2 a1 cpus:2;mem:960
         > 2ms operator drains a1 grace=5
           propose stand a1 off draining
           answer accepted
           f1 <- rescind o2
           a1 <- kill f1/t1 to drain
           a1 <- kill f1/t2 to drain
         > 3ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=false DRAINING total [cpus:4;mem:1024] allocated [cpus:2;mem:64] offered []
         > 4ms a1 updates f1/t1 KILLED #1
           f1 <- update t1 KILLED on a1 #1
         > 5ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 6ms a1 updates f1/t2 KILLED #2
           f1 <- update t2 KILLED on a1 #2
         > 7ms f1 acknowledges a1 t2 #2
           answer accepted
           a1 <- acknowledge f1/t2 #2
           propose stand a1 off drained
         > 8ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=false DRAINED total [cpus:4;mem:1024] allocated [] offered []
         > 9ms operator drains a1 grace=5
           answer accepted
         > 10ms operator reactivates a1
           propose stand a1 on
           answer accepted
           f1 <- offers o3 a1 cpus:4;mem:1024
         > 11ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024] allocated [] offered [cpus:4;mem:1024]",
    );
}

#[test]
fn draining_goes_on_after_the_agent_and_the_master_were_away() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
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
         > 2ms a1 disconnects
           f1 <- rescind o2
         > 3ms operator drains a1
           propose stand a1 off draining
           answer accepted
         > 4ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
           a1 <- kill f1/t1 to drain
         > 5ms restarts as m2
           propose away f1 until 60005ms
         > 6ms f1 subscribes
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 7ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
           a1 <- kill f1/t1 to drain
         > 8ms a1 updates f1/t1 KILLED #1
           f1 <- update t1 KILLED on a1 #1
         > 9ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
           propose stand a1 off drained",
    );
}

#[test]
fn a_drained_agent_is_marked_gone_where_that_was_asked() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms operator drains a1 gone
           propose stand a1 off draining
           answer accepted
           f1 <- rescind o1
           propose stand a1 off drained
           propose gone a1
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f1 <- failure a1
         > 2ms a1 registers
           a1 <- rejected as gone: agent m1-A0001 was marked gone and can never register again
           close a1",
    );
}

#[test]
fn a_deactivated_agent_keeps_its_tasks_and_is_not_offered() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
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
         > 2ms operator deactivates a1
           propose stand a1 off
           answer accepted
           f1 <- rescind o2
         > 3ms a1 disconnects
         > 4ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
         > 5ms operator reactivates a1
           propose stand a1 on
           answer accepted
           f1 <- offers o3 a1 cpus:3;mem:992",
    );
}

#[test]
fn draining_can_be_cancelled_and_an_order_waits_for_the_one_before() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
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
         > manual
         > 2ms operator drains a1
           propose stand a1 off draining
         > 3ms operator reactivates a1
         > 4ms commit
           answer accepted
           f1 <- rescind o2
           a1 <- kill f1/t1 to drain
           propose stand a1 on
         > 5ms drop
           answer not leader
         > 6ms operator reactivates a1
           propose stand a1 on
         > 7ms commit
           answer accepted
           f1 <- offers o3 a1 cpus:3;mem:992
         > 8ms a1 updates f1/t1 KILLED #1
           f1 <- update t1 KILLED on a1 #1
           f1 <- offers o4 a1 cpus:1;mem:32
         > 9ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn bad_orders_are_refused() {
    check(
        "> 0ms operator drains a1
           answer refused: agents are drained and deactivated from level 2 on, and the group is at level 1, until all of its masters understand more
         > 1ms level 2
         > 2ms operator drains a1
           answer rejected: `agent_id` is \"a1\", which names no agent; accepted: the id of an admitted agent
         > 3ms operator drains a1 grace=-1
           answer rejected: `drain_agent.max_grace_period` is -1 s and 0 ns; accepted: a duration of zero or more, up to 292 years, with 0 to 999999999 ns
         > 4ms operator deactivates a9
           answer rejected: `agent_id` is \"a9\", which names no agent; accepted: the id of an admitted agent
         > 5ms operator gets DRAIN_AGENT
           answer rejected: `drain_agent` is missing; accepted: a value; the field is required",
    );
}

#[test]
fn what_the_log_refuses_of_a_draining_is_proposed_again_later_and_not_at_once() {
    check(
        "> 0ms level 2
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > manual
         > 1ms operator drains a1 gone
           propose stand a1 off draining
         > 2ms commit
           answer accepted
           propose stand a1 off drained
         > 3ms drop
         > 1003ms tick
           propose stand a1 off drained
         > 1004ms commit
           propose gone a1
         > 1005ms drop
         > 2005ms tick
           propose gone a1
         > 2006ms commit
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1",
    );
}
