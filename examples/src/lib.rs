//! Complete small programs: a web service and frameworks on the SDK.
