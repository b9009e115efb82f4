//! Offers that are held too long: what is rescinded, for whom, and what it costs the others.

use super::check;

use super::city::{City, Habit};

/// Tasks that a worker has finished in a cluster beside others.
fn finished(seed: u64, agents: usize, cpus: usize, seconds: u64, others: &[Habit], weight: u32) -> usize {
    let mut city = City::new(seed, agents, cpus);
    for (index, habit) in others.iter().enumerate() {
        city.join(&format!("b{index}"), *habit);
    }
    city.join("a", Habit::Works);
    if weight > 1 {
        city.weigh("b0", weight);
    }
    city.run(seconds);
    city.finished("a")
}

/// What of its work a worker gets done beside these, in thousandths.
fn kept(agents: usize, cpus: usize, seconds: u64, others: &[Habit], weight: u32) -> usize {
    let seeds = 1..=2;
    let alone: usize = seeds
        .clone()
        .map(|seed| finished(seed, agents, cpus, seconds, &[], 1))
        .sum();
    let beside: usize = seeds
        .map(|seed| finished(seed, agents, cpus, seconds, others, weight))
        .sum();
    assert!(
        alone > agents * cpus * seconds as usize,
        "nothing was done: {alone} tasks"
    );
    beside * 1000 / alone
}

#[test]
fn who_sits_on_each_offer_slows_another_by_less_than_a_twentieth() {
    for (agents, cpus, seconds) in [(1, 1, 240), (3, 2, 120), (12, 1, 60)] {
        let kept = kept(agents, cpus, seconds, &[Habit::Sits(30_000)], 1);
        assert!(kept > 950, "of {agents} agents with {cpus} cpus: {kept} of 1000");
    }
}

#[test]
fn a_larger_weight_does_not_help_who_sits() {
    for (agents, cpus, seconds) in [(1, 1, 240), (8, 1, 60)] {
        let kept = kept(agents, cpus, seconds, &[Habit::Sits(30_000)], 50);
        assert!(kept > 950, "of {agents} agents with {cpus} cpus: {kept} of 1000");
    }
}

#[test]
fn ten_that_sit_slow_another_by_no_more_than_one_does_and_their_first_offers() {
    // Each holds what it is offered first for the patience of a second, all agents: ten seconds.
    for (agents, cpus) in [(1, 1), (4, 1)] {
        let kept = kept(agents, cpus, 400, &[Habit::Sits(30_000); 10], 1);
        assert!(
            kept > 950 - 1000 * 10 / 400,
            "of {agents} agents with {cpus} cpus: {kept} of 1000"
        );
    }
}

#[test]
fn who_answers_in_time_shares_as_if_nobody_looked() {
    let mut city = City::new(7, 3, 4);
    city.join("a", Habit::Works);
    city.join("b", Habit::Works);
    city.run(60);
    let (one, other) = (city.finished("a"), city.finished("b"));
    assert_eq!(city.rescinded("a") + city.rescinded("b"), 0);
    assert!(one.abs_diff(other) * 10 < one + other, "{one} and {other}");
}

#[test]
fn who_decides_slowly_gets_something_done_all_the_same() {
    // Thirty seconds for every decision, where another takes whatever it can have.
    let mut city = City::new(3, 2, 1);
    city.join("a", Habit::Works);
    city.join("b", Habit::WorksSlowly(20_000));
    city.run(3600);
    assert!(city.finished("b") > 1, "only {} tasks", city.finished("b"));
    assert!(city.finished("a") > 9_000, "only {} tasks", city.finished("a"));
}

#[test]
fn two_that_sit_do_not_play_ping_pong() {
    let mut city = City::new(5, 10, 1);
    city.join("a", Habit::Sits(30_000));
    city.join("b", Habit::Sits(30_000));
    city.run(600);
    // The first loses all once; from then on trials of one agent pass, each longer than the one before.
    let rescinded = city.rescinded("a") + city.rescinded("b");
    assert!((10..60).contains(&rescinded), "{rescinded} offers were rescinded");
}

