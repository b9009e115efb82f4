//! Lending: what is idle is lent as revocable, and taken back when it is wanted.

use super::check;

#[test]
fn what_is_kept_for_a_guarantee_is_lent_and_taken_back_by_inverse_offer_and_then_by_kill() {
    check(
        "> 0ms level 3
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0001
         > 0ms operator quotas ads=cpus,2/ force=yes
           propose quotas ads [cpus:2] to []
           answer accepted
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus:2;mem:1024, o2 a1 cpus{revocable, allocated to *}:2
         > 1ms f2 accepts o1 o2 launch=t1:cpus,2;mem,500+t2:cpus~,2;mem,500 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus:2;mem:500, f2/t2 cpus{revocable, allocated to *}:2;mem:500
         > 2ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus:2] to [f2 t2 cpus{revocable}:2]; 1 offers, 0 recalled, 0 returned, 0 killed
         > 3ms a1 updates f2/t2 RUNNING #1
           f2 <- update t2 RUNNING on a1 #1
         > 300ms f1 subscribes roles=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0002
         > 301ms operator explains f1
           answer EXPLAIN; f1 ads: LENT 1 a1 [cpus:2;mem:24] by f2 * 1 [cpus:2]
         > 1000ms tick
           f2 <- inverse offers i1 a1 from 11000ms for cpus{revocable, allocated to *}:2
         > 1001ms operator explains f1
           answer EXPLAIN; f1 ads: LENT 1 a1 [cpus:2;mem:24] until 11000ms by f2 * 1 [cpus:2] until 11000ms
         > 1002ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus:2] to [f2 t2 cpus{revocable}:2] back for f1 cpus:2 at 11000ms; 1 offers, 1 recalled, 0 returned, 0 killed
         > 1003ms f2 keeps i1
           answer accepted
         > 11000ms tick
           a1 <- kill f2/t2
         > 11001ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus:2] to [f2 t2 cpus{revocable}:2] back for f1 cpus:2 at 11000ms killed; 1 offers, 1 recalled, 0 returned, 1 killed
         > 11002ms a1 updates f2/t2 KILLED #2
           f2 <- update t2 KILLED on a1 #2 (container_preempted)
           f1 <- offers o3 a1 cpus{allocated to ads}:2;mem{allocated to ads}:524
         > 11003ms operator gets GET_LOANS
           answer GET_LOANS; 1 offers, 1 recalled, 0 returned, 1 killed",
    );
}

#[test]
fn an_idle_reservation_is_lent_and_an_offer_of_it_is_rescinded_when_it_is_wanted() {
    check(
        "> 0ms f1 subscribes roles=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512;ports(ads):[31000-31009]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus(ads){allocated to ads}:2;mem(ads){allocated to ads}:512;ports(ads){allocated to ads}:[31000-31009]
         > 1ms f1 declines o1 refuse=61
           answer accepted
           f2 <- offers o2 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512;ports{revocable, allocated to *}:[31000-31009]
         > 2ms operator explains f1
           answer EXPLAIN; f1 ads: HELD 1 a1 [cpus{revocable}:2;mem{revocable}:512;ports{revocable}:[31000-31009]] by f2 * 1 [cpus{revocable}:2;mem{revocable}:512;ports{revocable}:[31000-31009]] since 1ms until 1001ms
         > 3ms f2 accepts o2 launch=t1:cpus~,1;mem~,32;ports~,[31003-31004] refuse=0
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:32;ports{revocable, allocated to *}:[31003-31004]
           f2 <- offers o3 a1 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:480;ports{revocable, allocated to *}:[31000-31002,31005-31009]
         > 4ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):2;mem(ads):512;ports(ads):[31000-31009]] to [f2 t1 cpus{revocable}:1;mem{revocable}:32;ports{revocable}:[31003-31004], f2 offered cpus{revocable}:1;mem{revocable}:480;ports{revocable}:[31000-31002,31005-31009]]; 2 offers, 0 recalled, 0 returned, 0 killed
         > 500ms f1 revives
           answer accepted
           f2 <- rescind o3
           f1 <- offers o4 a1 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:480;ports(ads){allocated to ads}:[31000-31002,31005-31009]
         > 501ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):1;mem(ads):32;ports(ads):[31003-31004]] to [f2 t1 cpus{revocable}:1;mem{revocable}:32;ports{revocable}:[31003-31004]]; 2 offers, 0 recalled, 0 returned, 0 killed",
    );
}

