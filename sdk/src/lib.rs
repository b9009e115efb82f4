//! Writes frameworks: scheduler drivers, offer matching, reconciliation, a fake master for tests.
