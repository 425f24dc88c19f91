//! The engine: a nats-server child that lives and dies with the daemon.

mod binary;
mod child;
mod log;
mod render;
mod store;
mod supervise;

pub use binary::{Binary, EngineError};
pub use child::run as run_child;
pub use render::render;
pub use store::{StoreError, StoreGuard};
pub use supervise::{CHILD_VERB, Engine, EngineHost};
