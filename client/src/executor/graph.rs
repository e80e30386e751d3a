//! The order of resources: who requires whom, who may start now, who is skipped. No I/O.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Who requires whom, checked to be free of cycles.
#[derive(Debug)]
pub struct Graph {
    requires: Vec<Vec<u32>>,
    dependents: Vec<Vec<u32>>,
}

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Resources require each other in a circle; the first stands again at the end.
    #[error("resources {0:?} require each other in a circle")]
    Cycle(Vec<u32>),
    /// A requirement points outside of the catalog.
    #[error("resource {resource} requires number {required}, which does not exist")]
    NoSuchResource {
        /// Who requires.
        resource: u32,
        /// What.
        required: u32,
    },
}

impl Graph {
    /// Checks the requirements of each resource, by their places.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn new(requires: Vec<Vec<u32>>) -> Result<Self, GraphError> {
        let mut dependents = vec![Vec::new(); requires.len()];
        for (resource, required) in (0_u32..).zip(&requires) {
            for required in required {
                let of = dependents
                    .get_mut(*required as usize)
                    .ok_or(GraphError::NoSuchResource { resource, required: *required })?;
                of.push(resource);
            }
        }
        let graph = Self { requires, dependents };
        let mut schedule = graph.schedule(None);
        while let Some(step) = schedule.poll_step() {
            schedule.handle_done(step.resource, false);
        }
        match schedule.is_finished() {
            true => Ok(graph),
            false => Err(GraphError::Cycle(graph.cycle_among(&schedule.waiting))),
        }
    }

    /// Number of resources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requires.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requires.is_empty()
    }

    /// Each resource that is still waiting has a requirement that waits too: going from one to
    /// the next must come back.
    fn cycle_among(&self, waiting: &[Option<u32>]) -> Vec<u32> {
        let is_waiting = |r: &u32| waiting.get(*r as usize).copied().flatten().is_some();
        let mut path: Vec<u32> = (0..).take(self.len()).find(is_waiting).into_iter().collect();
        while let Some(last) = path.last() {
            let required = self.requires[*last as usize].iter().copied().find(is_waiting);
            let Some(next) = required else { break };
            if let Some(at) = path.iter().position(|r| *r == next) {
                path.drain(..at);
                path.push(next);
                break;
            }
            path.push(next);
        }
        path
    }

    /// These resources, and all that require them, directly or through others.
    #[must_use]
    pub fn with_dependents(&self, of: Vec<bool>) -> Vec<bool> {
        reached(&self.dependents, of)
    }

    /// These resources, and all that they require, directly or through others.
    #[must_use]
    pub fn with_requirements(&self, of: Vec<bool>) -> Vec<bool> {
        reached(&self.requires, of)
    }

    /// A plan for all resources, or for those selected; requirements that are not selected
    /// count as met.
    #[must_use]
    pub fn schedule(&self, selected: Option<&[bool]>) -> Schedule<'_> {
        let takes_part = |r: usize| selected.is_none_or(|s| s.get(r) == Some(&true));
        let waiting: Vec<Option<u32>> = (0..self.len())
            .map(|r| {
                let waits_for =
                    self.requires[r].iter().filter(|q| takes_part(**q as usize)).count();
                takes_part(r).then_some(u32::try_from(waits_for).unwrap_or(u32::MAX))
            })
            .collect();
        let ready = (0_u32..).zip(&waiting).filter(|(_, w)| **w == Some(0));
        let ready = ready.map(|(r, _)| Reverse(r)).collect();
        let left = waiting.iter().flatten().count();
        Schedule { graph: self, blocked_by: vec![None; waiting.len()], waiting, ready, left }
    }
}

/// Those chosen, and all that the edges lead to from them.
fn reached(edges: &[Vec<u32>], mut chosen: Vec<bool>) -> Vec<bool> {
    let mut pending: Vec<u32> =
        (0..).zip(&chosen).filter(|(_, chosen)| **chosen).map(|(r, _)| r).collect();
    while let Some(resource) = pending.pop() {
        for next in &edges[resource as usize] {
            if !std::mem::replace(&mut chosen[*next as usize], true) {
                pending.push(*next);
            }
        }
    }
    chosen
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which resource.
    pub resource: u32,
    /// The failed one that it requires, perhaps through others: skip it then.
    pub blocked_by: Option<u32>,
}

/// One pass over a graph.
#[derive(Debug)]
pub struct Schedule<'g> {
    graph: &'g Graph,
    /// How many requirements are not done yet; `None`: taken, done, or not part of the plan.
    waiting: Vec<Option<u32>>,
    blocked_by: Vec<Option<u32>>,
    ready: BinaryHeap<Reverse<u32>>,
    left: usize,
}

