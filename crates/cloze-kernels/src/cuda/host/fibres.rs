//! The threads of a block, as fibres.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::Order;
use super::buffer::{GUARD, Line};
use crate::cuda::machine::Grid;

/// What a fibre knows; mirrored in host.h.
#[repr(C)]
#[derive(Debug)]
struct HostThread {
    thread: u32,
    threads: u32,
    block: [u32; 3],
    grid: [u32; 3],
    shared: *mut u8,
    slots: *mut [u32; 8],
    turn: u32,
    /// Where it is left: not for C.
    yielder: *const Yielder<(), Wait>,
}

/// What a fibre waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Block,
    Warp,
}

/// A kernel.
pub type Run = unsafe extern "C" fn(*const c_void);

unsafe extern "C" {
    fn cloze_host_set(thread: *mut HostThread);
}

thread_local! {
    static NOW: Cell<*mut HostThread> = const { Cell::new(std::ptr::null_mut()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

fn wait(what: Wait) {
    let now = NOW.with(Cell::get);
    // SAFETY: called by a kernel, so within a fibre, whose thread and yielder live until it ends.
    unsafe { (*(*now).yielder).suspend(what) };
}

#[unsafe(no_mangle)]
extern "C" fn cloze_host_sync() {
    wait(Wait::Block);
}

#[unsafe(no_mangle)]
extern "C" fn cloze_host_warp() {
    wait(Wait::Warp);
}

/// Runs the threads of one block, until all are done.
pub fn run_block(
    kernel: &str,
    run: Run,
    grid: Grid,
    block: [u32; 3],
    arguments: &[u8],
    order: Order,
) {
    let count = grid.threads as usize;
    let mut shared = vec![Line([GUARD; 256]); (grid.shared as usize).div_ceil(256) + 1];
    // Not a number, until it is written.
    let nothing = shared.iter_mut().flat_map(|line| &mut line.0);
    nothing.take(grid.shared as usize).for_each(|b| *b = 0xFF);
    let mut slots = vec![[0u32; 8]; 2 * count];
    let mut words = vec![0u64; arguments.len().div_ceil(8)];
    for (word, bytes) in words.iter_mut().zip(arguments.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    let arguments = words.as_ptr() as usize;
    let mut threads: Vec<HostThread> = (0..grid.threads)
        .map(|thread| HostThread {
            thread,
            threads: grid.threads,
            block,
            grid: grid.blocks,
            shared: shared.as_mut_ptr().cast(),
            slots: slots.as_mut_ptr(),
            turn: 0,
            yielder: std::ptr::null(),
        })
        .collect();
    let mut fibres: Vec<Option<Coroutine<(), Wait, (), DefaultStack>>> = (0..count)
        .map(|i| {
            let stack = STACKS.with(|s| s.borrow_mut().pop());
            let stack = stack.or_else(|| DefaultStack::new(1 << 16).ok());
            let stack = stack.unwrap_or_else(|| panic!("no memory for a stack"));
            let me = std::ptr::addr_of_mut!(threads[i]) as usize;
            Some(Coroutine::with_stack(stack, move |yielder, ()| {
                // SAFETY: threads and arguments outlive the fibres; the size of arguments is the kernel's.
                unsafe {
                    (*(me as *mut HostThread)).yielder = yielder;
                    run(arguments as *const c_void);
                }
            }))
        })
        .collect();
    let mut waits: Vec<Option<Wait>> = vec![None; count];
    let mut left = count;
    let turn = |i: usize| match order {
        Order::Forward => i,
        Order::Backward => count - 1 - i,
    };
    while left > 0 {
        for warp in 0..count / 32 {
            // A warp goes on for as long as it waits for nobody but itself.
            loop {
                for i in (warp * 32..warp * 32 + 32).map(turn) {
                    let Some(fibre) = fibres[i].as_mut().filter(|_| waits[i].is_none()) else {
                        continue;
                    };
                    let me = std::ptr::addr_of_mut!(threads[i]);
                    NOW.with(|now| now.set(me));
                    // SAFETY: the thread lives as long as its fibre.
                    unsafe { cloze_host_set(me) };
                    match fibre.resume(()) {
                        CoroutineResult::Yield(wait) => waits[i] = Some(wait),
                        CoroutineResult::Return(()) => {
                            left -= 1;
                            let stack = fibres[i].take().map(Coroutine::into_stack);
                            STACKS.with(|s| s.borrow_mut().extend(stack));
                        }
                    }
                }
                let lanes = turn(warp * 32).min(turn(warp * 32 + 31));
                let lanes = &mut waits[lanes..lanes + 32];
                if !lanes.iter().all(|w| *w == Some(Wait::Warp)) {
                    break;
                }
                lanes.fill(None);
            }
        }
        // All that is left waits: for the whole block, or for what does not come.
        if left > 0 {
            if !waits.iter().all(|w| *w == Some(Wait::Block)) {
                for fibre in fibres.iter_mut().flatten() {
                    // SAFETY: what is left on its stack is the kernel's, which owns nothing; unwinding through C ends the process.
                    unsafe { fibre.force_reset() };
                }
                let first = waits.iter().position(Option::is_some);
                panic!(
                    "{kernel}, block {block:?}: thread {first:?} waits for threads that do not come"
                );
            }
            waits.fill(None);
        }
    }
    let beyond = shared
        .iter()
        .flat_map(|line| line.0)
        .skip(grid.shared as usize);
    assert!(
        beyond.into_iter().all(|b| b == GUARD),
        "{kernel}: shared memory was written past its end"
    );
}
