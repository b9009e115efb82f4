//! EXPLAIN: each reason, caused.

use super::check;

#[test]
fn what_a_framework_does_itself() {
    check(
        "> 0ms f1 subscribes roles=a,b timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=c suppressed=c
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms a2 registers cpus:2;mem:512
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to b}:2;mem{allocated to b}:512
         > 1ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 1, HELD 1 a2 [cpus:2;mem:512] by f1 b 1 [cpus:2;mem:512] since 0ms until 1000ms; f1 b: OFFERED 1, HELD 1 a1 [cpus:4;mem:1024] by f1 a 1 [cpus:4;mem:1024] since 0ms until 1000ms
         > 1ms operator explains role=c
           answer EXPLAIN; f2 c: SUPPRESSED 2
         > 2ms f1 declines o1 refuse=5
           answer accepted
           f1 <- offers o3 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 3ms f1 declines o2 refuse=9
           answer accepted
           f1 <- offers o4 a2 cpus{allocated to a}:2;mem{allocated to a}:512
         > 3ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 1, HELD 1 a1 [cpus:4;mem:1024] by f1 b 1 [cpus:4;mem:1024] since 2ms until 1002ms; f1 b: OFFERED 1, HELD 1 a2 [cpus:2;mem:512] by f1 a 1 [cpus:2;mem:512] since 3ms until 1003ms
         > 4ms f1 updates roles=b timeout=1000
           propose put f1
           answer accepted
           f1 <- rescind o4
         > 4ms operator explains f1
           answer EXPLAIN; f1 a: ROLE_LEFT 2 a2 [cpus:2;mem:512]; f1 b: OFFERED 1, FILTERED 1 a2 [cpus:2;mem:512] until 9003ms
         > 4ms operator explains f1 role=b
           answer EXPLAIN; f1 b: OFFERED 1, FILTERED 1 a2 [cpus:2;mem:512] until 9003ms
         > 5ms f1 disconnects
           propose away f1 until 1000005ms
         > 5ms operator explains role=b
           answer EXPLAIN; f1 b: FRAMEWORK_AWAY 2 a1 [cpus:4;mem:1024]
         > manual
         > 6ms operator teardown f1
           propose remove f1
         > 6ms operator explains role=b
           answer EXPLAIN; f1 b: FRAMEWORK_ENDING 2 a1 [cpus:4;mem:1024]
         > 6ms operator explains role=nobody
           answer rejected: `explain.role` is \"nobody\", which no such framework has; accepted: a role of a framework; GET_ROLES lists them
         > 6ms operator explains nobody
           answer rejected: `explain.framework_id` is \"nobody\", which names no framework of this cluster; accepted: the id of a framework that is not removed; subscribing without an id gives a new one
         > 6ms operator gets EXPLAIN
           answer rejected: `explain` is missing; accepted: a value; the field is required",
    );
}

#[test]
fn who_holds_it_and_what_uses_it() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms a2 registers cpus:2;mem:512
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to a}:2;mem{allocated to a}:512
         > 1ms f2 subscribes roles=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 1ms operator explains f2
           answer EXPLAIN; f2 b: HELD 2 a1 [cpus:4;mem:1024] by f1 a 2 [cpus:6;mem:1536] since 0ms until 1000ms
         > 1ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 2
         > 2ms f1 accepts o1 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 2ms operator explains f2
           answer EXPLAIN; f2 b: IN_USE 1, HELD 1 a2 [cpus:2;mem:512] by f1 a 1 [cpus:2;mem:512] since 0ms until 1000ms
         > 3ms f1 accepts o2 launch=t2:cpus,1.995;mem,500 on=a2 refuse=0
           answer accepted
           a2 <- launch f1/t2 cpus{allocated to a}:1.995;mem{allocated to a}:500
         > 3ms operator explains f2
           answer EXPLAIN; f2 b: IN_USE 1, TOO_SMALL 1 a2 [cpus:0.005;mem:12]",
    );
}

#[test]
fn quota_and_guarantees() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=a/x
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;ports:[1-9]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a/x}:4;mem{allocated to a/x}:1024;ports{allocated to a/x}:[1-9]
         > 0ms operator quotas a=/cpus,2;ports,3 b=mem,1024;cpus,2/
           propose quotas a [] to [cpus:2;ports:3], b [cpus:2;mem:1024] to []
           answer accepted
           f1 <- rescind o1
           f1 <- offers o2 a1 cpus{allocated to a/x}:2;ports{allocated to a/x}:[1-3]
         > 1ms operator explains f1
           answer EXPLAIN; f1 a/x: LIMIT 1 a1 [cpus:2;mem:1024;ports:[4-9]] of a for cpus
         > 2ms operator quotas a=/ b=/
           propose quotas a [] to [], b [] to []
           answer accepted
           f1 <- offers o3 a1 cpus{allocated to a/x}:2;mem{allocated to a/x}:1024;ports{allocated to a/x}:[4-9]
         > 2ms operator explains f1
           answer EXPLAIN; f1 a/x: OFFERED 1
         > 3ms operator quotas a=/cpus,0;mem,0
           propose quotas a [] to [cpus:0;mem:0]
           answer accepted
           f1 <- rescind o3
           f1 <- rescind o2
         > 3ms operator explains f1
           answer EXPLAIN; f1 a/x: LIMIT 1 a1 [cpus:4;mem:1024;ports:[1-9]] of a for cpus
         > 4ms operator quotas a=/ b=cpus,4;mem,1024/
           propose quotas a [] to [], b [cpus:4;mem:1024] to []
           answer accepted
         > 5ms operator explains f1
           answer EXPLAIN; f1 a/x: GUARANTEES 1 a1 [cpus:4;mem:1024;ports:[1-9]]",
    );
}

