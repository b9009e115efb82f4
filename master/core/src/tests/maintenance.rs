//! Windows of maintenance, and the inverse offers that go with them.

use super::check;

#[test]
fn who_runs_on_a_scheduled_machine_is_asked_to_leave_and_offers_say_until_when() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes
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
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
           f2 <- offers o2 a1 cpus:3;mem:992
         > 2ms operator schedules a1 from=9000
           propose maintain [a1]
           answer accepted
           f2 <- rescind o2
           f1 <- inverse offers i1 a1 from 9000ms
           f2 <- offers o3 a1 cpus:3;mem:992 until 9000ms
         > 3ms operator gets GET_MAINTENANCE_STATUS
           answer GET_MAINTENANCE_STATUS; a1 draining [f1 UNKNOWN]
         > 4ms f2 accepts o3 launch=t2:cpus,1;mem,32 refuse=1000
           answer accepted
           a1 <- launch f2/t2 cpus:1;mem:32
           f2 <- inverse offers i2 a1 from 9000ms
         > 5ms f1 yields i1
           answer accepted
         > 6ms f2 keeps i2 refuse=5
           answer accepted
         > 7ms operator gets GET_MAINTENANCE_STATUS
           answer GET_MAINTENANCE_STATUS; a1 draining [f1 ACCEPT, f2 DECLINE]
         > 5006ms tick
           f2 <- inverse offers i3 a1 from 9000ms
         > 5007ms a1 updates f2/t2 FINISHED #1
           f2 <- update t2 FINISHED on a1 #1
           f2 <- rescind i3
           f2 <- offers o4 a1 cpus:3;mem:992 until 9000ms
         > 5008ms operator schedules
           propose maintain []
           answer accepted
           f2 <- rescind o4
           f2 <- offers o5 a1 cpus:3;mem:992
         > 5009ms operator gets GET_MAINTENANCE_SCHEDULE
           answer GET_MAINTENANCE_SCHEDULE; 0 windows",
    );
}

#[test]
fn a_machine_that_is_down_has_no_agent_until_its_maintenance_ends() {
    check(
        "> 0ms level 2
         > 0ms f1 subscribes can=PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus:4;mem:1024
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms operator schedules a1 a2
           propose maintain [a1, a2]
           answer accepted
           f1 <- inverse offers i1 a1 from 1000ms
         > 3ms operator takes-down a1
           propose maintain [a1 down, a2]
           answer accepted
           propose gone a1
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f1 <- rescind i1
           f1 <- update t1 GONE_BY_OPERATOR on a1 (agent_removed_by_operator): the agent was marked gone by an operator
           f1 <- failure a1
         > 4ms a1 registers
           a1 <- rejected as gone: its machine is down for maintenance; STOP_MAINTENANCE lets its agent register
           close a1
         > 5ms a2 registers cpus:1;mem:32
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus:1;mem:32 until 1000ms
         > 6ms operator takes-down a2
           propose maintain [a1 down, a2 down]
           answer accepted
           propose gone a2
           a2 <- rejected as gone: agent m1-A0002 was marked gone by an operator
           close a2
           f1 <- rescind o2
           f1 <- failure a2
         > 7ms operator gets GET_MAINTENANCE_STATUS
           answer GET_MAINTENANCE_STATUS; a1 down; a2 down
         > 8ms operator schedules a2
           answer rejected: `update_maintenance_schedule.schedule` lacks a1, which is down; accepted: every machine that is down; STOP_MAINTENANCE ends its maintenance
         > 9ms operator brings-up a1 a2
           propose maintain []
           answer accepted
         > 10ms a3 registers cpus:1;mem:32
           propose admit a3
           a3 <- registered as m1-A0003
           f1 <- offers o3 a3 cpus:1;mem:32
         > 11ms operator gets GET_MAINTENANCE_STATUS
           answer GET_MAINTENANCE_STATUS",
    );
}

#[test]
fn the_plan_holds_over_an_election_and_inverse_offers_are_made_anew() {
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
         > 1ms f1 accepts o1 launch=t1:cpus,1;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus:1;mem:32
         > 2ms operator schedules a1
           propose maintain [a1]
           answer accepted
           f1 <- inverse offers i1 a1 from 1000ms
         > 3ms restarts as m2
           propose away f1 until 60003ms
         > 4ms a1 registers tasks=f1/t1:RUNNING:cpus,1;mem,32
           a1 <- registered as m1-A0001
         > 5ms f1 subscribes
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- inverse offers i1 a1 from 1000ms
           f1 <- offers o1 a1 cpus:3;mem:992 until 1000ms
         > 6ms f1 yields m1-I1
           answer accepted
         > 7ms f1 disconnects
           propose remove f1
           a1 <- shut down f1
         > 8ms f1 subscribes
           answer rejected: `framework_id` is \"m1-F0001\": Framework has been removed; accepted: the id of a framework that is not removed; subscribing without an id gives a new one",
    );
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    check(
        "> 0ms operator schedules a1
           answer refused: maintenance is planned from level 2 on, and the group is at level 1, until all of its masters understand more
         > 1ms level 2
         > 2ms f1 subscribes
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 3ms operator schedules a1 a1
           answer rejected: `update_maintenance_schedule.schedule.windows[0].machine_ids[1]` is a1, which is in the schedule twice; accepted: each machine once
         > 4ms operator takes-down a1
           answer rejected: `start_maintenance.machines[0]` is a1, which is not in the schedule; accepted: a machine of the maintenance schedule
         > 5ms operator takes-down
           answer rejected: `start_maintenance.machines` is empty; accepted: one machine or more
         > 6ms operator brings-up a1
           answer rejected: `stop_maintenance.machines[0]` is a1, which is not down; accepted: a machine that START_MAINTENANCE took down
         > 7ms f1 yields i1
           answer rejected: `accept_inverse_offers.inverse_offer_ids[0]` is \"m1-I1\", which names no inverse offer to this framework; accepted: the id of an inverse offer from an INVERSE_OFFERS event
         > 8ms f1 keeps
           answer rejected: `decline_inverse_offers.inverse_offer_ids` is empty; accepted: the ids of one or more inverse offers",
    );
}
