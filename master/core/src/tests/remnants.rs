use super::check;

#[test]
fn what_a_task_of_a_removed_framework_holds_is_free_when_the_task_has_ended() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;ports:[1-9]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024;ports:[1-9]
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32;ports,[1-2]+t2:cpus,1;mem,32 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32;ports:[1-2], f1/t2 cpus:1;mem:32
           f1 <- offers o2 a1 cpus:2;mem:960;ports:[3-9]
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a1 updates f1/t2 FINISHED #2
           f1 <- update t2 FINISHED on a1 #2
           f1 <- offers o3 a1 cpus:1;mem:32
         > 4ms f1 tears-down
           f1 <- rescind o2
           f1 <- rescind o3
           propose remove f1
           answer accepted
           close f1
           a1 <- shut down f1
         > 5ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o4 a1 cpus:3;mem:992;ports:[3-9]
         > 6ms operator gets GET_AGENTS
           answer GET_AGENTS; a1 active=true total [cpus:4;mem:1024;ports:[1-9]] allocated [cpus:1;mem:32;ports:[1-2]] offered [cpus:3;mem:992;ports:[3-9]]
         > 7ms a1 updates f1/t1 KILLING #3
         > 8ms a1 updates f1/t1 RUNNING #1 latest=KILLED
           f2 <- offers o5 a1 cpus:1;mem:32;ports:[1-2]
         > 9ms a1 updates f1/t1 KILLED #4
           a1 <- shut down f1",
    );
}

#[test]
fn an_agent_that_is_back_tells_what_is_left_of_removed_frameworks() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes suppressed=*
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms a1 disconnects
         > 3ms f1 tears-down
           propose remove f1
           answer accepted
           close f1
         > 4ms f2 revives
           answer accepted
         > 5ms a1 registers tasks=f1/t1:KILLING:cpus,1;mem,32+f1/t0:KILLED:cpus,1;mem,32
           a1 <- registered as m1-A0001
           a1 <- shut down f1
           f2 <- offers o2 a1 cpus:3;mem:992
         > 6ms restarts as m2
           propose away f2 until 60006ms
         > 7ms f2 subscribes
           propose back f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 8ms a1 registers tasks=f1/t1:KILLING:cpus,1;mem,32
           a1 <- registered as m1-A0001
           a1 <- shut down f1
           f2 <- offers o1 a1 cpus:3;mem:992
         > 9ms a1 registers
           f2 <- rescind o1
           close a1
           a1 <- registered as m1-A0001
           f2 <- offers o2 a1 cpus:4;mem:1024",
    );
}

#[test]
fn what_is_left_on_an_agent_goes_with_it() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024 tasks=fx/t1:KILLING:cpus,1;mem,32
           propose admit a1
           a1 <- registered as m1-A0001
           a1 <- shut down fx
           f1 <- offers o1 a1 cpus:3;mem:992
         > 1ms a1 disconnects
           f1 <- rescind o1
         > 75001ms tick
           f1 <- heartbeat
           propose unreachable a1
           f1 <- failure a1
         > 75002ms a1 registers
           propose reachable a1
           a1 <- registered as m1-A0001
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 75003ms operator gone a1
           propose gone a1
           answer accepted
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f1 <- rescind o2
           f1 <- failure a1",
    );
}

#[test]
fn a_task_that_is_known_on_another_agent_is_killed_and_holds_what_it_has_until_then() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024 tasks=f1/t1:RUNNING:cpus,1;mem,32
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:3;mem:992
         > 1ms a2 registers cpus:4;mem:1024 tasks=f1/t1:RUNNING:cpus,1;mem,32:#1
           propose admit a2
           a2 <- registered as m1-A0002
           a2 <- kill f1/t1
           f1 <- offers o2 a2 cpus:3;mem:992
         > 2ms a2 updates f1/t1 RUNNING #1
           a2 <- acknowledge f1/t1 #1
         > 3ms a2 updates f1/t1 KILLING #2 latest=KILLED
           a2 <- acknowledge f1/t1 #2
           f1 <- offers o3 a2 cpus:1;mem:32
         > 4ms a2 updates f1/t1 KILLED #3
           a2 <- acknowledge f1/t1 #3
         > 5ms a1 updates f1/t1 RUNNING #4
           f1 <- update t1 RUNNING on a1 #4",
    );
}

#[test]
fn a_task_of_the_agents_former_id_is_nobodys() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024 tasks=f1/t1:KILLING:cpus,1;mem,32:@m0-A0001
           propose admit a1
           a1 <- registered as m1-A0001
           a1 <- kill f1/t1
           f1 <- offers o1 a1 cpus:3;mem:992
         > 1ms f1 reconciles
           answer accepted
         > 2ms a1 updates f1/t1 KILLED #1
           a1 <- acknowledge f1/t1 #1
           f1 <- offers o2 a1 cpus:1;mem:32",
    );
}
