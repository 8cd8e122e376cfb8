//! Which core serves whom: publishers are spread over the cores, and a room's viewers sit with
//! its publisher until that core carries [`SPILL_VIEWERS`] more than the least loaded one.

use crate::ids::CoreId;
use crate::limits::SPILL_VIEWERS;

/// How loaded each core is.
#[derive(Debug)]
pub struct Placement {
    cores: Vec<Load>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    publishers: usize,
    viewers: usize,
}

impl Placement {
    /// That many idle cores; at least one.
    #[must_use]
    pub fn new(cores: u16) -> Self {
        Self {
            cores: vec![Load::default(); usize::from(cores.max(1))],
        }
    }

    /// Every core, in order.
    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        let count = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        (0..count).map(CoreId)
    }

    /// The core for a new publisher: that with the fewest, of these that with the fewest viewers.
    #[must_use]
    pub fn for_publisher(&self) -> CoreId {
        self.least(|load| (load.publishers, load.viewers))
    }

    /// The core for a viewer of a room that is published on `home`, if it is.
    #[must_use]
    pub fn for_viewer(&self, home: Option<CoreId>) -> CoreId {
        let least = self.least(|load| (load.viewers, load.publishers));
        let Some(home) = home else {
            return least;
        };
        let spills = self.load(least).viewers.saturating_add(SPILL_VIEWERS);
        if self.load(home).viewers < spills {
            home
        } else {
            least
        }
    }

    /// Counts a publisher in.
    pub fn add_publisher(&mut self, core: CoreId) {
        self.change(core, |load| {
            load.publishers = load.publishers.saturating_add(1);
        });
    }

    /// Counts a publisher out.
    pub fn remove_publisher(&mut self, core: CoreId) {
        self.change(core, |load| {
            load.publishers = load.publishers.saturating_sub(1);
        });
    }

    /// Counts a viewer in.
    pub fn add_viewer(&mut self, core: CoreId) {
        self.change(core, |load| load.viewers = load.viewers.saturating_add(1));
    }

    /// Counts a viewer out.
    pub fn remove_viewer(&mut self, core: CoreId) {
        self.change(core, |load| load.viewers = load.viewers.saturating_sub(1));
    }

    /// Publishers and viewers of a core.
    #[must_use]
    pub fn counts(&self, core: CoreId) -> (usize, usize) {
        let load = self.load(core);
        (load.publishers, load.viewers)
    }

    fn load(&self, core: CoreId) -> Load {
        self.cores.get(core.index()).copied().unwrap_or_default()
    }

    fn change(&mut self, core: CoreId, change: impl FnOnce(&mut Load)) {
        if let Some(load) = self.cores.get_mut(core.index()) {
            change(load);
        }
    }

    /// The first core with the smallest key.
    fn least(&self, key: impl Fn(Load) -> (usize, usize)) -> CoreId {
        let least = self.cores().min_by_key(|core| key(self.load(*core)));
        least.unwrap_or(CoreId(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_spread_over_the_cores() {
        let mut placement = Placement::new(3);
        for _ in 0..6 {
            let core = placement.for_publisher();
            placement.add_publisher(core);
        }
        for core in placement.cores() {
            assert_eq!(placement.counts(core), (2, 0));
        }
        placement.remove_publisher(CoreId(1));
        assert_eq!(placement.for_publisher(), CoreId(1));
    }

    #[test]
    fn among_cores_with_as_many_publishers_the_one_with_fewer_viewers_is_taken() {
        let mut placement = Placement::new(2);
        placement.add_viewer(CoreId(0));
        assert_eq!(placement.for_publisher(), CoreId(1));
    }

    #[test]
    fn viewers_stay_with_the_publisher_until_its_core_carries_too_many_more() {
        let mut placement = Placement::new(2);
        for _ in 0..SPILL_VIEWERS {
            assert_eq!(placement.for_viewer(Some(CoreId(1))), CoreId(1));
            placement.add_viewer(CoreId(1));
        }
        assert_eq!(placement.for_viewer(Some(CoreId(1))), CoreId(0));
        placement.remove_viewer(CoreId(1));
        assert_eq!(placement.for_viewer(Some(CoreId(1))), CoreId(1));
    }

    #[test]
    fn viewers_of_an_offline_room_go_to_the_least_loaded_core() {
        let mut placement = Placement::new(2);
        placement.add_viewer(CoreId(0));
        assert_eq!(placement.for_viewer(None), CoreId(1));
    }

    #[test]
    fn no_cores_count_as_one() {
        assert_eq!(Placement::new(0).for_publisher(), CoreId(0));
    }
}
