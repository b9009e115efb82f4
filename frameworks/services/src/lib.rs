//! The bundled framework for long-running services.
