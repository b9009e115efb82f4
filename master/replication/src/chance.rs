//! Election timeouts from a seed: raft-rs draws them from the thread's random source, and a run could not be replayed.

/// The ticks after which this member stands for election in a term: between `election_ticks` and two times as many.
pub(crate) fn election_timeout(seed: u64, id: u64, term: u64, election_ticks: usize) -> usize {
    let drawn = mix(mix(mix(seed) ^ id) ^ term);
    election_ticks + (drawn % election_ticks.max(1) as u64) as usize
}

/// SplitMix64's output function (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
