//! Who is offered what, and when again.

use super::check;

#[test]
fn freed_resources_are_offered_in_the_same_step() {
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
         > 3ms f1 acknowledges a1 t1 #1
           answer accepted
           a1 <- acknowledge f1/t1 #1",
    );
}

#[test]
fn agents_go_to_the_framework_with_the_lowest_share() {
    check(
        "> 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
         > 0ms a3 registers cpus:2;mem:4096
           propose admit a3
           a3 <- registered as m1-A0003
         > 1ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus:4;mem:1024, o2 a2 cpus:4;mem:1024, o3 a3 cpus:2;mem:4096
         > 2ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 3ms f1 declines o1 o3 refuse=10
           answer accepted
           f2 <- offers o4 a1 cpus:4;mem:1024, o5 a3 cpus:2;mem:4096
         > 4ms a4 registers cpus:4;mem:1024
           propose admit a4
           a4 <- registered as m1-A0004
           f1 <- offers o6 a4 cpus:4;mem:1024",
    );
}

#[test]
fn what_is_declined_is_offered_to_the_next_and_comes_back_when_the_refusal_ends() {
    check(
        "> config offer_patience=0
         > wakes
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1 refuse=10
           answer accepted
           f2 <- offers o2 a1 cpus:4;mem:1024
           wake 10001ms
         > 2ms f2 declines o2 refuse=20
           answer accepted
         > 10000ms tick
         > 10001ms tick
           f1 <- offers o3 a1 cpus:4;mem:1024
           wake 15000ms",
    );
}

#[test]
fn a_refusal_covers_less_but_not_more() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32+t2:cpus,1;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32, f1/t2 cpus:1;mem:32
         > 2ms a1 updates f1/t1 FINISHED #1
           f1 <- update t1 FINISHED on a1 #1
           f1 <- offers o2 a1 cpus:3;mem:992
         > 3ms f1 declines o2 refuse=1000
           answer accepted
         > 4ms a1 updates f1/t2 FINISHED #2
           f1 <- update t2 FINISHED on a1 #2
           f1 <- offers o3 a1 cpus:4;mem:1024",
    );
}

#[test]
fn who_refuses_for_no_time_is_not_asked_again_at_once() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1 refuse=0
           answer accepted
         > 1000ms tick
         > 1001ms tick
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 1002ms f1 accepts o2 refuse=0
           answer accepted
         > 2002ms tick
           f1 <- offers o3 a1 cpus:4;mem:1024
         > 2003ms f1 declines o3 refuse=-1
           answer accepted
         > 7002ms tick
         > 7003ms tick
           f1 <- offers o4 a1 cpus:4;mem:1024",
    );
}

#[test]
fn revive_forgets_refusals() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1 refuse=1000
           answer accepted
         > 2ms f1 revives
           answer accepted
           f1 <- offers o2 a1 cpus:4;mem:1024
         > 3ms f1 revives
           answer accepted",
    );
}

#[test]
fn a_suppressed_role_is_offered_nothing_until_it_is_revived() {
    check(
        "> 0ms f1 subscribes roles=a,b suppressed=b
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 1ms f1 suppresses a
           answer accepted
         > 2ms f1 declines o1
           answer accepted
         > 3ms f1 revives b
           answer accepted
           f1 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 4ms f1 suppresses
           answer accepted
         > 5ms f1 declines o2
           answer accepted
         > 6ms f1 revives
           answer accepted
           f1 <- offers o3 a1 cpus{allocated to a}:4;mem{allocated to a}:1024",
    );
}

