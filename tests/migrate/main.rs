//! The clients and the back ends of five systems, as their users have them, with a gateway between them. Only the URL
//! is changed, and the back ends know nothing but `redis.publish`. docs/migrate/README.md lists what is shown here.

mod agentcraft;
mod crew;
mod forge;
mod hive;
mod hub;
mod pages;
mod stage;

use crewcast_tests as support;
