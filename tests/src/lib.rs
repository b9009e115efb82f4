//! Local cluster harness, scenarios, simulator, benchmarks.