#[test]
fn who_lets_an_offer_be_rescinded_is_served_last_and_then_tried() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 500ms f2 subscribes roles=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 999ms tick
         > 1000ms tick
           f1 <- rescind o1
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 1001ms f1 accepts o1 launch=t0:cpus,1;mem,32
           answer accepted
           f1 <- update t0 LOST on a1 (invalid_offers): `accept.offer_ids[0]` is \"m1-O1\", which is no open offer
         > 1001ms operator explains f1
           answer EXPLAIN; f1 a (last until 31000ms): HELD 1 a1 [cpus:4;mem:1024] by f2 b 1 [cpus:4;mem:1024] since 1000ms until 2000ms
         > 1002ms f2 declines o2 refuse=5
           answer accepted
           f1 <- offers o3 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 3000ms tick
         > 6002ms tick
           f1 <- rescind o3
           f2 <- offers o4 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 6003ms f2 accepts o4 launch=t1:cpus,4;mem,1024
           answer accepted
           a1 <- launch f2/t1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 30999ms operator explains f1
           answer EXPLAIN; f1 a (last until 31000ms): IN_USE 1
         > 31000ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
         > 31000ms operator explains f1
           answer EXPLAIN; f1 a: IN_USE 1
         > 31001ms a1 updates f2/t1 FINISHED #1
           f2 <- update t1 FINISHED on a1 #1
           f1 <- offers o5 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 31002ms f1 declines o5 refuse=0
           answer accepted
           f2 <- offers o6 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 31003ms f2 declines o6 refuse=100
           answer accepted
         > 32100ms tick
           f1 <- offers o7 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 33100ms tick",
    );
}

#[test]
fn nothing_is_rescinded_early_where_nobody_waits() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms f2 subscribes roles=b suppressed=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms f3 subscribes roles=c only=c:rack~r1
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
         > 0ms f4 subscribes roles=d min=cpus,8
           propose put f4
           answer accepted
           f4 <- subscribed as m1-F0004
         > 299999ms tick
           a1 <- ping 1
           f1 <- heartbeat
           f2 <- heartbeat
           f3 <- heartbeat
           f4 <- heartbeat
         > 300000ms tick
           f1 <- rescind o1
           f1 <- offers o2 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 310000ms f2 revives
           answer accepted
           f1 <- rescind o2
           f2 <- offers o3 a1 cpus{allocated to b}:4;mem{allocated to b}:1024",
    );
}

#[test]
fn a_guarantee_that_is_not_used_is_kept_all_the_same() {
    check(
        "> 0ms level 3
         > 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms a2 registers cpus:4;mem:1024
           propose admit a2
           a2 <- registered as m1-A0002
           f1 <- offers o2 a2 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 0ms operator quotas a=cpus,4;mem,1024/
           propose quotas a [cpus:4;mem:1024] to []
           answer accepted
         > 0ms f2 subscribes roles=b
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 2000ms tick
           f1 <- rescind o1
           f2 <- offers o3 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 4000ms tick",
    );
}

#[test]
fn what_refused_parts_make_together_is_waited_for() {
    check(
        "> 0ms f1 subscribes roles=a
           propose put f1
           answer accepted
           f1 <- subscribed as m1-F0001
         > 0ms f2 subscribes roles=b min=cpus,4
           propose put f2
           answer accepted
           f2 <- subscribed as m1-F0002
         > 0ms a1 registers cpus:4;mem:1024
           propose admit a1
           a1 <- registered as m1-A0001
           f1 <- offers o1 a1 cpus{allocated to a}:4;mem{allocated to a}:1024
         > 1ms f1 declines o1 refuse=100
           answer accepted
           f2 <- offers o2 a1 cpus{allocated to b}:4;mem{allocated to b}:1024
         > 2ms f2 accepts o2 launch=t1:cpus,2;mem,512
           answer accepted
           a1 <- launch f2/t1 cpus{allocated to b}:2;mem{allocated to b}:512
         > 2ms f3 subscribes roles=c
           propose put f3
           answer accepted
           f3 <- subscribed as m1-F0003
           f3 <- offers o3 a1 cpus{allocated to c}:2;mem{allocated to c}:512
         > 3000ms tick
         > 3001ms a1 updates f2/t1 FINISHED #1
           f2 <- update t1 FINISHED on a1 #1
           f3 <- offers o4 a1 cpus{allocated to c}:2;mem{allocated to c}:512
         > 5000ms tick
           f3 <- rescind o3
           f3 <- rescind o4
           f2 <- offers o5 a1 cpus{allocated to b}:4;mem{allocated to b}:1024",
    );
}
