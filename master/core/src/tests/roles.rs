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
