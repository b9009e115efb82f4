//! Registration, return, disconnection and removal of agents.

use super::check;

#[test]
fn an_agent_hears_nothing_until_its_admission_is_committed() {
    check(
        "> manual
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 5ms tick
         > 9ms commit
           a1 <- registered as m1-A0001",
    );
}

#[test]
fn an_admission_is_wasted_when_the_stream_ended_before_it_was_committed() {
    check(
        "> manual
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 5ms a1 disconnects
         > 9ms commit
           propose remove a1
         > 10ms commit",
    );
}

#[test]
fn an_agent_that_comes_back_keeps_its_id_and_its_old_stream_is_closed() {
    check(
        "> 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 5ms a1 registers
           f1 <- rescind o1
           close a1
           a1 <- registered as m1-A0001
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 6ms f1 reconciles
           answer accepted",
    );
}

#[test]
fn an_agent_that_comes_back_with_other_resources_is_updated_first() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 5ms a1 disconnects
           f1 <- rescind o1
         > 6ms a1 registers cpus:8;mem:1024
           propose update a1 cpus:8;mem:1024
           a1 <- registered as m1-A0001
           f1 <- offers o2 a1 cpus:8;mem:1024
         > 7ms a1 resizes cpus:2;mem:1024
           propose update a1 cpus:2;mem:1024
           f1 <- rescind o2
           f1 <- offers o3 a1 cpus:2;mem:1024",
    );
}

#[test]
fn a_broken_stream_rescinds_at_once_and_is_unreachable_only_after_the_timeout() {
    check(
        "> config offer_patience=0
         > wakes
         > 0ms f1 subscribes can=PARTITION_AWARE timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms f2 subscribes timeout=1000
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           f2 <- offers o2 a1 cpus:3;mem:992
         > 1ms f2 accepts o2 launch=t2:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f2/t2 cpus:1;mem:32
           f1 <- offers o3 a1 cpus:2;mem:960
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a1 updates f2/t2 RUNNING #2
           f2 <- update t2 RUNNING on a1 #2
         > 10ms a1 disconnects
           f1 <- rescind o3
         > 75009ms tick
           f1 <- heartbeat
           f2 <- heartbeat
           wake 75010ms
         > 75010ms tick
           propose unreachable a1
           wake 90009ms
           f1 <- update t1 UNREACHABLE on a1 (agent_removed) since 75010ms: the agent is unreachable
           f2 <- update t2 LOST on a1 (agent_removed) since 75010ms: the agent is unreachable
           f1 <- failure a1
           f2 <- failure a1
         > 80000ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32:#1
           propose reachable a1
           a1 <- registered as m1-A0001
           f1 <- update t1 RUNNING on a1 (agent_reregistered): the agent is back
           f2 <- update t2 LOST on a1 (reconciliation): the agent does not know the task
           f2 <- offers o4 a1 cpus:3;mem:992",
    );
}

#[test]
fn an_agent_that_answers_no_pings_is_unreachable() {
    check(
        "> wakes
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           wake 15000ms
         > 15000ms tick
           a1 <- ping 1
           wake 30000ms
         > 16000ms a1 pongs
         > 30000ms tick
           a1 <- ping 2
           wake 45000ms
         > 45000ms tick
           a1 <- ping 3
           wake 60000ms
         > 60000ms tick
           a1 <- ping 4
           wake 75000ms
         > 75000ms tick
           a1 <- ping 5
           wake 90000ms
         > 90000ms tick
           a1 <- ping 6
           wake 105000ms
         > 105000ms tick
           close a1
           propose unreachable a1
         > 106000ms a1 registers
           propose reachable a1
           a1 <- registered as m1-A0001
           wake 121000ms",
    );
}

#[test]
fn an_agent_that_comes_back_while_it_is_being_marked_waits_for_the_mark() {
    check(
        "> manual
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
         > 0ms commit
           a1 <- registered as m1-A0001
         > 5ms a1 disconnects
         > 75005ms tick
           propose unreachable a1
         > 75006ms a1 registers
         > 75007ms a1 registers
           close a1
         > 75008ms commit
           propose reachable a1
         > 75009ms commit
           a1 <- registered as m1-A0001",
    );
}