#[test]
fn what_somebody_may_want_soon_is_not_lent() {
    check(
        "> 0ms f1 subscribes roles=ads timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus(ads){allocated to ads}:2;mem(ads){allocated to ads}:512
         > 1ms f1 declines o1 refuse=59
           answer accepted
         > 1000ms tick
         > 59001ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
           f1 <- offers o2 a1 cpus(ads){allocated to ads}:2;mem(ads){allocated to ads}:512
         > 59002ms f1 declines o2 refuse=59
           answer accepted
         > 59003ms f1 disconnects
           propose away f1 until 1059003ms
         > 119002ms tick
           a1 <- ping 2
           f2 <- heartbeat
         > 120100ms tick
           f2 <- offers o3 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512",
    );
}

#[test]
fn a_task_that_its_framework_ends_in_time_is_counted_as_returned() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 launch=t1:cpus~,1;mem~,100+t2:cpus~,1;mem~,400 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:100, f2/t2 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:400
         > 2ms a1 updates f2/t1 RUNNING #1
           f2 <- update t1 RUNNING on a1 #1
         > 3ms a1 updates f2/t2 RUNNING #2
           f2 <- update t2 RUNNING on a1 #2
         > 4ms f1 requests cpus,1;mem,300
           answer accepted
         > 500ms f1 revives
           answer accepted
           f2 <- inverse offers i1 a1 from 10500ms for cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:400
         > 501ms f2 yields i1
           answer accepted
         > 502ms a1 updates f2/t2 FINISHED #3
           f2 <- update t2 FINISHED on a1 #3
           f1 <- offers o2 a1 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:412
         > 503ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):1;mem(ads):100] to [f2 t1 cpus{revocable}:1;mem{revocable}:100]; 1 offers, 1 recalled, 1 returned, 0 killed
         > 20000ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat",
    );
}

#[test]
fn a_recall_ends_when_nobody_wants_it_any_more() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 launch=t1:cpus~,2;mem~,500 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:500
         > 500ms f1 revives
           answer accepted
           f2 <- inverse offers i1 a1 from 10500ms for cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:500
         > 600ms f1 suppresses
           answer accepted
         > 1500ms tick
           f2 <- rescind i1
         > 20000ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
         > 20001ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):2;mem(ads):500] to [f2 t1 cpus{revocable}:2;mem{revocable}:500]; 1 offers, 1 recalled, 0 returned, 0 killed",
    );
}

#[test]
fn a_new_leader_knows_what_is_lent_from_what_agents_tell() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES timeout=1000
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 launch=t1:cpus~,2;mem~,512 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 2ms a1 updates f2/t1 RUNNING #1
           f2 <- update t1 RUNNING on a1 #1
         > 4ms restarts as m2
           propose away f1 until 1000004ms
           propose away f2 until 1000004ms
         > 5ms f2 subscribes can=REVOCABLE_RESOURCES timeout=1000
           propose back f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 6ms a1 registers tasks=f2/t1:RUNNING:cpus~,2;mem~,512
           a1 <- registered as m1-A0001
         > 7ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):2;mem(ads):512] to [f2 t1 cpus{revocable}:2;mem{revocable}:512]; 0 offers, 0 recalled, 0 returned, 0 killed
         > 500ms f1 subscribes roles=ads timeout=1000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 501ms a1 disconnects
         > 502ms operator gets GET_LOANS
           answer GET_LOANS; a1 [cpus(ads):2;mem(ads):512] to [f2 t1 cpus{revocable}:2;mem{revocable}:512]; 0 offers, 0 recalled, 0 returned, 0 killed
         > 503ms a1 registers tasks=f2/t1:RUNNING:cpus~,2;mem~,512
           a1 <- registered as m1-A0001
           f2 <- inverse offers i1 a1 from 10503ms for cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1000ms tick
         > 11000ms tick
           a1 <- kill f2/t1",
    );
}

#[test]
fn a_framework_that_comes_back_is_asked_again() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES timeout=1000
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 launch=t1:cpus~,2;mem~,512 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 500ms f1 revives
           answer accepted
           f2 <- inverse offers i1 a1 from 10500ms for cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 501ms f2 disconnects
           propose away f2 until 1000501ms
         > 502ms f2 subscribes can=REVOCABLE_RESOURCES timeout=1000
           propose back f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 1600ms tick
           f2 <- inverse offers i2 a1 from 10500ms for cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 11000ms tick
           a1 <- kill f2/t1
         > 11001ms operator teardown f1
           propose remove f1
           answer accepted
           f1 <- error: Framework has been removed
           close f1
         > 11002ms a1 updates f2/t1 KILLED #1
           f2 <- update t1 KILLED on a1 #1 (container_preempted)
           f2 <- rescind i2
           f2 <- offers o2 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 12002ms tick",
    );
}

