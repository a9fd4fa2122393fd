//! The transport onto a simulated device, in process.
