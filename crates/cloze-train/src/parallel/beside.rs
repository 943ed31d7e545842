//! Sums over processes while other work goes on.

use std::ops::Range;
use std::sync::mpsc::channel;

use super::Collective;
use crate::Result;

/// Values, and where they belong.
pub type Part = (Range<usize>, Vec<f32>);

/// Does `work`, and sums over all processes, in order, what it sends meanwhile; the sums.
///
/// Where `work` fails, its error is returned once what was sent before is summed: the others wait for that.
pub fn summed_beside(
    peers: &mut dyn Collective,
    work: impl FnOnce(&mut dyn FnMut(Range<usize>, Vec<f32>)) -> Result<()>,
) -> Result<Vec<Part>> {
    std::thread::scope(|scope| {
        let (send, receive) = channel::<Part>();
        let sums = scope.spawn(move || {
            let mut sums = Vec::new();
            for (range, mut values) in receive {
                peers.all_reduce(&mut values)?;
                sums.push((range, values));
            }
            Ok(sums)
        });
        // A receiver that is gone has failed, and says so below.
        let worked = work(&mut |range, values| drop(send.send((range, values))));
        drop(send);
        let sums = match sums.join() {
            Ok(sums) => sums,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        worked.and(sums)
    })
}
