//! Takes sockets away from a child process (seccomp(2)), but those of its own machine: what decodes
//! strangers' bytes must reach no network, also where a service manager or the system's policy forbids
//! it a network namespace of its own.

#![expect(
    unsafe_code,
    reason = "seccomp has no safe wrapper that allocates nothing"
)]

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, EACCES, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, sock_filter, sock_fprog,
};

/// The kernel's name for this kind of CPU (`linux/audit.h`); 0 where none is known.
const ARCHITECTURE: u32 = match (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64")) {
    (true, _) => 0xc000_003e,
    (_, true) => 0xc000_00b7,
    (false, false) => 0,
};
/// Numbers from here on are those of another calling convention (x32), which has a `socket` of its own.
const OTHER_CALLS: u32 = 0x4000_0000;
/// Where the filter finds the call's number, the CPU's name and the lower half of the first argument
/// (`struct seccomp_data`, little-endian).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const FAMILY_AT: u32 = 16;
const PROGRAM_LENGTH: u8 = 11;
/// Instructions: the last two answer.
const PROGRAM: [sock_filter; PROGRAM_LENGTH as usize] = [
    load(ARCHITECTURE_AT),
    jump(BPF_JEQ, ARCHITECTURE, 0, 7),
    load(NUMBER_AT),
    jump(BPF_JGE, OTHER_CALLS, 5, 0),
    // Its rings open sockets too.
    jump(BPF_JEQ, call(libc::SYS_io_uring_setup), 4, 0),
    jump(BPF_JEQ, call(libc::SYS_socket), 0, 4),
    load(FAMILY_AT),
    // Drivers of hardware encoders speak to services and to the kernel.
    jump(BPF_JEQ, family(libc::AF_UNIX), 2, 0),
    jump(BPF_JEQ, family(libc::AF_NETLINK), 1, 0),
    answer(SECCOMP_RET_ERRNO | family(EACCES)),
    answer(SECCOMP_RET_ALLOW),
];

/// Takes them away from the calling thread and all that it starts, for good. Makes one system call and
/// allocates nothing. Where the kernel has no such filters, or the CPU is of a kind whose calls are not
/// known here, nothing changes. The thread must have given up new privileges before (prctl(2),
/// `PR_SET_NO_NEW_PRIVS`).
pub(super) fn take_away() {
    if ARCHITECTURE == 0 {
        return;
    }
    let mut program = PROGRAM;
    let filter = sock_fprog {
        len: PROGRAM_LENGTH.into(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, whose length is that of the array, within the call.
    unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            std::ptr::from_ref(&filter),
            0,
            0,
        );
    }
}

const fn load(at: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, at, 0, 0)
}

/// Goes on so many instructions further if the comparison holds, or not.
const fn jump(comparison: u32, with: u32, holds: u8, fails: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, with, holds, fails)
}

const fn answer(value: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, value, 0, 0)
}

#[expect(clippy::cast_possible_truncation, reason = "the codes are of 16 bits")]
const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "system calls have small numbers"
)]
const fn call(number: libc::c_long) -> u32 {
    number as u32
}

#[expect(clippy::cast_sign_loss, reason = "small and positive")]
const fn family(number: libc::c_int) -> u32 {
    number as u32
}
