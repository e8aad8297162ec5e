//! The executor: all tasks of all nodes, on one thread.
//!
//! Tasks run in the order in which they were woken. When none is ready, time moves to the next
//! timer. So code takes no time here; what it costs is not simulated.
//!
//! **Invariants.** A task belongs to a process. A process that was killed runs no more, and what
//! its tasks owned is dropped.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
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
    ready: VecDeque<TaskId>,
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

fn lock(shared: &Shared) -> MutexGuard<'_, Queues> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TaskWaker {
    id: TaskId,
    is_queued: AtomicBool,
    shared: Shared,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            lock(&self.shared).ready.push_back(self.id);
        }
    }
}

struct Task {
    process: ProcessId,
    future: BoxFuture<'static, ()>,
    state: Arc<TaskWaker>,
    waker: Waker,
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
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    processes: RefCell<BTreeMap<ProcessId, BTreeSet<TaskId>>>,
    next: RefCell<u64>,
}

impl Debug for Executor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tasks = self.tasks.borrow().len();
        f.debug_struct("Executor").field("tasks", &tasks).finish_non_exhaustive()
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
        self.processes.borrow_mut().insert(process, BTreeSet::new());
        Spawner { process, shared: self.shared.clone() }
    }

    /// Ends a process.
    pub fn kill(&self, spawner: &Spawner) {
        let ids = self.processes.borrow_mut().remove(&spawner.process).unwrap_or_default();
        let mut tasks = self.tasks.borrow_mut();
        let ended: Vec<_> = ids.iter().filter_map(|id| tasks.remove(id)).collect();
        drop(tasks);
        let new = mem::take(&mut lock(&self.shared).new);
        let (ended_new, new): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|task| task.0 == spawner.process);
        lock(&self.shared).new = new;
        // Outside of the borrows: what is dropped may wake others.
        drop((ended, ended_new));
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
            let Some(id) = lock(&self.shared).ready.pop_front() else { return };
            // Taken out, so that no borrow is held while it runs.
            let Some(mut task) = self.tasks.borrow_mut().remove(&id) else { continue };
            task.state.is_queued.store(false, Ordering::Relaxed);
            let is_over =
                task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready();
            if is_over {
                if let Some(ids) = self.processes.borrow_mut().get_mut(&task.process) {
                    ids.remove(&id);
                }
                drop(task);
            } else {
                self.tasks.borrow_mut().insert(id, task);
            }
        }
    }

    fn take_new(&self) {
        let new = mem::take(&mut lock(&self.shared).new);
        for NewTask(process, future) in new {
            let id = TaskId(self.number());
            let shared = self.shared.clone();
            let state = Arc::new(TaskWaker { id, is_queued: AtomicBool::new(false), shared });
            let waker = Waker::from(state.clone());
            // A process that was killed spawns nothing.
            if let Some(ids) = self.processes.borrow_mut().get_mut(&process) {
                ids.insert(id);
                self.tasks
                    .borrow_mut()
                    .insert(id, Task { process, future, state, waker: waker.clone() });
                waker.wake();
            }
        }
    }
}
