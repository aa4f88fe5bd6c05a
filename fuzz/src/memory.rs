//! A limit of memory around what must not take much.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Does it, and ends the process when more than `bytes` are taken meanwhile. Of the whole process: meant for one thread.
pub fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    MEMORY.set_limit(MEMORY.allocated().saturating_add(bytes)).expect("the limit is above what is allocated");
    let made = run();
    MEMORY.set_limit(usize::MAX).expect("any number is below it");
    made
}