#[test]
fn who_says_not_what_it_needs_is_given_back_more_and_more_while_it_uses_it() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):1;mem(ads):64
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 0ms a2 registers cpus(ads):1;mem(ads):64
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 0ms a3 registers cpus(ads):1;mem(ads):64
           propose admit a3
           a3 <- registered as m1-A0003
           f2 <- offers o3 a3 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 0ms a4 registers cpus(ads):1;mem(ads):64
           propose admit a4
           a4 <- registered as m1-A0004
           f2 <- offers o4 a4 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1ms f2 accepts o1 launch=t1:cpus~,1;mem~,64
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1ms f2 accepts o2 on=a2 launch=t2:cpus~,1;mem~,64
           answer accepted
           a2 <- launch f2/t2 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1ms f2 accepts o3 on=a3 launch=t3:cpus~,1;mem~,64
           answer accepted
           a3 <- launch f2/t3 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1ms f2 accepts o4 on=a4 launch=t4:cpus~,1;mem~,64
           answer accepted
           a4 <- launch f2/t4 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 500ms f1 revives
           answer accepted
           f2 <- inverse offers i1 a1 from 10500ms for cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 501ms a1 updates f2/t1 FINISHED #1
           f2 <- update t1 FINISHED on a1 #1
           f2 <- rescind i1
           f1 <- offers o5 a1 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:64
         > 900ms f1 accepts o5 launch=s1:cpus(ads),1;mem(ads),64
           answer accepted
           a1 <- launch f1/s1 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:64
           f2 <- inverse offers i2 a2 from 10900ms for cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
           f2 <- inverse offers i3 a3 from 10900ms for cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1500ms tick
         > 1501ms a2 updates f2/t2 FINISHED #1
           f2 <- update t2 FINISHED on a2 #1
           f2 <- rescind i2
           f1 <- offers o6 a2 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:64
         > 1502ms f1 declines o6 refuse=1000
           answer accepted
           f2 <- offers o7 a2 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 1503ms a3 updates f2/t3 FINISHED #1
           f2 <- update t3 FINISHED on a3 #1
           f2 <- rescind i3
           f1 <- offers o8 a3 cpus(ads){allocated to ads}:1;mem(ads){allocated to ads}:64
         > 1504ms f1 declines o8 refuse=1000
           answer accepted
           f2 <- offers o9 a3 cpus{revocable, allocated to *}:1;mem{revocable, allocated to *}:64
         > 10000ms tick
         > 61400ms tick
           a1 <- ping 1
           a2 <- ping 1
           a3 <- ping 1
           a4 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
         > 61503ms tick
         > 121400ms tick
           a1 <- ping 2
           a2 <- ping 2
           a3 <- ping 2
           a4 <- ping 2
           f1 <- heartbeat
           f2 <- heartbeat
         > 122000ms tick",
    );
}

#[test]
fn what_revocable_resources_are_not_for() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES,PARTITION_AWARE
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:1;mem:64;cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus:1;mem:64, o2 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 o2 launch=t1:cpus,1;cpus~,1;mem,32 refuse=0
           answer accepted
           f2 <- update t1 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].resources` hold both revocable cpus and cpus that is not; accepted: of each name one or the other
         > 1500ms tick
           f2 <- offers o3 a1 cpus:1;mem:64, o4 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1501ms f2 accepts o3 o4 executor=e1:cpus~,1;mem~,32 launch=t2:cpus,1;mem,32 refuse=0
           answer accepted
           f2 <- update t2 ERROR on a1 (task_invalid): `accept.operations[0].launch.task_infos[0].executor.resources` hold revocable cpus, but nobody can say when an executor ends; accepted: resources that are not revocable; the executor's tasks may use such",
    );
}

#[test]
fn nobody_is_asked_for_what_was_on_an_agent_that_is_gone() {
    check(
        "> 0ms f1 subscribes roles=ads suppressed=ads
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes can=REVOCABLE_RESOURCES
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus(ads):2;mem(ads):512
           propose admit a1
           a1 <- registered as m1-A0001
           f2 <- offers o1 a1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 1ms f2 accepts o1 launch=t1:cpus~,2;mem~,512 refuse=1000
           answer accepted
           a1 <- launch f2/t1 cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 500ms f1 revives
           answer accepted
           f2 <- inverse offers i1 a1 from 10500ms for cpus{revocable, allocated to *}:2;mem{revocable, allocated to *}:512
         > 600ms operator gone a1
           propose gone a1
           answer accepted
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f2 <- rescind i1
           f2 <- update t1 LOST on a1 (agent_removed_by_operator): the agent was marked gone by an operator
           f1 <- failure a1
           f2 <- failure a1
         > 700ms a2 registers cpus(ads):2;mem(ads):512
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus(ads){allocated to ads}:2;mem(ads){allocated to ads}:512
         > 800ms operator gets GET_LOANS
           answer GET_LOANS; 1 offers, 1 recalled, 1 returned, 0 killed
         > 20000ms tick
           f1 <- heartbeat
           f2 <- heartbeat
           a2 <- ping 1",
    );
}
