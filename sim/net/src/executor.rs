//! The executor: all tasks of all nodes, on one thread.
//!
//! Tasks run in the order in which they were woken. When none is ready, time moves to the next
//! timer. So code takes no time here; what it costs is not simulated.
//!
//! **Invariants.** A task belongs to a process. A process that was killed runs no more, and what
//! its tasks owned is dropped.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt::{self, Debug, Formatter},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use smart_record_sim_clock as clock;

/// Id of a process: all tasks of one node from a start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TaskId(u64);

#[derive(Debug, Default)]
struct Queues {
    ready: VecDeque<Arc<Task>>,
    /// Tasks that were spawned and have not run yet.
    new: Vec<NewTask>,
}

struct NewTask(ProcessId, BoxFuture<'static, ()>);

impl Debug for NewTask {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewTask").field(&self.0).finish_non_exhaustive()
    }
}

/// Queues that wakers and tasks of all processes append to.
type Shared = Arc<Mutex<Queues>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task, which is its own waker.
struct Task {
    process: ProcessId,
    id: TaskId,
    /// `None` while it runs, and once it is over or its process has ended.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    is_queued: AtomicBool,
    shared: Shared,
}

impl Debug for Task {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.id).finish_non_exhaustive()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            lock(&self.shared).ready.push_back(Arc::clone(self));
        }
    }
}

/// Spawns tasks of one process.
#[derive(Clone, Debug)]
pub struct Spawner {
    process: ProcessId,
    shared: Shared,
}

impl Spawner {
    /// Spawns a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        lock(&self.shared).new.push(NewTask(self.process, Box::pin(future)));
    }
}

/// For `libp2p_swarm::Config::with_executor`.
impl libp2p_swarm::Executor for Spawner {
    fn exec(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        lock(&self.shared).new.push(NewTask(self.process, future));
    }
}

/// The executor.
#[derive(Default)]
pub struct Executor {
    shared: Shared,
    processes: RefCell<BTreeMap<ProcessId, BTreeMap<TaskId, Arc<Task>>>>,
    next: RefCell<u64>,
}

impl Debug for Executor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let processes = self.processes.borrow().len();
        f.debug_struct("Executor").field("processes", &processes).finish_non_exhaustive()
    }
}

impl Executor {
    fn number(&self) -> u64 {
        let mut next = self.next.borrow_mut();
        *next += 1;
        *next
    }

    /// Begins a process.
    pub fn start(&self) -> Spawner {
        let process = ProcessId(self.number());
        self.processes.borrow_mut().insert(process, BTreeMap::new());
        Spawner { process, shared: self.shared.clone() }
    }

    /// Ends a process.
    pub fn kill(&self, spawner: &Spawner) {
        let tasks = self.processes.borrow_mut().remove(&spawner.process).unwrap_or_default();
        let new = mem::take(&mut lock(&self.shared).new);
        let (ended_new, new): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|task| task.0 == spawner.process);
        lock(&self.shared).new = new;
        // Taken out of the locks, because what is dropped may wake others.
        for task in tasks.into_values() {
            let ended = lock(&task.future).take();
            drop(ended);
        }
        drop(ended_new);
    }

    /// Runs all that is ready, and then what becomes ready as time passes, until this monotonic
    /// time.
    pub fn run_until(&self, limit: Duration) {
        loop {
            self.run_ready();
            if clock::now() >= limit {
                return;
            }
            clock::advance(limit);
        }
    }

    fn run_ready(&self) {
        loop {
            self.take_new();
            let Some(task) = lock(&self.shared).ready.pop_front() else { return };
            // Taken out, so that no lock is held while it runs.
            let Some(mut future) = lock(&task.future).take() else { continue };
            task.is_queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&task));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *lock(&task.future) = Some(future);
            } else if let Some(tasks) = self.processes.borrow_mut().get_mut(&task.process) {
                tasks.remove(&task.id);
            }
        }
    }

    fn take_new(&self) {
        let new = mem::take(&mut lock(&self.shared).new);
        for NewTask(process, future) in new {
            let id = TaskId(self.number());
            // A process that was killed spawns nothing.
            if let Some(tasks) = self.processes.borrow_mut().get_mut(&process) {
                let (future, shared) = (Mutex::new(Some(future)), self.shared.clone());
                let is_queued = AtomicBool::new(false);
                let task = Arc::new(Task { process, id, future, is_queued, shared });
                tasks.insert(id, Arc::clone(&task));
                task.wake();
            }
        }
    }
}
