//! Compiles a list of system calls into a filter for the kernel's classic BPF machine.
//!
//! A search tree by number: when a filter is installed the kernel tries it with every number there is, and remembers those that
//! always pass, for which it then costs nothing. Linux, Documentation/userspace-api/seccomp_filter.rst.

/// What a system call is answered with where it does not simply pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It passes.
    Passes,
    /// `EPERM`.
    Denied,
    /// `ENOSYS`.
    Missing,
    /// `EPERM` when its flags, the first argument, ask for a new namespace.
    NoNamespaces,
    /// `EPERM` when its command, the second argument, would take files out of the sandbox's disk limit.
    Control,
    /// `EPERM` unless its family, the first argument, is an ordinary one, and its protocol, the third, not SCTP.
    Socket,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;
/// From here on the numbers of x86-64 mean those of its 32-bit variant.
const NUMBERS_END: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const PASS: u32 = 0x7fff_0000;
const FAIL: u32 = 0x0005_0000;

/// All `CLONE_NEW*` but the one of time, which shares its bit with something else in `clone`.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// `FS_IOC_FSSETXATTR` and `FS_IOC_SETFLAGS`, which change the project of a file or what inherits it; the creation of subvolumes of
/// btrfs (`SNAP_CREATE`, `SUBVOL_CREATE` and their second versions), which have no limit. A file's owner may do all that.
const LIMITS_LIFTED: [u32; 6] = [
    0x401c_5820,
    0x4008_6602,
    0x5000_9401,
    0x5000_940e,
    0x5000_9417,
    0x5000_9418,
];
const UNIX: u32 = 1;
const INTERNET: [u32; 2] = [2, 10];
/// Netlink, and packets, for which a capability is asked.
const OTHERS: [u32; 2] = [16, 17];
const SCTP: u32 = 132;

#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// The filter as the kernel reads it. The rules are sorted, each number is there once.
pub(super) fn encode(rules: &[(u32, Answer)]) -> Vec<u8> {
    let bytes = |instruction: &Instruction| {
        let [code, value] = [
            instruction.code.to_le_bytes().to_vec(),
            instruction.value.to_le_bytes().to_vec(),
        ];
        [code, vec![instruction.if_true, instruction.if_false], value].concat()
    };
    program(rules).iter().flat_map(bytes).collect()
}

fn program(rules: &[(u32, Answer)]) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, ARCHITECTURE_AT),
        branch(IF_EQUAL, ARCHITECTURE, 1, 0),
        fail(libc::EPERM),
        plain(LOAD, NUMBER),
    ];
    program.extend(tree(&intervals(rules)));
    program
}

/// Where each answer begins, up to the next.
fn intervals(rules: &[(u32, Answer)]) -> Vec<(u32, Answer)> {
    let mut intervals = vec![(0, Answer::Passes)];
    for (number, answer) in rules {
        let mut begin = |number: u32, answer: Answer| match intervals.last_mut() {
            Some(last) if last.0 == number => last.1 = answer,
            Some(last) if last.1 == answer && answer == Answer::Denied => {}
            _ => intervals.push((number, answer)),
        };
        begin(*number, *answer);
        begin(number + 1, Answer::Passes);
    }
    // Numbers in a row with the same answer are one interval.
    let mut merged: Vec<(u32, Answer)> = Vec::new();
    for (number, answer) in intervals {
        if merged.last().is_none_or(|last| last.1 != answer) {
            merged.push((number, answer));
        }
    }
    merged.push((NUMBERS_END, Answer::Denied));
    merged
}

