//! Quotas and weights: what operators may set, and what it is good for.

use super::check;

#[test]
fn quotas_of_several_roles_change_together_or_not_at_all() {
    check(
        "> 0ms level 3
         > 0ms a1 registers cpus:8;mem:1024;ports:[31000-31009]
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms operator quotas ads=cpus,4;ports,2/cpus,6 ads/etl=cpus,3/ web=/ports,5
           propose quotas ads [cpus:4;ports:2] to [cpus:6], ads/etl [cpus:3] to [], web [] to [ports:5]
           answer accepted
         > 2ms operator quotas ads=cpus,4;ports,2/cpus,6
           answer accepted
         > 3ms operator gets GET_QUOTA
           answer GET_QUOTA; ads [cpus:4;ports:2] to [cpus:6] allocated [] offered [] reserved []; ads/etl [cpus:3] to [] allocated [] offered [] reserved []; web [] to [ports:5] allocated [] offered [] reserved []
         > 4ms operator quotas ads/etl=cpus,5/ web=cpus,1/
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 5, which makes 5 for the roles below \"ads\", whose own guarantee is 4; accepted: guarantees of cpus of \"ads\" of 5 or more, or less in the roles below it
         > 5ms operator quotas ads=cpus,2/ web=cpus,1/
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 2, less than the 3 that the roles below \"ads\" are guaranteed; accepted: guarantees of cpus of \"ads\" of 3 or more, or less in the roles below it
         > 6ms operator quotas ads=/ ads/etl=/
           propose quotas ads [] to [], ads/etl [] to []
           answer accepted
         > 7ms operator gets GET_QUOTA
           answer GET_QUOTA; web [] to [ports:5] allocated [] offered [] reserved []",
    );
}

#[test]
fn what_no_force_helps_is_rejected() {
    check(
        "> 0ms level 3
         > 1ms operator quotas ads=cpus,4/cpus,3 force=yes
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 4, more than the limit of 3; accepted: a guarantee that is not above the limit of the same resource
         > 2ms operator quotas ads/etl=cpus,4/ force=yes
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 4, which makes 4 for the roles below \"ads\", whose own guarantee is 0; accepted: guarantees of cpus of \"ads\" of 4 or more, or less in the roles below it
         > 3ms operator quotas ads=ports,1.5/
           answer rejected: `update_quota.quota_configs[0].guarantees[\"ports\"].value` is 1.5; accepted: a whole number of ports
         > 4ms operator quotas ads=cpus,-1/
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"].value` is negative (-1); accepted: a number from 0 to 2251799813685.248
         > 5ms operator quotas a//b=cpus,1/
           answer rejected: `update_quota.quota_configs[0].role` has an empty part (\"a//b\"); accepted: `*`, or 1 to 255 bytes in parts separated by `/`, without `*`, `\\`, white space and control characters, no part empty, `.`, `..` or beginning with `-`
         > 6ms operator quotas
           answer rejected: `update_quota.quota_configs` is empty; accepted: the quota of one role or more
         > 7ms operator gets UPDATE_QUOTA
           answer rejected: `update_quota` is missing; accepted: a value; the field is required",
    );
}

#[test]
fn guarantees_beyond_the_cluster_and_limits_below_the_use_need_force() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=ads/etl
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to ads/etl}:4;mem{allocated to ads/etl}:1024
         > 1ms f1 accepts o1 launch=t1:cpus,3;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to ads/etl}:3;mem{allocated to ads/etl}:32
         > 2ms operator quotas ads=/cpus,2 dry-run=yes
           answer UPDATE_QUOTA; ads forcible: update_quota.quota_configs[0].limits[\"cpus\"] is 2, less than the 3 in use or reserved; accepted: 3 or more, until tasks of \"ads\" have ended
         > 3ms operator quotas ads=/cpus,2
           answer refused: `update_quota.quota_configs[0].limits[\"cpus\"]` is 2, less than the 3 in use or reserved; accepted: 3 or more, until tasks of \"ads\" have ended; with `force` it is set all the same
         > 4ms operator quotas ads=/cpus,2 force=yes
           propose quotas ads [] to [cpus:2]
           answer accepted
         > 5ms operator quotas ads=/cpus,2
           answer accepted
         > 6ms operator quotas ads=cpus,2/cpus,2 web=cpus,3;gpus,1/
           answer refused: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 2, which makes 5 of cpus guaranteed to all roles, and the cluster has 4; accepted: guarantees of cpus of 4 or less together; `update_quota.quota_configs[1].guarantees[\"gpus\"]` is 1, which makes 1 of gpus guaranteed to all roles, and the cluster has 0; accepted: guarantees of gpus of 0 or less together; with `force` it is set all the same
         > 7ms operator quotas ads=cpus,2/cpus,2 web=cpus,3;gpus,1/ dry-run=yes
           answer UPDATE_QUOTA; ads forcible: update_quota.quota_configs[0].guarantees[\"cpus\"] is 2, which makes 5 of cpus guaranteed to all roles, and the cluster has 4; accepted: guarantees of cpus of 4 or less together; web forcible: update_quota.quota_configs[1].guarantees[\"gpus\"] is 1, which makes 1 of gpus guaranteed to all roles, and the cluster has 0; accepted: guarantees of gpus of 0 or less together
         > 8ms operator quotas ads=cpus,2/cpus,2 web=cpus,3;gpus,1/ force=yes
           propose quotas ads [cpus:2] to [cpus:2], web [cpus:3;gpus:1] to []
           answer accepted
         > 9ms operator gets GET_QUOTA
           answer GET_QUOTA; ads [cpus:2] to [cpus:2] allocated [cpus:3;mem:32] offered [] reserved []; web [cpus:3;gpus:1] to [] allocated [] offered [] reserved []",
    );
}

