//! Safe wrappers of the raw system calls that the agent and the launcher need.