#[test]
fn a_gone_agent_is_told_so_and_never_comes_back() {
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
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           f2 <- offers o2 a1 cpus:3;mem:992
         > 2ms f2 accepts o2 launch=t2:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f2/t2 cpus:1;mem:32
           f1 <- offers o3 a1 cpus:2;mem:960
         > 5ms operator gone a1
           propose gone a1
           answer accepted
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f1 <- rescind o3
           f1 <- update t1 GONE_BY_OPERATOR on a1 (agent_removed_by_operator): the agent was marked gone by an operator
           f2 <- update t2 LOST on a1 (agent_removed_by_operator): the agent was marked gone by an operator
           f1 <- failure a1
           f2 <- failure a1
         > 6ms a1 registers
           a1 <- rejected as gone: agent m1-A0001 was marked gone and can never register again
           close a1
         > 7ms operator gone a1
           answer accepted
         > 8ms f1 reconciles t1@a1 t9@a1
           answer accepted
           f1 <- update t1 GONE_BY_OPERATOR on a1 (reconciliation): the latest state of the task
           f1 <- update t9 GONE_BY_OPERATOR on a1 (reconciliation): the agent was marked gone by an operator
         > 9ms operator gone a2
           answer rejected: `mark_agent_gone.agent_id` is \"a2\", which names no agent; accepted: the id of an admitted agent",
    );
}

#[test]
fn an_agent_that_leaves_takes_its_tasks_along() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
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
         > 5ms a1 leaves
           f1 <- rescind o2
           propose remove a1
           close a1
           f1 <- update t1 GONE on a1 (agent_removed): the agent has left
           f1 <- failure a1
         > 6ms operator gets GET_AGENTS
           answer GET_AGENTS
         > 7ms a1 registers
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o3 a1 cpus:4;mem:1024",
    );
}

#[test]
fn what_a_returning_agent_does_not_list_is_lost() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32+t3:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32, f1/t3 cpus:1;mem:32
           f1 <- offers o2 a1 cpus:1;mem:928
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a1 updates f1/t3 FINISHED #3
           f1 <- update t3 FINISHED on a1 #3
           f1 <- offers o3 a1 cpus:1;mem:32
         > 4ms f1 acknowledges a1 t3 #3
           answer accepted
           a1 <- acknowledge f1/t3 #3
         > 5ms a1 disconnects
           f1 <- rescind o2
           f1 <- rescind o3
         > 6ms a1 registers
           a1 <- registered as m1-A0001
           f1 <- update t1 GONE on a1 (reconciliation): the agent does not know the task
           f1 <- update t2 DROPPED on a1 (reconciliation): the agent does not know the task
           f1 <- offers o4 a1 cpus:4;mem:1024",
    );
}

#[test]
fn a_task_of_a_framework_that_is_not_known_is_shut_down() {
    check(
        "> 0ms a1 registers cpus:4;mem:1024 tasks=fx/t1:RUNNING:cpus,1+fx/t2:RUNNING:cpus,1
           propose admit a1
           a1 <- registered as m1-A0001
           a1 <- shut down fx",
    );
}

#[test]
fn a_second_register_on_one_stream_is_refused() {
    check(
        "> 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms a1 registers-again
           a1 <- rejected: `register` was sent twice on one stream; accepted: one Register, first
           close a1",
    );
}

#[test]
fn after_an_election_agents_have_their_time_to_come_back() {
    check(
        "> config offer_timeout=0
         > wakes
         > 0ms f1 subscribes can=PARTITION_AWARE timeout=100000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:2;mem:512
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:2;mem:512
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           wake 5001ms
         > 100ms restarts as m2
           propose away f1 until 100000100ms
           wake 600100ms
         > 101ms f1 subscribes can=PARTITION_AWARE timeout=100000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15101ms
         > 102ms f1 reconciles t1@a1 t9
           answer accepted
         > 103ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32:#1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:3;mem:992
         > 104ms f1 reconciles t1 t9@a1
           answer accepted
           f1 <- update t1 RUNNING on a1 (reconciliation): the latest state of the task
           f1 <- update t9 GONE on a1 (reconciliation): the agent does not know the task
         > 600099ms a1 pongs
         > 600100ms tick
           f1 <- heartbeat
           a1 <- ping 1
           propose unreachable a2
           wake 615100ms
           f1 <- failure a2
         > 600101ms a2 registers
           propose reachable a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:2;mem:512",
    );
}