#[test]
fn weights_are_kept_and_told() {
    check(
        "> 0ms level 3
         > 1ms operator weights a=2 b=0.5 c=1
           propose weights a 2000, b 500
           answer accepted
         > 2ms operator weights a=2
           answer accepted
         > 3ms operator gets GET_WEIGHTS
           answer GET_WEIGHTS; a 2; b 0.5
         > 4ms operator weights a=0 b=3
           answer rejected: `update_weights.weight_infos[0].weight` is 0; accepted: a number from 0.001 to 1000000; 1 is what a role has that nobody gave a weight
         > 4ms operator weights a=NaN
           answer rejected: `update_weights.weight_infos[0].weight` is NaN; accepted: a number from 0.001 to 1000000; 1 is what a role has that nobody gave a weight
         > 4ms operator weights
           answer rejected: `update_weights.weight_infos` is empty; accepted: the weight of one role or more
         > 5ms operator weights a=1
           propose weights a 1000
           answer accepted
         > 6ms restarts as m2
         > 7ms operator gets GET_WEIGHTS
           answer GET_WEIGHTS; b 0.5
         > 8ms operator gets GET_ROLES
           answer GET_ROLES; b by 0.5 of  []",
    );
}

#[test]
fn quotas_and_weights_wait_for_the_level_that_introduced_them() {
    check(
        "> 0ms level 2
         > 1ms operator quotas ads=/cpus,1
           answer refused: quotas and weights are set from level 3 on, and the group is at level 2, until all of its masters understand more
         > 2ms operator weights a=2
           answer refused: quotas and weights are set from level 3 on, and the group is at level 2, until all of its masters understand more",
    );
}

#[test]
fn orders_wait_for_each_other_and_are_checked_against_what_the_one_before_left() {
    check(
        "> 0ms level 3
         > manual
         > 1ms operator quotas ads=/cpus,1
           propose quotas ads [] to [cpus:1]
         > 2ms operator quotas ads/etl=cpus,1/
         > 3ms operator weights a=2
         > 4ms commit
           answer accepted
           answer rejected: `update_quota.quota_configs[0].guarantees[\"cpus\"]` is 1, which makes 1 for the roles below \"ads\", whose own guarantee is 0; accepted: guarantees of cpus of \"ads\" of 1 or more, or less in the roles below it
           propose weights a 2000
         > 5ms drop
           answer not leader
         > 6ms operator weights a=3
           propose weights a 3000
         > 6ms operator weights a=4
         > 7ms loses
           answer not leader
           answer not leader",
    );
}