#[test]
fn roles_of_one_framework_and_of_a_tree_share_fairly() {
    check(
        "> 0ms f1 subscribes roles=ads/web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=ads/batch
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms f3 subscribes roles=eng
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 1ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to ads/web}:4;mem{allocated to ads/web}:1024
         > 2ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f3 <- offers o2 a2 cpus{allocated to eng}:4;mem{allocated to eng}:1024
         > 3ms a3 registers cpus:4;mem:1024
           propose admit a3
           a3 <- registered as m1-A0003
           f2 <- offers o3 a3 cpus{allocated to ads/batch}:4;mem{allocated to ads/batch}:1024
         > 4ms a4 registers cpus:4;mem:1024
           propose admit a4
           a4 <- registered as m1-A0004
           f3 <- offers o4 a4 cpus{allocated to eng}:4;mem{allocated to eng}:1024
         > 5ms operator gets GET_ROLES
           answer GET_ROLES; ads/batch of f2 [cpus:4;mem:1024]; ads/web of f1 [cpus:4;mem:1024]; eng of f3 [cpus:8;mem:2048]",
    );
}

#[test]
fn reserved_resources_go_to_their_role_only() {
    check(
        "> 0ms f1 subscribes roles=eng
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=ads/web
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 1ms a1 registers cpus(ads):2;mem(ads):512;cpus:1;mem:256
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to eng}:1;mem{allocated to eng}:256
           f2 <- offers o2 a1 cpus(ads){allocated to ads/web}:2;mem(ads){allocated to ads/web}:512",
    );
}

#[test]
fn scraps_are_not_offered() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;ports:[31000-31003]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024;ports:[31000-31003]
         > 1ms f1 accepts o1 launch=t1:cpus,4;mem,1000 refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:4;mem:1000
         > 2ms a2 registers disk:100;ports:[1-2]
           propose admit a2
           a2 <- registered as m1-A0002
         > 3ms a3 registers cpus:0.009;mem:31.999
           propose admit a3
           a3 <- registered as m1-A0003",
    );
}

#[test]
fn an_agent_with_gpus_is_for_those_who_can_use_them() {
    check(
        "> 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;gpus:1
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms f2 subscribes can=GPU_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o1 a1 cpus:4;gpus:1;mem:1024",
    );
}

#[test]
fn an_offer_nobody_answers_is_rescinded_if_so_configured() {
    check(
        "> config offer_timeout=1000
         > config offer_patience=0
         > wakes
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
           wake 1000ms
         > 1000ms tick
           f1 <- rescind o1
           f1 <- offers o2 a1 cpus:4;mem:1024
           wake 2000ms
         > 1001ms f1 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           f1 <- update t1 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer",
    );
}

#[test]
fn a_step_in_which_nothing_changed_does_nothing() {
    check(
        "> wakes
         > 0ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           wake 15000ms
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 declines o1 refuse=1000
           answer accepted
         > 2ms tick
         > 3ms a1 pongs",
    );
}

#[test]
fn an_overdrawn_agent_offers_nothing_of_what_it_lacks() {
    check(
        "> 0ms f1 subscribes timeout=100
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024;ports:[1-4]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024;ports:[1-4]
         > 1ms f1 accepts o1 launch=t1:cpus,3;mem,32;ports,[1-2] refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus:3;mem:32;ports:[1-2]
           f1 <- offers o2 a1 cpus:1;mem:992;ports:[3-4]
         > 2ms a1 updates f1/t1 RUNNING #1
           f1 <- update t1 RUNNING on a1 #1
         > 3ms a1 registers cpus:2;mem:1024;ports:[1-4] tasks=f1/t1:RUNNING:cpus,3;mem,32;ports,[1-2]+f1/t2:RUNNING:mem,32;ports,[2-3]
           f1 <- rescind o2
           close a1
           propose update a1 cpus:2;mem:1024;ports:[1-4]
           a1 <- registered as m1-A0001
           f1 <- offers o3 a1 mem:960;ports:[4-4]
         > 4ms a1 updates f1/t1 FINISHED #2
           f1 <- update t1 FINISHED on a1 #2
           f1 <- offers o4 a1 cpus:2;mem:32;ports:[1-1]
         > 5ms a1 updates f1/t2 FINISHED #3
           f1 <- update t2 FINISHED on a1 #3
           f1 <- offers o5 a1 mem:32;ports:[2-3]",
    );
}
