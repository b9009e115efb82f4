//! What operators are told.

use super::check;

#[test]
fn the_state_holds_everything() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 0ms a2 registers cpus:1;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:1;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32
           f1 <- offers o3 a1 cpus:2;mem:960
         > 2ms a1 updates f1/t2 FINISHED #2
           f1 <- update t2 FINISHED on a1 #2
           f1 <- offers o4 a1 cpus:1;mem:32
         > 3ms f1 acknowledges a1 t2 #2
           answer accepted
           a1 <- acknowledge f1/t2 #2
         > 4ms operator gets GET_STATE
           answer GET_STATE; a1 active=true total [cpus:4;mem:1024] allocated [cpus:1;mem:32] offered [cpus:3;mem:992]; a2 active=true total [cpus:1;mem:1024] allocated [] offered [cpus:1;mem:1024]; f1 active=true connected=true recovered=false offers [o2 o3 o4]; t1 TASK_STAGING on a1; completed t2 TASK_FINISHED on a1
         > 5ms operator gets GET_HEALTH
           answer GET_HEALTH; healthy=true
         > 6ms operator gets GET_VERSION
           answer GET_VERSION; 0.1.0
         > 7ms operator gets GET_MASTER
           answer GET_MASTER
         > 8ms operator gets GET_EXECUTORS
           answer GET_EXECUTORS
         > 9ms operator gets GET_ROLES
           answer GET_ROLES; * of f1 [cpus:5;mem:2048]
         > 10ms operator gets GET_FRAMEWORKS
           answer GET_FRAMEWORKS; f1 active=true connected=true recovered=false offers [o2 o3 o4]
         > 11ms operator gets GET_FLAGS
           answer rejected: `type` is GET_FLAGS, which is not there yet; accepted: GET_HEALTH, GET_VERSION, GET_MASTER, GET_STATE, GET_AGENTS, GET_FRAMEWORKS, GET_EXECUTORS, GET_TASKS, GET_ROLES, GET_OPERATIONS, GET_QUOTA, GET_WEIGHTS, UPDATE_QUOTA, SET_QUOTA, REMOVE_QUOTA, UPDATE_WEIGHTS, TEARDOWN, MARK_AGENT_GONE, DRAIN_AGENT, DEACTIVATE_AGENT, REACTIVATE_AGENT, GET_MAINTENANCE_SCHEDULE, GET_MAINTENANCE_STATUS, UPDATE_MAINTENANCE_SCHEDULE, START_MAINTENANCE, STOP_MAINTENANCE, KILL_TASK, EXPLAIN, GET_LOANS, RESERVE_RESOURCES, UNRESERVE_RESOURCES, CREATE_VOLUMES, DESTROY_VOLUMES, GROW_VOLUME or SHRINK_VOLUME
         > 12ms operator gets TEARDOWN
           answer rejected: `teardown` is missing; accepted: a value; the field is required
         > 13ms operator gets UNKNOWN
           answer rejected: `type` is UNKNOWN; accepted: a type of the operator API",
    );
}
