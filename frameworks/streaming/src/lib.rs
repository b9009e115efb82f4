//! The bundled streaming engine.
