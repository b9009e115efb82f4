//! RECONCILE, by its table.

use super::check;

#[test]
fn explicit_reconciliation_follows_the_table() {
    check(
        "> config offer_patience=0
         > 0ms f1 subscribes can=PARTITION_AWARE timeout=100000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes timeout=100000
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
         > 0ms a3 registers cpus:4;mem:1024
           propose admit a3
           a3 <- registered as m1-A0003
           f1 <- offers o3 a3 cpus:4;mem:1024
         > 1ms operator gone a3
           propose gone a3
           answer accepted
           a3 <- rejected as gone: agent m1-A0003 was marked gone by an operator
           close a3
           f1 <- rescind o3
           f1 <- failure a3
           f2 <- failure a3
         > 2ms a2 disconnects
           f2 <- rescind o2
         > 75002ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
           propose unreachable a2
           f1 <- failure a2
           f2 <- failure a2
         > 75003ms f1 reconciles t9@a1 t9@a2 t9@a3 t9@a9 t9
           answer accepted
           f1 <- update t9 GONE on a1 (reconciliation): the agent does not know the task
           f1 <- update t9 UNREACHABLE on a2 (reconciliation) since 75002ms: the agent is unreachable
           f1 <- update t9 GONE_BY_OPERATOR on a3 (reconciliation): the agent was marked gone by an operator
           f1 <- update t9 UNKNOWN on a9 (reconciliation): neither the task nor the agent is known
           f1 <- update t9 UNKNOWN (reconciliation): the task is not known
         > 75004ms f2 reconciles t9@a1 t9@a2 t9@a3 t9@a9 t9
           answer accepted
           f2 <- update t9 LOST on a1 (reconciliation): the agent does not know the task
           f2 <- update t9 LOST on a2 (reconciliation) since 75002ms: the agent is unreachable
           f2 <- update t9 LOST on a3 (reconciliation): the agent was marked gone by an operator
           f2 <- update t9 LOST on a9 (reconciliation): neither the task nor the agent is known
           f2 <- update t9 LOST (reconciliation): the task is not known
         > 75005ms restarts as m2
           propose away f1 until 100075005ms
           propose away f2 until 100075005ms
         > 75006ms f1 subscribes can=PARTITION_AWARE timeout=100000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 75007ms f1 reconciles t9@a1 t9@a2 t9@a3 t9@a9 t9
           answer accepted
           f1 <- update t9 UNREACHABLE on a2 (reconciliation) since 75002ms: the agent is unreachable
           f1 <- update t9 GONE_BY_OPERATOR on a3 (reconciliation): the agent was marked gone by an operator
           f1 <- update t9 UNKNOWN on a9 (reconciliation): neither the task nor the agent is known
         > 75008ms a1 registers
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 75009ms f1 reconciles t9@a1 t9
           answer accepted
           f1 <- update t9 GONE on a1 (reconciliation): the agent does not know the task
           f1 <- update t9 UNKNOWN (reconciliation): the task is not known",
    );
}

#[test]
fn implicit_reconciliation_tells_of_all_that_have_not_ended() {
    check(
        "> 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32+t3:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32, f1/t3 cpus:1;mem:32
         > 2ms a1 updates f1/t2 RUNNING #1
           f1 <- update t2 RUNNING on a1 #1
         > 3ms a1 updates f1/t3 FINISHED #2
           f1 <- update t3 FINISHED on a1 #2
           f1 <- offers o2 a1 cpus:2;mem:960
         > 4ms f1 reconciles
           answer accepted
           f1 <- update t1 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- update t2 RUNNING on a1 (reconciliation): the latest state of the task
         > 5ms f1 reconciles t1 t2 t3
           answer accepted
           f1 <- update t1 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- update t2 RUNNING on a1 (reconciliation): the latest state of the task
           f1 <- update t3 FINISHED on a1 (reconciliation): the latest state of the task",
    );
}

/// Five tasks of which two are told at once.
const FIVE: &str = "> config told_at_once=2
         > 0ms f1 subscribes can=PARTITION_AWARE timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:5;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:5;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1+t2:cpus,1+t3:cpus,1+t4:cpus,1+t5:cpus,1
           answer accepted
           a1 <- launch f1/t1 cpus:1, f1/t2 cpus:1, f1/t3 cpus:1, f1/t4 cpus:1, f1/t5 cpus:1";

#[test]
fn many_tasks_are_told_in_portions_as_they_are_read() {
    check(&format!(
        "{FIVE}
         > 2ms f1 reconciles
           answer accepted
           f1 <- update t1 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- more when this is read
         > 3ms a1 updates f1/t4 FINISHED #1
           f1 <- update t4 FINISHED on a1 #1
           f1 <- offers o2 a1 cpus:1;mem:1024
         > 4ms f1 reconciles
           answer accepted
         > 4ms f1 reconciles
           answer accepted
         > 4ms f1 reconciles t9
           answer accepted
         > 5ms f1 continues
           f1 <- update t9 UNKNOWN (reconciliation): the task is not known
           f1 <- update t3 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- more when this is read
         > 6ms f1 continues
           f1 <- update t5 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- more when this is read
         > 7ms f1 continues
           f1 <- more when this is read
         > 8ms f1 continues
           f1 <- update t1 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- update t2 STAGING on a1 (reconciliation): the latest state of the task
           f1 <- more when this is read
         > 9ms f1 disconnects
           propose away f1 until 100009ms"
    ));
}

#[test]
fn who_subscribes_hears_of_updates_that_wait_in_portions_too() {
    check(&format!(
        "{FIVE}
         > 2ms a1 updates f1/t2 RUNNING #1
           f1 <- update t2 RUNNING on a1 #1
         > 2ms a1 updates f1/t5 RUNNING #2
           f1 <- update t5 RUNNING on a1 #2
         > 3ms f1 subscribes can=PARTITION_AWARE timeout=100
           f1 <- error: Framework failed over
           close f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- update t2 RUNNING on a1 #1
           f1 <- more when this is read
           f1 <- offers o2 a1 mem:1024
         > 4ms f1 continues
           f1 <- more when this is read
         > 5ms f1 continues
           f1 <- update t5 RUNNING on a1 #2"
    ));
}
