//! Status updates and their acknowledgement; messages between schedulers and executors.

use super::check;

#[test]
fn updates_are_passed_on_and_acknowledged() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 STARTING #1
           f1 <- update t1 STARTING on a1 #1
         > 3ms a1 updates f1/t1 STARTING #1
           f1 <- update t1 STARTING on a1 #1
         > 4ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 5ms f1 acknowledges a1 t1 #1
           answer accepted
         > 6ms a1 updates f1/t1 RUNNING #2
           f1 <- update t1 RUNNING on a1 #2
         > 7ms f1 acknowledges a1 t1 #2
           answer accepted
           a1 <- acknowledge f1/t1 #2
         > 8ms operator gets GET_TASKS
           answer GET_TASKS; t1 TASK_RUNNING on a1
         > 9ms a1 updates f1/t1 FINISHED #3
           f1 <- update t1 FINISHED on a1 #3
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 10ms f1 acknowledges a1 t1 #3
           answer accepted
           a1 <- acknowledge f1/t1 #3
         > 11ms operator gets GET_TASKS
           answer GET_TASKS; completed t1 TASK_FINISHED on a1
         > 12ms a1 updates f1/t1 FINISHED #3
           a1 <- acknowledge f1/t1 #3
         > 13ms f1 acknowledges a1 t1 #3
           answer accepted
           a1 <- acknowledge f1/t1 #3",
    );
}

#[test]
fn what_a_task_held_is_offered_as_soon_as_its_container_is_gone() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a1 frees f1/t1
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 4ms a1 frees f1/t1
         > 4ms a1 frees f1/unknown
         > 4ms operator gets GET_TASKS
           answer GET_TASKS; t1 TASK_RUNNING on a1
         > 5ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 6ms a1 updates f1/t1 FINISHED #2
           f1 <- update t1 FINISHED on a1 #2
         > 7ms f1 acknowledges a1 t1 #2
           answer accepted
           a1 <- acknowledge f1/t1 #2
         > 8ms a1 frees f1/t1",
    );
}

#[test]
fn only_the_agent_that_has_a_task_frees_it() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:4;mem:1024
         > 3ms a2 frees f1/t1",
    );
}

#[test]
fn the_first_terminal_state_that_is_heard_of_frees_the_resources() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 STARTING #1 latest=FAILED
           f1 <- update t1 STARTING on a1 #1
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 3ms f1 reconciles
           answer accepted
         > 4ms f1 reconciles t1
           answer accepted
           f1 <- update t1 STARTING on a1 (reconciliation): the latest state of the task
         > 5ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 6ms a1 updates f1/t1 FAILED #2
           f1 <- update t1 FAILED on a1 #2
         > 7ms f1 acknowledges a1 t1 #2
           answer accepted
           a1 <- acknowledge f1/t1 #2",
    );
}

#[test]
fn a_wrong_acknowledgement_is_rejected() {
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
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms f1 acknowledges a1 t1 #9
           answer rejected: `acknowledge.uuid` names no update that waits; accepted: the `status.uuid` of the task's update that was sent last
         > 4ms f1 acknowledges a2 t1 #1
           answer rejected: `acknowledge.agent_id` is \"m1-A0002\", but the task is on another agent; accepted: \"m1-A0001\"
         > 5ms f1 acknowledges a1 t9 #1
           answer accepted
           a1 <- acknowledge f1/t9 #1
         > 6ms f1 acknowledges a9 t9 #1
           answer accepted",
    );
}

#[test]
fn an_acknowledgement_for_an_agent_that_is_away_is_asked_for_again() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 3ms a1 disconnects
           f1 <- rescind o2
         > 4ms f1 acknowledges a1 t1 #1
           answer accepted
         > 5ms a1 registers tasks=f1/t1:FINISHED:cpus,4;mem,1024:#1
           a1 <- registered as m1-A0001
           f1 <- offers o3 a1 cpus:4;mem:1024
         > 6ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
         > 7ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn an_update_of_a_framework_that_is_not_known_shuts_it_down() {
    check(
        "> 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms a1 updates fx/t1 RUNNING #1
           a1 <- shut down fx",
    );
}

#[test]
fn an_update_of_a_task_that_is_not_known_is_the_frameworks_to_judge() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 2ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn ended_tasks_are_remembered_up_to_a_bound() {
    check(
        "> config completed_tasks_max=1
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o2 a1 cpus:3;mem:992
         > 3ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 4ms a1 updates f1/t2 FINISHED #2
           f1 <- update t2 FINISHED on a1 #2
         > 5ms f1 acknowledges a1 t2 #2
           answer accepted
           a1 <- acknowledge f1/t2 #2
         > 6ms operator gets GET_TASKS
           answer GET_TASKS; completed t2 TASK_FINISHED on a1",
    );
}

#[test]
fn kill_reaches_the_agent_now_or_when_it_is_back() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32
         > 2ms f1 kills t1
           answer accepted
           a1 <- kill f1/t1
         > 3ms f1 kills t1 a1
           answer accepted
           a1 <- kill f1/t1
         > 4ms f1 kills t1 a2
           answer rejected: `kill.agent_id` is \"a2\", but the task is on another agent; accepted: \"m1-A0001\", or none
         > 5ms f1 kills t9 a1
           answer accepted
           f1 <- update t9 GONE on a1 (reconciliation): the agent does not know the task
         > 6ms f1 kills t9
           answer accepted
           f1 <- update t9 UNKNOWN (reconciliation): the task is not known
         > 7ms operator kills f1/t1
           answer accepted
           a1 <- kill f1/t1
         > 8ms operator kills f1/t9
           answer rejected: `kill_task.task_id` is \"t9\", which names no running task of the framework; accepted: the id of a task that has not ended
         > 9ms operator kills f9/t1
           answer rejected: `kill_task.framework_id` is \"f9\", which names no framework of this cluster; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 10ms a1 disconnects
         > 11ms f1 kills t2
           answer accepted
         > 12ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32:#1+f1/t2:RUNNING:cpus,1;mem,32:#2
           a1 <- registered as m1-A0001
           a1 <- kill f1/t2
         > 13ms a1 updates f1/t1 KILLED #3
           f1 <- update t1 KILLED on a1 #3
           f1 <- offers o2 a1 cpus:3;mem:992
         > 14ms f1 kills t1
           answer accepted
           f1 <- update t1 KILLED on a1 (reconciliation): the latest state of the task",
    );
}

#[test]
fn messages_reach_the_other_side() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 says a1 e1 hello
           answer accepted
           a1 <- message for e1: hello
         > 2ms a1 says f1 e1 hi
           f1 <- message of e1: hi
         > 3ms f1 shuts-down a1 e1
           answer accepted
           a1 <- shut down executor e1
         > 4ms a1 exits f1 e1
           f1 <- failure a1 executor e1
         > 5ms f1 says a9 e1 hello
           answer rejected: `message.agent_id` is \"a9\", which names no agent; accepted: the id of an admitted agent
         > 6ms f1 shuts-down a9 e1
           answer rejected: `shutdown.agent_id` is \"a9\", which names no agent; accepted: the id of an admitted agent
         > 7ms f1 requests
           answer accepted
         > 8ms a1 says f9 e1 hi",
    );
}

#[test]
fn an_acknowledgement_that_was_lost_on_the_way_is_sent_again() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1024
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 4ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 5ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 6ms a1 registers tasks=f1/t1:RUNNING:cpus,4;mem,1024:#1
           close a1
           a1 <- registered as m1-A0001
         > 7ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1
         > 8ms f1 acknowledges a1 t1 #1
           answer accepted",
    );
}