impl Schedule<'_> {
    /// The next resource whose requirements are all done: the first in the catalog's order.
    /// `None` if there is none at present.
    pub fn poll_step(&mut self) -> Option<Step> {
        let Reverse(resource) = self.ready.pop()?;
        self.waiting[resource as usize] = None;
        Some(Step { resource, blocked_by: self.blocked_by[resource as usize] })
    }

    /// How many could begin at this moment.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// A resource that was polled is done; `blocks` if what requires it must be skipped.
    pub fn handle_done(&mut self, resource: u32, blocks: bool) {
        self.left = self.left.saturating_sub(1);
        let cause = self.blocked_by[resource as usize].or(blocks.then_some(resource));
        for dependent in &self.graph.dependents[resource as usize] {
            let at = *dependent as usize;
            let Some(waits_for) = &mut self.waiting[at] else { continue };
            *waits_for -= 1;
            self.blocked_by[at] = self.blocked_by[at].or(cause);
            if *waits_for == 0 {
                self.ready.push(Reverse(*dependent));
            }
        }
    }

    /// Whether every resource of the plan is done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(graph: &Graph) -> Vec<u32> {
        let mut schedule = graph.schedule(None);
        let mut order = Vec::new();
        while let Some(step) = schedule.poll_step() {
            order.push(step.resource);
            schedule.handle_done(step.resource, false);
        }
        order
    }

    #[test]
    fn s2_2_cycles_are_found_and_shown() {
        let cycle = |requires| match Graph::new(requires) {
            Err(GraphError::Cycle(cycle)) => cycle,
            other => panic!("{other:?}"),
        };
        assert_eq!(cycle(vec![vec![0]]), [0, 0]);
        assert_eq!(cycle(vec![vec![], vec![3, 0], vec![1], vec![2]]), [1, 3, 2, 1]);
        // One that only hangs on a cycle is not shown as a part of it.
        assert_eq!(cycle(vec![vec![1], vec![2], vec![1]]), [1, 2, 1]);
        assert_eq!(
            Graph::new(vec![vec![7]]).unwrap_err(),
            GraphError::NoSuchResource { resource: 0, required: 7 }
        );
    }

    #[test]
    fn s2_3_one_at_a_time_is_a_topological_order() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let n = rng.u32(1..60);
            // Edges lead from later to earlier places of a random permutation.
            let mut places: Vec<u32> = (0..n).collect();
            rng.shuffle(&mut places);
            let requires: Vec<Vec<u32>> = (0..n)
                .map(|a| {
                    let earlier = |b: &u32| places[*b as usize] < places[a as usize];
                    (0..n).filter(earlier).filter(|_| rng.u8(..) < 30).collect()
                })
                .collect();
            let graph = Graph::new(requires.clone()).unwrap();
            let order = order_of(&graph);
            assert_eq!(order.len(), n as usize, "seed {seed}");
            let place = |r: u32| order.iter().position(|o| *o == r).unwrap();
            for (resource, required) in (0..n).zip(&requires) {
                assert!(required.iter().all(|q| place(*q) < place(resource)), "seed {seed}");
            }
        }
    }

    #[test]
    fn s2_5_only_success_lets_dependents_start() {
        // 1a → 2a → 3a, 1a → 2b → 3b
        let graph = Graph::new(vec![vec![], vec![0], vec![0], vec![1], vec![2]]).unwrap();
        let mut schedule = graph.schedule(None);
        assert_eq!(schedule.poll_step(), Some(Step { resource: 0, blocked_by: None }));
        assert_eq!(schedule.poll_step(), None, "nothing begins before 1a is done");
        schedule.handle_done(0, false);
        assert_eq!(schedule.poll_step(), Some(Step { resource: 1, blocked_by: None }));
        assert_eq!(schedule.poll_step(), Some(Step { resource: 2, blocked_by: None }));
        schedule.handle_done(1, true);
        assert_eq!(schedule.poll_step(), Some(Step { resource: 3, blocked_by: Some(1) }));
        schedule.handle_done(3, true);
        schedule.handle_done(2, false);
        assert_eq!(schedule.poll_step(), Some(Step { resource: 4, blocked_by: None }));
        schedule.handle_done(4, false);
        assert!(schedule.is_finished());
    }

    #[test]
    fn a_failure_is_the_cause_all_the_way_down() {
        let graph = Graph::new(vec![vec![], vec![0], vec![1]]).unwrap();
        let mut schedule = graph.schedule(None);
        let mut causes = Vec::new();
        while let Some(step) = schedule.poll_step() {
            causes.push(step.blocked_by);
            schedule.handle_done(step.resource, true);
        }
        assert_eq!(causes, [None, Some(0), Some(0)]);
    }

    #[test]
    fn s2_6_children_become_ready_together() {
        let mut requires = vec![vec![]];
        requires.extend(std::iter::repeat_n(vec![0], 50));
        let graph = Graph::new(requires).unwrap();
        let mut schedule = graph.schedule(None);
        schedule.poll_step();
        assert_eq!(schedule.ready_len(), 0);
        schedule.handle_done(0, false);
        assert_eq!(schedule.ready_len(), 50);
    }

    #[test]
    fn dependents_are_found_through_others() {
        let graph = Graph::new(vec![vec![], vec![0], vec![1, 3], vec![], vec![3]]).unwrap();
        let of = |chosen: u32| graph.with_dependents((0..5).map(|r| r == chosen).collect());
        assert_eq!(of(0), [true, true, true, false, false]);
        assert_eq!(of(3), [false, false, true, true, true]);
    }

    #[test]
    fn requirements_that_are_not_selected_count_as_met() {
        let graph = Graph::new(vec![vec![], vec![0], vec![1]]).unwrap();
        let mut schedule = graph.schedule(Some(&[false, false, true]));
        assert_eq!(schedule.poll_step(), Some(Step { resource: 2, blocked_by: None }));
        schedule.handle_done(2, false);
        assert!(schedule.is_finished());
    }
}
