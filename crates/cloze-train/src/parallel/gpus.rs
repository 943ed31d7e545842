//! Whether every process has what sums on GPUs need, before any of them begins to wait for the others there.

use super::Collective;
use crate::Result;

/// What tells a GPU from every other.
pub type Uuid = [u8; 16];

/// The GPUs of all ranks in order, or why they cannot sum where their values lie: the same decision on each, whose own words come first.
///
/// `own` is this rank's GPU, or what it lacks. To be called by all.
pub fn distinct(
    host: &mut dyn Collective,
    own: Result<Uuid, String>,
) -> Result<Result<Vec<Uuid>, String>> {
    /// Numbers a rank: whether it has all, and its GPU.
    const EACH: usize = 5;
    // Sums of one rank's numbers and zeros: all ranks' numbers side by side, exactly.
    let mut all = vec![0.0; EACH * host.world_size()];
    if let Ok(uuid) = &own {
        let words = uuid.as_chunks::<4>().0.iter();
        let words = words.map(|w| f64::from(u32::from_le_bytes(*w)));
        let mine = &mut all[EACH * host.rank()..][..EACH];
        mine[0] = 1.0;
        mine[1..].iter_mut().zip(words).for_each(|(x, w)| *x = w);
    }
    host.all_reduce_f64(&mut all)?;
    let ranks: Vec<&[f64]> = all.chunks(EACH).collect();
    if let Some(without) = ranks.iter().position(|r| r[0] == 0.0) {
        let why = own.err();
        return Ok(Err(why.unwrap_or_else(|| {
            format!("rank {without} has no NCCL that it could use")
        })));
    }
    for (second, gpu) in ranks.iter().enumerate() {
        if let Some(first) = ranks[..second].iter().position(|g| g == gpu) {
            return Ok(Err(format!(
                "ranks {first} and {second} have the same GPU, and NCCL wants one for each"
            )));
        }
    }
    let uuid = |rank: &&[f64]| {
        let mut uuid = [0; 16];
        for (bytes, word) in uuid.as_chunks_mut::<4>().0.iter_mut().zip(&rank[1..]) {
            *bytes = (*word as u32).to_le_bytes();
        }
        uuid
    };
    Ok(Ok(ranks.iter().map(uuid).collect()))
}

/// What rank 0 made, on all ranks, or why it could not; only its own `made` counts. To be called by all.
pub fn from_first<const N: usize>(
    host: &mut dyn Collective,
    made: Result<[u8; N], String>,
) -> Result<Result<[u8; N], String>> {
    let mut sent = vec![0; N + 1];
    if let (0, Ok(made)) = (host.rank(), &made) {
        sent[0] = 1;
        sent[1..].copy_from_slice(made);
    }
    host.broadcast(&mut sent, 0)?;
    if sent[0] == 1 {
        let mut given = [0; N];
        given.copy_from_slice(&sent[1..]);
        return Ok(Ok(given));
    }
    Ok(Err(match (host.rank(), made) {
        (0, Err(why)) => why,
        _ => "rank 0's NCCL does not start".into(),
    }))
}

/// `own` where it went well on every rank, or why not. To be called by all.
pub fn everywhere<T>(
    host: &mut dyn Collective,
    own: Result<T, String>,
) -> Result<Result<T, String>> {
    let mut failed = vec![0.0; host.world_size()];
    failed[host.rank()] = f64::from(u8::from(own.is_err()));
    host.all_reduce_f64(&mut failed)?;
    Ok(match (own, failed.iter().position(|&f| f > 0.0)) {
        (Ok(_), Some(rank)) => Err(format!("rank {rank} could not join with NCCL")),
        (own, _) => own,
    })
}

#[cfg(test)]
pub mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::parallel::{Address, Alone, Terms, Timeouts, World, join};

    /// Runs `work` as each rank on a thread of its own, over the loopback.
    pub fn ranks<T: Send>(
        world_size: usize,
        work: impl Fn(&mut dyn Collective, usize) -> Result<T> + Sync,
    ) -> Vec<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let one = |rank| {
            let world = World {
                rank,
                world_size,
                local_rank: rank,
                address: Some(Address {
                    host: "127.0.0.1".into(),
                    port,
                }),
                job: "a test".into(),
            };
            let mut peers = join(&world, &Terms::default(), &Timeouts::default()).unwrap();
            let result = work(peers.as_mut(), rank).unwrap();
            peers.barrier().unwrap();
            result
        };
        std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0..world_size)
                .map(|rank| scope.spawn(move || one(rank)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    /// GPUs that differ in one byte, of any word.
    fn gpu(number: usize) -> Uuid {
        let mut uuid = [0xFF; 16];
        uuid[(7 * number) % 16] = 0x80 + number as u8;
        uuid
    }

    #[test]
    fn every_rank_needs_a_gpu_of_its_own() {
        let distinct_gpus = ranks(3, |host, rank| distinct(host, Ok(gpu(rank))));
        assert_eq!(
            distinct_gpus,
            vec![Ok(vec![gpu(0), gpu(1), gpu(2)]); 3],
            "no byte is lost"
        );
        let shared = ranks(3, |host, rank| distinct(host, Ok(gpu(rank % 2))));
        let why = "ranks 0 and 2 have the same GPU, and NCCL wants one for each";
        assert_eq!(shared, vec![Err(why.to_owned()); 3]);
        assert_eq!(distinct(&mut Alone, Ok(gpu(5))).unwrap(), Ok(vec![gpu(5)]));
    }

    #[test]
    fn who_lacks_something_says_what_and_the_others_say_who() {
        let said = ranks(2, |host, rank| {
            let own = match rank {
                1 => Err("libnccl.so was not found".to_owned()),
                // One whose number is 0, which is not the same as none.
                _ => Ok([0; 16]),
            };
            distinct(host, own)
        });
        let said: Vec<String> = said.into_iter().map(|s| s.unwrap_err()).collect();
        assert_eq!(said[0], "rank 1 has no NCCL that it could use");
        assert_eq!(said[1], "libnccl.so was not found");
    }

    #[test]
    fn what_rank_0_makes_is_given_to_all() {
        let given = ranks(2, |host, rank| from_first(host, Ok([rank as u8 + 7; 128])));
        assert_eq!(given, vec![Ok([7; 128]); 2]);
        let given = ranks(2, |host, rank| {
            from_first::<128>(host, Err(format!("{rank} fails")))
        });
        let why = ["0 fails", "rank 0's NCCL does not start"];
        assert_eq!(given, why.map(|w| Err(w.to_owned())));
    }

    #[test]
    fn all_join_or_none() {
        let joined = ranks(3, |host, rank| everywhere(host, Ok(rank)));
        assert_eq!(joined, [Ok(0), Ok(1), Ok(2)]);
        let joined = ranks(3, |host, rank| match rank {
            1 => everywhere(host, Err("the driver is too old".into())),
            _ => everywhere(host, Ok(rank)),
        });
        let other = Err("rank 1 could not join with NCCL".to_owned());
        let own = Err("the driver is too old".to_owned());
        assert_eq!(joined, [other.clone(), own, other]);
    }
}