#[test]
fn no_role_is_offered_more_than_its_limit_and_guarantees_are_kept_free() {
    check(
        "> 0ms level 3
         > 0ms operator quotas a=/cpus,3;ports,4 a/x=/ports,2 b=mem,512/ force=yes
           propose quotas a [] to [cpus:3;ports:4], a/x [] to [ports:2], b [mem:512] to []
           answer accepted
         > 1ms f1 subscribes roles=a/x
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f2 subscribes roles=a
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 2ms a1 registers cpus:4;mem:1024;ports:[1-9]
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a/x}:3;mem{allocated to a/x}:512;ports{allocated to a/x}:[1-2]
         > 3ms f1 accepts o1 launch=t1:cpus,1;mem,32;ports,[1-1] refuse=0
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a/x}:1;mem{allocated to a/x}:32;ports{allocated to a/x}:[1-1]
           f2 <- offers o2 a1 cpus{allocated to a}:2;mem{allocated to a}:480;ports{allocated to a}:[2-4]
         > 4ms f3 subscribes roles=b
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
           f3 <- offers o3 a1 cpus{allocated to b}:1;mem{allocated to b}:512;ports{allocated to b}:[5-9]
         > 5ms operator gets GET_QUOTA
           answer GET_QUOTA; a [] to [cpus:3;ports:4] allocated [cpus:1;mem:32;ports:1] offered [cpus:2;mem:480;ports:3] reserved []; a/x [] to [ports:2] allocated [cpus:1;mem:32;ports:1] offered [] reserved []; b [mem:512] to [] allocated [] offered [cpus:1;mem:512;ports:5] reserved []
         > 6ms operator quotas a=/cpus,1;ports,4
           propose quotas a [] to [cpus:1;ports:4]
           answer accepted
           f2 <- rescind o2
           f2 <- offers o4 a1 mem{allocated to a}:480;ports{allocated to a}:[2-4]
           f3 <- offers o5 a1 cpus{allocated to b}:2
         > 7ms operator gets GET_QUOTA
           answer GET_QUOTA; a [] to [cpus:1;ports:4] allocated [cpus:1;mem:32;ports:1] offered [mem:480;ports:3] reserved []; a/x [] to [ports:2] allocated [cpus:1;mem:32;ports:1] offered [] reserved []; b [mem:512] to [] allocated [] offered [cpus:3;mem:512;ports:5] reserved []
         > 8ms operator quotas a=/
           propose quotas a [] to []
           answer accepted",
    );
}

#[test]
fn a_new_leader_holds_limits_although_it_does_not_know_what_runs_on_agents_that_are_not_back() {
    check(
        "> 0ms level 3
         > 0ms operator quotas a=/cpus,4
           propose quotas a [] to [cpus:4]
           answer accepted
         > 1ms f1 subscribes roles=a timeout=1000
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 2ms a1 registers cpus:3;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:3;mem{allocated to a}:1024
         > 2ms a2 registers cpus:3;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to a}:1;mem{allocated to a}:1024
         > 3ms f1 accepts o1 launch=t1:cpus,3;mem,32 refuse=1000
           answer accepted
           a1 <- launch f1/t1 cpus{allocated to a}:3;mem{allocated to a}:32
         > 4ms restarts as m2
           propose away f1 until 1000004ms
         > 5ms f1 subscribes roles=a timeout=1000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 6ms a2 registers
           a2 <- registered as m1-A0002
           f1 <- offers o1 a2 cpus{allocated to a}:1;mem{allocated to a}:1024
         > 7ms a1 registers tasks=f1/t1:RUNNING:cpus,3;mem,32
           a1 <- registered as m1-A0001
           f1 <- offers o2 a1 mem{allocated to a}:992
         > 8ms operator gets GET_QUOTA
           answer GET_QUOTA; a [] to [cpus:4] allocated [cpus:3;mem:32] offered [cpus:1;mem:2016] reserved []
         > 9ms restarts as m3
           propose away f1 until 1000009ms
         > 10ms f1 subscribes roles=a timeout=1000
           propose back f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 11ms a2 registers
           a2 <- registered as m1-A0002
           f1 <- offers o1 a2 cpus{allocated to a}:1;mem{allocated to a}:1024
         > 12ms operator gone a1
           propose gone a1
           answer accepted
           f1 <- failure a1
           f1 <- offers o2 a2 cpus{allocated to a}:2",
    );
}

