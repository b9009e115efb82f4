use proffer_proto::registry::Registry;

use super::*;

fn member(id: u64) -> Member {
    Member {
        id,
        address: format!("host-{id}:5050"),
        level: 2,
        version: "test".to_owned(),
    }
}

fn open(path: &Path) -> WorkDirectory {
    WorkDirectory::open(path).unwrap()
}

#[test]
fn a_master_keeps_its_id_unless_it_is_to_find_its_cluster_another_way() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).member(Way::Peers).unwrap();
    assert!(first > 1 && first < 1 << 63, "{first}");
    assert_eq!(open(directory.path()).member(Way::Peers).unwrap(), first);
    let joining = open(directory.path()).member(Way::Join).unwrap();
    assert_ne!(joining, first);
    let refused = open(directory.path()).into_home().unwrap_err().to_string();
    assert!(refused.contains("of no cluster yet"), "{refused}");
    let refused = Home::open(directory.path(), "blue").unwrap_err().to_string();
    assert!(refused.contains("of no cluster yet"), "{refused}");

    let mut joined = open(directory.path());
    joined.join("the-cluster", "blue").unwrap();
    let refused = joined.member(Way::Join).unwrap_err().to_string();
    assert!(refused.contains("of cluster the-cluster already"), "{refused}");
    assert!(joined.join("another", "blue").is_err());
    let home = joined.into_home().unwrap();
    assert_eq!(
        (home.identity.member, home.identity.cluster_id.as_str()),
        (joining, "the-cluster")
    );
    // Before every founder's, so that the leader must send a snapshot.
    assert_eq!(home.recovered.snapshot, Position::default());
    assert_eq!(home.recovered.hard_state, HardState::default());
    assert!(home.recovered.entries.is_empty());
}

#[test]
fn all_founders_begin_with_the_same_snapshot() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ids = [&one, &other].map(|directory| open(directory.path()).member(Way::Peers).unwrap());
    let members = ids.map(member);
    let homes = [&one, &other].map(|directory| {
        let mut directory = open(directory.path());
        directory.found("the-cluster", "blue", &members).unwrap();
        directory.into_home().unwrap()
    });
    assert_eq!(homes[0].snapshot, homes[1].snapshot);
    assert_eq!(homes[0].identity.founders, members);
    let registry = Registry::decode(&homes[0].snapshot.data[..]).unwrap();
    assert_eq!((registry.level, registry.members.len()), (Some(2), 2));
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(homes[0].snapshot.get_metadata().get_conf_state().voters, sorted);
}

#[test]
fn what_an_interrupted_founding_left_is_made_anew_and_a_used_log_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let id = open(path).member(Way::Peers).unwrap();
    let waiting = fs::read(path.join("identity")).unwrap();
    open(path).found("first", "blue", &[member(id)]).unwrap();
    // As after a crash just before the identity was written.
    fs::write(path.join("identity"), &waiting).unwrap();
    assert_eq!(open(path).member(Way::Peers).unwrap(), id);
    let mut second = open(path);
    second.found("second", "blue", &[member(id), member(id + 1)]).unwrap();
    let home = second.into_home().unwrap();
    assert_eq!(home.identity.cluster_id, "second");
    assert_eq!(home.snapshot.get_metadata().get_conf_state().voters, [id, id + 1]);
    drop(home);

    // A log that was written to is nobody's to remove.
    let mut home = open(path).into_home().unwrap();
    let mut entry = proffer_replication::eraftpb::Entry::default();
    (entry.index, entry.term) = (2, 2);
    let batch = log::Batch {
        entries: &[entry],
        ..log::Batch::default()
    };
    log::LogStore::append(&mut home.wal, &[batch]).unwrap();
    drop(home);
    for identity in [Some(waiting), None] {
        match identity {
            Some(waiting) => fs::write(path.join("identity"), waiting).unwrap(),
            None => fs::remove_file(path.join("identity")).unwrap(),
        }
        let begun = (|| {
            let mut directory = WorkDirectory::open(path)?;
            let id = directory.member(Way::Peers)?;
            directory.found("third", "blue", &[member(id)])
        })();
        let refused = begun.unwrap_err().to_string();
        assert!(refused.contains("names no cluster"), "{refused}");
    }
}
