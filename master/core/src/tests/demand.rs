//! REQUEST: declared demand, and offer constraints.

use super::check;

#[test]
fn only_agents_are_offered_on_which_what_was_asked_for_fits() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f1 requests cpus,4 count=2
           answer accepted
         > 1ms a1 registers cpus:2;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
         > 1ms a2 registers cpus:9;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o1 a2 cpus{allocated to a}:9;mem{allocated to a}:1024
         > 1ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 1, DEMAND 1 a1 [cpus:2;mem:1024]
         > 2ms f1 accepts o1 launch=t1:cpus,4;mem,32 on=a2 refuse=0
           answer accepted
           a2 <- launch f1/t1 cpus{allocated to a}:4;mem{allocated to a}:32
           f1 <- offers o2 a2 cpus{allocated to a}:5;mem{allocated to a}:992
         > 3ms f1 accepts o2 launch=t2:cpus,4;mem,32 on=a2 refuse=0
           answer accepted
           a2 <- launch f1/t2 cpus{allocated to a}:4;mem{allocated to a}:32
         > 4ms operator explains f1
           answer EXPLAIN; f1 a: DEMAND_MET 2 a1 [cpus:2;mem:1024]
         > 5ms f1 requests
           answer accepted
           f1 <- offers o3 a1 cpus{allocated to a}:2;mem{allocated to a}:1024, o4 a2 cpus{allocated to a}:1;mem{allocated to a}:960
         > 6ms operator explains f1
           answer EXPLAIN; f1 a: OFFERED 2",
    );
}

#[test]
fn demand_may_be_for_one_agent_or_role_and_is_checked() {
    check(
        "> 0ms f1 subscribes roles=a,b
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f1 requests cpus,1 role=b
           answer accepted
         > 1ms a1 registers cpus:2;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to b}:2;mem{allocated to b}:1024
         > 2ms f1 requests cpus,1 on=a2
           answer rejected: `request.requests[0].agent_id` is \"a2\", which names no agent; accepted: the id of an admitted agent
         > 2ms f1 requests cpus,1 role=c
           answer rejected: `request.requests[0].resources[0].allocation_info.role` is \"c\", which is no role of the framework; accepted: a role of the framework
         > 2ms f1 requests cpus,1 count=0
           answer rejected: `request.requests[0].count` is 0; accepted: 1 or more
         > 3ms f1 requests cpus,1 on=a1
           answer accepted
         > 4ms operator gone a1
           propose gone a1
           answer accepted
           a1 <- rejected as gone: agent m1-A0001 was marked gone by an operator
           close a1
           f1 <- rescind o1
           f1 <- failure a1
         > 5ms a2 registers cpus:2;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
         > 6ms operator explains f1
           answer EXPLAIN; f1 a: DEMAND_MET 1 a2 [cpus:2;mem:1024]; f1 b: DEMAND_MET 1 a2 [cpus:2;mem:1024]",
    );
}

#[test]
fn constraints_name_roles_of_the_framework_and_what_is_wrong_with_them() {
    check(
        "> 0ms f1 subscribes roles=a only=b:rack~r1
           answer rejected: `subscribe.offer_constraints.role_constraints[\"b\"]` is for no role of the framework; accepted: roles that `framework_info` names
         > 0ms f2 subscribes roles=a only=a:rack~(
           answer rejected: `subscribe.offer_constraints.role_constraints[\"a\"].groups[0].attribute_constraints[0].predicate.text_matches.regex` is \"(\", which cannot be compiled: error: unclosed group; accepted: a regular expression that compiles to at most 262144 bytes
         > 0ms f3 subscribes roles=a only=a:rack~r[12]
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0001
         > 1ms a1 registers cpus:1;mem:1024 attributes=rack:r2
           propose admit a1
           a1 <- registered as m1-A0001
           f3 <- offers o1 a1 cpus{allocated to a}:1;mem{allocated to a}:1024
         > 1ms a2 registers cpus:2;mem:1024 attributes=rack:r3
           propose admit a2
           a2 <- registered as m1-A0002
         > 2ms f3 updates roles=a
           answer accepted
           f3 <- offers o2 a2 cpus{allocated to a}:2;mem{allocated to a}:1024
         > 3ms f3 updates roles=a only=b:rack~r1
           answer rejected: `update_framework.offer_constraints.role_constraints[\"b\"]` is for no role of the framework; accepted: roles that `framework_info` names",
    );
}
