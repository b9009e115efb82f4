//! Devices are closed to whoever was not given them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proffer_agent::containerizer::{ContainerSpec, DeviceUnit, Policy, Resources};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::host::{Host, block_on, on_host};

/// Nodes below the host's `/dev`: other names of devices that containers do not have.
struct Nodes(PathBuf);

impl Nodes {
    fn new(name: &str) -> Self {
        let directory = PathBuf::from(format!("/dev/proffer-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for number in 0..2 {
            // Major 1, minor 11 is /dev/kmsg: it can be opened for writing, but no container may.
            let (major, minor) = [(1, 11), (1, 4)][number];
            let path = directory.join(format!("fake{number}"));
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor)).unwrap();
            rustix::fs::chmod(&path, mode).unwrap();
        }
        Nodes(directory)
    }

    fn path(&self, number: usize) -> String {
        self.0.join(format!("fake{number}")).display().to_string()
    }

    fn unit(&self, number: usize) -> DeviceUnit {
        DeviceUnit {
            resource: "fakes".into(),
            nodes: vec![self.path(number).into()],
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            devices: vec![self.unit(0), self.unit(1)],
            ..Policy::default()
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn with(count: u64, mut spec: ContainerSpec) -> ContainerSpec {
    (spec.user.uid, spec.root_allowed) = (0, true);
    spec.resources.devices = BTreeMap::from([("fakes".to_owned(), count)]);
    spec
}

/// Says of each node: `absent`, `denied` (the cgroup refuses), or `opened`.
fn look(nodes: &Nodes) -> String {
    let one = |number: usize| {
        let path = nodes.path(number);
        format!(
            "if [ ! -e {path} ]; then echo {number} absent; elif (: >> {path}) 2> error; then echo {number} opened; \
             elif grep -q 'not permitted' error; then echo {number} denied; else echo {number} other; fi"
        )
    };
    format!("{}; {}", one(0), one(1))
}

#[test]
fn what_is_always_there_works_and_nothing_else() {
    on_host("device access", async |host| {
        // A node that may be opened for writing, outside /dev: only the program says no.
        fs::create_dir_all(host.sandbox("c")).unwrap();
        let node = host.sandbox("c").join("kmsg");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(1, 11)).unwrap();
        rustix::fs::chmod(&node, mode).unwrap();
        let script = "for name in null zero full random urandom; do head -c 1 /dev/$name > /dev/null && echo $name; done; \
                      (: >> kmsg) 2> error; grep -q 'not permitted' error && echo denied; (: < /dev/pts/ptmx) && echo ptmx";
        host.run(&host.shell("c", script)).await;
        let out = fs::read_to_string(host.sandbox("c").join("stdout")).unwrap();
        assert_eq!(
            out,
            "null\nzero\nfull\nrandom\nurandom\ndenied\nptmx\n",
            "{}",
            host.output("c")
        );
        host.finish().await;
    });
}

#[test]
fn a_device_is_given_whole_to_one_container_and_taken_back() {
    let nodes = Nodes::new("whole");
    if let Some(host) = Host::with_policy("/tmp", "devices", nodes.policy()) {
        block_on(async move {
            let wait = |n: u32| {
                format!(
                    "until [ -e go{n} ]; do sleep 0.01; done; {}; echo round {n}",
                    look(&nodes)
                )
            };
            let spec = with(
                1,
                host.shell("one", &format!("{}; {}; {}; sleep 1000", wait(1), wait(2), wait(3))),
            );
            let mut host = host;
            chown_to_root(&host, "one");
            host.launch(&spec).await;
            assert_eq!(round(&host, 1).await, "0 opened\n1 absent\n");
            let resources = |count: u64| Resources {
                devices: BTreeMap::from([("fakes".to_owned(), count)]),
                ..spec.resources.clone()
            };
            host.containerizer().update(&spec.id, &resources(2)).await.unwrap();
            // Memory (1:4) asks for a capability besides: what matters is that the node is there and the cgroup lets it pass.
            let after = round(&host, 2).await;
            assert!(
                after.starts_with("0 opened\n1 ") && !after.contains("absent"),
                "{after}"
            );
            host.close();
            host.reopen();
            host.containerizer()
                .recover(std::slice::from_ref(&spec.id))
                .await
                .unwrap();
            host.containerizer().update(&spec.id, &resources(0)).await.unwrap();
            assert!(round(&host, 3).await.starts_with("0 denied\n"));
            let other = with(1, host.shell("two", &look(&nodes)));
            chown_to_root(&host, "two");
            host.run(&other).await;
            assert_eq!(host.output("two"), "0 opened\n1 absent\n");
            host.containerizer().destroy(&spec.id).unwrap();
            host.finish().await;
        });
    }
}

fn chown_to_root(host: &Host, id: &str) {
    std::os::unix::fs::chown(host.sandbox(id), Some(0), Some(0)).unwrap();
}

async fn round(host: &Host, number: u32) -> String {
    fs::write(host.sandbox("one").join(format!("go{number}")), "").unwrap();
    let end = format!("round {number}\n");
    let output = host.output_with("one", &end).await;
    let begin = match number {
        1 => 0,
        _ => output.find(&format!("round {}\n", number - 1)).unwrap() + end.len(),
    };
    output[begin..].trim_end_matches(&end).to_owned()
}

#[test]
fn devices_of_a_recovered_container_are_not_given_away() {
    let nodes = Nodes::new("recovered");
    if let Some(mut host) = Host::with_policy("/tmp", "recovered devices", nodes.policy()) {
        block_on(async move {
            let spec = with(1, host.shell("one", "sleep 1000"));
            host.launch(&spec).await;
            host.close();
            host.reopen();
            host.containerizer()
                .recover(std::slice::from_ref(&spec.id))
                .await
                .unwrap();
            let two = with(1, host.shell("two", &look(&nodes)));
            chown_to_root(&host, "two");
            host.run(&two).await;
            assert!(host.output("two").starts_with("0 absent\n1 "), "{}", host.output("two"));
            host.containerizer().destroy(&spec.id).unwrap();
            host.wait("one").await;
            host.containerizer().forget(&spec.id).await.unwrap();
            let three = with(2, host.shell("three", &look(&nodes)));
            chown_to_root(&host, "three");
            // The second's are released when it is forgotten, and a launch waits for that.
            host.containerizer().forget(&two.id).await.unwrap();
            host.run(&three).await;
            assert!(
                host.output("three").starts_with("0 opened\n"),
                "{}",
                host.output("three")
            );
            host.finish().await;
        });
    }
}
