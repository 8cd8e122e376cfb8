//! Named lives.
