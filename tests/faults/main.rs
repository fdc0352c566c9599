//! Faults: the real binary, a real Redis, readers and a producer under way, and something breaks.
