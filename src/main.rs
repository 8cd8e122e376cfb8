//! The rtmpeer program.

fn main() {}
