//! Optimistic offers: who sees what, who has it, and what who lost hears.

use super::check;
use super::city::{City, Habit};

#[test]
fn who_accepts_first_has_it_and_who_lost_is_told_so() {
    check(
        "> 0ms f1 subscribes roles=a can=OPTIMISTIC_OFFERS,PARTITION_AWARE
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b can=OPTIMISTIC_OFFERS,PARTITION_AWARE
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms f3 subscribes roles=c
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 1ms operator explains f2
           answer EXPLAIN; f2 b: OFFERED 1
         > 1ms operator explains f3
           answer EXPLAIN; f3 c: HELD 1 a1 [cpus:4;mem:1024] by f1 a 1 [cpus:4;mem:1024] since 0ms until 1000ms
         > 2ms f2 accepts o2 launch=t1:cpus,1;mem,32
           f1 <- rescind o1
           answer accepted
           a1 <- launch f2/t1 cpus{allocated to b}:1;mem{allocated to b}:32
           f1 <- offers o4 a1 cpus{allocated to a}:3;mem{allocated to a}:992
         > 3ms f1 accepts o1 launch=t2:cpus,2;mem,64
           answer accepted
           a1 <- launch f1/t2 cpus{allocated to a}:2;mem{allocated to a}:64
           f3 <- offers o5 a1 cpus{allocated to c}:1;mem{allocated to c}:928
         > 4ms f1 accepts o1 launch=t3:cpus,4;mem,1024
           answer accepted
           f1 <- update t3 DROPPED on a1 (offer_conflict): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer: another framework accepted first what it was of
         > 5ms f2 accepts o2 launch=t4:cpus,1;mem,32
           answer accepted
           f2 <- update t4 DROPPED on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O2\", which is no open offer",
    );
}

#[test]
fn what_is_not_accepted_goes_on_to_the_others() {
    check(
        "> 0ms f1 subscribes roles=a can=OPTIMISTIC_OFFERS
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b can=OPTIMISTIC_OFFERS
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms f3 subscribes roles=c can=OPTIMISTIC_OFFERS
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 0ms f4 subscribes roles=d
           propose put f4
           answer accepted
           f4 <- subscribed as m1-F0004
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
           f3 <- offers o3 a1 cpus{allocated to c}:4;mem{allocated to c}:1024
         > 1ms f3 declines o3 refuse=10
           answer accepted
         > 2ms f1 declines o1 refuse=10
           answer accepted
           f2 <- rescind o2
           f2 <- offers o4 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 3ms f2 declines o4 refuse=10
           answer accepted
           f4 <- offers o5 a1 cpus{allocated to d}:4;mem{allocated to d}:1024
         > 4ms f4 declines o5 refuse=100
           answer accepted
         > 5ms f3 revives
           answer accepted
           f3 <- offers o6 a1 cpus{allocated to c}:4;mem{allocated to c}:1024
         > 6ms f1 revives
           answer accepted
           f1 <- offers o7 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 7ms f1 disconnects
           propose remove f1",
    );
}

#[test]
fn nobody_commits_more_than_its_limit() {
    check(
        "> 0ms level 3
         > 0ms operator quotas b=/cpus,1
           propose quotas b [] to [cpus:1]
           answer accepted
         > 0ms f1 subscribes roles=a can=OPTIMISTIC_OFFERS
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b can=OPTIMISTIC_OFFERS
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o2 a1 cpus{allocated to a}:1;mem{allocated to a}:1024, o3 a1 cpus{allocated to a}:3
           f2 <- offers o1 a1 cpus{allocated to b}:1;mem{allocated to b}:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o4 a2 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o5 a2 mem{allocated to b}:1024
         > 1ms f2 accepts o5 o1 launch=t1:cpus,1;mem,32
           f1 <- rescind o4
           answer rejected: `accept.offer_ids[1]` is an offer of another agent, or to another role, than the first; accepted: offers of one agent to one role
           f1 <- offers o7 a2 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o8 a2 mem{allocated to b}:1024
         > 2ms f2 accepts o1 launch=t1:cpus,1;mem,32
           answer accepted
           a1 <- launch f2/t1 cpus{allocated to b}:1;mem{allocated to b}:32
           f1 <- rescind o2
           f1 <- offers o9 a1 mem{allocated to a}:992
         > 3ms f2 accepts o5 launch=t2:cpus,1;mem,32
           answer accepted
           f2 <- update t2 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O5\", which is no open offer
         > 4ms operator explains f2
           answer EXPLAIN; f2 b: OFFERED 1, HELD 1 a1 [cpus:3;mem:992] by f1 a 2 [cpus:3;mem:992] since 0ms until 1000ms",
    );
}

#[test]
fn an_accept_that_is_rejected_leaves_what_it_took_to_be_offered_anew() {
    check(
        "> 0ms f1 subscribes roles=a can=OPTIMISTIC_OFFERS
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b can=OPTIMISTIC_OFFERS
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 1ms f2 accepts o2 o2 launch=t1:cpus,1;mem,32
           f1 <- rescind o1
           answer rejected: `accept.offer_ids[1]` is \"m1-O3\" again; accepted: each offer once
           f1 <- offers o4 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o5 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 2ms a1 disconnects
           f1 <- rescind o4
           f2 <- rescind o5",
    );
}

#[test]
fn who_holds_an_optimistic_offer_too_long_lets_those_wait_that_have_no_copy() {
    check(
        "> 0ms f1 subscribes roles=a can=OPTIMISTIC_OFFERS
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b can=OPTIMISTIC_OFFERS
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 2000ms tick
         > 2000ms f3 subscribes roles=c
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 3000ms tick
           f1 <- rescind o1
           f2 <- rescind o2
           f2 <- offers o3 a1 cpus{allocated to b}:4;mem{allocated to b}:1024",
    );
}

#[test]
fn all_that_race_for_the_same_get_their_tasks_launched() {
    for (seed, agents, cpus, racers) in [(1, 1, 4, 2), (2, 3, 2, 5), (3, 2, 4, 8)] {
        let mut city = City::new(seed, agents, cpus);
        let names: Vec<String> = (0..racers).map(|index| format!("r{index}")).collect();
        for name in &names {
            city.join(name, Habit::Races(20));
        }
        city.join("plain", Habit::Works);
        city.run(60);
        let conflicts: usize = names.iter().map(|name| city.conflicts(name)).sum();
        assert!(conflicts > 0, "nobody lost anything with seed {seed}");
        for name in &names {
            assert_eq!(city.left(name), 0, "{name} was starved with seed {seed}");
            assert_eq!(city.finished(name), 20);
        }
        assert!(
            city.finished("plain") > 20,
            "the plain one was starved with seed {seed}"
        );
    }
}
