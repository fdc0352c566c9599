//! How many copies of an event Redis sends: one to every replica with a reader of its channel.

use super::Placement;

/// The mean number of replicas with a reader of a channel that has `readers` sockets.
///
/// Scattered: each socket is on any of R replicas with equal probability, so that a replica has none of f sockets with
/// probability (1 − 1/R)^f. By channel: all sockets of a channel are on one replica, or on the fewest that can hold
/// them.
pub fn copies(placement: Placement, replicas: f64, readers: f64, channels: f64) -> f64 {
    match placement {
        Placement::Scattered => scattered(replicas, readers),
        Placement::ByChannel => (replicas / channels).max(1.0),
    }
}

fn scattered(replicas: f64, readers: f64) -> f64 {
    if replicas <= 1.0 {
        return 1.0;
    }
    // ln_1p stays precise for small 1/R.
    let none = (readers * (-1.0 / replicas).ln_1p()).exp();
    replicas * (1.0 - none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
        }
    }

    #[test]
    fn the_formula_agrees_with_random_placement() {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for (replicas, readers) in [(2, 1), (4, 3), (10, 20), (40, 20), (100, 500)] {
            let rounds = 4000;
            let mut sum = 0;
            for _ in 0..rounds {
                let mut hit = vec![false; replicas];
                (0..readers).for_each(|_| hit[random.below(replicas)] = true);
                sum += hit.iter().filter(|hit| **hit).count();
            }
            let (seen, formula) =
                (f64::from(sum as u32) / f64::from(rounds), scattered(replicas as f64, readers as f64));
            assert!((seen / formula - 1.0).abs() < 0.01, "{replicas} replicas, {readers} readers: {seen}, {formula}");
        }
    }

    #[test]
    fn copies_grow_with_replicas_up_to_the_readers() {
        let of = |replicas| copies(Placement::Scattered, replicas, 20.0, 1000.0);
        assert_eq!(of(1.0), 1.0);
        assert!(of(2.0) < of(10.0) && of(10.0) < of(1000.0) && of(1e6) < 20.0);
        assert!(of(1e6) > 19.99);
    }

    #[test]
    fn by_channel_one_copy_is_enough_unless_a_channel_fills_replicas() {
        assert_eq!(copies(Placement::ByChannel, 40.0, 20.0, 1000.0), 1.0);
        assert_eq!(copies(Placement::ByChannel, 40.0, 1e6, 1.0), 40.0);
    }
}
