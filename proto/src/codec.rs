//! The gRPC codec: prost's, and on decoding a check that every required field is there.
pub use tonic_prost::ProstCodec as CheckedCodec;
