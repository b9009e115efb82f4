//! The operator's command, with a local cluster and a demo.