#[test]
fn what_it_wishes() {
    check(
        "> config domain=eu/a
         > 0ms f1 subscribes roles=a only=a:rack~r1 min=cpus,2
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024 attributes=rack:r2
           propose admit a1
           a1 <- registered as m1-A0001
         > 0ms a2 registers cpus:1;mem:1024 attributes=rack:r1
           propose admit a2
           a2 <- registered as m1-A0002
         > 0ms a3 registers cpus:9;mem:1024 attributes=rack:r1 domain=us/a
           propose admit a3
           a3 <- registered as m1-A0003
         > 0ms a4 registers cpus:9;mem:1024;gpus:1 attributes=rack:r1 domain=eu/b
           propose admit a4
           a4 <- registered as m1-A0004
         > 0ms a5 registers cpus(b):9;mem(b):1024 attributes=rack:r1
           propose admit a5
           a5 <- registered as m1-A0005
         > 1ms operator explains f1
           answer EXPLAIN; f1 a: CONSTRAINTS 1 a1 [cpus:4;mem:1024], REGION 1 a3 [cpus:9;mem:1024], GPUS 1 a4 [cpus:9;gpus:1;mem:1024], RESERVED 1, TOO_SMALL 1 a2 [cpus:1;mem:1024]
         > 2ms f1 updates roles=a can=REGION_AWARE,GPU_RESOURCES
           propose put f1
           answer accepted
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024, o2 a2 cpus{allocated to a}:1;mem{allocated to a}:1024, o3 a3 cpus{allocated to a}:9;mem{allocated to a}:1024, o4 a4 cpus{allocated to a}:9;gpus{allocated to a}:1;mem{allocated to a}:1024
         > 2ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 4, RESERVED 1
         > 3ms operator gets GET_FRAMEWORKS
           answer GET_FRAMEWORKS; f1 active=true connected=true recovered=false offers [o1 o2 o3 o4]",
    );
}

#[test]
fn how_the_agents_are() {
    check(
        "> 0ms level 3
         > 0ms a1 registers cpus:1;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 0ms a2 registers cpus:2;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
         > 0ms a3 registers cpus:3;mem:1024
           propose admit a3
           a3 <- registered as m1-A0003
         > 0ms f1 subscribes timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:1;mem:1024, o2 a2 cpus:2;mem:1024, o3 a3 cpus:3;mem:1024
         > 1ms operator drains a1
           propose stand a1 off draining
           answer accepted
           f1 <- rescind o1
           propose stand a1 off drained
         > 1ms operator deactivates a2
           propose stand a2 off
           answer accepted
           f1 <- rescind o2
         > 2ms a3 disconnects
           f1 <- rescind o3
         > 3ms operator explains f1
           answer EXPLAIN; f1 *: AGENT_DRAINING 1 a1 [cpus:1;mem:1024], AGENT_DEACTIVATED 1 a2 [cpus:2;mem:1024], AGENT_DISCONNECTED 1 a3 [cpus:3;mem:1024]
         > 75002ms tick
           a1 <- ping 1
           a2 <- ping 1
           f1 <- heartbeat
           propose unreachable a3
           f1 <- failure a3
         > 75003ms operator explains f1
           answer EXPLAIN; f1 *: AGENT_DRAINING 1 a1 [cpus:1;mem:1024], AGENT_DEACTIVATED 1 a2 [cpus:2;mem:1024], AGENT_UNREACHABLE 1
         > 75004ms leads m2
           close a1
           close a2
           close f1
           propose away f1 until 1075004ms
         > 75005ms f1 subscribes timeout=1000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 75006ms operator explains f1
           answer EXPLAIN; f1 *: AGENT_UNREACHABLE 1, AGENT_NOT_BACK 2 a2 [cpus:2;mem:1024]
         > 75007ms a2 registers
           a2 <- registered as m1-A0002
         > 75008ms operator reactivates a2
           propose stand a2 on
           answer accepted
           f1 <- offers o1 a2 cpus:2;mem:1024
         > manual
         > 75010ms a2 leaves
           f1 <- rescind o1
           propose remove a2
         > 75011ms operator explains f1
           answer EXPLAIN; f1 *: AGENT_UNREACHABLE 1, AGENT_NOT_BACK 1 a1 [cpus:1;mem:1024], AGENT_LEAVING 1 a2 [cpus:2;mem:1024]",
    );
}
