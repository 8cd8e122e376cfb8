//! Which CPU each thread runs on.

use core_affinity::CoreId as Cpu;

use crate::config::Cores;

/// The CPUs chosen for the threads: one entry per core loop; `None` leaves a thread to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// CPU of each core loop, in order.
    pub cores: Vec<Option<usize>>,
    /// CPU of the control loop.
    pub control: Option<usize>,
}

/// Chooses CPUs of the process's own affinity mask.
///
/// `auto` takes every CPU for a core loop; the control loop shares the last one, as it has little
/// to do. With a number, so many of them; with a list, exactly those.
///
/// # Errors
/// When a listed CPU is not in the mask, in words.
pub fn choose_cpus(cores: &Cores) -> Result<Placement, String> {
    place(cores, &allowed_cpus())
}

/// The CPUs that the calling thread may run on; empty where the system does not tell.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    cpus.into_iter().map(|cpu| cpu.id).collect()
}

fn place(cores: &Cores, allowed: &[usize]) -> Result<Placement, String> {
    let chosen: Vec<Option<usize>> = match cores {
        Cores::Auto if allowed.is_empty() => vec![None],
        Cores::Auto => allowed.iter().copied().map(Some).collect(),
        Cores::Count(count) => {
            let count = usize::from(*count);
            // More loops than CPUs: the surplus is left to the kernel.
            (0..count)
                .map(|index| allowed.get(index).copied())
                .collect()
        }
        Cores::Cpus(list) => {
            for cpu in list {
                if !allowed.contains(cpu) {
                    return Err(format!(
                        "CPU {cpu} is not one this process may use (those are {allowed:?})"
                    ));
                }
            }
            list.iter().copied().map(Some).collect()
        }
    };
    let control = chosen.last().copied().flatten();
    Ok(Placement {
        cores: chosen,
        control,
    })
}

/// Pins the calling thread. `false`: the kernel refused; the thread then runs anywhere.
#[must_use]
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(Cpu { id: cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_every_allowed_cpu() {
        let placement = place(&Cores::Auto, &[2, 5]).unwrap();
        assert_eq!(placement.cores, [Some(2), Some(5)]);
        assert_eq!(placement.control, Some(5));
    }

    #[test]
    fn more_loops_than_cpus_leave_the_surplus_unpinned() {
        let placement = place(&Cores::Count(3), &[1]).unwrap();
        assert_eq!(placement.cores, [Some(1), None, None]);
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused() {
        assert!(
            place(&Cores::Cpus(vec![0, 7]), &[0, 1])
                .unwrap_err()
                .contains("CPU 7")
        );
    }
}