#[test]
fn weights_divide_what_is_wanted() {
    check(
        "> 0ms level 3
         > 0ms operator weights a=3
           propose weights a 3000
           answer accepted
         > 1ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 1ms f2 subscribes roles=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 2ms a1 registers cpus:1;mem:1000
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:1;mem{allocated to a}:1000
         > 3ms a2 registers cpus:1;mem:1000
           propose admit a2
           a2 <- registered as m1-A0002
           f2 <- offers o2 a2 cpus{allocated to b}:1;mem{allocated to b}:1000
         > 4ms a3 registers cpus:1;mem:1000
           propose admit a3
           a3 <- registered as m1-A0003
           f1 <- offers o3 a3 cpus{allocated to a}:1;mem{allocated to a}:1000
         > 5ms a4 registers cpus:1;mem:1000
           propose admit a4
           a4 <- registered as m1-A0004
           f1 <- offers o4 a4 cpus{allocated to a}:1;mem{allocated to a}:1000
         > 6ms a5 registers cpus:1;mem:1000
           propose admit a5
           a5 <- registered as m1-A0005
           f1 <- offers o5 a5 cpus{allocated to a}:1;mem{allocated to a}:1000",
    );
}

#[test]
fn the_older_calls_set_a_guarantee_that_is_a_limit_too_and_take_it_away() {
    check(
        "> 0ms level 3
         > 0ms a1 registers cpus:4;mem:1024;ports:[1-4]
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms operator sets-quota web=cpus,3;mem,512
           propose quotas web [cpus:3;mem:512] to [cpus:3;mem:512]
           answer accepted
         > 2ms operator sets-quota web=cpus,1
           answer rejected: `set_quota.quota_request.role` is \"web\", which has quota already; accepted: a role without quota; UPDATE_QUOTA changes one
         > 3ms operator sets-quota ads=cpus,2
           answer refused: `set_quota.quota_request.guarantees[\"cpus\"]` is 2, which makes 5 of cpus guaranteed to all roles, and the cluster has 4; accepted: guarantees of cpus of 4 or less together; with `force` it is set all the same
         > 4ms operator sets-quota ads=ports,[1-2]
           answer rejected: `set_quota.quota_request.guarantee` holds ports, which is no plain amount; accepted: unreserved amounts; UPDATE_QUOTA takes ports and sets by how many there are
         > 5ms operator sets-quota ads=cpus(web),1
           answer rejected: `set_quota.quota_request.guarantee` holds cpus, which is no plain amount; accepted: unreserved amounts; UPDATE_QUOTA takes ports and sets by how many there are
         > 6ms operator sets-quota ads
           answer rejected: `set_quota.quota_request.guarantee` is empty; accepted: one resource or more
         > 7ms operator sets-quota *=cpus,1
           propose quotas * [cpus:1] to [cpus:1]
           answer accepted
         > 8ms f1 subscribes roles=web
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
           f1 <- offers o1 a1 cpus{allocated to web}:3;mem{allocated to web}:512;ports{allocated to web}:[1-4]
         > 9ms f2 subscribes
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
           f2 <- offers o2 a1 cpus:1;mem:512
         > 10ms operator removes-quota ads
           answer rejected: `remove_quota.role` is \"ads\", which has no quota; accepted: a role with quota; GET_QUOTA lists them
         > 11ms operator removes-quota web
           propose quotas web [] to []
           answer accepted
         > 12ms operator gets GET_QUOTA
           answer GET_QUOTA; * [cpus:1] to [cpus:1] allocated [] offered [cpus:1;mem:512] reserved []",
    );
}