fn tree(intervals: &[(u32, Answer)]) -> Vec<Instruction> {
    let [first, rest @ ..] = intervals else {
        return Vec::new();
    };
    if rest.is_empty() {
        return leaf(first.1);
    }
    let (lower, upper) = intervals.split_at(intervals.len() / 2);
    let (below, above) = (tree(lower), tree(upper));
    let at = upper[0].0;
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![branch(IF_AT_LEAST, at, length, 0)],
        Err(_) => vec![branch(IF_AT_LEAST, at, 0, 1), plain(JUMP, below.len() as u32)],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn leaf(answer: Answer) -> Vec<Instruction> {
    let (pass, deny) = (plain(RETURN, PASS), fail(libc::EPERM));
    match answer {
        Answer::Passes => vec![pass],
        Answer::Denied => vec![deny],
        Answer::Missing => vec![fail(libc::ENOSYS)],
        Answer::NoNamespaces => vec![argument(0), branch(IF_ANY_BIT, NEW_NAMESPACES, 1, 0), pass, deny],
        Answer::Control => {
            let mut program = vec![argument(1)];
            for (left, command) in (1..).zip(LIMITS_LIFTED.iter().rev()) {
                program.insert(1, branch(IF_EQUAL, *command, left, 0));
            }
            program.extend([pass, deny]);
            program
        }
        Answer::Socket => vec![
            argument(0),
            branch(IF_EQUAL, UNIX, 7, 0),
            branch(IF_EQUAL, OTHERS[0], 6, 0),
            branch(IF_EQUAL, OTHERS[1], 5, 0),
            branch(IF_EQUAL, INTERNET[0], 1, 0),
            branch(IF_EQUAL, INTERNET[1], 0, 2),
            argument(2),
            branch(IF_EQUAL, SCTP, 0, 1),
            deny,
            pass,
        ],
    }
}

/// The lower half of an argument, which is all that these calls read.
fn argument(index: u32) -> Instruction {
    plain(LOAD, ARGUMENTS + 8 * index)
}

fn fail(errno: i32) -> Instruction {
    plain(RETURN, FAIL | errno as u32)
}

fn plain(code: u16, value: u32) -> Instruction {
    branch(code, value, 0, 0)
}

fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut at, mut accumulator, mut steps) = (0, 0, 0);
        loop {
            let Instruction {
                code,
                if_true,
                if_false,
                value,
            } = program[at];
            at += 1;
            steps += 1;
            assert!(steps < 40, "a tree is not deep");
            let jump = |condition: bool| usize::from(if condition { if_true } else { if_false });
            match code {
                LOAD => {
                    accumulator = match value {
                        NUMBER => number,
                        ARCHITECTURE_AT => architecture,
                        offset => arguments[(offset - ARGUMENTS) as usize / 8],
                    }
                }
                JUMP => at += value as usize,
                IF_EQUAL => at += jump(accumulator == value),
                IF_AT_LEAST => at += jump(accumulator >= value),
                IF_ANY_BIT => at += jump(accumulator & value != 0),
                RETURN => return value,
                _ => panic!("unknown instruction {code}"),
            }
        }
    }

    #[test]
    fn each_call_gets_its_answer() {
        let rules = super::super::rules(0);
        let program = program(&rules);
        let ask = |number, arguments| run(&program, ARCHITECTURE, number, arguments);
        let (denied, missing) = (FAIL | 1, FAIL | 38);
        for number in 0..600 {
            let rule = rules.iter().find(|(own, _)| *own == number).map(|(_, answer)| *answer);
            let expected = match rule {
                None | Some(Answer::Passes | Answer::NoNamespaces | Answer::Control) => PASS,
                Some(Answer::Denied | Answer::Socket) => denied,
                Some(Answer::Missing) => missing,
            };
            assert_eq!(ask(number, [0; 3]), expected, "{number}");
        }
        assert_eq!(ask(libc::SYS_clone as u32, [0x1000_0011, 0, 0]), denied);
        assert_eq!(ask(libc::SYS_clone as u32, [0x003d_0f00, 0, 0]), PASS);
        let control = |command| ask(libc::SYS_ioctl as u32, [7, command, 0]);
        assert_eq!((control(0x5413), control(0x801c_581f)), (PASS, PASS));
        assert!(LIMITS_LIFTED.iter().all(|command| control(*command) == denied));
        let socket = |family, protocol| ask(libc::SYS_socket as u32, [family, 1, protocol]);
        for family in [1, 2, 10, 16, 17] {
            assert_eq!(socket(family, 0), PASS, "{family}");
        }
        assert_eq!((socket(2, 132), socket(10, 132), socket(2, 6)), (denied, denied, PASS));
        for family in [0, 3, 21, 30, 38, 40, 43] {
            assert_eq!(socket(family, 0), denied, "{family}");
        }
        assert_eq!(ask(NUMBERS_END | libc::SYS_getpid as u32, [0; 3]), denied);
        assert_eq!(run(&program, 0x4000_0003, 1, [0; 3]), denied);
    }

    #[test]
    fn what_a_capability_lifts_passes() {
        let program = program(&super::super::rules(1 << 19));
        let ask = |number| run(&program, ARCHITECTURE, number as u32, [0; 3]);
        assert_eq!((ask(libc::SYS_ptrace), ask(libc::SYS_mount)), (PASS, FAIL | 1));
    }
}
