//! The machine, message by message.
