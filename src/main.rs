//! The `token-broker` command.

fn main() {}
