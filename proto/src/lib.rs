//! The vocabulary of Proffer: the messages of the v1 API and of the internal protocols, typed ids, exact resource
//! arithmetic, the JSON mapping, and RecordIO framing.
//!
//! Feature `grpc` (default) adds the gRPC services; without it the crate has no tokio in its dependency tree, which is
//! what the master's core relies on.

#[cfg(feature = "grpc")]
pub mod codec;
pub mod domain;
pub mod ids;
pub mod json;
pub mod metadata;
pub mod recordio;
pub mod rejection;
pub mod required;
pub mod resources;
pub mod roles;
pub mod secrets;
pub mod states;

/// The messages of the v1 API, by their packages.
#[allow(missing_docs, deprecated, clippy::all)]
pub mod mesos {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));
        pub mod scheduler {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.scheduler.rs"));
        }
        pub mod executor {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.executor.rs"));
        }
        pub mod allocator {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.allocator.rs"));
        }
        pub mod maintenance {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.maintenance.rs"));
        }
        pub mod quota {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.quota.rs"));
        }
        pub mod master {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.master.rs"));
        }
        pub mod agent {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.agent.rs"));
        }
    }
}

/// The messages and services that are Proffer's own, by their packages.
#[allow(missing_docs, deprecated, clippy::all)]
pub mod proffer {
    pub mod link {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.link.v1.rs"));
        }
    }
    pub mod raft {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.raft.v1.rs"));
        }
    }
    pub mod registry {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.registry.v1.rs"));
        }
    }
    pub mod state {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.state.v1.rs"));
        }
    }
    pub mod calls {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.calls.v1.rs"));
        }
    }
    pub mod masters {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.masters.v1.rs"));
        }
    }
    #[cfg(feature = "grpc")]
    pub mod api {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proffer.api.v1.rs"));
        }
    }
}

pub use rejection::Rejection;

/// The descriptors of every message and service, an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use mesos::v1;
pub use proffer::{
    calls::v1 as calls, link::v1 as link, masters::v1 as masters, registry::v1 as registry, state::v1 as state,
};

#[cfg(feature = "grpc")]
pub use proffer::api::v1 as api;
pub use proffer::raft::v1 as raft;
