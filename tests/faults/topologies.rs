//! Faults of Redis as a Sentinel set or a Cluster: a failover under writes, a master killed, a slot moved.
//!
//! What such a fault needs: a [`Broker`](crate::stage::Broker) that knows the address for gateways and producers and
//! how a log is read, and then the same [`Stage`](crate::stage::Stage) as every other fault.
