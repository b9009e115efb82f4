use super::*;

const STEPS: &[Step<'static>] = &[
    Step::JoinCgroup(c"/c/cgroup.procs"),
    Step::Mount {
        source: c"",
        target: c"/",
        kind: c"",
        flags: 7,
        data: c"size=1",
    },
    Step::ReadOnly(c"/sys"),
    Step::Directory {
        path: c"/d",
        mode: 0o755,
    },
    Step::Device {
        path: c"/dev/null",
        mode: 0o666,
        major: 1,
        minor: 3,
    },
    Step::Symlink {
        text: c"a",
        path: c"/b",
    },
    Step::Hold(c"/h"),
    Step::Attach(c"/i"),
    Step::HoldBeneath {
        slot: 3,
        root: c"/r",
        path: c"p",
        resolve: 8,
    },
    Step::AttachBeneath {
        slot: 3,
        root: c"/r",
        path: c"p",
        resolve: 12,
        read_only: true,
    },
    Step::AttachShared(c"/j"),
    Step::BoundCapabilities(u64::MAX - 1),
    Step::Capabilities(3),
    Step::NoNewPrivileges,
    Step::Credentials {
        uid: 1,
        gid: 2,
        groups: &[3, 0, 0, 0, 4, 0, 0, 0],
    },
    Step::WorkingDirectory(c"/w"),
    Step::Stdio {
        descriptor: 1,
        path: c"/w/stdout",
    },
    Step::Enter(1 << 33),
    Step::Stream(2),
    Step::Terminal,
    Step::Console { rows: 24, columns: 80 },
    Step::ResourceLimit {
        resource: 7,
        soft: 8,
        hard: 9,
    },
    Step::WriteFile {
        path: c"/p",
        text: c"1",
    },
    Step::Rules { files: 5, scoped: 6 },
    Step::Allow { path: c"/q", files: 4 },
    Step::Restrict,
    Step::FilterCalls(&[1, 2, 3, 4, 5, 6, 7, 8]),
];

fn example() -> Vec<u8> {
    let mut steps = Steps::default();
    STEPS.iter().for_each(|step| steps.push(step));
    let settings = Settings {
        pid_namespace: true,
        clone_flags: 0x1234,
        boot_id: b"b",
        state_dir: b"/s",
        cpu_stat: b"/cpu.stat",
        ..Settings::default()
    };
    encode(&settings, &[b"/bin/echo", b""], &[b"A=b"], &steps).unwrap()
}

#[test]
fn what_was_written_is_read() {
    let bytes = example();
    let plan = Plan::parse(&bytes).unwrap();
    assert!(plan.pid_namespace);
    assert_eq!(plan.clone_flags, 0x1234);
    assert_eq!(
        (plan.boot_id(), plan.state_dir(), plan.cpu_stat()),
        (c"b", c"/s", c"/cpu.stat")
    );
    assert_eq!(plan.argv.iter().collect::<Vec<_>>(), [c"/bin/echo", c""]);
    assert_eq!(plan.environment.iter().collect::<Vec<_>>(), [c"A=b"]);
    assert_eq!(plan.steps().collect::<Vec<_>>(), STEPS);
}

#[test]
fn a_plan_that_is_not_whole_is_refused() {
    let bytes = example();
    for length in 0..bytes.len() {
        assert!(Plan::parse(&bytes[..length]).is_none(), "{length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Plan::parse(&longer).is_none());
    for (index, _) in bytes.iter().enumerate() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0xff;
        if let Some(plan) = Plan::parse(&damaged) {
            assert!(plan.steps().count() == STEPS.len() && plan.argv.iter().count() > 0);
        }
    }
}

#[test]
fn a_text_with_a_nul_is_refused() {
    let refused = encode(&Settings::default(), &[b"a\0b"], &[], &Steps::default());
    assert_eq!(refused, Err(InteriorNul));
}
