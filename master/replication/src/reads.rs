//! Linearizable reads by ReadIndex.
