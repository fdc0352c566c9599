// Nothing calls it yet: the command follows with the server.
#[allow(dead_code, unused_imports)]
mod dev;

fn main() {}
